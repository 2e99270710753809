//! Simulation of many seeds, each of which can be run again alone.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use clap::Args;
use cnc_tests::simulation::{self, Run, Scenario};

/// How many of the last steps of a failed run are shown.
const TOLD: usize = 200;

/// What to simulate.
#[derive(Args)]
pub struct Options {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds, one after the other.
    #[arg(long, default_value_t = 1_000)]
    count: u64,
    /// How many commands are given in each.
    #[arg(long, default_value_t = 40)]
    steps: u64,
    /// Print every step of a run that fails, not only the last.
    #[arg(long)]
    trace: bool,
}

/// Runs all seeds on all processors, and says which failed.
pub fn run(options: &Options) -> Result<(), String> {
    let (next, started) = (AtomicU64::new(0), Instant::now());
    let done = Mutex::new(Done::default());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let nth = next.fetch_add(1, Ordering::Relaxed);
                    let done = || done.lock().unwrap_or_else(PoisonError::into_inner);
                    if nth >= options.count || !done().failed.is_empty() {
                        return;
                    }
                    let seed = options.seed + nth;
                    let run = simulation::run(Scenario { seed, commands: options.steps, told: false });
                    done().take(seed, run.map_err(|fault| fault.to_string()), started);
                }
            });
        }
    });
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!("{}", done.told(started));
    match done.failed.first() {
        None => Ok(()),
        Some((seed, broken)) => {
            show(*seed, options);
            Err(format!(
                "seed {seed}: {broken}\nagain: cargo xtask simulate --seed {seed} --count 1 --steps {} --trace",
                options.steps
            ))
        }
    }
}

/// Runs a seed once more and prints its steps.
fn show(seed: u64, options: &Options) {
    let Ok(Run { trace, .. }) = simulation::run(Scenario { seed, commands: options.steps, told: true }) else { return };
    let skipped = if options.trace { 0 } else { trace.len().saturating_sub(TOLD) };
    if skipped > 0 {
        println!("… {skipped} steps before; --trace prints them too");
    }
    trace.iter().skip(skipped).for_each(|step| println!("{step}"));
}

/// What all runs came to.
#[derive(Default)]
struct Done {
    runs: u64,
    steps: u64,
    deaths: u64,
    hours: f64,
    failed: Vec<(u64, String)>,
}

impl Done {
    fn take(&mut self, seed: u64, run: Result<Run, String>, started: Instant) {
        self.runs += 1;
        match run {
            Ok(run) => {
                self.steps += run.steps;
                self.deaths += run.deaths;
                self.hours += run.took.as_secs_f64() / 3_600.0;
                self.failed.extend(run.broken.map(|broken| (seed, broken)));
            }
            Err(fault) => self.failed.push((seed, fault)),
        }
        if self.runs.is_multiple_of(100) {
            println!("{}", self.told(started));
        }
    }

    fn told(&self, started: Instant) -> String {
        let seconds = started.elapsed().as_secs_f64();
        let Self { runs, steps, deaths, hours, .. } = self;
        let rate = f64::from(u32::try_from(*runs).unwrap_or(u32::MAX)) / seconds;
        format!(
            "{runs} seeds in {seconds:.1} s ({rate:.0} a second): {steps} steps, {deaths} deaths of processes, {hours:.1} simulated hours"
        )
    }
}
