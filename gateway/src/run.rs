//! Wires the rooms together: the one place that knows them all. The binary and the tests start the same thing.

use std::{fmt, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use async_nats::{Client, jetstream};
use cnc_commands::{
    ClockLimits, forgetting,
    ledger::PostgresLedger,
    relay::{Relay, RelayMetrics, RelayOptions},
    workers,
};
use cnc_domain::ledger::{Fault, Feed};
use cnc_projections::{Engine, FeedOptions, JetStreamFeed, hear_changes, tell_changes};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

pub use crate::rooms::{BackEnd, Rooms};
use crate::{
    http::{App, router, serve},
    limits::Limits,
    nats::{self, NatsAccess},
    roles::{Parts, Role, Roles},
};

/// How long requests that are under way may take to finish when a server stops.
const GRACE: Duration = Duration::from_secs(10);
/// How long the broker may take to hear the rest when a server stops.
const FAREWELL: Duration = Duration::from_secs(1);

/// What a system is started with. What it prints is no password.
#[derive(Clone)]
pub struct Config {
    /// The data folder: keys, and without `ledger` also the ledger and its views.
    pub data: PathBuf,
    /// The Postgres database that holds the ledger and its views; `SQLite` in the data folder where there is none.
    pub ledger: Option<String>,
    /// Where the master key lies; in the data folder where nothing is said.
    pub master_key_file: Option<PathBuf>,
    /// Where the key that signs tokens lies; in the data folder where nothing is said.
    pub token_key_file: Option<PathBuf>,
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What a caller may ask for at most.
    pub limits: Limits,
    /// What this process does; the usual where nothing is said.
    pub roles: Option<Vec<Role>>,
    /// The NATS that connects this process with others.
    pub nats: Option<NatsAccess>,
    /// How the relay keeps the stream.
    pub relay: RelayOptions,
    /// How far this process's clock is believed.
    pub clock: ClockLimits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: "./cnc-data".into(),
            ledger: None,
            master_key_file: None,
            token_key_file: None,
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            limits: Limits::default(),
            roles: None,
            nats: None,
            relay: RelayOptions::default(),
            clock: ClockLimits::default(),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("data", &self.data)
            // The address may hold a password.
            .field("ledger", &self.ledger.as_ref().map(|_| "Postgres"))
            .field("master_key_file", &self.master_key_file)
            .field("token_key_file", &self.token_key_file)
            .field("listen", &self.listen)
            .field("limits", &self.limits)
            .field("roles", &self.roles)
            .field("nats", &self.nats)
            .field("relay", &self.relay)
            .field("clock", &self.clock)
            .finish()
    }
}

/// A running system: some roles, or all, in one process.
pub struct System {
    /// Its rooms.
    pub rooms: Rooms,
    /// Its folds.
    pub engine: Engine,
    /// Where it listens.
    pub address: SocketAddr,
    nats: Option<Client>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl System {
    /// Opens the rooms, listens, and does what its roles are.
    pub async fn start(config: Config) -> Result<Self, Fault> {
        let roles = Roles::of(&config).map_err(|misfit| Fault::broken("choosing roles", misfit))?;
        let rooms = Rooms::open_with(&config, roles.need_keys()).await?;
        rooms.host.clock().look().await?;
        let listener = TcpListener::bind(config.listen).await.map_err(|error| {
            Fault::passing("listening", format!("{}: {error}; choose another with --listen", config.listen))
        })?;
        let address = listener.local_addr().map_err(|error| Fault::passing("listening", error))?;
        let nats = match &config.nats {
            Some(access) => Some(nats::connect(access, &roles).await?),
            None => None,
        };
        let (stop, stopped) = watch::channel(false);
        let mut starting = Starting { rooms: &rooms, roles: &roles, config: &config, tasks: JoinSet::new(), stopped };
        let (engine, feed) = starting.folds(nats.as_ref());
        let relay = starting.relay(nats.as_ref());
        starting.clock();
        starting.workers();
        starting.forgetting();
        let parts = Parts { roles: roles.clone(), nats: nats.clone(), feed, relay };
        starting.serve(listener, engine.clone(), parts);
        let tasks = starting.tasks;
        tracing::info!(%address, %roles, "listening");
        Ok(Self { rooms, engine, address, nats, stop, tasks })
    }

    /// Finishes the requests that are under way, stops folds, relay and workers, and records what was accepted.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        let finished = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, finished).await.is_err() {
            tracing::warn!("some connections did not end in time and are cut");
            self.tasks.shutdown().await;
        }
        if let Some(nats) = self.nats {
            // A broker that is away has lost nothing that the ledger has not.
            let _ = tokio::time::timeout(FAREWELL, nats.flush()).await;
        }
        self.rooms.close().await;
    }
}

/// A system on its way.
struct Starting<'a> {
    rooms: &'a Rooms,
    roles: &'a Roles,
    config: &'a Config,
    tasks: JoinSet<()>,
    stopped: watch::Receiver<bool>,
}

impl Starting<'_> {
    /// Starts what is folded here, and what is heard of views that others fold.
    fn folds(&mut self, nats: Option<&Client>) -> (Engine, Option<Arc<JetStreamFeed>>) {
        let durables = self.roles.durables();
        let feed = nats
            .filter(|_| !durables.is_empty())
            .map(|nats| JetStreamFeed::new(self.rooms.feed(), jetstream::new(nats.clone()), FeedOptions::of(durables)));
        let read: Arc<dyn Feed> = match &feed {
            Some(feed) => feed.clone(),
            None => self.rooms.feed(),
        };
        let engine = Engine::new(read, self.rooms.store.clone(), self.roles.folds());
        if let Some(nats) = nats {
            if self.roles.has(Role::Folds) {
                self.tasks.spawn(tell_changes(engine.clone(), nats.clone(), self.stopped.clone()));
            }
            if self.roles.has(Role::Gateway) {
                self.tasks.spawn(hear_changes(engine.clone(), nats.clone(), self.stopped.clone()));
            }
        }
        if let Some(feed) = feed.clone() {
            let stopped = self.stopped.clone();
            self.tasks.spawn(async move { feed.run(stopped).await });
        }
        let (folding, stopped) = (engine.clone(), self.stopped.clone());
        self.tasks.spawn(async move { folding.run(stopped).await });
        (engine, feed)
    }

    /// Starts the relay from the ledger to NATS.
    fn relay(&mut self, nats: Option<&Client>) -> Option<Arc<RelayMetrics>> {
        let (BackEnd::Postgres(ledger), Some(nats)) = (&self.rooms.back_end, nats) else { return None };
        if !self.roles.has(Role::Relay) {
            return None;
        }
        let context = jetstream::new(nats.clone());
        let relay = Relay::new(PostgresLedger::clone(ledger), context, self.config.relay.clone());
        let (metrics, stopped) = (relay.metrics(), self.stopped.clone());
        self.tasks.spawn(async move { relay.run(stopped).await });
        Some(metrics)
    }

    /// Starts comparing this process's clock.
    fn clock(&mut self) {
        let (host, stopped) = (self.rooms.host.clone(), self.stopped.clone());
        self.tasks.spawn(async move { host.clock().watch(stopped).await });
    }

    /// Starts what carries out commands of triggers and deadlines.
    fn workers(&mut self) {
        if self.roles.has(Role::Workers) {
            let (outbox, host) = (self.rooms.store.outbox(), self.rooms.host.clone());
            self.tasks.spawn(workers::carry_out(outbox, host, self.stopped.clone()));
        }
    }

    /// Starts forgetting old answers to people, where people are answered.
    fn forgetting(&mut self) {
        if self.roles.has(Role::Gateway) {
            self.tasks.spawn(forgetting::forget_answers(self.rooms.host.clone(), self.stopped.clone()));
        }
    }

    /// Starts answering: the API where that is a role of this process, and how it is in any case.
    fn serve(&mut self, listener: TcpListener, engine: Engine, parts: Parts) {
        let Rooms { host, store, tokens, .. } = self.rooms;
        let limits = self.config.limits.clone();
        let app = App::with_limits(host.clone(), store.clone(), engine, tokens.clone(), limits.clone());
        let app = Arc::new(app.with_parts(parts));
        let service = router(app.clone());
        let mut stopped = self.stopped.clone();
        self.tasks.spawn(async move {
            let finish = async move {
                // A sender that is gone means the same.
                drop(stopped.wait_for(|stop| *stop).await);
                app.close_sockets();
            };
            serve(listener, service, &limits, finish).await;
        });
    }
}
