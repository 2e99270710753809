//! A simulated process: host, folds, triggers and outbox worker over the server that all share. When it dies, all its
//! memory is gone; after a while it starts anew.

use std::{sync::Arc, time::Duration};

use cnc_commands::{Catalog, Host, HostOptions, Standing, ledger::memory::MemoryLedger, workers};
use cnc_domain::{
    kernel::{Module, fold},
    ledger::{Fault, Weather as _},
};
use cnc_projections::{Engine, EngineFolds};
use tokio::{sync::watch, task::JoinSet};

use super::{
    World,
    tills::{Counting, Sums, TILLS},
    weather::Life,
};

static MODULES: &[&Module] = &[&TILLS];

/// What a process is made of.
pub struct Process {
    /// Its commands.
    pub host: Host,
    life: Arc<Life>,
    ledger: Arc<MemoryLedger>,
    /// Never says so: a process ends with a stroke.
    _stop: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

/// The folds of every process.
pub fn folds() -> EngineFolds {
    EngineFolds { views: vec![fold::<Sums>()], triggers: vec![fold::<Counting>()], unwatched: true }
}

impl Process {
    async fn start(world: &Arc<World>, life: Arc<Life>) -> Result<Self, Fault> {
        let ledger = Arc::new(world.server.ledger(life.clone()));
        let clock = {
            let life = life.clone();
            move || life.now()
        };
        let options = HostOptions {
            catalog: Catalog { modules: MODULES, kinds: &[], standing: |_| Standing::default() },
            clock: Arc::new(clock),
            states: 64,
            batch: 8,
            adopt_schemas: false,
        };
        let host = Host::start(ledger.clone(), world.keyring(), options).await?;
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
        tasks.spawn(workers::carry_out(outbox, host.clone(), stopped));
        Ok(Self { host, life, ledger, _stop: stop, _tasks: tasks })
    }
}

/// Keeps the `place`th process running: as often as it dies it is started anew.
pub async fn keep_running(world: Arc<World>, place: usize) {
    for generation in 1.. {
        let life = Life::new(&world, format!("{place}.{generation}"), false);
        match Process::start(&world, life.clone()).await {
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
