//! Tests of folds as stories: `Story::default().tell(ANN, Event::Hired { … }).tell(…).fold::<Crew>()`.

use std::collections::BTreeMap;

use serde_json::Value;
use uuid::Uuid;

use super::{
    Actor, Aggregate, CommandId, CompanyId, Fold, FoldKind, Id, LocationId, Message, Outbox, Running, Seconds,
    Timestamp, Told, aggregate, fold,
    fold::{Tried, try_batch},
    given,
    outbox::Sent,
};
use crate::ledger::{Entry, Hash};

/// Entries of one company, told in order.
pub struct Story {
    entries: Vec<Entry>,
    at: Timestamp,
    actor: Actor,
    location: Option<LocationId>,
}

impl Default for Story {
    fn default() -> Self {
        let context = given::context();
        Self { entries: Vec::new(), at: context.now, actor: context.actor, location: context.location }
    }
}

impl Story {
    /// What is told next is recorded at `at`.
    #[must_use]
    pub fn at(mut self, at: Timestamp) -> Self {
        self.at = at;
        self
    }

    /// Time passes.
    #[must_use]
    pub fn after(mut self, time: impl Into<Seconds>) -> Self {
        self.at = self.at.plus(time);
        self
    }

    /// What is told next was done by `actor`.
    #[must_use]
    pub fn by(mut self, actor: Actor) -> Self {
        self.actor = actor;
        self
    }

    /// An event of the aggregate `id`.
    #[must_use]
    pub fn tell<A: Aggregate>(mut self, id: Id<A>, event: A::Event) -> Self {
        let Message { name, fields } = Message::split(&event);
        let sequence =
            1 + self.entries.iter().filter(|entry| entry.stream == A::STREAM && entry.id == id.uuid()).count() as u64;
        let position = self.entries.len() as u64 + 1;
        self.entries.push(Entry {
            company: CompanyId::number(1),
            position,
            previous: Hash::default(),
            stream: A::STREAM.into(),
            id: id.uuid(),
            sequence,
            version: aggregate::version(A::LIFTS, &name),
            event: name,
            at: self.at,
            location: self.location,
            actor: self.actor.clone(),
            command: CommandId::number(u128::from(position)),
            correlation: Id::number(u128::from(position)),
            causation: None,
            payload: fields,
        });
        self
    }

    /// The entries told so far.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The fold of the whole story, in memory.
    pub fn fold<F: Fold>(&self) -> F {
        let mut fold = fold::fresh::<F>();
        drive(&mut fold, &self.entries, &Store::new());
        fold
    }

    /// What a trigger sent in the whole story.
    pub fn sent<F: Fold>(&self) -> Sent {
        let mut fold = self.fold::<F>();
        Fold::outbox(&mut fold).map(Outbox::take).unwrap_or_default()
    }

    /// The commands that a trigger sent in the whole story: which aggregate was asked what.
    pub fn commands<F: Fold>(&self) -> Vec<(String, Uuid, Message)> {
        self.sent::<F>()
            .parcels
            .into_iter()
            .map(|parcel| (parcel.also.stream, parcel.also.id, parcel.also.command))
            .collect()
    }

    /// The documents of any kind of fold, by shelf and key, folded entry by entry with every document written and read
    /// back between. Must equal the same fold [at once](Self::at_once).
    pub fn by_entry(&self, kind: &dyn FoldKind) -> Vec<(String, String, Value)> {
        let mut store = Store::new();
        for entry in &self.entries {
            let mut fold = kind.start();
            drive(fold.as_mut(), std::slice::from_ref(entry), &store);
            for shelf in fold.shelves() {
                for change in shelf.changes().expect("documents can be written") {
                    store.insert((shelf.name().to_owned(), change.key.clone()), whole(&change));
                }
            }
        }
        store.into_iter().filter_map(|((shelf, key), doc)| Some((shelf, key, doc?))).collect()
    }

    /// The documents of any kind of fold, folded at once in memory.
    pub fn at_once(&self, kind: &dyn FoldKind) -> Vec<(String, String, Value)> {
        let mut fold = kind.start();
        drive(fold.as_mut(), &self.entries, &Store::new());
        let mut documents = Vec::new();
        for shelf in fold.shelves() {
            for change in shelf.changes().expect("documents can be written") {
                if let Some(doc) = whole(&change) {
                    documents.push((shelf.name().to_owned(), change.key, doc));
                }
            }
        }
        documents.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        documents
    }
}

type Store = BTreeMap<(String, String), Option<Value>>;

/// Folds entries as an engine does, with `store` to load from.
fn drive(fold: &mut dyn Running, entries: &[Entry], store: &Store) {
    let batch = Told::chain(entries.to_vec(), Hash::default());
    loop {
        let wanted = match try_batch(fold, &batch) {
            Tried::Done => return,
            Tried::Unfoldable { index, cause } => panic!("position {}: {cause}", entries[index].position),
            Tried::Wanted(wanted) => wanted,
        };
        let mut shelves = fold.shelves();
        for (place, key) in wanted {
            let shelf = &mut shelves[place];
            let document = store.get(&(shelf.name().to_owned(), key.clone())).cloned().flatten();
            shelf.load(key, document.map(|value| value.to_string()).as_deref()).expect("documents can be read");
        }
    }
}

fn whole(change: &super::Change) -> Option<Value> {
    let mut doc: Value = serde_json::from_str(change.doc.as_deref()?).expect("a document is JSON");
    if let Some(restricted) = &change.restricted {
        let restricted: Value = serde_json::from_str(restricted).expect("a document is JSON");
        let members = restricted.as_object().cloned().unwrap_or_default();
        doc.as_object_mut().expect("a document is an object").extend(members);
    }
    Some(doc)
}
