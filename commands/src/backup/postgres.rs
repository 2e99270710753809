//! A Postgres database, saved and restored: each in one transaction.

use std::str::FromStr as _;

use async_trait::async_trait;
use cnc_domain::{
    kernel::CompanyId,
    ledger::{Fault, Position},
};
use sqlx::{Connection as _, Executor as _, PgConnection, postgres::PgConnectOptions};
use uuid::Uuid;

use super::{BackupError, Source, Target};
use crate::{
    ledger::{
        Stored, StoredHead, integer,
        postgres::{fault, stored_heads},
    },
    transfer::{
        answers, entries, keys,
        rows::{AnswerRow, KeyRow, KeyTable},
    },
};

const SAVING: &str = "save a database";
const RESTORING: &str = "restore a database";

async fn connect(url: &str, doing: &'static str) -> Result<PgConnection, Fault> {
    let options = PgConnectOptions::from_str(url).map_err(fault(doing))?.application_name("cnc backup");
    PgConnection::connect_with(&options).await.map_err(fault(doing))
}

pub(crate) struct PostgresSource(PgConnection);

impl PostgresSource {
    /// Begins the transaction, in which all is seen as it stands now.
    pub async fn connect(url: &str) -> Result<Self, Fault> {
        let mut database = connect(url, SAVING).await?;
        database.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await.map_err(fault(SAVING))?;
        Ok(Self(database))
    }
}

#[async_trait]
impl Source for PostgresSource {
    async fn heads(&mut self) -> Result<Vec<(CompanyId, StoredHead)>, Fault> {
        stored_heads(&mut self.0).await.map_err(fault(SAVING))
    }

    async fn entries(&mut self, company: CompanyId, after: Position) -> Result<Vec<Stored>, Fault> {
        entries::page(&mut self.0, company, after).await
    }

    async fn answers(&mut self, after: Uuid) -> Result<Vec<AnswerRow>, Fault> {
        answers::page(&mut self.0, after).await.map_err(fault(SAVING))
    }

    async fn key_check(&mut self) -> Result<Option<KeyRow>, Fault> {
        keys::check(&mut self.0).await.map_err(fault(SAVING))
    }

    async fn keys(&mut self, table: KeyTable, after: &(Vec<u8>, Vec<u8>)) -> Result<Vec<KeyRow>, Fault> {
        keys::page(&mut self.0, table, after).await.map_err(fault(SAVING))
    }
}

/// What a restore must find empty.
const HOLDS: &str = "SELECT EXISTS (SELECT FROM cnc.heads) OR EXISTS (SELECT FROM cnc.events)
    OR EXISTS (SELECT FROM cnc.commands) OR EXISTS (SELECT FROM cnc.arrivals)
    OR EXISTS (SELECT FROM cnc_keys.companies) OR EXISTS (SELECT FROM cnc_keys.subjects)";

async fn refuse_if_it_holds(database: &mut PgConnection) -> Result<(), BackupError> {
    if sqlx::query_scalar(HOLDS).fetch_one(database).await.map_err(fault(RESTORING))? {
        let what = "the database holds something already: restore into an empty one (CREATE DATABASE …)";
        return Err(BackupError::NotEmpty(what.into()));
    }
    Ok(())
}

/// Refused where a database whose tables are there holds anything; one without tables is empty.
pub(super) async fn refuse_unless_empty(url: &str) -> Result<(), BackupError> {
    let mut database = connect(url, RESTORING).await?;
    let made = "SELECT to_regclass('cnc.arrivals') IS NOT NULL AND to_regclass('cnc_keys.subjects') IS NOT NULL";
    if sqlx::query_scalar(made).fetch_one(&mut database).await.map_err(fault(RESTORING))? {
        refuse_if_it_holds(&mut database).await?;
    }
    Ok(())
}

pub(crate) struct PostgresTarget(PgConnection);

impl PostgresTarget {
    /// All tables are there already. From here on nobody founds a company.
    pub async fn connect(url: &str) -> Result<Self, BackupError> {
        let mut database = connect(url, RESTORING).await?;
        let begin = "BEGIN; LOCK TABLE cnc.heads IN EXCLUSIVE MODE";
        database.execute(sqlx::raw_sql(begin)).await.map_err(fault(RESTORING))?;
        refuse_if_it_holds(&mut database).await?;
        Ok(Self(database))
    }
}

#[async_trait]
impl Target for PostgresTarget {
    async fn entries(&mut self, company: CompanyId, page: &[Stored]) -> Result<(), Fault> {
        entries::insert(&mut self.0, company, page).await
    }

    async fn head(&mut self, company: CompanyId, stored: StoredHead) -> Result<(), Fault> {
        let StoredHead { head, at, facts } = stored;
        let sql = "INSERT INTO cnc.heads (company, position, at, hash, facts) VALUES ($1, $2, $3, $4, $5)";
        let query = sqlx::query(sql).bind(company.uuid()).bind(integer(head.position)).bind(at.micros());
        let query = query.bind(head.hash.0.as_slice()).bind(facts.0.as_slice());
        query.execute(&mut self.0).await.map_err(fault(RESTORING)).map(drop)
    }

    async fn answers(&mut self, page: &[AnswerRow]) -> Result<(), Fault> {
        answers::write(&mut self.0, page).await
    }

    async fn keys(&mut self, page: &[KeyRow]) -> Result<(), Fault> {
        keys::write(&mut self.0, page).await
    }

    async fn commit(mut self: Box<Self>) -> Result<(), Fault> {
        let commit = "SELECT pg_notify('cnc_ledger', ''); COMMIT";
        self.0.execute(sqlx::raw_sql(commit)).await.map_err(fault(RESTORING))?;
        self.0.close().await.map_err(fault(RESTORING))
    }
}
