//! The product's own code over back ends in memory, under a scheduler and with faults that follow from one seed: the same
//! seed gives the same run, step by step.
//!
//! A run has some companies, people who give commands, and a few processes that share one database server and one broker.
//! Each process runs the real host, appender, fold engine, outbox worker and relay. At every step of a back end, before
//! and after its effect, chance decides how long it takes, whether it fails, and whether the process ends there and starts
//! anew. When the people are done the storm is over, and all that the system [promises] must hold.

mod people;
mod process;
mod promises;
pub mod tills;
mod weather;

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use cnc_commands::{Keyring, MasterKey, Request, keyring::MemoryKeys, ledger::memory::Server, relay::memory::Exchange};
use cnc_domain::{
    kernel::{Actor, CompanyId, Id, Message, Timestamp},
    ledger::{Answer, Fault},
};
use cnc_projections::simulated::Databases;
use process::Process;
use tokio::time::Instant;
use uuid::Uuid;
use weather::{Climate, Life};

use crate::random::Random;

/// A run that takes longer, in simulated time, is stuck.
const RUN_MAX: Duration = Duration::from_hours(6);
/// How many processes there are.
const PROCESSES: usize = 3;
/// How many people give commands.
const PEOPLE: u64 = 4;

/// What is simulated.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// From which everything follows.
    pub seed: u64,
    /// How many commands are given.
    pub commands: u64,
    /// Whether the text of every step is kept.
    pub told: bool,
}

/// How a run ended.
#[derive(Debug)]
pub struct Run {
    /// A hash of all that happened, in order.
    pub hash: u64,
    /// How many steps that were.
    pub steps: u64,
    /// How long it took in simulated time.
    pub took: Duration,
    /// How often a process died.
    pub deaths: u64,
    /// The promise that was broken, where one was.
    pub broken: Option<String>,
    /// The text of every step, where it was to be told.
    pub trace: Vec<String>,
}

/// A command that was answered.
struct Given {
    company: CompanyId,
    till: Id<tills::Till>,
    key: String,
    answer: Answer,
}

/// All that processes share, and what is known of them from outside.
struct World {
    server: Server,
    databases: Databases,
    exchange: Exchange,
    keys: MemoryKeys,
    companies: Vec<CompanyId>,
    climate: Climate,
    storms: AtomicBool,
    begun: Instant,
    chance: Mutex<Random>,
    seen: Mutex<Seen>,
    processes: Mutex<Vec<Option<Arc<Process>>>>,
    given: Mutex<Vec<Given>>,
    /// The key of each command that was ever tried.
    tried: Mutex<HashMap<Uuid, String>>,
}

/// What happened so far.
struct Seen {
    hasher: DefaultHasher,
    steps: u64,
    told: bool,
    trace: Vec<String>,
    broken: Option<String>,
    deaths: u64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Simulates a scenario, in this thread.
pub fn run(scenario: Scenario) -> Result<Run, Fault> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.map_err(|cause| Fault::broken("start a simulation", cause))?;
    runtime.block_on(async {
        let world = World::new(scenario)?;
        let living = tokio::time::timeout(RUN_MAX, world.live(scenario));
        match living.await {
            Ok(Ok(())) => {}
            Ok(Err(broken)) => world.breaks(broken),
            Err(_) => world.breaks("the run does not end".into()),
        }
        let took = world.begun.elapsed();
        locked(&world.processes).clear();
        let mut seen = locked(&world.seen);
        let (hash, trace) = (seen.hasher.finish(), std::mem::take(&mut seen.trace));
        Ok(Run { hash, steps: seen.steps, took, deaths: seen.deaths, broken: seen.broken.take(), trace })
    })
}

impl World {
    fn new(scenario: Scenario) -> Result<Arc<Self>, Fault> {
        let mut chance = Random::new(scenario.seed);
        let climate = Climate::of(&mut chance);
        let companies = (1..=1 + chance.below(2)).map(|number| CompanyId::number(u128::from(number))).collect();
        let databases = Databases::new()?;
        let (hasher, trace) = (DefaultHasher::new(), Vec::new());
        let seen = Seen { hasher, steps: 0, told: scenario.told, trace, broken: None, deaths: 0 };
        Ok(Arc::new_cyclic(|world| Self {
            server: Server::new(Arc::new(ServerTime(world.clone()))),
            databases,
            exchange: Exchange::default(),
            keys: MemoryKeys::default(),
            companies,
            climate,
            storms: AtomicBool::new(false),
            begun: Instant::now(),
            chance: Mutex::new(chance),
            seen: Mutex::new(seen),
            processes: Mutex::new((0..PROCESSES).map(|_| None).collect()),
            given: Mutex::default(),
            tried: Mutex::default(),
        }))
    }

    /// Lets people work through the storm, and then looks at what is left.
    async fn live(self: &Arc<Self>, scenario: Scenario) -> Result<(), String> {
        let mut running = tokio::task::JoinSet::new();
        (0..PROCESSES).for_each(|place| drop(running.spawn(process::keep_running(self.clone(), place))));
        running.spawn(process::trouble_broker(self.clone()));
        running.spawn(process::trouble_databases(self.clone()));
        tokio::task::yield_now().await;
        self.found().await?;
        promises::begun(self).await?;
        self.storms.store(true, Ordering::Relaxed);
        let mut people = tokio::task::JoinSet::new();
        for person in 0..PEOPLE {
            people.spawn(people::work(self.clone(), person, scenario.commands.div_ceil(PEOPLE)));
        }
        let calm = self.draw(|chance, _| 60 + chance.below(240));
        let storm = async { while people.join_next().await.is_some() {} };
        if tokio::time::timeout(Duration::from_secs(calm), storm).await.is_err() {
            self.storms.store(false, Ordering::Relaxed);
            while people.join_next().await.is_some() {}
        }
        self.storms.store(false, Ordering::Relaxed);
        promises::keep(self).await
    }

    async fn found(&self) -> Result<(), String> {
        let Some(process) = self.any_process() else { return Err("no process has started".into()) };
        for company in &self.companies {
            let command = Message::split(&tills::Founding::Found);
            let actor = Actor::tool("simulation");
            let request = Request::internal(*company, "company", company.uuid(), command, actor);
            let request = Request { command_id: company.cast(), ..request };
            process.host.execute(request).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Whether anything fails now.
    fn storms(&self) -> bool {
        self.storms.load(Ordering::Relaxed)
    }

    /// The true time.
    fn now(&self) -> Timestamp {
        let passed = i64::try_from(self.begun.elapsed().as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(1_800_000_000_000_000 + passed)
    }

    /// Lets chance decide.
    fn draw<T>(&self, by: impl FnOnce(&mut Random, &Climate) -> T) -> T {
        by(&mut locked(&self.chance), &self.climate)
    }

    /// Takes note of a step.
    fn trace(&self, step: impl FnOnce() -> String) {
        let at = self.begun.elapsed();
        let mut seen = locked(&self.seen);
        let step = format!("{at:?} {}", step());
        step.hash(&mut seen.hasher);
        seen.steps += 1;
        if seen.told {
            seen.trace.push(step);
        }
    }

    /// The database server of the folds stops, and loses what has not reached the disk.
    fn crash_databases(&self) {
        self.trace(|| "the database server of the folds crashes".into());
        if let Err(fault) = self.databases.crash() {
            self.breaks(format!("the databases are broken: {fault}"));
        }
    }

    /// A promise is broken; the first counts.
    fn breaks(&self, promise: String) {
        self.trace(|| promise.clone());
        locked(&self.seen).broken.get_or_insert(promise);
    }

    fn put(&self, place: usize, process: Option<Arc<Process>>) {
        locked(&self.seen).deaths += u64::from(process.is_none());
        let before = std::mem::replace(&mut self.processes()[place], process);
        drop(before);
    }

    fn processes(&self) -> MutexGuard<'_, Vec<Option<Arc<Process>>>> {
        locked(&self.processes)
    }

    fn any_process(&self) -> Option<Arc<Process>> {
        let processes = self.processes();
        let running: Vec<_> = processes.iter().flatten().collect();
        let place = self.draw(|chance, _| chance.below(running.len().max(1) as u64));
        running.get(usize::try_from(place).unwrap_or_default()).map(|process| Arc::clone(process))
    }

    fn given(&self) -> MutexGuard<'_, Vec<Given>> {
        locked(&self.given)
    }

    /// The number of the next command, which is tried under this key.
    fn next_command(&self, key: &str) -> u64 {
        let mut tried = locked(&self.tried);
        let number = 1_000 + tried.len() as u64;
        tried.insert(Id::<()>::number(u128::from(number)).uuid(), key.to_owned());
        number
    }

    fn commands(&self) -> MutexGuard<'_, HashMap<Uuid, String>> {
        locked(&self.tried)
    }

    fn keyring(&self) -> Keyring {
        let master = MasterKey::read("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
        self.keys.keyring(master.expect("is a key"))
    }
}

/// How long the server takes: it never fails.
struct ServerTime(std::sync::Weak<World>);

#[async_trait::async_trait]
impl cnc_domain::ledger::Weather for ServerTime {
    async fn before(&self, doing: &'static str) -> Result<(), Fault> {
        let Some(world) = self.0.upgrade() else { return Ok(()) };
        Life::new(&world, "server".into(), true).before(doing).await
    }
    async fn after(&self, _: &'static str) -> Result<(), Fault> {
        Ok(())
    }
    fn now(&self) -> Timestamp {
        self.0.upgrade().map_or_else(Timestamp::default, |world| world.now())
    }
}
