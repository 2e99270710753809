//! A store whose databases are in memory and whose every transaction is a step that a simulation may hold up, refuse or
//! be the last of a process. The statements are those of SQLite. As on Postgres, commits of views are lost in a crash of the
//! server, back to the last one that was made to last.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cnc_domain::ledger::{Fault, Weather};
use rusqlite::{Connection, Result as Sql, Transaction, TransactionBehavior, params_from_iter, types::Value};

use super::{
    Store,
    sqlite::{self, Sqlite},
};

/// The databases of a store, which outlive the processes that use them.
pub struct Databases {
    views: Arc<Shared>,
    ledger: Arc<Shared>,
}

/// A database that many processes use.
pub(super) struct Shared(Mutex<Kept>);

struct Kept {
    connection: Connection,
    /// What is on disk, where that is not all.
    on_disk: Option<Vec<Table>>,
}

/// A table's name, and its rows.
type Table = (String, Vec<Vec<Value>>);

impl Databases {
    /// Empty ones.
    pub fn new() -> Result<Self, Fault> {
        let opened = || Shared::open().map_err(|cause| Fault::broken("opening databases in memory", cause));
        Ok(Self { views: Arc::new(opened()?), ledger: Arc::new(opened()?) })
    }

    /// The store as one process sees it.
    pub fn store(&self, weather: Arc<dyn Weather>) -> Store {
        let storage = Arc::new(Sqlite::in_memory(&self.views, &self.ledger, &weather));
        Store { storage, plans: Arc::default(), clock: Arc::new(move || weather.now()) }
    }

    /// Has all that was written reach the disk.
    pub fn flush(&self) {
        self.views.lock().on_disk = None;
    }

    /// Loses what has not reached the disk, as a server does that crashes.
    pub fn crash(&self) -> Result<(), Fault> {
        self.views.crash().map_err(|cause| Fault::broken("crashing", cause))
    }
}

impl Shared {
    fn open() -> Sql<Self> {
        let mut connection = Connection::open_in_memory()?;
        connection.set_prepared_statement_cache_capacity(128);
        let tx = connection.transaction()?;
        sqlite::make_tables(&tx)?;
        tx.commit()?;
        Ok(Self(Mutex::new(Kept { connection, on_disk: None })))
    }

    /// Does `work` in one transaction. Where it writes, it is on disk after that, and all before it, unless it is `relaxed`.
    pub fn transact<T>(&self, relaxed: bool, work: impl FnOnce(&Transaction<'_>) -> Sql<T>) -> Sql<T> {
        let mut kept = self.lock();
        let Kept { connection, on_disk } = &mut *kept;
        let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if relaxed && on_disk.is_none() {
            *on_disk = Some(tables(&tx)?);
        }
        let before = changes(&tx)?;
        let result = work(&tx)?;
        if !relaxed && changes(&tx)? > before {
            *on_disk = None;
        }
        tx.commit()?;
        Ok(result)
    }

    fn crash(&self) -> Sql<()> {
        let mut kept = self.lock();
        let Kept { connection, on_disk } = &mut *kept;
        let tx = connection.transaction()?;
        for (table, rows) in on_disk.take().unwrap_or_default() {
            tx.execute(&format!("DELETE FROM \"{table}\""), [])?;
            for row in rows {
                let places = vec!["?"; row.len()].join(", ");
                tx.execute(&format!("INSERT INTO \"{table}\" VALUES ({places})"), params_from_iter(row))?;
            }
        }
        let generation: i64 = tx.pragma_query_value(None, "user_version", |row| row.get(0))?;
        tx.pragma_update(None, "user_version", generation + 1)?;
        tx.commit()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many rows were ever changed on a connection.
fn changes(tx: &Transaction<'_>) -> Sql<i64> {
    tx.prepare_cached("SELECT total_changes()")?.query_row([], |row| row.get(0))
}

/// All that is in a database.
fn tables(tx: &Transaction<'_>) -> Sql<Vec<Table>> {
    let text = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name";
    let names: Vec<String> = tx.prepare_cached(text)?.query_map([], |row| row.get(0))?.collect::<Sql<_>>()?;
    let read = |name: String| {
        let mut select = tx.prepare(&format!("SELECT * FROM \"{name}\""))?;
        let width = select.column_count();
        let rows = select.query_map([], |row| (0..width).map(|column| row.get(column)).collect())?;
        let rows = rows.collect::<Sql<Vec<Vec<Value>>>>()?;
        Ok((name, rows))
    };
    names.into_iter().map(read).collect()
}
