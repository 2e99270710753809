//! One SQLite file: a connection that writes, and some that read.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use cnc_domain::ledger::Fault;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

#[cfg(feature = "simulation")]
use super::super::simulated::Shared;

/// How many connections for reading are kept open.
const READERS_KEPT: usize = 8;
/// What a commit of documents does. Of views it need not last at once.
pub(super) const WRITING: &str = "writing documents";
/// How long a process that stops waits for others that read, before it leaves the log to them.
const CLOSING: Duration = Duration::from_secs(1);
/// How long to wait for another process that writes.
const BUSY: Duration = Duration::from_secs(20);

#[derive(Clone)]
pub(super) enum Db {
    File(Arc<File>),
    /// One that many simulated processes share: its work is done in place, so that a run can be repeated.
    #[cfg(feature = "simulation")]
    Memory(Arc<Shared>, Arc<dyn cnc_domain::ledger::Weather>),
}

pub(super) struct File {
    path: PathBuf,
    /// None where the file was opened for reading only.
    writer: Option<Mutex<Connection>>,
    readers: Mutex<Vec<Connection>>,
}

impl Db {
    /// Opens a file with this durability, made where it is missing.
    pub async fn open(path: PathBuf, synchronous: &'static str) -> Result<Self, Fault> {
        let open = move || {
            let writer = connect(&path, false)?;
            writer.pragma_update(None, "journal_mode", "WAL")?;
            writer.pragma_update(None, "synchronous", synchronous)?;
            Ok(Self::File(Arc::new(File { path, writer: Some(Mutex::new(writer)), readers: Mutex::default() })))
        };
        aside("opening the store", open).await
    }

    /// A file where nothing is to be made or written. One that is missing is read as an empty one.
    pub fn read_only(path: PathBuf) -> Self {
        let path = if path.exists() { path } else { ":memory:".into() };
        Self::File(Arc::new(File { path, writer: None, readers: Mutex::default() }))
    }

    /// Brings what stands in the log into the file, and empties the log, where nobody else is at work on them.
    pub async fn truncate_log(&self) -> Result<(), Fault> {
        let inner = match self {
            Self::File(file) => file.clone(),
            #[cfg(feature = "simulation")]
            Self::Memory(..) => return Ok(()),
        };
        let work = move || {
            let Some(writer) = &inner.writer else { return Ok(()) };
            let writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
            writer.busy_timeout(CLOSING)?;
            writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
            writer.busy_timeout(BUSY)
        };
        aside("closing the store", work).await
    }

    /// Does `work` in one transaction that may write.
    pub async fn write<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Fault> {
        let inner = match self {
            Self::File(file) => file.clone(),
            #[cfg(feature = "simulation")]
            Self::Memory(shared, weather) => return in_memory(shared, weather, doing, work).await,
        };
        let work = move || {
            let read_only = || rusqlite::Error::InvalidPath(inner.path.clone());
            let mut writer =
                inner.writer.as_ref().ok_or_else(read_only)?.lock().unwrap_or_else(PoisonError::into_inner);
            let tx = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let result = work(&tx)?;
            tx.commit()?;
            Ok(result)
        };
        aside(doing, work).await
    }

    /// Does `work` on one snapshot.
    pub async fn read<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Fault> {
        let inner = match self {
            Self::File(file) => file.clone(),
            #[cfg(feature = "simulation")]
            Self::Memory(shared, weather) => return in_memory(shared, weather, doing, work).await,
        };
        let work = move || {
            let kept = inner.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut reader = kept.map_or_else(|| connect(&inner.path, true), Ok)?;
            let result = {
                let tx = reader.transaction_with_behavior(TransactionBehavior::Deferred)?;
                work(&tx)?
            };
            let mut readers = inner.readers.lock().unwrap_or_else(PoisonError::into_inner);
            if readers.len() < READERS_KEPT {
                readers.push(reader);
            }
            Ok(result)
        };
        aside(doing, work).await
    }
}

#[cfg(feature = "simulation")]
async fn in_memory<T>(
    shared: &Shared,
    weather: &Arc<dyn cnc_domain::ledger::Weather>,
    doing: &'static str,
    work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send,
) -> Result<T, Fault> {
    weather.before(doing).await?;
    let result = shared.transact(doing == WRITING, work).map_err(|error| fault(doing, &error))?;
    weather.after(doing).await?;
    Ok(result)
}

fn connect(path: &std::path::Path, only_reads: bool) -> rusqlite::Result<Connection> {
    let flags = if only_reads {
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX
    } else {
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX
    };
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(connection)
}

/// Runs blocking work where it holds up nobody.
async fn aside<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> rusqlite::Result<T> + Send + 'static,
) -> Result<T, Fault> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| fault(doing, &error)),
        Err(died) => Err(Fault::broken(doing, died)),
    }
}

fn fault(doing: &'static str, error: &rusqlite::Error) -> Fault {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::ConstraintViolation) => {
            Fault::broken(doing, error)
        }
        Some(_) => Fault::passing(doing, error),
        None => Fault::broken(doing, error),
    }
}
