//! Connections to `ledger.db`, and its schema.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use cnc_domain::ledger::Fault;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, params};
use tokio::sync::Semaphore;

/// How long a connection waits for another process that writes.
const BUSY: Duration = Duration::from_secs(15);
/// How long a process that stops waits for others that read, before it leaves the log to them.
const CLOSING: Duration = Duration::from_secs(1);
/// How many readings run at once in this process.
const READERS: usize = 4;
/// How much of the file the writer keeps in memory: with the usual 2 MiB, it reads its own index pages again.
const CACHE_KIB: i64 = 32 << 10;
/// A checkpoint copies each page once, however often it stands in the log: 64 MiB of log save most of the copying.
const CHECKPOINT_PAGES: i64 = 16_000;
/// Each version's statements, from 1 on. What was released is never edited; a change is another version.
const VERSIONS: &[&str] = &[include_str!("schema.sql"), include_str!("facts.sql"), include_str!("clock.sql")];

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
        if known { connection.query_row(version, [], |row| row.get::<_, usize>(0)) } else { Ok(0) }
    };
    if current(connection)? >= VERSIONS.len() {
        return Ok(());
    }
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    tx.execute_batch(
        "CREATE TABLE IF NOT EXISTS schema_versions (part TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT",
    )?;
    for (version, statements) in (1_usize..).zip(VERSIONS).skip(current(&tx)?) {
        tx.execute_batch(statements)?;
        tx.execute("INSERT OR REPLACE INTO schema_versions (part, version) VALUES ('ledger', ?1)", params![version])?;
    }
    tx.commit()
}

/// Brings what stands in the log into the file, and empties the log, where nobody else is at work on them.
pub(super) fn truncate_log(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(CLOSING)?;
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    connection.busy_timeout(BUSY)
}

/// A few connections that only read.
pub(super) struct Readers {
    path: PathBuf,
    flags: OpenFlags,
    idle: Mutex<Vec<Connection>>,
    permits: Semaphore,
}

impl Readers {
    pub fn new(path: PathBuf) -> Self {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        Self { path, flags, idle: Mutex::default(), permits: Semaphore::new(READERS) }
    }

    /// Of a file that nobody can write, so that SQLite cannot keep its notes beside it: it is read as it is.
    fn immutable(path: &Path) -> Self {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
        Self { flags, ..Self::new(uri(path).into()) }
    }

    /// Of a file where nothing is to be made or written. `None` where there is no such table in it.
    pub fn of_existing(path: &Path, table: &'static str) -> Result<Option<Self>, Fault> {
        if std::fs::metadata(path).map_or(true, |file| file.len() == 0) {
            return Ok(None);
        }
        let (readers, log) = (Self::new(path.to_owned()), path.with_extension("db-wal"));
        let has_table = |connection: &Connection| has_table(connection, table);
        let found = match readers.with(has_table) {
            Ok(found) => found.then_some(readers),
            Err(_) if std::fs::metadata(&log).map_or(true, |log| log.len() == 0) => {
                let readers = Self::immutable(path);
                readers.with(has_table)?.then_some(readers)
            }
            Err(fault) => {
                let cause = format!(
                    "{}: {}. What {} holds must be brought into it first: copy both to where they can be written",
                    path.display(),
                    fault.cause,
                    log.display()
                );
                return Err(Fault { cause, ..fault });
            }
        };
        Ok(found)
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
        open(&self.path, self.flags)
    }
}

/// A connection that only reads a file; `None` where there is no such table in it.
pub(crate) fn open_existing(path: &Path, table: &'static str) -> Result<Option<Connection>, Fault> {
    Readers::of_existing(path, table)?.map(|readers| readers.open()).transpose()
}

fn has_table(connection: &Connection, table: &str) -> rusqlite::Result<bool> {
    connection.query_row("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = ?1)", [table], |row| row.get(0))
}

/// The address of a file that does not change.
fn uri(path: &Path) -> String {
    let mut uri = "file:".to_owned();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' => uri.push(char::from(*byte)),
            // What is written to a text is always written.
            other => drop(write!(uri, "%{other:02X}")),
        }
    }
    uri + "?immutable=1"
}
