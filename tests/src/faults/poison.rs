//! An entry that no program of this version can fold, in a company beside the one that works.

use cnc_commands::ledger::PostgresLedger;
use cnc_domain::{
    kernel::{Actor, CommandId, CompanyId, Id},
    ledger::{Answer, Append, Check, Draft, Hash, Ledger as _, Position, StreamHead},
};
use serde_json::{Value, value::RawValue};
use uuid::Uuid;

use super::world::World;
use crate::{fixtures::now, random::Random, system::PATIENCE};

/// A company whose folds an entry stops, until an operator skips it.
struct Poisoned<'a> {
    world: &'a World,
    company: String,
    /// Where the entry stands.
    position: Position,
}

/// A company of its own takes the entry and one after it. Its folds stop there and say so, while those of the company
/// under load keep up; an operator lets them try again, then skips it, and they go on.
pub(super) async fn strike(world: &World, random: &mut Random) {
    let poisoned = Poisoned::found(world, random).await;
    poisoned.until("its folds stop", |folds| folds.iter().any(|fold| poisoned.stops(fold))).await;
    world.go_on_for(random.between(20, 80)).await;
    let target = world.head().await.unwrap_or_default();
    let kept_up = |folds: &[Value]| {
        let loaded = || folds.iter().filter(|fold| fold["company"] == world.company.as_str());
        let stopped = folds.iter().any(|fold| poisoned.stops(fold));
        stopped && loaded().count() > 0 && loaded().all(|fold| fold["position"].as_u64() >= Some(target))
    };
    poisoned.until("the others keep up while it is stopped", kept_up).await;
    world.split.ok(&["folds", "retry", "--company", &poisoned.company]);
    poisoned.until("it goes on when the entry is skipped", |folds| poisoned.skipped(folds)).await;
    world.split.ok(&["audit", "verify", "--company", &poisoned.company]);
}

impl<'a> Poisoned<'a> {
    async fn found(world: &'a World, random: &mut Random) -> Self {
        let company = world.split.ok(&["company", "found", "Poisoned Movers"]);
        let ledger = PostgresLedger::connect(&world.database).await.expect("Postgres answers");
        let id = company.parse().expect("is an id");
        // What this version does not know, and what it knows otherwise.
        let odd = *random.one_of(&[("teleported", r#"{"to":"the moon"}"#), ("planned", r#"{"truck":7}"#)]);
        let facts = ledger.facts(id).await.expect("Postgres answers").expect("is founded");
        let mut position = 0;
        for (event, payload) in [odd, ("cancelled", r#"{"reason":"none","occurred_at":"2026-01-01T00:00:00.000000Z"}"#)]
        {
            let append = append(id, facts, event, payload);
            let appended = ledger.append(vec![append]).await.expect("Postgres answers").remove(0);
            let head = appended.expect("is appended").head.position;
            position = if position == 0 { head } else { position };
        }
        Self { world, company, position }
    }

    /// Whether this fold is stopped by the entry.
    fn stops(&self, fold: &Value) -> bool {
        fold["company"] == self.company.as_str() && fold["poison"]["position"] == self.position
    }

    /// Skips the entry for each fold that it stops; whether all are even then.
    fn skipped(&self, folds: &[Value]) -> bool {
        for fold in folds.iter().filter(|fold| self.stops(fold)) {
            let name = fold["fold"].as_str().expect("has a name");
            let skip = ["folds", "skip", name, "--company", &self.company, "--by", "operator"];
            // Another try may have begun: then it is stopped again, and skipped in the next round.
            let _ = self.world.split.run(&skip, &self.world.database);
        }
        let mine: Vec<_> = folds.iter().filter(|fold| fold["company"] == self.company.as_str()).collect();
        !mine.is_empty() && mine.iter().all(|fold| fold["lag"] == 0 && fold["poison"].is_null())
    }

    async fn until(&self, what: &str, holds: impl Fn(&[Value]) -> bool) {
        let started = std::time::Instant::now();
        loop {
            let folds = self.world.split.json(&["folds", "status"]);
            if holds(&folds) {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{what}: {folds:#?}\n{}", self.world.logs());
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
}

/// The first entry of a journey, as a program that had it wrong would have appended it.
fn append(company: CompanyId, facts: Hash, event: &str, payload: &str) -> Append {
    let (id, command) = (Uuid::now_v7(), CommandId::new(Uuid::now_v7()));
    let draft = Draft {
        stream: "truck_journey".into(),
        id,
        sequence: 1,
        event: event.into(),
        version: 1,
        location: None,
        actor: Actor::tool("older"),
        command,
        correlation: Id::new(Uuid::now_v7()),
        causation: None,
        payload: RawValue::from_string(payload.into()).expect("is JSON"),
    };
    Append {
        company,
        founds: false,
        now: now(),
        facts,
        checks: vec![Check { stream: draft.stream.clone(), id, seen: StreamHead::default() }],
        drafts: vec![draft],
        idempotency: None,
        answer: Answer { command, position: 0, sequence: 0, recorded: 0, rejection: None, replayed: false },
    }
}
