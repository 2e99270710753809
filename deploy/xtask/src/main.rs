//! Chores of this repository. `cargo xtask --help` lists them.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a chore's answer is what it prints")]

mod bench;
mod faults;
mod golden;
mod simulate;

use std::process::ExitCode;

use clap::Parser;

/// Chores of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask", disable_version_flag = true)]
enum Chore {
    /// Measures the product beside its limits and its peers, in one run on the same servers.
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Strikes a split deployment under load, and tells which promises it kept. Needs Postgres, NATS and (to fill a disk) root.
    Faults(faults::Options),
    /// Adds golden entries for versions of events that have none. Those that stand are never changed.
    Golden,
    /// Runs the product's own code in simulated time, with faults that follow from a seed.
    Simulate(simulate::Options),
}

fn main() -> ExitCode {
    let done = match Chore::parse() {
        Chore::Bench(which) => bench::run(&which).map_err(|cause| cause.to_string()),
        Chore::Faults(options) => faults::run(&options).map_err(|cause| cause.to_string()),
        Chore::Simulate(options) => simulate::run(&options),
        Chore::Golden => golden::run().map_err(|cause| cause.to_string()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            eprintln!("{cause}");
            ExitCode::FAILURE
        }
    }
}
