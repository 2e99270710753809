//! A company is warned, by an alert like any other, of a view or trigger that an entry has stopped; the alert is settled when
//! the fold goes on. Both are commands in the outbox, and act once.

use cnc_domain::{
    cloud_control::company::Company,
    command_control::{
        Alert,
        alert::{About, AlertKind, Command, Settled},
    },
    kernel::{Aggregate as _, Also, CommandId, CompanyId, Id},
    ledger::{Fault, Head, Parcel, Position},
};
use serde_json::Value;

use super::{Inner, worker::Worker};

impl Inner {
    /// Warns of a fold that stopped, where companies are warned.
    pub(super) async fn warn(&self, worker: &Worker, position: Position) -> Result<(), Fault> {
        if !self.folds.warns {
            return Ok(());
        }
        let (company, fold) = (worker.row.id.company, worker.plan.fold);
        let facts = [("fold", Value::from(fold)), ("position", position.into())];
        let raise = Command::Raise {
            about: About { stream: Company::STREAM.into(), id: company.uuid() },
            location: None,
            kind: AlertKind::FoldStopped,
            due: self.now(),
            facts: facts.map(|(fact, value)| (fact.to_owned(), value)).into(),
        };
        self.storage().send(vec![parcel(b"fold stopped", company, fold, worker.at, raise)]).await
    }

    /// Settles the warning of a fold that an entry had stopped after `at`, and that goes on.
    pub(super) async fn settle_warning(&self, company: CompanyId, fold: &'static str, at: Head) -> Result<(), Fault> {
        if !self.folds.warns {
            return Ok(());
        }
        let resolve = Command::Resolve { how: Settled::CauseGone, note: None };
        self.storage().send(vec![parcel(b"fold goes on", company, fold, at, resolve)]).await
    }
}

/// A command to the alert of a fold that stopped after `at`.
fn parcel(what: &[u8], company: CompanyId, fold: &'static str, at: Head, command: Command) -> Parcel {
    let (company_id, position) = (company.uuid(), at.position.to_be_bytes());
    let about: [&[u8]; 4] = [company_id.as_bytes(), fold.as_bytes(), &position, &at.hash.0];
    let command_id = CommandId::derived(&[&[what], &about[..]].concat());
    let alert: Id<Alert> = Alert::id(AlertKind::FoldStopped, Id::<()>::derived(&about).uuid(), 0);
    Parcel {
        company,
        command: command_id,
        fold: fold.into(),
        deadline: false,
        correlation: Id::new(command_id.uuid()),
        causation: command_id.uuid(),
        caused_at: at,
        also: Also::to(alert, command),
    }
}
