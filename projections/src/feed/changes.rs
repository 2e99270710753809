//! Changes of views on `cnc.views.<company>.<view>`: whoever folds tells, whoever serves hears. It is core NATS, which may
//! lose messages: each says where the view stood before, so that who misses one reads the store.
//!
//! A message holds what the store holds: documents whose personal fields are sealed, and also their restricted members,
//! which only some roles may see. Only processes of the gateway may subscribe to these subjects; they decide who sees what.

use std::{collections::HashMap, time::Duration};

use async_nats::{Client, connection::State};
use cnc_domain::{
    kernel::{self, CompanyId, LocationId},
    ledger::{Position, subject},
};
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use serde_json::{
    Value,
    value::{RawValue, to_raw_value},
};
use tokio::sync::watch;

use crate::{
    Change, Engine, Row, VIEWS,
    engine::{Batch, Folded},
};

/// How many batches may wait to be told.
const QUEUE: usize = 1_024;
/// What a message takes beside its changes.
const ENVELOPE: usize = 1_024;
/// The largest message where the server does not say.
const MESSAGE_MAX: usize = 512 << 10;
/// How often the connection is looked at.
const GLANCE: Duration = Duration::from_millis(100);
/// How long to wait before what failed is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// One message: a batch of changes, or a part of one.
#[derive(Serialize, Deserialize)]
struct Told<C> {
    /// Where the view stood before the batch.
    from: Position,
    /// Where it stands after it.
    to: Position,
    /// Which part of the batch this is, from 0 on.
    part: usize,
    /// How many parts it has.
    parts: usize,
    /// What changed; `null` where it is not known what.
    changes: Option<Vec<C>>,
}

#[derive(Serialize, Deserialize)]
struct ToldChange<V> {
    key: String,
    location: Option<LocationId>,
    was_location: Option<LocationId>,
    /// The document, `null` where it was removed.
    row: Option<ToldRow<V>>,
}

#[derive(Serialize, Deserialize)]
struct ToldRow<V> {
    doc: V,
    restricted: Option<V>,
}

/// Tells other processes what this engine folds, until `stop` says true.
pub async fn tell_changes(engine: Engine, client: Client, mut stop: watch::Receiver<bool>) {
    let mut batches = engine.tell_others(QUEUE);
    let telling = async {
        while let Some(batch) = batches.recv().await {
            let subject = subject::of_changes(batch.company, batch.view);
            let max = match client.max_payload() {
                0 => MESSAGE_MAX,
                max => max,
            };
            for message in messages(batch, max.saturating_sub(ENVELOPE)) {
                if let Err(error) = client.publish(subject.clone(), message.into()).await {
                    tracing::debug!(%error, "a change of a view was not told");
                }
            }
        }
    };
    tokio::select! {
        _ = stop.wait_for(|stop| *stop) => {}
        () = telling => {}
    }
}

/// Takes what other processes tell of views, until `stop` says true.
pub async fn hear_changes(engine: Engine, client: Client, mut stop: watch::Receiver<bool>) {
    let hearing = async {
        loop {
            match client.subscribe(subject::ALL_CHANGES).await {
                Ok(mut messages) => {
                    let mut parts = Parts::default();
                    let mut glance = tokio::time::interval(GLANCE);
                    loop {
                        tokio::select! {
                            message = messages.next() => match message {
                                Some(message) => hear(&engine, &mut parts, &message).await,
                                None => break,
                            },
                            _ = glance.tick() => engine.set_told(client.connection_state() == State::Connected),
                        }
                    }
                }
                Err(error) => tracing::debug!(%error, "changes of views cannot be listened to"),
            }
            engine.set_told(false);
            tokio::time::sleep(RETRY).await;
        }
    };
    tokio::select! {
        _ = stop.wait_for(|stop| *stop) => {}
        () = hearing => {}
    }
    engine.set_told(false);
}

async fn hear(engine: &Engine, parts: &mut Parts, message: &async_nats::Message) {
    let Some((company, view)) = named(&message.subject) else { return };
    let Ok(told) = serde_json::from_slice::<Told<ToldChange<Value>>>(&message.payload) else {
        tracing::warn!(subject = %message.subject, "a message is no change of a view");
        return;
    };
    let Some(batch) = parts.join(company, view, told) else { return };
    if let Err(fault) = engine.hear(batch).await {
        tracing::warn!(%fault, "what changed in a view cannot be read");
    }
}

/// The company and the view of a subject.
fn named(subject: &str) -> Option<(CompanyId, &'static str)> {
    let (company, view) = subject.strip_prefix("cnc.views.")?.split_once('.')?;
    let view = VIEWS.iter().map(|known| known.kind.name()).find(|known| *known == view)?;
    Some((company.parse().ok()?, view))
}

/// A batch as messages of at most `max` bytes of changes. One change that is larger than that cannot be told: then only
/// that something changed.
fn messages(batch: Folded, max: usize) -> Vec<Vec<u8>> {
    let Folded { from, to, changes, .. } = batch;
    let written = changes.and_then(|changes| changes.iter().map(written).collect::<Option<Vec<_>>>());
    let written = written.filter(|changes| changes.iter().all(|change| change.get().len() < max));
    let mut parts = vec![Vec::new()];
    let mut room = max;
    for change in written.iter().flatten() {
        let takes = change.get().len() + 1;
        if takes > room {
            parts.push(Vec::new());
            room = max;
        }
        room -= takes;
        if let Some(part) = parts.last_mut() {
            part.push(change);
        }
    }
    let count = parts.len();
    let known = written.is_some();
    let told = parts.into_iter().enumerate().map(|(part, changes)| Told {
        from,
        to,
        part,
        parts: count,
        changes: known.then_some(changes),
    });
    told.filter_map(|told| serde_json::to_vec(&told).ok()).collect()
}

/// A change with its document as the text that it is. `None` where that is no JSON.
fn written((change, was_location): &(kernel::Change, Option<LocationId>)) -> Option<Box<RawValue>> {
    let raw = |text| serde_json::from_str::<&RawValue>(text);
    let row = match &change.doc {
        Some(doc) => {
            let restricted = change.restricted.as_deref().map(raw).transpose().ok()?;
            Some(ToldRow { doc: raw(doc).ok()?, restricted })
        }
        None => None,
    };
    let (key, location) = (change.key.clone(), change.location);
    to_raw_value(&ToldChange { key, location, was_location: *was_location, row }).ok()
}

/// Batches of which not all parts have come yet, one for each view: parts of one batch follow each other.
#[derive(Default)]
struct Parts {
    begun: HashMap<(CompanyId, &'static str), Begun>,
}

struct Begun {
    from: Position,
    to: Position,
    changes: Vec<Change>,
    next: usize,
}

impl Parts {
    /// The batch that is whole with this part.
    fn join(&mut self, company: CompanyId, view: &'static str, told: Told<ToldChange<Value>>) -> Option<Batch> {
        let Told { from, to, part, parts, changes } = told;
        let begun = self.begun.remove(&(company, view)).filter(|begun| (begun.from, begun.to) == (from, to));
        let Some(more) = changes else { return Some(Batch { company, view, from, to, changes: None }) };
        let Begun { mut changes, next, .. } = begun.unwrap_or(Begun { from, to, changes: Vec::new(), next: 0 });
        if part != next {
            return None;
        }
        changes.extend(more.into_iter().map(|change| read(company, view, (from, to), change)));
        if part + 1 < parts {
            self.begun.insert((company, view), Begun { from, to, changes, next: next + 1 });
            return None;
        }
        Some(Batch { company, view, from, to, changes: Some(changes) })
    }
}

fn read(company: CompanyId, view: &'static str, (from, to): (Position, Position), change: ToldChange<Value>) -> Change {
    let ToldChange { key, location, was_location, row } = change;
    let row = row.map(|ToldRow { doc, restricted }| Row { key: key.clone(), location, position: to, doc, restricted });
    Change { company, view, key, position: to, previous: from, location, row, was_location, rebuilt: false }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::engine::row;

    const COMPANY: CompanyId = CompanyId::number(1);
    const WAS: Option<LocationId> = Some(LocationId::number(3));

    fn change(key: &str, size: usize) -> kernel::Change {
        let doc = Some(json!({ "text": "x".repeat(size) }).to_string());
        kernel::Change { key: key.into(), location: None, doc, restricted: Some(r#"{"wage":5}"#.into()) }
    }

    fn folded(changes: Option<Vec<kernel::Change>>) -> Folded {
        let changes = changes.map(|changes| changes.into_iter().map(|change| (change, WAS)).collect());
        Folded { company: COMPANY, view: "alerts", from: 5, to: 7, changes }
    }

    /// A change as it is heard.
    fn heard(change: &kernel::Change) -> Change {
        let row = change.doc.is_some().then(|| row(change, 7));
        let (company, view, key, location) = (COMPANY, "alerts", change.key.clone(), change.location);
        Change { company, view, key, position: 7, previous: 5, location, row, was_location: WAS, rebuilt: false }
    }

    fn join(parts: &mut Parts, messages: &[Vec<u8>]) -> Option<Batch> {
        let mut joined = None;
        for message in messages {
            let told = serde_json::from_slice(message).expect("reads");
            joined = parts.join(COMPANY, "alerts", told);
        }
        joined
    }

    #[test]
    fn a_large_batch_is_told_in_parts_and_joined_again() {
        let mut changes: Vec<_> = (0..9).map(|nth| change(&format!("key {nth}"), 300)).collect();
        changes.push(kernel::Change { doc: None, restricted: None, ..change("gone", 0) });
        let told = messages(folded(Some(changes.clone())), 1_000);
        assert!(told.len() > 2 && told.iter().all(|message| message.len() < 1_000 + ENVELOPE));
        let joined = join(&mut Parts::default(), &told).expect("is whole");
        assert_eq!((joined.from, joined.to, joined.changes), (5, 7, Some(changes.iter().map(heard).collect())));
    }

    #[test]
    fn a_batch_with_a_part_missing_is_none() {
        let changes = (0..9).map(|nth| change(&format!("key {nth}"), 300)).collect();
        let told = messages(folded(Some(changes)), 1_000);
        let mut parts = Parts::default();
        assert!(join(&mut parts, &told[1..]).is_none());
        assert!(join(&mut parts, &[told[0].clone(), told[2].clone()]).is_none());
        assert!(join(&mut parts, &told).is_some(), "told again, it is whole");
    }

    #[test]
    fn what_is_too_large_or_not_known_is_told_as_unknown_and_nothing_as_nothing() {
        for changes in [None, Some(vec![change("small", 1), change("large", 2_000)])] {
            let joined = join(&mut Parts::default(), &messages(folded(changes), 1_000)).expect("is whole");
            assert_eq!(joined.changes, None);
        }
        let joined = join(&mut Parts::default(), &messages(folded(Some(Vec::new())), 1_000)).expect("is whole");
        assert_eq!(joined.changes, Some(Vec::new()));
    }

    #[test]
    fn only_our_views_of_a_company_are_heard_of() {
        let subject = subject::of_changes(COMPANY, "alerts");
        assert_eq!(named(&subject), Some((COMPANY, "alerts")));
        for wrong in ["cnc.views.nobody.alerts", "cnc.views.alerts", &format!("{subject}.more"), "cnc.events.a.b"] {
            assert_eq!(named(wrong), None, "{wrong}");
        }
    }
}
