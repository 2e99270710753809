//! One command's work: the streams that it has seen and what it has staged. Nothing leaves it before all of the command,
//! and all that it carries, is decided.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use cnc_domain::{
    kernel::{Actor, Also, CompanyId, Id, LocationId, Rejection, Scope, marker},
    ledger::{Check, Draft, Fault, Hash, Head, Sequence, StreamHead},
};
use uuid::Uuid;

use crate::{
    catalog::{Served, Serving},
    hosted::{Happened, Repository, Seat},
    shelf::{Kept, Shelf},
};

/// Why a unit cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// A rule said no.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The aggregate does not belong to the sender's branches.
    #[error("not found")]
    NotFound,
    /// The addressed stream does not stand where the sender saw it.
    #[error("the stream stands at {0}")]
    Mismatch(Sequence),
    /// The system failed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// What the headers of all entries of a unit share.
#[derive(Clone)]
pub struct Origin {
    pub company: CompanyId,
    pub actor: Actor,
    pub location: Option<LocationId>,
    pub correlation: Id<marker::Correlation>,
}

/// A stream that was consulted.
#[derive(Clone)]
pub struct Seen {
    pub served: Arc<Served>,
    pub id: Uuid,
    /// Where it stood.
    pub before: StreamHead,
    /// Its state with what is staged, and the sequence after it. Hash and position are those of before.
    pub now: Kept,
    /// Whether the ledger was asked for it in this unit.
    pub verified: bool,
    /// Whether the sender must reach it: not where it only lends something.
    pub bound: bool,
    /// Its state without what is staged.
    base: Kept,
}

#[derive(Default)]
struct Work {
    seen: Vec<Seen>,
    drafts: Vec<Draft>,
    also: Vec<Also>,
}

/// One command's work.
pub struct Unit<'h> {
    serving: &'h Serving,
    shelf: &'h Shelf,
    origin: Origin,
    /// Whether kept states are brought up to date first.
    fresh: bool,
    work: Mutex<Work>,
}

/// What was staged up to some moment.
pub struct Mark {
    drafts: usize,
    states: Vec<Kept>,
}

/// All that a unit leaves.
pub struct Finished {
    pub seen: Vec<Seen>,
    pub drafts: Vec<Draft>,
}

impl<'h> Unit<'h> {
    pub fn new(serving: &'h Serving, shelf: &'h Shelf, origin: Origin, fresh: bool) -> Self {
        Self { serving, shelf, origin, fresh, work: Mutex::default() }
    }

    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The aggregate's name for cqrs-es: no stream can be read across companies.
    pub fn aggregate_id(&self, stream: &str, id: Uuid) -> String {
        format!("{}/{stream}/{id}", self.origin.company)
    }

    /// How this kind of aggregate is served.
    pub fn served(&self, stream: &str) -> Result<&'h Arc<Served>, Stop> {
        let unknown = || Stop::Fault(Fault::broken("carry a command", format!("there is no stream {stream}")));
        self.serving.stream(stream).ok_or_else(unknown)
    }

    /// A stream as this unit has left it, loaded where it was not seen before, and which of the streams it is.
    pub async fn see(&self, served: &Arc<Served>, id: Uuid) -> Result<(usize, Seen), Fault> {
        let found =
            |work: &Work| work.seen.iter().position(|seen| seen.id == id && seen.served.stream == served.stream);
        {
            let work = self.work();
            if let Some(place) = found(&work) {
                return Ok((place, work.seen[place].clone()));
            }
        }
        let (kept, verified) = self.shelf.load(self.origin.company, served, id, self.fresh).await?;
        let before = kept.head();
        let seen =
            Seen { served: Arc::clone(served), id, before, now: kept.clone(), verified, bound: false, base: kept };
        let mut work = self.work();
        work.seen.push(seen.clone());
        Ok((work.seen.len() - 1, seen))
    }

    /// Notes that the sender must reach this stream, also as the unit leaves it.
    pub fn bind(&self, place: usize) {
        self.work().seen[place].bound = true;
    }

    /// Takes a stream for one that does not exist: so the sender is answered who does not reach it.
    pub fn hide(&self, place: usize) {
        let seen = &mut self.work().seen[place];
        seen.now = Kept::blank(&seen.served);
        seen.base = seen.now.clone();
    }

    /// Whether all that must be within this scope is, as the unit leaves it.
    pub fn is_within(&self, scope: &Scope) -> bool {
        self.work().seen.iter().all(|seen| !seen.bound || seen.is_within(scope))
    }

    /// Whether this stream, named as a rejection names it, is within this scope; one that was not seen is not.
    pub fn reaches(&self, named: &str, scope: &Scope) -> bool {
        let is_it = |seen: &&Seen| {
            named.split_once('/').is_some_and(|(stream, id)| stream == seen.served.stream && id.parse() == Ok(seen.id))
        };
        self.work().seen.iter().find(is_it).is_some_and(|seen| seen.is_within(scope))
    }

    /// The commands that the last decision carries.
    pub fn carried(&self) -> Vec<Also> {
        std::mem::take(&mut self.work().also)
    }

    /// What is staged now, to come [`back_to`](Self::back_to).
    pub fn mark(&self) -> Mark {
        let work = self.work();
        Mark { drafts: work.drafts.len(), states: work.seen.iter().map(|seen| seen.now.clone()).collect() }
    }

    /// Takes back what was staged since. The streams seen since stay seen: the refusal rests on them.
    pub fn back_to(&self, mark: Mark) {
        let mut work = self.work();
        work.drafts.truncate(mark.drafts);
        let mut states = mark.states.into_iter();
        for seen in &mut work.seen {
            seen.now = states.next().unwrap_or_else(|| seen.base.clone());
        }
    }

    /// Whether the ledger was asked for every stream that was seen.
    pub fn verified(&self) -> bool {
        self.work().seen.iter().all(|seen| seen.verified)
    }

    pub fn finish(self) -> Finished {
        let work = self.work.into_inner().unwrap_or_else(PoisonError::into_inner);
        Finished { seen: work.seen, drafts: work.drafts }
    }
}

#[async_trait]
impl Repository for Unit<'_> {
    type Stop = Stop;

    /// With what this unit has staged for it.
    async fn open(&self, aggregate_id: &str) -> Result<Seat, Stop> {
        let broken = || Stop::Fault(Fault::broken("open an aggregate", "not <company>/<stream>/<id>"));
        let mut parts = aggregate_id.splitn(3, '/');
        let (Some(company), Some(stream), Some(id)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(broken());
        };
        if company.parse() != Ok(self.origin.company) {
            return Err(broken());
        }
        let id: Uuid = id.parse().map_err(|_| broken())?;
        let served = self.served(stream)?;
        let (place, seen) = self.see(served, id).await?;
        Ok(Seat { rules: served.rules, state: seen.now.state, place, decided: None })
    }

    fn stage(&self, events: Vec<Happened>, seat: Seat) {
        let Some(settled) = seat.decided else { return };
        let mut work = self.work();
        let work = &mut *work;
        work.also = settled.also;
        let Some(seen) = work.seen.get_mut(seat.place) else { return };
        let location = seen.served.rules.location(&seat.state).or(self.origin.location);
        seen.now.state = seat.state;
        for event in events {
            seen.now.sequence += 1;
            let (message, version) = Arc::unwrap_or_clone(event.0);
            work.drafts.push(Draft {
                stream: seen.served.stream.to_owned(),
                id: seen.id,
                sequence: seen.now.sequence,
                event: message.name,
                version,
                location,
                actor: self.origin.actor.clone(),
                command: settled.command,
                correlation: self.origin.correlation,
                causation: settled.causation,
                payload: message.fields,
            });
        }
    }
}

impl Seen {
    /// Whether it is within this scope; what does not exist is.
    pub fn is_within(&self, scope: &Scope) -> bool {
        self.now.sequence == 0 || self.served.rules.is_within(&self.now.state, scope)
    }
}

impl Finished {
    /// The largest payload among the entries.
    pub fn payload_bytes(&self) -> usize {
        self.drafts.iter().map(|draft| draft.payload.get().len()).max().unwrap_or_default()
    }

    /// Every stream that was seen, where it stood; the addressed one first.
    pub fn checks(&self) -> Vec<Check> {
        let check = |seen: &Seen| Check { stream: seen.served.stream.to_owned(), id: seen.id, seen: seen.before };
        self.seen.iter().map(check).collect()
    }
}

/// An append's last entries, by stream.
pub fn last_entries(drafts: &[(&'static str, Uuid)], after: Head, hashes: &[Hash]) -> Vec<(&'static str, Uuid, Head)> {
    let first = after.position.saturating_sub(drafts.len() as u64);
    let mut last: Vec<(&'static str, Uuid, Head)> = Vec::new();
    for ((position, (stream, id)), hash) in (first + 1..).zip(drafts).zip(hashes) {
        let entry = Head { position, hash: *hash };
        match last.iter_mut().find(|(there, of, _)| there == stream && of == id) {
            Some(found) => found.2 = entry,
            None => last.push((stream, *id, entry)),
        }
    }
    last
}
