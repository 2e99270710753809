//! A store whose databases are in memory and whose every transaction is a step that a simulation may hold up, refuse or
//! be the last of a process. The statements are those of SQLite.

use std::sync::{Arc, Mutex};

use cnc_domain::ledger::{Fault, Weather};
use rusqlite::Connection;

use super::{Store, sqlite::Sqlite};

/// The databases of a store, which outlive the processes that use them.
pub struct Databases {
    views: Arc<Mutex<Connection>>,
    ledger: Arc<Mutex<Connection>>,
}

impl Databases {
    /// Empty ones.
    pub fn new() -> Result<Self, Fault> {
        let open = || {
            let connection = Connection::open_in_memory()?;
            connection.set_prepared_statement_cache_capacity(128);
            connection.execute_batch(include_str!("sqlite/tables.sql"))?;
            Ok(Arc::new(Mutex::new(connection)))
        };
        let opened = || open().map_err(|cause: rusqlite::Error| Fault::broken("opening databases in memory", cause));
        Ok(Self { views: opened()?, ledger: opened()? })
    }

    /// The store as one process sees it.
    pub fn store(&self, weather: Arc<dyn Weather>) -> Store {
        let storage = Arc::new(Sqlite::in_memory(&self.views, &self.ledger, &weather));
        Store { storage, plans: Arc::default(), clock: Arc::new(move || weather.now()) }
    }
}
