//! What the triggers of a company still have to do, carried to another database: when the company moves there, or by a backup.
//!
//! There they are silent up to where they stood, as a changed trigger is up to where its predecessor was; what they had sent
//! and nobody had carried out, and their deadlines, come along as they are. Their documents are folded anew.

use std::path::Path;

use cnc_domain::{
    kernel::CompanyId,
    ledger::{Fault, Position},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sqlx::PgConnection;

use super::{postgres::carrying as postgres, sqlite::carrying as sqlite};

/// What the triggers of one company have to do, and what operators have had its folds skip.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TriggerState {
    /// Whose.
    pub company: CompanyId,
    pub(super) starts: Vec<Start>,
    pub(super) deadlines: Vec<CarriedDeadline>,
    pub(super) outbox: Vec<CarriedCommand>,
    pub(super) skips: Vec<Skip>,
}

/// Up to where a trigger has answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Start {
    pub fold: String,
    pub position: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct CarriedDeadline {
    pub fold: String,
    pub key: String,
    pub due_at: i64,
    pub parcel: Box<RawValue>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct CarriedCommand {
    pub command: String,
    pub due_at: i64,
    pub parcel: Box<RawValue>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Skip {
    /// Whether it is a trigger's.
    pub trigger: bool,
    pub fold: String,
    pub version: i64,
    pub position: i64,
    pub reason: String,
    pub skipped_by: String,
    pub skipped_at: i64,
}

impl TriggerState {
    pub(super) fn nothing(company: CompanyId) -> Self {
        Self { company, starts: Vec::new(), deadlines: Vec::new(), outbox: Vec::new(), skips: Vec::new() }
    }

    /// How many commands and deadlines wait.
    pub fn waiting(&self) -> usize {
        self.outbox.len() + self.deadlines.len()
    }
}

/// Where triggers keep what they have to do.
pub enum TriggerStore {
    /// In `ledger.db` of a data folder; what views skip, in `views.db`.
    Sqlite(sqlite::Files),
    /// In a Postgres database.
    Postgres(PgConnection),
}

impl TriggerStore {
    /// What stands in a data folder at this moment.
    pub fn snapshot_sqlite(data_dir: &Path) -> Result<Self, Fault> {
        sqlite::Files::snapshot(data_dir).map(Self::Sqlite)
    }

    /// What stands in a database at this moment.
    pub async fn snapshot_postgres(url: &str) -> Result<Self, Fault> {
        postgres::snapshot(url).await.map(Self::Postgres)
    }

    /// A data folder whose tables are there, to be written to.
    pub fn sqlite(data_dir: &Path) -> Result<Self, Fault> {
        sqlite::Files::open(data_dir).map(Self::Sqlite)
    }

    /// A database whose tables are there, to be written to.
    pub async fn postgres(url: &str) -> Result<Self, Fault> {
        postgres::connect(url).await.map(Self::Postgres)
    }

    /// What the triggers of a company have to do.
    pub async fn read(&mut self, company: CompanyId) -> Result<TriggerState, Fault> {
        match self {
            Self::Sqlite(files) => files.read(company),
            Self::Postgres(database) => postgres::read(database, company).await,
        }
    }

    /// Writes it for a company whose ledger ends at `head` and which nobody folds yet. Done again, it begins anew.
    pub async fn write(&mut self, state: &TriggerState, head: Position) -> Result<(), Fault> {
        match self {
            Self::Sqlite(files) => files.write(state, head),
            Self::Postgres(database) => postgres::write(database, state, head).await,
        }
    }
}

/// Carries what the triggers of a company have to do from one Postgres database to another, where its ledger ends at `head`.
pub async fn carry_triggers(from: &str, to: &str, company: CompanyId, head: Position) -> Result<(), Fault> {
    let state = TriggerStore::snapshot_postgres(from).await?.read(company).await?;
    TriggerStore::postgres(to).await?.write(&state, head).await
}
