//! Connections to `ledger.db`, and its schema.

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use cnc_domain::ledger::Fault;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, params};
use tokio::sync::Semaphore;

/// How long a connection waits for another process that writes.
const BUSY: Duration = Duration::from_secs(15);
/// How many readings run at once in this process.
const READERS: usize = 4;
/// How much of the file the writer keeps in memory: with the usual 2 MiB, it reads its own index pages again.
const CACHE_KIB: i64 = 32 << 10;
/// A checkpoint copies each page once, however often it stands in the log: 64 MiB of log save most of the copying.
const CHECKPOINT_PAGES: i64 = 16_000;
/// Each version's statements, from 1 on. What was released is never edited; a change is another version.
const VERSIONS: &[&str] = &[include_str!("schema.sql"), include_str!("clock.sql")];

/// A fault of the database: one that may pass where the disk or another process is in the way.
pub(super) fn fault(doing: &'static str) -> impl Fn(rusqlite::Error) -> Fault {
    move |error| {
        let passing = matches!(
            error.sqlite_error_code(),
            Some(
                ErrorCode::DatabaseBusy
                    | ErrorCode::DatabaseLocked
                    | ErrorCode::DiskFull
                    | ErrorCode::SystemIoFailure
                    | ErrorCode::CannotOpen
                    | ErrorCode::OutOfMemory
                    | ErrorCode::ReadOnly
            )
        );
        Fault { doing, cause: error.to_string(), passing }
    }
}

/// Opens the file for writing, and makes it where it is missing.
pub(super) fn open_writer(path: &Path) -> Result<Connection, Fault> {
    let mut connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
    let started = Instant::now();
    // Switching to WAL needs the file for itself and does not wait for it; it is switched once in a file's life.
    while let Err(error) = connection.pragma_update(None, "journal_mode", "wal") {
        let busy = error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy);
        if !busy || started.elapsed() > BUSY {
            return Err(fault("open the ledger")(error));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    migrate(&mut connection).map_err(fault("migrate the ledger"))?;
    connection.pragma_update(None, "cache_size", -CACHE_KIB).map_err(fault("open the ledger"))?;
    Ok(connection)
}

fn open(path: &Path, flags: OpenFlags) -> Result<Connection, Fault> {
    let opened = || {
        let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "synchronous", "full")?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        connection.set_prepared_statement_cache_capacity(32);
        Ok(connection)
    };
    opened().map_err(fault("open the ledger"))
}

/// Brings the schema up to date. Several processes may start at once: the first does it.
fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let known = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'schema_versions')";
    let version = "SELECT coalesce(max(version), 0) FROM schema_versions WHERE part = 'ledger'";
    let current = |connection: &Connection| {
        let known: bool = connection.query_row(known, [], |row| row.get(0))?;
        if known { connection.query_row(version, [], |row| row.get::<_, i64>(0)) } else { Ok(0) }
    };
    let newest = i64::try_from(VERSIONS.len()).unwrap_or(i64::MAX);
    if current(connection)? >= newest {
        return Ok(());
    }
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    tx.execute_batch(
        "CREATE TABLE IF NOT EXISTS schema_versions (part TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT",
    )?;
    let current = current(&tx)?;
    for (version, statements) in (1..).zip(VERSIONS).filter(|(version, _)| *version > current) {
        tx.execute_batch(statements)?;
        let set = "INSERT OR REPLACE INTO schema_versions (part, version) VALUES ('ledger', ?1)";
        tx.execute(set, params![version])?;
    }
    tx.commit()
}

/// A few connections that only read.
pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    permits: Semaphore,
}

impl Readers {
    pub fn new(path: PathBuf) -> Self {
        Self { path, idle: Mutex::default(), permits: Semaphore::new(READERS) }
    }

    /// Waits for a turn to read.
    pub async fn turn(&self) -> Result<tokio::sync::SemaphorePermit<'_>, Fault> {
        self.permits.acquire().await.map_err(|closed| Fault::broken("read the ledger", closed))
    }

    /// Runs a reading on an idle connection, or on a new one. A connection on which it failed is not used again.
    pub fn with<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Fault> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.open()?,
        };
        let done = work(&connection).map_err(fault("read the ledger"))?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        Ok(done)
    }

    /// One more connection that only reads.
    pub fn open(&self) -> Result<Connection, Fault> {
        open(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY)
    }
}
