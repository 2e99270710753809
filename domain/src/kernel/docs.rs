//! The documents of a fold: a working set in memory, which an engine loads, rolls back and writes.

use std::collections::{BTreeSet, HashMap};

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    LocationId, Stop,
    schema::{DocumentContract, Schemas},
};

/// What a fold keeps under a key.
pub trait Document: Clone + Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static {
    /// Its name in snake case, one in the whole system: the name of its table.
    const NAME: &'static str;
    /// Members (paths with dots) that a query may filter by equality; one that is a list matches any of its elements.
    const FILTERS: &'static [&'static str] = &[];
    /// Members (paths with dots) that a query may sort by, beside the key.
    const SORTS: &'static [&'static str] = &[];
    /// Top-level members that are kept in a column of their own, for those roles only that may see restricted fields.
    const RESTRICTED: &'static [&'static str] = &[];
    /// The filter that lists who takes part in it. Who sees only what they take part in sees their documents by this, of
    /// whichever branch, and none of a kind that has none.
    const PARTICIPANTS: Option<&'static str> = None;
    /// Whether its documents belong to several branches at once, so that only who is bound to none may see them.
    const COMPANY_WIDE: bool = false;

    /// The branch that it belongs to; who is bound to other branches does not see it.
    fn location(&self) -> Option<LocationId> {
        None
    }
}

/// The documents of one kind that are loaded, and what this batch did to them.
pub struct Docs<D> {
    slots: HashMap<String, Slot<D>>,
    wanted: BTreeSet<String>,
    touched: Vec<String>,
}

struct Slot<D> {
    now: Option<D>,
    /// What it was at the batch's start, where the batch has touched it.
    before: Option<Before<D>>,
}

enum Before<D> {
    Was(Option<D>),
    /// It was written without being loaded.
    Unknown,
}

impl<D> Default for Docs<D> {
    fn default() -> Self {
        Self { slots: HashMap::new(), wanted: BTreeSet::new(), touched: Vec::new() }
    }
}

impl<D: Document> Docs<D> {
    /// The document under `key`, if there is one. Stops the fold where it is not loaded.
    pub fn get(&mut self, key: impl ToString) -> Result<Option<&D>, Stop> {
        let key = key.to_string();
        if !self.slots.contains_key(&key) {
            self.wanted.insert(key);
            return Err(Stop::Wanted);
        }
        Ok(self.slots.get(&key).and_then(|slot| slot.now.as_ref()))
    }

    /// Puts a document under `key`, whatever was there.
    pub fn put(&mut self, key: impl ToString, document: D) -> Result<(), Stop> {
        self.write(key.to_string(), Some(document));
        Ok(())
    }

    /// Removes what is under `key`.
    pub fn remove(&mut self, key: impl ToString) -> Result<(), Stop> {
        self.write(key.to_string(), None);
        Ok(())
    }

    /// Edits the document under `key`; does nothing where there is none.
    pub fn edit<R>(&mut self, key: impl ToString, edit: impl FnOnce(&mut D) -> R) -> Result<(), Stop> {
        let key = key.to_string();
        if let Some(document) = self.open(&key)?.as_mut() {
            edit(document);
        }
        Ok(())
    }

    /// Edits the document under `key`, which is made first where there is none.
    pub fn edit_or<R>(
        &mut self,
        key: impl ToString,
        make: impl FnOnce() -> D,
        edit: impl FnOnce(&mut D) -> R,
    ) -> Result<(), Stop> {
        let key = key.to_string();
        edit(self.open(&key)?.get_or_insert_with(make));
        Ok(())
    }

    fn open(&mut self, key: &str) -> Result<&mut Option<D>, Stop> {
        let Some(slot) = self.slots.get_mut(key) else {
            self.wanted.insert(key.to_owned());
            return Err(Stop::Wanted);
        };
        if slot.before.is_none() {
            slot.before = Some(Before::Was(slot.now.clone()));
            self.touched.push(key.to_owned());
        }
        Ok(&mut slot.now)
    }

    fn write(&mut self, key: String, document: Option<D>) {
        let slot = match self.slots.entry(key) {
            std::collections::hash_map::Entry::Occupied(slot) => {
                let key = slot.key().clone();
                let slot = slot.into_mut();
                if slot.before.is_none() {
                    slot.before = Some(Before::Was(slot.now.take()));
                    self.touched.push(key);
                }
                slot
            }
            std::collections::hash_map::Entry::Vacant(slot) => {
                self.touched.push(slot.key().clone());
                slot.insert(Slot { now: None, before: Some(Before::Unknown) })
            }
        };
        slot.now = document;
    }
}

/// A changed document as it is to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Its key.
    pub key: String,
    /// Its branch.
    pub location: Option<LocationId>,
    /// Its text, without the restricted members; `None` where it is removed.
    pub doc: Option<String>,
    /// The restricted members, where it has any.
    pub restricted: Option<String>,
}

/// A [`Docs`] with its type erased, as an engine sees it.
pub trait Shelf {
    /// The name of its documents.
    fn name(&self) -> &'static str;
    /// What its documents look like and how they may be asked for.
    fn contract(&self, schemas: &mut Schemas) -> DocumentContract;
    /// The keys that were asked for and are not loaded.
    fn wanted(&mut self) -> Vec<String>;
    /// Brings in a document (with its restricted members), or the knowledge that there is none.
    fn load(&mut self, key: String, document: Option<&str>) -> Result<(), serde_json::Error>;
    /// What this batch changed, by key.
    fn changes(&self) -> Result<Vec<Change>, serde_json::Error>;
    /// Takes everything back that this batch did.
    fn roll_back(&mut self);
    /// Says that this batch is written.
    fn settle(&mut self);
}

impl<D: Document> Shelf for Docs<D> {
    fn name(&self) -> &'static str {
        D::NAME
    }

    fn contract(&self, schemas: &mut Schemas) -> DocumentContract {
        schemas.document::<D>()
    }

    fn wanted(&mut self) -> Vec<String> {
        std::mem::take(&mut self.wanted).into_iter().collect()
    }

    fn load(&mut self, key: String, document: Option<&str>) -> Result<(), serde_json::Error> {
        let now = document.map(serde_json::from_str).transpose()?;
        self.slots.insert(key, Slot { now, before: None });
        Ok(())
    }

    fn changes(&self) -> Result<Vec<Change>, serde_json::Error> {
        let mut keys: Vec<&String> = self.touched.iter().collect();
        keys.sort_unstable();
        keys.iter().map(|key| change(key, self.slots.get(*key).and_then(|slot| slot.now.as_ref()))).collect()
    }

    fn roll_back(&mut self) {
        for key in self.touched.drain(..) {
            let Some(slot) = self.slots.get_mut(&key) else { continue };
            match slot.before.take() {
                Some(Before::Was(was)) => slot.now = was,
                Some(Before::Unknown) | None => {
                    self.slots.remove(&key);
                }
            }
        }
    }

    fn settle(&mut self) {
        for key in self.touched.drain(..) {
            if let Some(slot) = self.slots.get_mut(&key) {
                slot.before = None;
            }
        }
    }
}

fn change<D: Document>(key: &str, document: Option<&D>) -> Result<Change, serde_json::Error> {
    let (doc, restricted) = match document {
        None => (None, None),
        Some(document) if D::RESTRICTED.is_empty() => (Some(serde_json::to_string(document)?), None),
        Some(document) => {
            let (open, closed): (serde_json::Map<_, _>, serde_json::Map<_, _>) = serde_json::to_value(document)?
                .as_object()
                .cloned()
                .unwrap_or_default()
                .into_iter()
                .partition(|(name, _)| !D::RESTRICTED.contains(&name.as_str()));
            (Some(serde_json::to_string(&open)?), Some(serde_json::to_string(&closed)?))
        }
    };
    Ok(Change { key: key.to_owned(), location: document.and_then(Document::location), doc, restricted })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    struct Note {
        lines: Vec<u8>,
    }
    impl Document for Note {
        const NAME: &'static str = "note";
    }

    #[test]
    fn a_document_that_is_not_loaded_is_wanted() {
        let mut notes = Docs::<Note>::default();
        assert!(matches!(notes.edit("a", |note| note.lines.push(1)), Err(Stop::Wanted)));
        assert_eq!(Shelf::wanted(&mut notes), ["a"]);
    }

    #[test]
    fn rolling_back_restores_what_was_loaded_and_forgets_what_was_not() {
        let mut notes = Docs::<Note>::default();
        notes.load("a".into(), Some(r#"{"lines":[1]}"#)).expect("loads");
        notes.edit("a", |note| note.lines.push(2)).expect("is loaded");
        notes.put("b", Note { lines: vec![9] }).expect("puts");
        notes.roll_back();
        assert_eq!(notes.get("a").expect("is loaded"), Some(&Note { lines: vec![1] }));
        assert!(notes.get("b").is_err(), "what stands under b is not known");
        assert!(notes.changes().expect("writes").is_empty());
    }

    #[test]
    fn each_changed_document_is_written_once_a_batch() {
        let mut notes = Docs::<Note>::default();
        notes.load("a".into(), None).expect("loads");
        notes.put("a", Note { lines: vec![1] }).expect("puts");
        notes.edit("a", |note| note.lines.push(2)).expect("is loaded");
        let changes = notes.changes().expect("writes");
        assert_eq!(changes.len(), 1);
        assert_eq!(changes[0].doc.as_deref(), Some(r#"{"lines":[1,2]}"#));
        notes.settle();
        assert!(notes.changes().expect("writes").is_empty());
    }
}
