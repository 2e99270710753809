//! Chores of this repository: `cargo xtask CHORE`.

mod golden;

use std::process::ExitCode;

use clap::Parser;

/// A chore.
#[derive(Parser)]
#[command(name = "xtask", about = "Chores of this repository")]
enum Chore {
    /// Add golden entries for versions of events that have none. Those that stand are never changed.
    Golden,
}

fn main() -> ExitCode {
    let done = match Chore::parse() {
        Chore::Golden => golden::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            eprintln!("{cause}");
            ExitCode::FAILURE
        }
    }
}
