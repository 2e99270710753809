//! What a command says, to people or to scripts, and with which status it ends.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use cnc_domain::ledger::Fault;
use serde_json::{Value, json};

/// Why a command ends with another status than 0. Each says what to do next where there is something to do.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It looked, and something is wrong.
    #[error("{message}")]
    Found {
        /// For people.
        message: String,
        /// For scripts.
        facts: Value,
    },
    /// The command line does not make sense.
    #[error("{0}")]
    Usage(String),
    /// There is no such thing.
    #[error("{0}")]
    Missing(String),
    /// The system failed.
    #[error("{0}")]
    Fault(String),
}

impl Failure {
    /// The system failed.
    pub fn fault(what: impl std::fmt::Display) -> Self {
        Self::Fault(what.to_string())
    }

    /// A file cannot be read or written.
    pub fn file(path: &std::path::Path, error: &io::Error) -> Self {
        let text = format!("{}: {error}", path.display());
        if error.kind() == io::ErrorKind::NotFound { Self::Missing(text) } else { Self::Fault(text) }
    }

    /// There is no such company.
    pub fn no_company(company: cnc_domain::kernel::CompanyId) -> Self {
        Self::Missing(format!(
            "there is no company {company} here: see `cnc company list`, and check --data and --ledger"
        ))
    }

    /// There is no ledger.
    pub fn no_ledger(config: &crate::run::Config) -> Self {
        let place = if config.ledger.is_some() {
            "in the database of --ledger".to_owned()
        } else if config.data.exists() {
            format!("in {}", config.data.display())
        } else {
            format!("in {}, which does not exist", config.data.display())
        };
        Self::Missing(format!(
            "there is no ledger {place}: check --data and --ledger. `cnc serve`, `cnc demo` and `cnc company found` begin one"
        ))
    }

    fn status(&self) -> u8 {
        match self {
            Self::Found { .. } => 1,
            Self::Usage(_) => 2,
            Self::Missing(_) => 3,
            Self::Fault(_) => 4,
        }
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        let again = if fault.passing { " (this may pass: try again)" } else { "" };
        Self::Fault(format!("{fault}{again}"))
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Fault(format!("the answer cannot be written: {error}"))
    }
}

/// Where answers go.
#[derive(Clone, Copy, Debug)]
pub struct Out {
    json: bool,
}

impl Out {
    /// Answers to scripts or to people.
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether a script reads.
    pub fn json(self) -> bool {
        self.json
    }

    /// One answer: a JSON line for scripts, `text` for people.
    pub fn say(self, text: impl std::fmt::Display, value: &Value) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        let written = if self.json { writeln!(out, "{value}") } else { writeln!(out, "{text}") };
        pipe(written.and_then(|()| out.flush()))
    }

    /// Ends with a failure: its sentence on standard error, and for scripts also as JSON on standard output.
    pub fn fail(self, failure: &Failure) -> ExitCode {
        if self.json {
            let facts = if let Failure::Found { facts, .. } = failure { facts.clone() } else { Value::Null };
            let error = json!({ "error": failure.to_string(), "status": failure.status(), "facts": facts });
            drop(writeln!(io::stdout().lock(), "{error}"));
        }
        note(format_args!("cnc: {failure}"));
        ExitCode::from(failure.status())
    }
}

/// Something for people only, on standard error.
pub fn note(text: impl std::fmt::Display) {
    // Nobody is left to be told that nobody reads.
    drop(writeln!(io::stderr().lock(), "{text}"));
}

/// A reader that closes its end early (`| head`) has what it wanted.
pub fn pipe(written: io::Result<()>) -> Result<(), Failure> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}
