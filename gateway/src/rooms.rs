//! The rooms of an installation, opened: what a server works with, and every command beside it.

use std::{path::Path, sync::Arc};

use cnc_commands::{
    Host, HostOptions, Keyring,
    ledger::{Audit, Flaw, PostgresLedger, SqliteLedger},
};
use cnc_domain::{
    kernel::CompanyId,
    ledger::{Fault, Feed, Head, Ledger},
};
use cnc_projections::{Engine, EngineFolds, Store};

use crate::{catalog::triggers, config::Config, tokens::Tokens};

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

    /// Opens what `config` names where there is a ledger; makes nothing and gives `None` where there is none.
    pub async fn open_existing(config: &Config) -> Result<Option<Self>, Fault> {
        match BackEnd::read_only(config).await? {
            Some(_) => Ok(Some(Self::open(config).await?)),
            None => Ok(None),
        }
    }

    /// The same for who sets the database up and needs no keys: they are made where an installation begins.
    pub async fn open_as_owner(config: &Config) -> Result<Self, Fault> {
        let rooms = Self::open_with(config, false).await?;
        let founded = !rooms.ledger.heads().await?.is_empty();
        Keyring::begin(config.key_place(), &config.master_key_path(), founded).await.map_err(for_the_owner)?;
        Ok(rooms)
    }

    /// The same as [`Rooms::open`]; without the master key, and what it wraps, for who neither seals nor opens.
    pub(crate) async fn open_with(config: &Config, keys: bool) -> Result<Self, Fault> {
        make_private(&config.data)?;
        let back_end = BackEnd::open(config).await?;
        let heads = back_end.feed().heads().await?;
        let companies: Vec<CompanyId> = heads.into_iter().map(|(company, _)| company).collect();
        let keyring = if keys {
            Keyring::open(config.key_place(), &config.master_key_path(), &companies).await.map_err(for_the_owner)?
        } else {
            Keyring::none()?
        };
        let store = open_store(config).await?;
        let tokens = Tokens::open(&config.token_key_path(), !companies.is_empty())?;
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

    /// Makes what is missing of tables, and no key: for a restore, which brings the keys.
    pub async fn furnish(config: &Config) -> Result<(), Fault> {
        make_private(&config.data)?;
        let back_end = BackEnd::open(config).await?;
        drop(open_store(config).await?);
        Keyring::furnish(config.key_place()).await.map_err(for_the_owner)?;
        back_end.close().await
    }

    /// The ledgers, for reading only.
    pub fn feed(&self) -> Arc<dyn Feed> {
        self.back_end.feed()
    }

    /// An engine over these rooms that does nothing until it is run.
    pub fn engine(&self) -> Engine {
        engine(&self.back_end, self.store.clone())
    }

    /// Lets what was asked for be recorded, then closes, and leaves nothing in the logs beside the databases' files.
    pub async fn close(self) {
        self.host.stop().await;
        let closed = [self.back_end.close().await, self.store.close().await, self.host.keyring().close().await];
        for fault in closed.into_iter().filter_map(Result::err) {
            // Nothing is lost: the next start brings it in.
            tracing::warn!(%fault, "a database's log could not be emptied");
        }
    }
}

/// An engine of all folds that does nothing until it is run.
fn engine(back_end: &BackEnd, store: Store) -> Engine {
    Engine::new(back_end.feed(), store, EngineFolds::both(triggers()))
}

/// Opens the store of documents, and makes what is missing in it.
async fn open_store(config: &Config) -> Result<Store, Fault> {
    match &config.ledger {
        None => Store::sqlite(&config.data).await,
        Some(url) => Store::postgres(url).await.map_err(for_the_owner),
    }
}

impl BackEnd {
    /// Opens the ledger that `config` names, and makes it where there is none.
    async fn open(config: &Config) -> Result<Self, Fault> {
        let Some(url) = &config.ledger else {
            for name in ["ledger.db", "views.db"] {
                make_private_file(&config.data.join(name))?;
            }
            return Ok(Self::Sqlite(Arc::new(SqliteLedger::open(&config.data)?)));
        };
        let ledger = PostgresLedger::connect(url).await?;
        ledger.migrate().await.map_err(for_the_owner)?;
        Ok(Self::Postgres(Arc::new(ledger)))
    }

    /// Opens the ledger that `config` names for reading only; makes nothing and gives `None` where there is none. Keys and
    /// views are not looked at.
    pub async fn read_only(config: &Config) -> Result<Option<Self>, Fault> {
        let Some(url) = &config.ledger else {
            return Ok(SqliteLedger::open_read_only(&config.data)?.map(|ledger| Self::Sqlite(Arc::new(ledger))));
        };
        let ledger = PostgresLedger::connect(url).await?;
        Ok(if ledger.exists().await? { Some(Self::Postgres(Arc::new(ledger))) } else { None })
    }

    /// A host over this ledger that reads states and can neither seal nor open.
    pub fn reader(&self) -> Result<Host, Fault> {
        Host::start(self.ledger(), Keyring::none()?, HostOptions::default())
    }

    /// An engine that says how folds stand, and makes nothing.
    pub async fn folds_read_only(&self, config: &Config) -> Result<Engine, Fault> {
        let store = match &config.ledger {
            None => Store::sqlite_read_only(&config.data),
            Some(url) => Store::postgres_read_only(url).await?,
        };
        Ok(engine(self, store))
    }

    /// An engine for who looks after folds: it needs no keys.
    pub async fn folds(&self, config: &Config) -> Result<Engine, Fault> {
        Ok(engine(self, open_store(config).await?))
    }

    async fn close(&self) -> Result<(), Fault> {
        match self {
            Self::Sqlite(ledger) => ledger.close().await,
            Self::Postgres(_) => Ok(()),
        }
    }

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

    /// The ledgers, for reading only.
    pub fn feed(&self) -> Arc<dyn Feed> {
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

/// Makes a database's file where there is none, and keeps others from reading one that is there. SQLite gives the files
/// that it puts beside it the same mode.
fn make_private_file(path: &Path) -> Result<(), Fault> {
    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
    let made = || {
        let file = std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let mode = file.metadata()?.permissions().mode();
        // No bit for the group or for others.
        if mode.trailing_zeros() >= 6 { Ok(()) } else { file.set_permissions(std::fs::Permissions::from_mode(0o600)) }
    };
    made().map_err(|error: std::io::Error| {
        Fault::passing("making a database's file", format!("{}: {error}", path.display()))
    })
}
