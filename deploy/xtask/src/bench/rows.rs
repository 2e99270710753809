//! The entries that are measured: a truck's status reports, of a usual size.

use std::sync::Arc;

use cnc_domain::{
    kernel::{Actor, CommandId, CompanyId, Id, LocationId, Timestamp, UserId},
    ledger::{Answer, Append, Appended, Check, Draft, Hash, Idempotency, Ledger, StreamHead},
};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::Outcome;

/// How many reports a whole journey has.
pub const REPORTS: u64 = 100;
/// How many whole journeys are appended at once to fill a ledger.
const JOURNEYS_AT_ONCE: usize = 20;

/// The payload of each event.
pub const PAYLOAD: &str = r#"{"occurred_at":"2026-07-01T12:00:00.000000Z","status":"in_traffic","note":"Stopped behind an accident on Knight Street, ten minutes or more","position":null}"#;

/// What the peer keeps beside each event: about what our header says.
pub const METADATA: &str = r#"{"company":"01920000-0000-7000-8000-000000000001","actor":{"user":"01920000-0000-7000-8000-000000000004","role":"driver"},"command":"01920000-0000-7000-8000-000000000003","correlation":"01920000-0000-7000-8000-000000000003","at":"2026-07-01T12:00:00.000000Z"}"#;

/// An id that no other run has.
pub fn fresh() -> Uuid {
    Uuid::now_v7()
}

/// The time, as the host gives it to an append.
pub fn now() -> Timestamp {
    chrono::Utc::now().into()
}

/// Founds a company, and says by which hash its facts are known.
pub async fn found(ledger: &Arc<dyn Ledger>, company: CompanyId) -> Outcome<Hash> {
    let mut append = Journey { id: company.uuid(), ..Journey::new(company, Hash::default()) }.report("bench");
    append.founds = true;
    append.drafts[0].stream = "company".into();
    append.checks[0].stream = "company".into();
    Ok(ledger.append(vec![append]).await?.remove(0)?.head.hash)
}

/// A journey that is reported on, as who reported last knows it.
#[derive(Clone, Copy)]
pub struct Journey {
    pub company: CompanyId,
    /// The company's facts.
    pub facts: Hash,
    pub id: Uuid,
    /// Its last entry.
    pub seen: StreamHead,
}

impl Journey {
    /// One that no other run has.
    pub fn new(company: CompanyId, facts: Hash) -> Self {
        Self { company, facts, id: fresh(), seen: StreamHead::default() }
    }

    /// One more report, with an idempotency key and its stream checked.
    pub fn report(&self, writer: &str) -> Append {
        let command = CommandId::new(fresh());
        let payload = RawValue::from_string(PAYLOAD.to_owned()).expect("the payload is JSON");
        let draft = Draft {
            stream: "truck_journey".into(),
            id: self.id,
            sequence: self.seen.sequence + 1,
            event: "status_reported".into(),
            version: 1,
            location: Some(LocationId::number(5)),
            actor: Actor::User { user: UserId::number(4), role: "driver".into() },
            command,
            correlation: Id::new(command.uuid()),
            causation: None,
            payload,
        };
        Append {
            company: self.company,
            founds: false,
            now: now(),
            facts: self.facts,
            checks: vec![Check { stream: draft.stream.clone(), id: self.id, seen: self.seen }],
            drafts: vec![draft],
            idempotency: Some(Idempotency {
                actor: format!("user:{writer}"),
                for_ever: false,
                refusals: false,
                key: command.to_string(),
                fingerprint: [7; 32],
            }),
            answer: Answer { command, position: 0, sequence: 0, recorded: 0, rejection: None, replayed: false },
        }
    }

    /// A report was recorded.
    pub fn reported(&mut self, appended: &Appended) {
        self.seen = StreamHead { sequence: self.seen.sequence + 1, hash: appended.head.hash };
    }

    /// All its [reports](REPORTS), in one append.
    pub fn whole(&self, writer: &str) -> Append {
        let mut append = self.report(writer);
        let first = append.drafts.remove(0);
        append.drafts = (1..=REPORTS).map(|sequence| Draft { sequence, ..first.clone() }).collect();
        append
    }
}

/// Appends whole journeys until a company's ledger is `entries` long.
pub async fn fill(ledger: &Arc<dyn Ledger>, company: CompanyId, entries: u64) -> Outcome {
    let mut position = ledger.head(company).await?.map_or(0, |head| head.position);
    let facts = ledger.facts(company).await?.unwrap_or_default();
    while position < entries {
        let journeys = (0..JOURNEYS_AT_ONCE).map(|_| Journey::new(company, facts).whole("fill")).collect();
        for appended in ledger.append(journeys).await? {
            position = position.max(appended?.head.position);
        }
    }
    Ok(())
}
