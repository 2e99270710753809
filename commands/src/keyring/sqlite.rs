//! Keys in an `SQLite` file.

use std::{
    fs::OpenOptions,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use cnc_domain::{kernel::CompanyId, ledger::Fault};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row, TransactionBehavior, params};
use uuid::Uuid;

use super::store::{Destruction, KeyCheck, KeyStore, Wrapped};

/// The file in the data folder.
pub const KEYS_FILE: &str = "keys.db";

/// A destroyed key must be gone from the file too: `secure_delete` overwrites it.
const SETTINGS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;";
const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS companies (company BLOB PRIMARY KEY, secret BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS subjects (
        company BLOB NOT NULL, subject BLOB NOT NULL, id BLOB NOT NULL, secret BLOB NOT NULL,
        PRIMARY KEY (company, subject), UNIQUE (company, id)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS prints (
        company BLOB NOT NULL, tag BLOB NOT NULL, token TEXT NOT NULL, PRIMARY KEY (company, tag)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS key_check (
        one INTEGER PRIMARY KEY CHECK (one = 1), store BLOB NOT NULL, value BLOB NOT NULL);
    CREATE TABLE IF NOT EXISTS destroyed_keys (
        company BLOB NOT NULL, id BLOB NOT NULL, subject BLOB NOT NULL, destroyed_at INTEGER NOT NULL,
        destroyed_by TEXT NOT NULL, PRIMARY KEY (company, id)) WITHOUT ROWID;";
/// What a store of any version has.
const HAS_TABLES: &str = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'companies')";

pub struct SqliteKeys(Arc<Mutex<Connection>>);

fn fault(cause: impl std::fmt::Display) -> Fault {
    Fault::passing("use the key store", cause)
}

impl SqliteKeys {
    /// The store that is there; `None` where there is no file, or nothing in it.
    pub async fn existing(data_dir: &Path) -> Result<Option<Self>, Fault> {
        let path = data_dir.join(KEYS_FILE);
        if std::fs::metadata(&path).map_or(true, |file| file.len() == 0) {
            return Ok(None);
        }
        let open = move || {
            let connection = connect(&path)?;
            let has_tables = connection.query_row(HAS_TABLES, [], |row| row.get(0)).map_err(of(&path))?;
            Ok((connection, has_tables))
        };
        let (connection, has_tables) = tokio::task::spawn_blocking(open).await.map_err(fault)??;
        Ok(if has_tables { Some(Self(Arc::new(Mutex::new(connection)))) } else { None })
    }

    /// The store, made where there is none.
    pub async fn create(data_dir: &Path) -> Result<Self, Fault> {
        let data_dir = data_dir.to_owned();
        let open = move || make(&data_dir);
        let connection = tokio::task::spawn_blocking(open).await.map_err(fault)??;
        Ok(Self(Arc::new(Mutex::new(connection))))
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Fault> {
        self.with_mut(|connection| work(connection)).await
    }

    async fn with_mut<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Fault> {
        let connection = Arc::clone(&self.0);
        let run = move || work(&mut connection.lock().unwrap_or_else(PoisonError::into_inner));
        tokio::task::spawn_blocking(run).await.map_err(fault)?.map_err(fault)
    }
}

/// A fault that names the file.
fn of(path: &Path) -> impl Fn(rusqlite::Error) -> Fault {
    move |cause| fault(format_args!("{}: {cause}", path.display()))
}

fn make(data_dir: &Path) -> Result<Connection, Fault> {
    std::fs::create_dir_all(data_dir).map_err(fault)?;
    let path: PathBuf = data_dir.join(KEYS_FILE);
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // SQLite gives its side files the mode of the database file.
    options.open(&path).map_err(fault)?;
    let connection = connect(&path)?;
    connection.execute_batch(SETTINGS).map_err(of(&path))?;
    connection.execute_batch(TABLES).map_err(of(&path))?;
    Ok(connection)
}

/// Opens a file that is there.
fn connect(path: &Path) -> Result<Connection, Fault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(of(path))?;
    connection.busy_timeout(Duration::from_secs(30)).map_err(of(path))?;
    Ok(connection)
}

fn wrapped(row: &Row<'_>) -> rusqlite::Result<Wrapped> {
    let (id, subject): ([u8; 16], [u8; 16]) = (row.get(0)?, row.get(1)?);
    Ok(Wrapped { id: Uuid::from_bytes(id), subject: Uuid::from_bytes(subject), secret: row.get(2)? })
}

fn check(connection: &Connection) -> rusqlite::Result<Option<KeyCheck>> {
    let read = |row: &Row<'_>| Ok(KeyCheck { store: Uuid::from_bytes(row.get(0)?), value: row.get(1)? });
    let has_check = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'key_check')";
    if !connection.query_row(has_check, [], |row| row.get(0))? {
        return Ok(None);
    }
    connection.query_row("SELECT store, value FROM key_check", [], read).optional()
}

/// Brings what stands in the log into the file, and empties the log.
fn truncate_log(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
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
    async fn check(&self) -> Result<Option<KeyCheck>, Fault> {
        self.with(check).await
    }

    async fn settle_check(&self, new: KeyCheck) -> Result<KeyCheck, Fault> {
        self.with(move |connection| {
            let put = "INSERT INTO key_check VALUES (1, ?1, ?2) ON CONFLICT DO NOTHING";
            connection.execute(put, params![new.store.as_bytes(), new.value])?;
            check(connection)?.ok_or(rusqlite::Error::QueryReturnedNoRows)
        })
        .await
    }

    async fn companies(&self) -> Result<Vec<CompanyId>, Fault> {
        self.with(|connection| {
            let mut found = connection.prepare("SELECT company FROM companies ORDER BY company")?;
            let company = |row: &Row<'_>| row.get(0).map(|id| CompanyId::new(Uuid::from_bytes(id)));
            found.query_map([], company)?.collect()
        })
        .await
    }

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

    async fn destroyed(&self, company: CompanyId, ids: Vec<Uuid>) -> Result<Vec<Uuid>, Fault> {
        self.with(move |connection| {
            let mut found = connection
                .prepare_cached("SELECT EXISTS (SELECT 1 FROM destroyed_keys WHERE company = ?1 AND id = ?2)")?;
            let mut destroyed = Vec::new();
            for id in ids {
                if found.query_row(params![company.uuid().as_bytes(), id.as_bytes()], |row| row.get(0))? {
                    destroyed.push(id);
                }
            }
            Ok(destroyed)
        })
        .await
    }

    async fn destroy(&self, company: CompanyId, subject: Uuid, record: Destruction) -> Result<Option<Uuid>, Fault> {
        self.with_mut(move |connection| {
            let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let Some(Wrapped { id, .. }) = subject_of(&tx, company, subject)? else { return Ok(None) };
            let (of, subject) = (company.uuid(), subject.as_bytes());
            tx.execute(
                "INSERT OR IGNORE INTO destroyed_keys VALUES (?1, ?2, ?3, ?4, ?5)",
                params![of.as_bytes(), id.as_bytes(), subject, record.at.micros(), record.by],
            )?;
            tx.execute("DELETE FROM subjects WHERE company = ?1 AND subject = ?2", params![of.as_bytes(), subject])?;
            tx.commit()?;
            // What was overwritten in the file still stands in the log beside it.
            truncate_log(connection)?;
            Ok(Some(id))
        })
        .await
    }

    async fn close(&self) -> Result<(), Fault> {
        self.with(truncate_log).await
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
