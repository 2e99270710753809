//! Faults: a split deployment under load while its parts are killed, frozen, cut off and lied to, and what must hold
//! afterwards. Each run has a seed, which says when and whom each fault strikes.

mod day;
mod load;
mod poison;
mod strike;
mod verdict;
mod world;

use std::{
    fmt,
    path::Path,
    time::{Duration, Instant},
};

pub use day::{Day, DayRow, day};
pub use strike::Fault;
pub use verdict::Verdict;
use world::{Size, World};

use crate::random::Random;

/// What a run came to.
#[derive(Debug)]
pub struct Row {
    /// The fault.
    pub fault: Fault,
    /// The seed.
    pub seed: u64,
    /// How often it struck.
    pub strikes: u32,
    /// How many writers gave commands meanwhile.
    pub writers: usize,
    /// What was found afterwards.
    pub verdict: Verdict,
    /// From the end of the last fault until every view and every outbox was even with the ledger.
    pub recovered_in: Duration,
}

/// How a run is made.
pub struct Run<'a> {
    /// The `cnc` program.
    pub program: &'a Path,
    /// Decides when and whom faults strike.
    pub seed: u64,
    /// How often they strike.
    pub strikes: u32,
    /// How many writers give commands meanwhile.
    pub writers: usize,
}

/// Lets one fault strike a deployment of its own under load.
pub async fn run(fault: Fault, how: &Run<'_>) -> Row {
    let mut random = Random::new(how.seed);
    let world = World::start(how.program, fault, Size { writers: how.writers, folds: 2, workers: 2 }).await;
    let load = world.load();
    for _ in 0..how.strikes {
        world.go_on_for(random.between(60, 250)).await;
        strike::strike(fault, &world, &mut random).await;
    }
    let healed = Instant::now();
    world.go_on_for(20).await;
    let notes = load.finish().await;
    world.until_even().await;
    let recovered_in = healed.elapsed();
    let verdict = verdict::reach(&world, &notes).await;
    Row { fault, seed: how.seed, strikes: how.strikes, writers: how.writers, verdict, recovered_in }
}

impl Row {
    /// The heading of a table of rows.
    pub fn heading() -> String {
        format!(
            "{:<16} {:>6} {:>8} {:>8} {:>8} {:>6} {:>8} {:>8} {:>6} {:>8} {:>8} {:>9}",
            "fault",
            "seed",
            "strikes",
            "writers",
            "acked",
            "lost",
            "doubled",
            "future",
            "views",
            "missing",
            "triggers",
            "recovered"
        )
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict {
            acknowledged,
            lost,
            doubled,
            of_the_future,
            views_differing,
            missing_in_stream,
            triggers_doubled,
            ..
        } = &self.verdict;
        write!(
            f,
            "{:<16} {:>6} {:>8} {:>8} {:>8} {:>6} {:>8} {:>8} {:>6} {:>8} {:>8} {:>7.1} s",
            self.fault.name(),
            self.seed,
            self.strikes,
            self.writers,
            acknowledged,
            lost,
            doubled,
            of_the_future,
            views_differing,
            missing_in_stream,
            triggers_doubled,
            self.recovered_in.as_secs_f64()
        )
    }
}
