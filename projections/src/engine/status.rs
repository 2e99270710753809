//! What an engine says of its folds, and what its operators are told.

use cnc_domain::{
    kernel::{CompanyId, Timestamp},
    ledger::{Fault, Position},
};

/// Why a past moment cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum AsOfError {
    /// There is no such view.
    #[error("there is no view {0}")]
    UnknownView(String),
    /// Too many are being read, or this one has too many entries: try later, or an earlier moment.
    #[error("{0}")]
    Busy(&'static str),
    /// The system failed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// How one fold stands in one company.
#[derive(Clone, Debug, serde::Serialize)]
pub struct FoldStatus {
    /// The company.
    pub company: CompanyId,
    /// The fold.
    pub fold: String,
    /// Whether it sends commands.
    pub trigger: bool,
    /// The version of its documents.
    pub version: u32,
    /// Which of the builds of that version.
    pub build: i64,
    /// `live`, `building`, `scratch`, `retired`, or `forked`: it stood at what the ledger does not have, and was replaced.
    pub standing: &'static str,
    /// All entries up to here are folded.
    pub position: Position,
    /// The ledger's last position.
    pub head: Position,
    /// How many entries it is behind.
    pub lag: u64,
    /// It stands at what the ledger does not have, as far as the head says: it is of another history.
    pub forked: bool,
    /// It is built anew up to here, in the place of one that was of another history.
    pub rebuilding_until: Option<Position>,
    /// How many entries were skipped.
    pub skipped: u64,
    /// Up to here a trigger sends nothing.
    pub silent_until: Position,
    /// The entry that stopped it.
    pub poison: Option<Poison>,
    /// When it last wrote: its heartbeat.
    pub touched_at: Timestamp,
    /// How often its task had to be restarted since this process started.
    pub restarts: u64,
}

/// An entry that could not be folded.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Poison {
    /// Where it stands.
    pub position: Position,
    /// What is wrong.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried again; `None` where it waits for an operator.
    pub retry_at: Option<Timestamp>,
}

/// A fold that was built anew and swapped in.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Rebuilt {
    /// The company.
    pub company: CompanyId,
    /// The fold.
    pub fold: String,
    /// How many entries were read.
    pub position: Position,
    /// Why it was not swapped in, where it was not.
    pub stopped: Option<String>,
}

/// A fold that was built beside and compared.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Verified {
    /// The company.
    pub company: CompanyId,
    /// The fold.
    pub fold: String,
    /// The position of both.
    pub position: Position,
    /// How many documents were compared.
    pub documents: u64,
    /// The first differences, at most 100.
    pub differences: Vec<Difference>,
    /// Why it could not be compared, where it could not.
    pub stopped: Option<String>,
}

/// A document that is not what the ledger says.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Difference {
    /// The kind of document.
    pub document: String,
    /// Its key.
    pub key: String,
    /// What is wrong: `missing`, `unexpected` or `different`.
    pub wrong: &'static str,
}

/// An entry that was skipped.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Skipped {
    /// The fold.
    pub fold: String,
    /// The entry.
    pub position: Position,
    /// Why it could not be folded.
    pub reason: String,
}

/// What was dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Pruned {
    /// Builds.
    pub builds: u64,
    /// Their documents.
    pub documents: u64,
    /// Tables of versions that are used no more.
    pub tables: u64,
    /// Builds of versions that this program does not know, left alone because another may be at work on them.
    pub kept: u64,
}
