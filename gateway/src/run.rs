//! Wires the rooms together: the one place that knows them all. The binary and the tests start the same thing.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use async_nats::{Client, jetstream};
use cnc_commands::{
    forgetting,
    ledger::PostgresLedger,
    relay::{Relay, RelayMetrics},
    workers,
};
use cnc_domain::ledger::{Fault, Feed};
use cnc_projections::{Engine, FeedOptions, JetStreamFeed, hear_changes, tell_changes};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

pub use crate::{
    config::Config,
    rooms::{BackEnd, Rooms},
};
use crate::{
    files,
    http::{App, listen, serve, serve_metrics},
    nats,
    parts::Parts,
    roles::{Role, Roles},
};

/// How long requests that are under way may take to finish when a server stops.
const GRACE: Duration = Duration::from_secs(10);
/// How long the broker may take to hear the rest when a server stops.
const FAREWELL: Duration = Duration::from_secs(1);

/// A running system: some roles, or all, in one process.
pub struct System {
    /// Its rooms.
    pub rooms: Rooms,
    /// Its folds.
    pub engine: Engine,
    /// Where it listens.
    pub address: SocketAddr,
    /// Where it answers with metrics.
    pub metrics_address: Option<SocketAddr>,
    nats: Option<Client>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl System {
    /// Opens the rooms, listens, and does what its roles are.
    pub async fn start(mut config: Config) -> Result<Self, Fault> {
        files::allow(&mut config.limits);
        let roles = config.roles().map_err(|misfit| Fault::broken("choosing roles", misfit))?;
        let rooms = Rooms::open_with(&config, roles.need_keys()).await?;
        rooms.host.clock().look().await?;
        let (listener, address) = open("--listen", config.listen)?;
        let (operator, metrics_address) =
            config.metrics_listen.map(|address| open("--metrics-listen", address)).transpose()?.unzip();
        let nats = match &config.nats {
            Some(access) => Some(nats::connect(access, &format!("cnc {roles}")).await?),
            None => None,
        };
        let (stop, stopped) = watch::channel(false);
        let mut starting = Starting { rooms: &rooms, roles: &roles, config: &config, tasks: JoinSet::new(), stopped };
        let (engine, feed) = starting.folds(nats.as_ref());
        let relay = starting.relay(nats.as_ref());
        starting.clock();
        starting.workers();
        starting.forgetting();
        let ledger = match &rooms.back_end {
            BackEnd::Sqlite(_) => None,
            BackEnd::Postgres(ledger) => Some(ledger.clone()),
        };
        let parts = Parts { roles: roles.clone(), nats: nats.clone(), feed, ledger, relay };
        starting.serve(listener, operator, engine.clone(), parts);
        let tasks = starting.tasks;
        tracing::info!(%address, metrics = metrics_address.map(display), %roles, "listening");
        Ok(Self { rooms, engine, address, metrics_address, nats, stop, tasks })
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

/// Waits until the system is to stop.
async fn stopped(mut stop: watch::Receiver<bool>) {
    // A sender that is gone means the same.
    drop(stop.wait_for(|stop| *stop).await);
}

/// Listens where an option says.
fn open(option: &str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), Fault> {
    let fault = |error| Fault::passing("listening", format!("{address}: {error}; choose another with {option}"));
    let listener = listen(address).map_err(fault)?;
    let address = listener.local_addr().map_err(fault)?;
    Ok((listener, address))
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
    fn serve(&mut self, listener: TcpListener, operator: Option<TcpListener>, engine: Engine, parts: Parts) {
        let Rooms { host, store, tokens, .. } = self.rooms;
        let limits = self.config.limits.clone();
        let app = App::with_limits(host.clone(), store.clone(), engine, tokens.clone(), limits);
        let app = Arc::new(app.with_parts(parts));
        if let Some(operator) = operator {
            let (app, stopped) = (app.clone(), stopped(self.stopped.clone()));
            self.tasks.spawn(async move { serve_metrics(operator, app, stopped).await });
        }
        let stopped = stopped(self.stopped.clone());
        self.tasks.spawn(async move {
            let closing = app.clone();
            let finish = async move {
                stopped.await;
                closing.close_sockets();
            };
            serve(listener, app, finish).await;
        });
    }
}
