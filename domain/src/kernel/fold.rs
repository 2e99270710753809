//! A fold listens to streams and keeps documents. A *view*'s documents are served; a *trigger* also has an [`Outbox`].
//!
//! A fold is pure. Where it asks for a document that is not loaded it stops with [`Stop::Wanted`]; the engine loads all
//! that a batch of entries wants and folds the batch again from its start. Nothing is declared ahead.

use std::{any::Any, marker::PhantomData, sync::OnceLock};

use serde_json::Value;

use super::{
    Aggregate, Id, Outbox, Recorded, Shelf,
    rules::read_event,
    schema::{DocumentContract, Schemas},
};
use crate::ledger::{Entry, Hash};

/// Pure code that reads a ledger in order and keeps documents.
pub trait Fold: Default + Send + Sync + 'static {
    /// Its name in snake case; for a view also that of its main document and its route.
    const NAME: &'static str;
    /// Raise it when the same entries give other documents: the new version is built beside the old one.
    const VERSION: u32 = 1;
    /// The aggregates that it listens to, as a tuple. One without an [`On`] does not compile.
    type Reads: Reads<Self>;

    /// Its documents, in a fixed order.
    fn shelves(&mut self) -> Vec<&mut dyn Shelf>;

    /// What it sends, for triggers.
    fn outbox(&mut self) -> Option<&mut Outbox> {
        None
    }
}

/// How a fold takes the events of `A`.
pub trait On<A: Aggregate> {
    /// Takes one event of the aggregate `id`.
    fn on(&mut self, id: Id<A>, event: &A::Event, entry: &Entry) -> Folded;
}

/// Why a fold stopped at an entry.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// A document is not loaded; its shelf remembers which.
    #[error("a document is not loaded")]
    Wanted,
    /// The entry cannot be folded.
    #[error("{0}")]
    Unfoldable(String),
}

/// What folding one entry comes to.
pub type Folded = Result<(), Stop>;

/// An entry on its way through the folds of a worker: read once, and its event too.
pub struct Told {
    /// The entry.
    pub entry: Entry,
    /// Its hash.
    pub hash: Hash,
    event: OnceLock<Result<Box<dyn Any + Send + Sync>, String>>,
}

impl Told {
    /// Wraps entries that follow one another, of which the last has this hash: each names that of the one before it.
    pub fn chain(entries: Vec<Entry>, last: Hash) -> Vec<Self> {
        let hashes: Vec<Hash> = entries.iter().skip(1).map(|entry| entry.previous).chain([last]).collect();
        entries.into_iter().zip(hashes).map(|(entry, hash)| Self { entry, hash, event: OnceLock::new() }).collect()
    }

    /// The event as one of `A`, read at most once.
    fn event<A: Aggregate>(&self) -> Result<&A::Event, Stop> {
        let event = self.event.get_or_init(|| {
            let Entry { event, version, payload, .. } = &self.entry;
            match read_event::<A>(Recorded { event, version: *version, payload: payload.get() }) {
                Ok(event) => Ok(Box::new(event)),
                Err(unreadable) => Err(unreadable.to_string()),
            }
        });
        match event {
            Ok(event) => {
                event.downcast_ref().ok_or_else(|| Stop::Unfoldable("two aggregates share a stream's name".into()))
            }
            Err(cause) => Err(Stop::Unfoldable(cause.clone())),
        }
    }
}

/// A tuple of aggregates that `F` listens to.
pub trait Reads<F> {
    /// The names of their streams.
    const STREAMS: &'static [&'static str];
    /// Gives the entry to the right [`On`]; entries of other streams are none of this fold's business.
    fn tell(fold: &mut F, told: &Told) -> Folded;
}

macro_rules! reads {
    ($($name:ident)+) => {
        impl<Fo, $($name: Aggregate),+> Reads<Fo> for ($($name,)+) where Fo: $(On<$name> +)+ {
            const STREAMS: &'static [&'static str] = &[$($name::STREAM),+];
            fn tell(fold: &mut Fo, told: &Told) -> Folded {
                $(if told.entry.stream == $name::STREAM {
                    return On::<$name>::on(fold, Id::new(told.entry.id), told.event::<$name>()?, &told.entry);
                })+
                Ok(())
            }
        }
    };
}
reads!(A);
reads!(A B);
reads!(A B C);
reads!(A B C D);
reads!(A B C D E);
reads!(A B C D E F);
reads!(A B C D E F G);
reads!(A B C D E F G H);

/// A kind of fold with its type erased, as `MODULES` and `VIEWS` list it.
pub trait FoldKind: Send + Sync {
    /// Its name.
    fn name(&self) -> &'static str;
    /// The version of what it makes.
    fn version(&self) -> u32;
    /// The streams that it listens to.
    fn streams(&self) -> &'static [&'static str];
    /// Whether it sends commands.
    fn is_trigger(&self) -> bool;
    /// Its documents, in the order of its shelves.
    fn documents(&self, schemas: &mut Schemas) -> Vec<DocumentContract>;
    /// A fresh fold with nothing loaded.
    fn start(&self) -> Box<dyn Running>;
}

/// A fold at work for one company.
pub trait Running: Send + Sync {
    /// Takes one entry.
    fn tell(&mut self, told: &Told) -> Folded;
    /// Its documents, in a fixed order.
    fn shelves(&mut self) -> Vec<&mut dyn Shelf>;
    /// What it sends, for triggers.
    fn outbox(&mut self) -> Option<&mut Outbox>;
}

impl<F: Fold> Running for F {
    fn tell(&mut self, told: &Told) -> Folded {
        if let Some(outbox) = Fold::outbox(self) {
            outbox.answers(told.hash);
        }
        F::Reads::tell(self, told)
    }
    fn shelves(&mut self) -> Vec<&mut dyn Shelf> {
        Fold::shelves(self)
    }
    fn outbox(&mut self) -> Option<&mut Outbox> {
        Fold::outbox(self)
    }
}

/// What trying a batch came to.
#[derive(Debug)]
pub enum Tried {
    /// All entries are folded; the shelves' changes and the outbox can be written.
    Done,
    /// These documents, as (shelf's place, key), must be loaded first. Everything was rolled back.
    Wanted(Vec<(usize, String)>),
    /// The entry at this index cannot be folded. Everything was rolled back.
    Unfoldable {
        /// Its place in the batch.
        index: usize,
        /// Why.
        cause: String,
    },
}

/// Folds a batch whole or not at all. Where documents are wanted, the rest of the batch is told all the same, so that one
/// load can bring in everything; what that leaves behind is rolled back.
pub fn try_batch(fold: &mut dyn Running, batch: &[Told]) -> Tried {
    let mut tried = Tried::Done;
    for (index, told) in batch.iter().enumerate() {
        match fold.tell(told) {
            Ok(()) => {}
            Err(Stop::Wanted) => tried = Tried::Wanted(Vec::new()),
            // Once something was missing, the documents are not what they should be, and nor is this verdict.
            Err(Stop::Unfoldable(_)) if matches!(tried, Tried::Wanted(_)) => {}
            Err(Stop::Unfoldable(cause)) => {
                tried = Tried::Unfoldable { index, cause };
                break;
            }
        }
    }
    if !matches!(tried, Tried::Done) {
        for (place, shelf) in fold.shelves().into_iter().enumerate() {
            shelf.roll_back();
            if let Tried::Wanted(wanted) = &mut tried {
                wanted.extend(shelf.wanted().into_iter().map(|key| (place, key)));
            }
        }
        if let Some(outbox) = fold.outbox() {
            outbox.take();
        }
    }
    tried
}

/// The fold `F`, for a list.
pub const fn fold<F: Fold>() -> &'static dyn FoldKind {
    &Typed::<F>(PhantomData)
}

/// A fold with nothing loaded, its outbox named after it.
pub(super) fn fresh<F: Fold>() -> F {
    let mut fold = F::default();
    if let Some(outbox) = Fold::outbox(&mut fold) {
        outbox.name(F::NAME);
    }
    fold
}

struct Typed<F>(PhantomData<fn() -> F>);

impl<F: Fold> FoldKind for Typed<F> {
    fn name(&self) -> &'static str {
        F::NAME
    }
    fn version(&self) -> u32 {
        F::VERSION
    }
    fn streams(&self) -> &'static [&'static str] {
        F::Reads::STREAMS
    }
    fn is_trigger(&self) -> bool {
        Fold::outbox(&mut F::default()).is_some()
    }
    fn documents(&self, schemas: &mut Schemas) -> Vec<DocumentContract> {
        Fold::shelves(&mut F::default()).iter().map(|shelf| shelf.contract(schemas)).collect()
    }
    fn start(&self) -> Box<dyn Running> {
        Box::new(fresh::<F>())
    }
}

/// What is shown of a document: computed when it is read, after personal fields were opened for those who may see them.
pub type Present = fn(Value, &Reading<'_>) -> Value;

/// The circumstances of a reading.
pub struct Reading<'a> {
    /// The time that ages and minutes are counted to.
    pub now: super::Timestamp,
    /// The company's settings.
    pub settings: &'a super::Settings,
}
