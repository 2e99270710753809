//! Keys in a schema of their own of a Postgres database.

use async_trait::async_trait;
use cnc_domain::{kernel::CompanyId, ledger::Fault};
use cnc_postgres::Pool;
use sqlx::{Row as _, postgres::PgRow};
use uuid::Uuid;

use super::store::{KeyStore, Wrapped};

/// Taken while tables are made: several processes may start at once.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7077000001)";
const TABLES: [&str; 4] = [
    "CREATE SCHEMA IF NOT EXISTS cnc_keys",
    "CREATE TABLE IF NOT EXISTS cnc_keys.companies (company bytea PRIMARY KEY, secret bytea NOT NULL)",
    "CREATE TABLE IF NOT EXISTS cnc_keys.subjects (company bytea NOT NULL, subject bytea NOT NULL, id bytea NOT NULL,
        secret bytea NOT NULL, PRIMARY KEY (company, subject), UNIQUE (company, id))",
    "CREATE TABLE IF NOT EXISTS cnc_keys.prints (company bytea NOT NULL, tag bytea NOT NULL, token text NOT NULL,
        PRIMARY KEY (company, tag))",
];

/// To make what is there takes an owner's rights, even where nothing is left to be made.
const MADE: &str = "SELECT count(*) = 3 FROM pg_tables
    WHERE schemaname = 'cnc_keys' AND tablename IN ('companies', 'subjects', 'prints')";

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

fn wrapped(row: &PgRow) -> Result<Wrapped, Fault> {
    let id = |column| -> Result<Uuid, Fault> {
        let bytes: Vec<u8> = row.try_get(column).map_err(fault)?;
        Uuid::from_slice(&bytes).map_err(|cause| Fault::broken("read a key", cause))
    };
    Ok(Wrapped { id: id("id")?, subject: id("subject")?, secret: row.try_get("secret").map_err(fault)? })
}

impl PostgresKeys {
    pub async fn connect(url: &str) -> Result<Self, Fault> {
        let pool = Pool::new(cnc_postgres::options(url).map_err(fault)?, CONNECTIONS);
        if sqlx::query_scalar(MADE).fetch_one(&pool).await.map_err(fault)? {
            return Ok(Self(pool));
        }
        let mut transaction = pool.begin().await.map_err(fault)?;
        for statement in [LOCK].into_iter().chain(TABLES) {
            sqlx::query(statement).execute(&mut *transaction).await.map_err(fault)?;
        }
        transaction.commit().await.map_err(fault)?;
        Ok(Self(pool))
    }
}

#[async_trait]
impl KeyStore for PostgresKeys {
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
