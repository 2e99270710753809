//! Keys in an `SQLite` file.

use std::{
    fs::OpenOptions,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use cnc_domain::{kernel::CompanyId, ledger::Fault};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use uuid::Uuid;

use super::store::{KeyStore, Wrapped};

/// A destroyed key must be gone from the file too: `secure_delete` overwrites it.
const SETTINGS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;";
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS companies (company BLOB PRIMARY KEY, secret BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS subjects (
        company BLOB NOT NULL, subject BLOB NOT NULL, id BLOB NOT NULL, secret BLOB NOT NULL,
        PRIMARY KEY (company, subject), UNIQUE (company, id)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS prints (
        company BLOB NOT NULL, tag BLOB NOT NULL, token TEXT NOT NULL, PRIMARY KEY (company, tag)) WITHOUT ROWID;";

pub struct SqliteKeys(Arc<Mutex<Connection>>);

fn fault(cause: impl std::fmt::Display) -> Fault {
    Fault::passing("use the key store", cause)
}

impl SqliteKeys {
    pub async fn open(data_dir: &Path) -> Result<Self, Fault> {
        let data_dir = data_dir.to_owned();
        let open = move || connect(&data_dir);
        let connection = tokio::task::spawn_blocking(open).await.map_err(fault)??;
        Ok(Self(Arc::new(Mutex::new(connection))))
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Fault> {
        let connection = Arc::clone(&self.0);
        let run = move || work(&connection.lock().unwrap_or_else(PoisonError::into_inner));
        tokio::task::spawn_blocking(run).await.map_err(fault)?.map_err(fault)
    }
}

fn connect(data_dir: &Path) -> Result<Connection, Fault> {
    std::fs::create_dir_all(data_dir).map_err(fault)?;
    let path: PathBuf = data_dir.join("keys.db");
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // SQLite gives its side files the mode of the database file.
    options.open(&path).map_err(fault)?;
    let connection = Connection::open(&path).map_err(fault)?;
    connection.busy_timeout(Duration::from_secs(30)).map_err(fault)?;
    connection.execute_batch(SETTINGS).map_err(fault)?;
    connection.execute_batch(TABLES).map_err(fault)?;
    Ok(connection)
}

fn wrapped(row: &Row<'_>) -> rusqlite::Result<Wrapped> {
    let (id, subject): ([u8; 16], [u8; 16]) = (row.get(0)?, row.get(1)?);
    Ok(Wrapped { id: Uuid::from_bytes(id), subject: Uuid::from_bytes(subject), secret: row.get(2)? })
}

fn subject_of(connection: &Connection, company: CompanyId, subject: Uuid) -> rusqlite::Result<Option<Wrapped>> {
    let mut found =
        connection.prepare_cached("SELECT id, subject, secret FROM subjects WHERE company = ?1 AND subject = ?2")?;
    found.query_row(params![company.uuid().as_bytes(), subject.as_bytes()], wrapped).optional()
}

fn company_of(connection: &Connection, company: CompanyId) -> rusqlite::Result<Option<Vec<u8>>> {
    let mut found = connection.prepare_cached("SELECT secret FROM companies WHERE company = ?1")?;
    found.query_row(params![company.uuid().as_bytes()], |row| row.get(0)).optional()
}

#[async_trait]
impl KeyStore for SqliteKeys {
    async fn company(&self, company: CompanyId) -> Result<Option<Vec<u8>>, Fault> {
        self.with(move |connection| company_of(connection, company)).await
    }

    async fn settle_company(&self, company: CompanyId, secret: Vec<u8>) -> Result<Vec<u8>, Fault> {
        self.with(move |connection| {
            connection.execute(
                "INSERT INTO companies VALUES (?1, ?2) ON CONFLICT DO NOTHING",
                params![company.uuid().as_bytes(), secret],
            )?;
            company_of(connection, company)?.ok_or(rusqlite::Error::QueryReturnedNoRows)
        })
        .await
    }

    async fn subject(&self, company: CompanyId, subject: Uuid) -> Result<Option<Wrapped>, Fault> {
        self.with(move |connection| subject_of(connection, company, subject)).await
    }

    async fn settle_subject(&self, company: CompanyId, key: Wrapped) -> Result<Wrapped, Fault> {
        self.with(move |connection| {
            connection.execute(
                "INSERT INTO subjects VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
                params![company.uuid().as_bytes(), key.subject.as_bytes(), key.id.as_bytes(), key.secret],
            )?;
            subject_of(connection, company, key.subject)?.ok_or(rusqlite::Error::QueryReturnedNoRows)
        })
        .await
    }

    async fn keys(&self, company: CompanyId, ids: Vec<Uuid>) -> Result<Vec<Wrapped>, Fault> {
        self.with(move |connection| {
            let mut found =
                connection.prepare_cached("SELECT id, subject, secret FROM subjects WHERE company = ?1 AND id = ?2")?;
            let mut keys = Vec::with_capacity(ids.len());
            for id in ids {
                keys.extend(found.query_row(params![company.uuid().as_bytes(), id.as_bytes()], wrapped).optional()?);
            }
            Ok(keys)
        })
        .await
    }

    async fn settle_print(&self, company: CompanyId, tag: &[u8], token: String) -> Result<String, Fault> {
        let tag = tag.to_vec();
        self.with(move |connection| {
            let of = company.uuid();
            let key = params![of.as_bytes(), tag];
            let mut found = connection.prepare_cached("SELECT token FROM prints WHERE company = ?1 AND tag = ?2")?;
            if let Some(token) = found.query_row(key, |row| row.get(0)).optional()? {
                return Ok(token);
            }
            connection.execute(
                "INSERT INTO prints VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
                params![of.as_bytes(), tag, token],
            )?;
            found.query_row(key, |row| row.get(0))
        })
        .await
    }
}
