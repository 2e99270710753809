//! The `cnc` command: what an operator types. Each file is one command; this one holds the tree.
//!
//! Answers go to standard output, everything else (progress, logs, the head of an export) to standard error, so that the
//! output of any command can be piped.

#![allow(clippy::doc_markdown, reason = "docstrings here are the commands' help, which is plain text")]

mod address;
mod audit;
mod backup;
mod company;
mod demo;
mod environment;
mod folds;
mod giving;
mod health;
mod import_gps;
mod integration;
mod migrate;
mod move_company;
mod output;
mod progress;
mod schemas;
mod serve;
mod token;
mod user;

use std::{io::IsTerminal as _, path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Parser, Subcommand};
use cnc_commands::ClockLimits;
use cnc_domain::kernel::Timestamp;
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

pub use output::Failure;
use output::Out;

use crate::run::{BackEnd, Config, Rooms};

const AFTER_HELP: &str = "\
Every command but health works beside a running server and on a stopped one, with the same --data and
--ledger; health asks one that runs.

Start here:
  cnc demo                                    a small company, a day of journeys, and a server to look at it
  cnc serve                                   a server on ./cnc-data
  cnc company found \"Northwind Movers\"        prints the company's id
  cnc user invite --company ID --role admin --name NAME --email ADDRESS --accept    prints the user's id
  cnc token issue --company ID --user ID      a token for the API

Exit status:
  0  done, or verified
  1  it looked, and something is wrong: a broken ledger, a view that differs, a stale file, a server that is not ready
  2  the command line is wrong
  3  it names something that does not exist
  4  the system failed: a database that is away, a disk that is full";

/// The operations system of a moving company: an event-sourced ledger, live views, and an API over both.
#[derive(Debug, Parser)]
#[command(name = "cnc", version, after_help = AFTER_HELP, max_term_width = 110, subcommand_required = true)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
struct Common {
    /// The data folder: keys, and (without --ledger) the ledger and its views. serve, demo, company found and restore make
    /// it where there is none
    #[arg(long, env = "CNC_DATA", default_value = "./cnc-data", value_name = "DIR", global = true)]
    data: PathBuf,
    /// Keep the ledger and its views in Postgres 15 or newer: postgres://USER:PASSWORD@HOST/DATABASE
    #[arg(long, env = "CNC_LEDGER", value_name = "URL", global = true, hide_env_values = true)]
    ledger: Option<String>,
    /// Where the master key lies, instead of master.key in the data folder
    #[arg(long, env = "CNC_MASTER_KEY_FILE", value_name = "FILE", global = true)]
    master_key_file: Option<PathBuf>,
    /// Where the key that signs tokens lies, instead of token.key in the data folder
    #[arg(long, env = "CNC_TOKEN_KEY_FILE", value_name = "FILE", global = true)]
    token_key_file: Option<PathBuf>,
    /// How many seconds this machine's clock may be from the database's before nothing is recorded by it
    #[arg(long, env = "CNC_CLOCK_SKEW_MAX", default_value = "5", value_name = "SECONDS", global = true,
        value_parser = clap::value_parser!(u32).range(1..))]
    clock_skew_max: u32,
    /// The day (in UTC) by this machine's clock, as the word that it is right although nothing was recorded for long, or
    /// something later was: only without --ledger, where there is no second clock
    #[arg(long, env = "CNC_ACCEPT_CLOCK", value_name = "YYYY-MM-DD", value_parser = day, global = true)]
    accept_clock: Option<Timestamp>,
    /// What to log to standard error: error, warn, info, debug, or a filter such as warn,cnc_commands=debug
    #[arg(long, env = "CNC_LOG", value_name = "FILTER", value_parser = log_filter, global = true)]
    log: Option<String>,
    /// Answer (and log) in JSON, for scripts
    #[arg(long, env = "CNC_JSON", value_parser = clap::builder::FalseyValueParser::new(), global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Health(health::Health),
    Demo(demo::Demo),
    #[command(subcommand)]
    Company(company::Company),
    #[command(subcommand)]
    Import(Import),
    #[command(subcommand)]
    Audit(audit::Audit),
    #[command(subcommand)]
    Folds(folds::Folds),
    #[command(subcommand)]
    Integration(integration::Integration),
    Migrate(migrate::Migrate),
    #[command(subcommand)]
    User(user::User),
    #[command(subcommand)]
    ServiceAccount(user::ServiceAccount),
    Backup(backup::Backup),
    Restore(backup::Restore),
    #[command(subcommand)]
    Token(token::Token),
    Schemas(schemas::Schemas),
}

/// Bring in records of other systems
#[derive(Debug, Subcommand)]
enum Import {
    Gps(import_gps::Gps),
}

impl Common {
    fn config(&self) -> Config {
        Config {
            data: self.data.clone(),
            ledger: self.ledger.clone(),
            master_key_file: self.master_key_file.clone(),
            token_key_file: self.token_key_file.clone(),
            clock: ClockLimits {
                skew_max: Duration::from_secs(self.clock_skew_max.into()),
                accepted: self.accept_clock,
                ..ClockLimits::default()
            },
            ..Config::default()
        }
    }
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let cli = environment::parse::<Cli>();
    start_log(&cli);
    let out = Out::new(cli.common.json);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return out.fail(&Failure::fault(format!("no threads can be started: {error}"))),
    };
    match runtime.block_on(run(&cli, out)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => out.fail(&failure),
    }
}

async fn run(cli: &Cli, out: Out) -> Result<(), Failure> {
    let config = cli.common.config();
    match &cli.command {
        Command::Serve(command) => serve::run(command, config, out).await,
        Command::Health(command) => health::run(command, out),
        Command::Demo(command) => demo::run(command, config, out).await,
        Command::Company(command) => company::run(command, config, out).await,
        Command::Import(Import::Gps(command)) => import_gps::run(command, config, out).await,
        Command::Audit(command) => audit::run(command, config, out).await,
        Command::Folds(command) => folds::run(command, config, out).await,
        Command::Integration(command) => integration::run(command, config, out).await,
        Command::Backup(command) => backup::save(command, config, out).await,
        Command::Restore(command) => backup::restore(command, config, out).await,
        Command::Migrate(_) => migrate::run(config, out).await,
        Command::User(command) => user::run(command, config, out).await,
        Command::ServiceAccount(command) => user::run_service_account(command, config, out).await,
        Command::Token(command) => token::run(command, config, out).await,
        Command::Schemas(command) => schemas::run(command, out),
    }
}

/// Does something in the rooms of an installation, which are made where there are none, and closes them whatever came of it.
async fn in_rooms<T>(config: &Config, act: impl AsyncFnOnce(&Rooms) -> Result<T, Failure>) -> Result<T, Failure> {
    in_opened(Rooms::open(config).await?, act).await
}

/// The same where there is a ledger; nothing is made where there is none.
async fn in_existing<T>(config: &Config, act: impl AsyncFnOnce(&Rooms) -> Result<T, Failure>) -> Result<T, Failure> {
    in_opened(Rooms::open_existing(config).await?.ok_or_else(|| Failure::no_ledger(config))?, act).await
}

async fn in_opened<T>(rooms: Rooms, act: impl AsyncFnOnce(&Rooms) -> Result<T, Failure>) -> Result<T, Failure> {
    let done = act(&rooms).await;
    rooms.close().await;
    done
}

/// The ledger, for a command that only reads it: no folder, key or database is made, and no other one is looked at.
async fn read_only(config: &Config) -> Result<BackEnd, Failure> {
    BackEnd::read_only(config).await?.ok_or_else(|| Failure::no_ledger(config))
}

/// The first moment of a day.
fn day(text: &str) -> Result<Timestamp, &'static str> {
    format!("{text}T00:00:00Z").parse().map_err(|_| "a day, such as 2026-11-27")
}

/// What [`start_log`] can go by. A bare word that is no level is refused, too: it would name a module that is not there,
/// and silence all others.
fn log_filter(text: &str) -> Result<String, &'static str> {
    let is_level = |word: &str| word.is_empty() || word.parse::<LevelFilter>().is_ok();
    let levels = text.contains(['=', '[']) || text.split(',').all(|word| is_level(word.trim()));
    if levels && EnvFilter::try_new(text).is_ok() {
        return Ok(text.into());
    }
    Err("it takes off, error, warn, info, debug or trace, or modules with one of them each, such as \
         warn,cnc_commands=debug")
}

/// A server says what it does; a command that answers says only what is wrong.
fn start_log(cli: &Cli) {
    let serves = matches!(cli.command, Command::Serve(_) | Command::Demo(_));
    // What Postgres remarks when tables are there already is of no interest to anybody.
    let usual = if serves { "info,sqlx::postgres::notice=warn" } else { "warn" };
    let filter = cli.common.log.as_deref().unwrap_or(usual);
    let log = tracing_subscriber::fmt().with_env_filter(EnvFilter::new(filter)).with_writer(std::io::stderr);
    // Colours are for eyes: in a file or a collector they are noise between the words.
    let log = log.with_ansi(std::io::stderr().is_terminal());
    let started = if cli.common.json { log.json().try_init() } else { log.try_init() };
    drop(started); // a test process may have started one before: then that one stays
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn a_log_filter_is_taken_where_it_is_one() {
        for good in ["", "off", "info", "WARN", "warn,cnc_commands=debug", "info,sqlx::postgres::notice=warn"] {
            assert_eq!(super::log_filter(good).as_deref(), Ok(good));
        }
        for bad in ["inof", "warn,loud", "cnc_commands=loud", "=", "info,=,"] {
            assert!(super::log_filter(bad).is_err_and(|says| says.contains("warn,cnc_commands=debug")), "{bad}");
        }
    }

    #[test]
    fn the_command_tree_is_sound() {
        super::Cli::command().debug_assert();
    }
}
