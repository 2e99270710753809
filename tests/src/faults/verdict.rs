//! What must hold afterwards, whatever has happened.

use std::collections::{BTreeSet, HashMap};

use async_nats::jetstream;
use cnc_domain::{
    kernel::Seconds,
    ledger::{Entry, subject},
};
use futures::StreamExt as _;

use super::world::World;

/// How far a clock that something is recorded by may be ahead.
const CLOCKS_APART: Seconds = Seconds(5);

/// What was found.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Commands that were acknowledged.
    pub acknowledged: usize,
    /// Entries in the ledger.
    pub entries: usize,
    /// Acknowledged commands that left no entry.
    pub lost: usize,
    /// Commands that left more than one.
    pub doubled: usize,
    /// Entries of a time that has not come.
    pub of_the_future: usize,
    /// Journeys that were planned too late and not warned of, and warnings that were given more than once.
    pub triggers_doubled: usize,
    /// Folds that are not what the ledger says.
    pub views_differing: usize,
    /// Entries that `JetStream` does not hold (of those that it should still hold).
    pub missing_in_stream: usize,
    /// Processes that ended by themselves.
    pub died: Vec<String>,
    /// What `cnc audit verify` says against it.
    pub broken: Option<String>,
}

impl Verdict {
    /// Whether every promise was kept.
    pub fn is_clean(&self) -> bool {
        let Self { lost, doubled, of_the_future, triggers_doubled, .. } = self;
        let Self { views_differing, missing_in_stream, died, broken, .. } = self;
        let wrong =
            lost + doubled + of_the_future + triggers_doubled + views_differing + missing_in_stream + died.len();
        wrong == 0 && broken.is_none()
    }
}

pub(super) async fn reach(world: &World, notes: &[String]) -> Verdict {
    let lines = world.split.ok(&["audit", "export", "--company", &world.company]);
    let latest = crate::fixtures::now().plus(CLOCKS_APART);
    let entries: Vec<Entry> = lines.lines().map(|line| Entry::read(line).expect("is an entry")).collect();
    let mut noted: HashMap<String, usize> = HashMap::new();
    let mut alerts: HashMap<String, usize> = HashMap::new();
    let (mut late, mut warned) = (BTreeSet::new(), BTreeSet::new());
    for entry in &entries {
        let payload: serde_json::Value = serde_json::from_str(entry.payload.get()).expect("is JSON");
        if let Some(note) = payload["note"].as_str().filter(|_| entry.stream == "truck_journey") {
            *noted.entry(note.to_owned()).or_default() += 1;
        }
        if entry.event == "planned" && payload["recommended_crew"] == 0 {
            late.insert(entry.id.to_string());
        }
        if (entry.stream.as_str(), entry.event.as_str()) == ("alert", "raised") {
            *alerts.entry(format!("{} {}", payload["about"], payload["kind"])).or_default() += 1;
            warned.extend(
                payload["about"]
                    .as_object()
                    .into_iter()
                    .flat_map(|about| about.values())
                    .filter_map(|id| id.as_str().map(String::from)),
            );
        }
    }
    let wrong_alerts = alerts.values().filter(|count| **count > 1).count() + late.difference(&warned).count();
    let (status, said) = world.split.run(&["audit", "verify", "--company", &world.company], &world.database);
    let (_, folds) = world.split.run(&["folds", "verify", "--json"], &world.database);
    let differs = |line: &&str| {
        let fold: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
        fold["fold"].is_null() || !fold["stopped"].is_null() || fold["differences"] != serde_json::json!([])
    };
    let held = positions_in_stream(world).await.unwrap_or_default();
    Verdict {
        acknowledged: notes.len(),
        entries: entries.len(),
        lost: notes.iter().filter(|note| !noted.contains_key(*note)).count(),
        doubled: noted.values().filter(|count| **count > 1).count(),
        of_the_future: entries.iter().filter(|entry| entry.at > latest).count(),
        triggers_doubled: wrong_alerts,
        views_differing: folds.lines().filter(differs).count() + usize::from(folds.lines().count() == 0),
        missing_in_stream: (1..=entries.len() as u64).filter(|position| !held.contains(position)).count(),
        died: world.parts().filter(|part| !part.is_alive()).map(|part| part.name().to_owned()).collect(),
        broken: (status != 0).then_some(said),
    }
}

/// The positions of all entries that the stream holds; nothing while it cannot say.
pub(super) async fn positions_in_stream(world: &World) -> Option<BTreeSet<u64>> {
    let context = jetstream::new(world.broker().await);
    let stream = context.get_stream(subject::STREAM).await.ok()?;
    let count = stream.cached_info().state.messages;
    let mut positions = BTreeSet::new();
    if count == 0 {
        return Some(positions);
    }
    let config = jetstream::consumer::pull::OrderedConfig::default();
    let mut messages = stream.create_consumer(config).await.ok()?.messages().await.ok()?;
    for _ in 0..count {
        let message = tokio::time::timeout(crate::system::PATIENCE, messages.next()).await.ok()??.ok()?;
        let (company, head) = subject::read_message_id(message.headers.as_ref()?.get("Nats-Msg-Id")?.as_str())?;
        if company.to_string() == world.company {
            positions.insert(head.position);
        }
    }
    Some(positions)
}
