//! A simulated process: host, folds, triggers, outbox worker and relay over the server and the broker that all share. When
//! it dies, all its memory is gone; after a while it starts anew.

use std::{sync::Arc, time::Duration};

use cnc_commands::{
    Catalog, Clock, ClockLimits, Host, HostOptions, Standing, ledger::memory::MemoryLedger, relay::RelayOptions,
    workers,
};
use cnc_domain::{
    kernel::{Module, fold},
    ledger::{Fault, Weather as _},
};
use cnc_projections::{Engine, EngineFolds};
use tokio::{sync::watch, task::JoinSet};

use super::{
    World,
    tills::{Counting, Sums, TILLS},
    weather::{Climate, Life},
};
use crate::random::Random;

static MODULES: &[&Module] = &[&TILLS];

/// What a process is made of.
pub struct Process {
    /// Its commands.
    pub host: Host,
    /// What folds.
    pub engine: Engine,
    /// What it lives through.
    pub life: Arc<Life>,
    ledger: Arc<MemoryLedger>,
    /// Never says so: a process ends with a stroke.
    _stop: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

/// The folds of every process.
pub fn folds() -> EngineFolds {
    EngineFolds {
        views: vec![fold::<Sums>()],
        triggers: vec![fold::<Counting>()],
        unwatched: true,
        ..EngineFolds::default()
    }
}

impl Process {
    fn start(world: &Arc<World>, life: Arc<Life>) -> Result<Self, Fault> {
        let ledger = Arc::new(world.server.ledger(life.clone()));
        let clock = {
            let (life, world) = (life.clone(), world.clone());
            Clock { wall: Arc::new(move || life.now()), steady: Arc::new(move || world.begun.elapsed()) }
        };
        let options = HostOptions {
            catalog: Catalog { modules: MODULES, kinds: &[], standing: |_| Standing::default() },
            clock,
            clock_limits: ClockLimits::default(),
            states: 64,
            batch: 8,
            adopt_schemas: false,
        };
        let host = Host::start(ledger.clone(), world.keyring(), options)?;
        let store = world.databases.store(life.clone());
        let outbox = store.outbox();
        let engine = Engine::new(ledger.clone(), store, folds());
        let (stop, stopped) = watch::channel(false);
        let mut tasks = JoinSet::new();
        let folding = {
            let (engine, stopped) = (engine.clone(), stopped.clone());
            async move { engine.run(stopped).await }
        };
        tasks.spawn(folding);
        tasks.spawn(workers::carry_out(outbox, host.clone(), stopped.clone()));
        let comparing = {
            let (host, stopped) = (host.clone(), stopped.clone());
            async move { host.clock().watch(stopped).await }
        };
        tasks.spawn(comparing);
        let options = RelayOptions { replicas: 1, keep: Duration::ZERO, lease: Duration::from_secs(5) };
        let relay = world.exchange.relay(ledger.clone(), life.clone(), options);
        tasks.spawn(async move { relay.run(stopped).await });
        Ok(Self { host, engine, life, ledger, _stop: stop, _tasks: tasks })
    }
}

/// What befalls the broker while there is a storm: its connections break, it loses its last messages, or all of them.
pub async fn trouble_broker(world: Arc<World>) {
    loop {
        let (pause, trouble) = world.draw(|chance, climate| (1 + chance.below(20), chance.happens(climate.broker)));
        tokio::time::sleep(Duration::from_secs(pause)).await;
        if !trouble || !world.storms() {
            continue;
        }
        let (which, count) = world.draw(|chance, _| (chance.below(8), chance.below(30)));
        world.trace(|| format!("trouble of the broker: {which} {count}"));
        match which {
            0 => world.exchange.wipe(),
            1..4 => world.exchange.lose_tail(usize::try_from(count).unwrap_or_default()),
            _ => world.exchange.reconnect(),
        }
    }
}

/// What befalls the database server of the folds while there is a storm: it crashes, and loses commits of views that have
/// not reached the disk; else they reach it now and then.
pub async fn trouble_databases(world: Arc<World>) {
    loop {
        let draw = |chance: &mut Random, climate: &Climate| (1 + chance.below(10), chance.happens(climate.crashes));
        let (pause, crashes) = world.draw(draw);
        tokio::time::sleep(Duration::from_secs(pause)).await;
        match (world.storms(), crashes) {
            (true, true) => world.crash_databases(),
            (true, false) => world.databases.flush(),
            (false, _) => {}
        }
    }
}

/// Keeps the `place`th process running: as often as it dies it is started anew.
pub async fn keep_running(world: Arc<World>, place: usize) {
    for generation in 1.. {
        let life = Life::new(&world, format!("{place}.{generation}"), false);
        match Process::start(&world, life.clone()) {
            Ok(process) => {
                let process = Arc::new(process);
                world.put(place, Some(process.clone()));
                process.life.ended().await;
                process.ledger.disconnect();
                world.put(place, None);
            }
            Err(fault) => world.breaks(format!("a process cannot start: {fault}")),
        }
        let pause = world.draw(|chance, _| 1 + chance.below(3_000));
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}
