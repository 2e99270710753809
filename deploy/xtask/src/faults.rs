//! `cargo xtask faults`: a split deployment under load while it is struck, and whether it kept its promises.

use std::path::{Path, PathBuf};

use clap::{Args, builder::PossibleValuesParser};
use cnc_tests::faults::{Day, Fault, Row, Run, day as bring_in, run as strike};
use tokio::runtime::Runtime;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// Stands for the day in the folder of test data.
const TEST_DATA: &str = "$CNC_TEST_DATA";

/// What strikes, and how often.
#[derive(Args)]
pub struct Options {
    /// Decides when and whom faults strike; the next run has the next seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many runs of each fault
    #[arg(long, default_value_t = 1)]
    count: u64,
    /// How often a fault strikes in a run
    #[arg(long, default_value_t = 10)]
    strikes: u32,
    /// How many writers give commands meanwhile
    #[arg(long, default_value_t = 8)]
    writers: usize,
    /// Only these faults, separated by commas; all where none is named
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(Fault::ALL.map(Fault::name)))]
    only: Vec<String>,
    /// Bring in a file of a day's GPS fixes instead, while faults strike; where none is named, that in the folder
    /// that `CNC_TEST_DATA` names
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = TEST_DATA, conflicts_with_all = ["only", "strikes", "writers"])]
    day: Option<PathBuf>,
}

/// Runs each fault, prints a row for each, and fails where a promise was broken.
pub fn run(options: &Options) -> Outcome {
    let program = program()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if let Some(file) = &options.day {
        let file = if file.as_os_str() == TEST_DATA { day_of_the_test_data()? } else { file.clone() };
        return run_days(options, &runtime, &program, &file);
    }
    let mut broken = 0;
    println!("{}", Row::heading());
    for fault in Fault::ALL.into_iter().filter(|fault| wanted(options, *fault)) {
        for seed in options.seed..options.seed + options.count {
            let how = Run { program: &program, seed, strikes: options.strikes, writers: options.writers };
            let row = runtime.block_on(strike(fault, &how));
            println!("{row}");
            if !row.verdict.is_clean() {
                broken += 1;
                let (name, verdict) = (fault.name(), &row.verdict);
                println!("    BROKEN: {verdict:?}; again: cargo xtask faults --only {name} --seed {seed}");
            }
        }
    }
    if broken == 0 { Ok(()) } else { Err(format!("{broken} runs broke a promise").into()) }
}

fn run_days(options: &Options, runtime: &Runtime, program: &Path, file: &Path) -> Outcome {
    let mut broken = 0;
    for seed in options.seed..options.seed + options.count {
        let row = runtime.block_on(bring_in(&Day { program, seed, file }));
        println!("{row}");
        row.gave_up.iter().for_each(|said| println!("    gave up: {said}"));
        if !row.is_clean() {
            broken += 1;
            println!("    BROKEN: {row:?}");
        }
    }
    if broken == 0 { Ok(()) } else { Err(format!("{broken} days broke a promise").into()) }
}

fn day_of_the_test_data() -> Outcome<PathBuf> {
    let folder = std::env::var_os("CNC_TEST_DATA").ok_or("name a FILE, or a folder in CNC_TEST_DATA")?;
    let is_day = |path: &PathBuf| path.to_string_lossy().contains("vehicle-positions");
    let mut files = std::fs::read_dir(&folder)?.flatten().map(|file| file.path()).filter(is_day);
    files.next().ok_or_else(|| format!("{} holds no file of vehicle positions", folder.display()).into())
}

fn wanted(options: &Options, fault: Fault) -> bool {
    options.only.is_empty() || options.only.iter().any(|name| name == fault.name())
}

/// The `cnc` program as it is now, built in the same profile as this one.
fn program() -> Outcome<PathBuf> {
    let mut cargo = std::process::Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--package", "cnc-gateway"]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    if !cargo.status()?.success() {
        return Err("cnc cannot be built".into());
    }
    Ok(std::env::current_exe()?.with_file_name("cnc"))
}
