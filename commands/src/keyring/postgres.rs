//! Keys in a schema of their own of a Postgres database.

use async_trait::async_trait;
use cnc_domain::{kernel::CompanyId, ledger::Fault};
use cnc_postgres::Pool;
use sqlx::{Row as _, postgres::PgRow};
use uuid::Uuid;

use super::store::{Destruction, KeyCheck, KeyStore, Wrapped};

/// Taken while tables are made: several processes may start at once.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7077000001)";
const TABLES: [&str; 6] = [
    "CREATE SCHEMA IF NOT EXISTS cnc_keys",
    "CREATE TABLE IF NOT EXISTS cnc_keys.companies (company bytea PRIMARY KEY, secret bytea NOT NULL)",
    "CREATE TABLE IF NOT EXISTS cnc_keys.subjects (company bytea NOT NULL, subject bytea NOT NULL, id bytea NOT NULL,
        secret bytea NOT NULL, PRIMARY KEY (company, subject), UNIQUE (company, id))",
    "CREATE TABLE IF NOT EXISTS cnc_keys.prints (company bytea NOT NULL, tag bytea NOT NULL, token text NOT NULL,
        PRIMARY KEY (company, tag))",
    "CREATE TABLE IF NOT EXISTS cnc_keys.key_check (one boolean PRIMARY KEY DEFAULT true CHECK (one),
        store bytea NOT NULL, value bytea NOT NULL)",
    "CREATE TABLE IF NOT EXISTS cnc_keys.destroyed_keys (company bytea NOT NULL, id bytea NOT NULL,
        subject bytea NOT NULL, destroyed_at bigint NOT NULL, destroyed_by text NOT NULL, PRIMARY KEY (company, id))",
];

/// To make what is there takes an owner's rights, even where nothing is left to be made.
const MADE: &str = "SELECT count(*) = 5 FROM pg_tables WHERE schemaname = 'cnc_keys'
    AND tablename IN ('companies', 'subjects', 'prints', 'key_check', 'destroyed_keys')";
/// What a store of any version has.
const HAS_TABLES: &str =
    "SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = 'cnc_keys' AND tablename = 'companies')";
const HAS_CHECK: &str =
    "SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = 'cnc_keys' AND tablename = 'key_check')";

/// Keys are kept in memory too: few are asked for at once.
const CONNECTIONS: usize = 2;

pub struct PostgresKeys(Pool);

/// Only what the database says: never the address, which may hold a password.
fn fault(cause: sqlx::Error) -> Fault {
    match cause {
        sqlx::Error::Configuration(_) => Fault::broken("use the key store", "the database's address is malformed"),
        cause => Fault::passing("use the key store", cause),
    }
}

fn bytes(id: Uuid) -> Vec<u8> {
    id.as_bytes().to_vec()
}

fn id(bytes: &[u8]) -> Result<Uuid, Fault> {
    Uuid::from_slice(bytes).map_err(|cause| Fault::broken("read a key", cause))
}

fn wrapped(row: &PgRow) -> Result<Wrapped, Fault> {
    let of = |column| -> Result<Uuid, Fault> { id(row.try_get(column).map_err(fault)?) };
    Ok(Wrapped { id: of("id")?, subject: of("subject")?, secret: row.try_get("secret").map_err(fault)? })
}

impl PostgresKeys {
    fn connect(url: &str) -> Result<Self, Fault> {
        Ok(Self(Pool::new(cnc_postgres::options(url).map_err(fault)?, CONNECTIONS)))
    }

    /// The store that is there; `None` where there are no tables.
    pub async fn existing(url: &str) -> Result<Option<Self>, Fault> {
        let store = Self::connect(url)?;
        Ok(if store.has(HAS_TABLES).await? { Some(store) } else { None })
    }

    /// The store, made where there is none.
    pub async fn create(url: &str) -> Result<Self, Fault> {
        let store = Self::connect(url)?;
        if store.has(MADE).await? {
            return Ok(store);
        }
        let mut transaction = store.0.begin().await.map_err(fault)?;
        for statement in [LOCK].into_iter().chain(TABLES) {
            sqlx::query(statement).execute(&mut *transaction).await.map_err(fault)?;
        }
        transaction.commit().await.map_err(fault)?;
        Ok(store)
    }

    async fn has(&self, question: &'static str) -> Result<bool, Fault> {
        sqlx::query_scalar(question).fetch_one(&self.0).await.map_err(fault)
    }
}

#[async_trait]
impl KeyStore for PostgresKeys {
    async fn check(&self) -> Result<Option<KeyCheck>, Fault> {
        if !self.has(HAS_CHECK).await? {
            return Ok(None);
        }
        let found = sqlx::query_as("SELECT store, value FROM cnc_keys.key_check").fetch_optional(&self.0).await;
        let found: Option<(Vec<u8>, Vec<u8>)> = found.map_err(fault)?;
        found.map(|(store, value)| Ok(KeyCheck { store: id(&store)?, value })).transpose()
    }

    async fn settle_check(&self, check: KeyCheck) -> Result<KeyCheck, Fault> {
        let put = sqlx::query("INSERT INTO cnc_keys.key_check (store, value) VALUES ($1, $2) ON CONFLICT DO NOTHING");
        put.bind(bytes(check.store)).bind(check.value).execute(&self.0).await.map_err(fault)?;
        self.check().await?.ok_or_else(|| Fault::passing("settle a key check", "it is gone again"))
    }

    async fn companies(&self) -> Result<Vec<CompanyId>, Fault> {
        let found = sqlx::query_scalar("SELECT company FROM cnc_keys.companies ORDER BY company").fetch_all(&self.0);
        let found: Vec<Vec<u8>> = found.await.map_err(fault)?;
        found.iter().map(|company| id(company).map(CompanyId::new)).collect()
    }

    async fn company(&self, company: CompanyId) -> Result<Option<Vec<u8>>, Fault> {
        let found = sqlx::query_scalar("SELECT secret FROM cnc_keys.companies WHERE company = $1");
        found.bind(bytes(company.uuid())).fetch_optional(&self.0).await.map_err(fault)
    }

    async fn settle_company(&self, company: CompanyId, secret: Vec<u8>) -> Result<Vec<u8>, Fault> {
        let put = sqlx::query("INSERT INTO cnc_keys.companies VALUES ($1, $2) ON CONFLICT DO NOTHING");
        put.bind(bytes(company.uuid())).bind(secret).execute(&self.0).await.map_err(fault)?;
        self.company(company).await?.ok_or_else(|| Fault::passing("settle a key", "it is gone again"))
    }

    async fn subject(&self, company: CompanyId, subject: Uuid) -> Result<Option<Wrapped>, Fault> {
        let found =
            sqlx::query("SELECT id, subject, secret FROM cnc_keys.subjects WHERE company = $1 AND subject = $2");
        let found = found.bind(bytes(company.uuid())).bind(bytes(subject)).fetch_optional(&self.0);
        found.await.map_err(fault)?.as_ref().map(wrapped).transpose()
    }

    async fn settle_subject(&self, company: CompanyId, key: Wrapped) -> Result<Wrapped, Fault> {
        let put = sqlx::query("INSERT INTO cnc_keys.subjects VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING");
        let put = put.bind(bytes(company.uuid())).bind(bytes(key.subject)).bind(bytes(key.id)).bind(key.secret);
        put.execute(&self.0).await.map_err(fault)?;
        self.subject(company, key.subject).await?.ok_or_else(|| Fault::passing("settle a key", "it is gone again"))
    }

    async fn keys(&self, company: CompanyId, ids: Vec<Uuid>) -> Result<Vec<Wrapped>, Fault> {
        let ids: Vec<Vec<u8>> = ids.into_iter().map(bytes).collect();
        let found =
            sqlx::query("SELECT id, subject, secret FROM cnc_keys.subjects WHERE company = $1 AND id = ANY($2)");
        let rows = found.bind(bytes(company.uuid())).bind(ids).fetch_all(&self.0).await.map_err(fault)?;
        rows.iter().map(wrapped).collect()
    }

    async fn destroyed(&self, company: CompanyId, ids: Vec<Uuid>) -> Result<Vec<Uuid>, Fault> {
        let ids: Vec<Vec<u8>> = ids.into_iter().map(bytes).collect();
        let found = sqlx::query_scalar("SELECT id FROM cnc_keys.destroyed_keys WHERE company = $1 AND id = ANY($2)");
        let found: Vec<Vec<u8>> =
            found.bind(bytes(company.uuid())).bind(ids).fetch_all(&self.0).await.map_err(fault)?;
        found.iter().map(|bytes| id(bytes)).collect()
    }

    async fn destroy(&self, company: CompanyId, subject: Uuid, record: Destruction) -> Result<Option<Uuid>, Fault> {
        let destroyed: Option<Vec<u8>> = sqlx::query_scalar(
            "WITH gone AS (DELETE FROM cnc_keys.subjects WHERE company = $1 AND subject = $2 RETURNING company, id, subject)
             INSERT INTO cnc_keys.destroyed_keys (company, id, subject, destroyed_at, destroyed_by)
             SELECT company, id, subject, $3, $4 FROM gone RETURNING id",
        )
        .bind(bytes(company.uuid()))
        .bind(bytes(subject))
        .bind(record.at.micros())
        .bind(record.by)
        .fetch_optional(&self.0)
        .await
        .map_err(fault)?;
        destroyed.map(|bytes| id(&bytes)).transpose()
    }

    async fn settle_print(&self, company: CompanyId, tag: &[u8], token: String) -> Result<String, Fault> {
        let find = || sqlx::query_scalar("SELECT token FROM cnc_keys.prints WHERE company = $1 AND tag = $2");
        let found: Option<String> =
            find().bind(bytes(company.uuid())).bind(tag).fetch_optional(&self.0).await.map_err(fault)?;
        if let Some(token) = found {
            return Ok(token);
        }
        let put = sqlx::query("INSERT INTO cnc_keys.prints VALUES ($1, $2, $3) ON CONFLICT DO NOTHING");
        put.bind(bytes(company.uuid())).bind(tag).bind(token).execute(&self.0).await.map_err(fault)?;
        find().bind(bytes(company.uuid())).bind(tag).fetch_one(&self.0).await.map_err(fault)
    }
}
