//! The rooms of an installation, opened: what a server works with, and every command beside it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use cnc_commands::{
    Host, HostOptions, Keyring, MasterKey,
    ledger::{Audit, Flaw, PostgresLedger, SqliteLedger},
};
use cnc_domain::{
    MODULES,
    kernel::{CompanyId, FoldKind},
    ledger::{Fault, Feed, Head, Ledger},
};
use cnc_projections::{Engine, EngineFolds, Store};

use crate::{
    run::Config,
    tokens::{self, Tokens},
};

/// The rooms of one installation, opened but doing nothing by themselves: what a command beside a server needs.
#[derive(Clone)]
pub struct Rooms {
    /// The ledgers.
    pub ledger: Arc<dyn Ledger>,
    /// The same, in its own type, for what only a back end can do.
    pub back_end: BackEnd,
    /// The write side.
    pub host: Host,
    /// The documents of views and triggers.
    pub store: Store,
    /// The tokens' key.
    pub tokens: Tokens,
}

/// The triggers of all modules.
pub(crate) fn triggers() -> Vec<&'static dyn FoldKind> {
    MODULES.iter().flat_map(|module| module.triggers).copied().collect()
}

/// Where a ledger is kept.
#[derive(Clone)]
pub enum BackEnd {
    /// In the data folder.
    Sqlite(Arc<SqliteLedger>),
    /// In a Postgres database.
    Postgres(Arc<PostgresLedger>),
}

impl Rooms {
    /// Opens what `config` names; an empty data folder or database is set up first.
    pub async fn open(config: &Config) -> Result<Self, Fault> {
        Self::open_with(config, true).await
    }

    /// The same; without the master key, and what it wraps, for who neither seals nor opens.
    pub(crate) async fn open_with(config: &Config, keys: bool) -> Result<Self, Fault> {
        make_private(&config.data)?;
        let key_file = |named: &Option<PathBuf>, usual| named.clone().unwrap_or_else(|| config.data.join(usual));
        let master = || MasterKey::load_or_create(&key_file(&config.master_key_file, "master.key"));
        let tokens = Tokens::load_or_create(&key_file(&config.token_key_file, tokens::KEY_FILE))?;
        let (back_end, keyring, store) = match &config.ledger {
            None => (
                BackEnd::Sqlite(Arc::new(SqliteLedger::open(&config.data)?)),
                Keyring::sqlite(&config.data, master()?).await?,
                Store::sqlite(&config.data).await?,
            ),
            Some(url) => {
                let ledger = PostgresLedger::connect(url).await?;
                ledger.migrate().await.map_err(for_the_owner)?;
                let keyring = if keys { Keyring::postgres(url, master()?).await } else { Keyring::none() };
                let store = Store::postgres(url).await.map_err(for_the_owner)?;
                (BackEnd::Postgres(Arc::new(ledger)), keyring.map_err(for_the_owner)?, store)
            }
        };
        let ledger = back_end.ledger();
        let options = HostOptions { clock_limits: config.clock, ..HostOptions::default() };
        let host = Host::start(ledger.clone(), keyring, options)?;
        let store = {
            let host = host.clone();
            // What folds put off, and what they forget, must not go by a clock that is wrong either.
            store.with_clock(Arc::new(move || host.now()))
        };
        Ok(Self { ledger, back_end, host, store, tokens })
    }

    /// The ledgers, for reading only.
    pub fn feed(&self) -> Arc<dyn Feed> {
        self.back_end.feed()
    }

    /// An engine over these rooms that does nothing until it is run.
    pub fn engine(&self) -> Engine {
        Engine::new(self.feed(), self.store.clone(), EngineFolds::both(triggers()))
    }

    /// Lets what was asked for be recorded, then closes.
    pub async fn close(self) {
        self.host.stop().await;
    }
}

impl BackEnd {
    /// Verifies a company's ledger where it is kept: its chain, its columns and its head. `None` where there is none.
    pub async fn audit(&self, company: CompanyId, kept: Option<Head>) -> Result<Option<Result<Head, Flaw>>, Fault> {
        match self {
            Self::Sqlite(ledger) => ledger.audit(company, kept).await,
            Self::Postgres(ledger) => ledger.audit(company, kept).await,
        }
    }

    fn ledger(&self) -> Arc<dyn Ledger> {
        match self {
            Self::Sqlite(ledger) => ledger.clone(),
            Self::Postgres(ledger) => ledger.clone(),
        }
    }

    fn feed(&self) -> Arc<dyn Feed> {
        match self {
            Self::Sqlite(ledger) => ledger.clone(),
            Self::Postgres(ledger) => ledger.clone(),
        }
    }
}

/// Says what to do where a login may not make what is missing, or was never granted what is there. The database says it in
/// words; where it says it in another language, they stand alone.
fn for_the_owner(fault: Fault) -> Fault {
    if !fault.cause.contains("permission denied") && !fault.cause.contains("must be owner") {
        return fault;
    }
    let advice = "the schema is not what this version needs, or this login is no member of the roles that may use it: \
                  run `cnc migrate` as the database's owner (see deploy/README.md)";
    Fault::broken(fault.doing, format!("{}: {advice}", fault.cause))
}

/// Makes the data folder where there is none, for its owner only.
fn make_private(data: &Path) -> Result<(), Fault> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .map_err(|error| Fault::passing("making the data folder", format!("{}: {error}", data.display())))
}
