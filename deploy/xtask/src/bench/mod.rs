//! Benchmarks. Machines are noisy: every figure stands beside a baseline measured in the same run on the same servers,
//! in turns, and what is reported is their ratio.

mod growth;
mod journeys;
mod ledger;
mod live;
mod load;
mod memory;
mod postgres;
mod processes;
mod read_side;
mod report;
mod rows;
mod sqlite;
mod stock;

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand, ValueEnum};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// What to measure.
#[derive(Subcommand)]
pub enum Bench {
    /// Append, verify, fold, memory and growth.
    Ledger(Options),
    /// The split system over Postgres and NATS: from a command to the browsers that see it, reads, memory.
    Live(Options),
    /// Answers every request with a file's bytes: the baseline of reads from memory.
    #[command(hide = true)]
    Bare {
        /// The file.
        body: PathBuf,
    },
}

/// How to measure.
#[derive(Args)]
pub struct Options {
    /// Also write the rows as JSON to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Seconds a cell runs in each turn.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// How often the contenders take turns; the median counts.
    #[arg(long, default_value_t = 3)]
    turns: usize,
    /// Entries of the long ledger, which is 100 times the short one.
    #[arg(long, default_value_t = 1_000_000)]
    entries: u64,
    /// Writers that append at once, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "COUNTS", default_value = "1,16,64,1024")]
    writers: Vec<usize>,
    /// Measure only these parts, separated by commas; all of the benchmark where nothing is said.
    #[arg(long, value_delimiter = ',', value_name = "PARTS")]
    only: Vec<Part>,
}

/// A part of a benchmark.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Verifying beside plain SHA-256.
    Verify,
    /// Rebuilding a view beside reading and decoding.
    Fold,
    /// Appending on `SQLite` beside raw inserts.
    Sqlite,
    /// Appending on Postgres beside postgres-es and COPY.
    Postgres,
    /// Appending by several processes to one Postgres with slow syncs.
    Processes,
    /// Both back ends as a ledger grows a hundred times.
    Growth,
    /// From a command to the browsers that see it.
    Latency,
    /// Reads through the gateway beside pgbench and a bare handler.
    Reads,
    /// What a long history costs the split system.
    History,
    /// Filters and pages of a large view under row security.
    Secured,
}

impl Options {
    fn wants(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    fn cell(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

/// Runs a benchmark. An unoptimised build would say nothing, so it hands over to an optimised one first.
pub fn run(which: &Bench) -> Outcome {
    if cfg!(debug_assertions) {
        return optimised();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match which {
        Bench::Ledger(options) => runtime.block_on(ledger::run(options)),
        Bench::Live(options) => runtime.block_on(live::run(options)),
        Bench::Bare { body } => runtime.block_on(live::serve(body)),
    }
}

/// Builds this program with optimisation and runs the same chore in it.
fn optimised() -> Outcome {
    let mut cargo = std::process::Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["run", "--release", "--package", "xtask", "--"]).args(std::env::args_os().skip(1));
    if cargo.status()?.success() { Ok(()) } else { Err("the benchmark did not finish".into()) }
}
