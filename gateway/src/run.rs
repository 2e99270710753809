//! Wires the rooms together: the one place that knows them all. The binary and the tests start the same thing.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use cnc_commands::{
    Host, HostOptions, Keyring, MasterKey,
    ledger::{Audit, Flaw, PostgresLedger, SqliteLedger},
    workers,
};
use cnc_domain::{
    MODULES,
    kernel::CompanyId,
    ledger::{Fault, Feed, Head, Ledger},
};
use cnc_projections::{Engine, EngineFolds, Store};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

use crate::{
    http::{App, router, serve},
    limits::Limits,
    tokens::Tokens,
};

/// How long requests that are under way may take to finish when a server stops.
const GRACE: Duration = Duration::from_secs(10);

/// What a system is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// The data folder: keys, and without `ledger` also the ledger and its views.
    pub data: PathBuf,
    /// The Postgres database that holds the ledger and its views; `SQLite` in the data folder where there is none.
    pub ledger: Option<String>,
    /// Where the master key lies; in the data folder where nothing is said.
    pub master_key_file: Option<PathBuf>,
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What a caller may ask for at most.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: "./cnc-data".into(),
            ledger: None,
            master_key_file: None,
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            limits: Limits::default(),
        }
    }
}

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
        make_private(&config.data)?;
        let key_file = config.master_key_file.clone().unwrap_or_else(|| config.data.join("master.key"));
        let master = MasterKey::load_or_create(&key_file)?;
        let tokens = Tokens::load_or_create(&config.data)?;
        let (back_end, keyring, store) = match &config.ledger {
            None => (
                BackEnd::Sqlite(Arc::new(SqliteLedger::open(&config.data)?)),
                Keyring::sqlite(&config.data, master).await?,
                Store::sqlite(&config.data).await?,
            ),
            Some(url) => {
                let ledger = PostgresLedger::connect(url).await?;
                ledger.migrate().await?;
                (
                    BackEnd::Postgres(Arc::new(ledger)),
                    Keyring::postgres(url, master).await?,
                    Store::postgres(url).await?,
                )
            }
        };
        let ledger = back_end.ledger();
        let host = Host::start(ledger.clone(), keyring, HostOptions::default()).await?;
        Ok(Self { ledger, back_end, host, store, tokens })
    }

    /// The ledgers, for reading only.
    pub fn feed(&self) -> Arc<dyn Feed> {
        self.back_end.feed()
    }

    /// An engine over these rooms that does nothing until it is run.
    pub fn engine(&self) -> Engine {
        let triggers = MODULES.iter().flat_map(|module| module.triggers).copied().collect();
        Engine::new(self.feed(), self.store.clone(), EngineFolds::both(triggers))
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

/// A running system: all roles in one process.
pub struct System {
    /// Its rooms.
    pub rooms: Rooms,
    /// Its folds.
    pub engine: Engine,
    /// Where it listens.
    pub address: SocketAddr,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl System {
    /// Opens the rooms, runs folds and workers, and listens.
    pub async fn start(config: Config) -> Result<Self, Fault> {
        let rooms = Rooms::open(&config).await?;
        let listener = TcpListener::bind(config.listen).await.map_err(|error| {
            Fault::passing("listening", format!("{}: {error}; choose another with --listen", config.listen))
        })?;
        let address = listener.local_addr().map_err(|error| Fault::passing("listening", error))?;
        let (stop, stopped) = watch::channel(false);
        let engine = rooms.engine();
        let mut tasks = JoinSet::new();
        let folding = engine.clone();
        let folds_stop = stopped.clone();
        tasks.spawn(async move { folding.run(folds_stop).await });
        tasks.spawn(workers::carry_out(rooms.store.outbox(), rooms.host.clone(), stopped.clone()));
        let (host, store, limits) = (rooms.host.clone(), rooms.store.clone(), config.limits);
        let app = App::with_limits(host, store, engine.clone(), rooms.tokens.clone(), limits.clone());
        let app = Arc::new(app);
        let service = router(app.clone());
        tasks.spawn(async move {
            let mut http_stop = stopped;
            let finish = async move {
                // A sender that is gone means the same.
                drop(http_stop.wait_for(|stop| *stop).await);
                app.close_sockets();
            };
            serve(listener, service, &limits, finish).await;
        });
        tracing::info!(%address, "listening");
        Ok(Self { rooms, engine, address, stop, tasks })
    }

    /// Finishes the requests that are under way, stops folds and workers, and records what was accepted.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        let finished = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, finished).await.is_err() {
            tracing::warn!("some connections did not end in time and are cut");
            self.tasks.shutdown().await;
        }
        self.rooms.close().await;
    }
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
