//! States of aggregates: folded from a stream's entries, and kept while they are in use.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use cnc_domain::{
    kernel::{CompanyId, Recorded, State},
    ledger::{Entry, Fault, Hash, Ledger, Position, Sequence, StreamHead},
};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    cache::{Lately, Recent},
    catalog::Served,
};

/// How many entries are read at once.
const PAGE: usize = 1_000;
/// How long another process' change may go unseen where that was asked for.
const LATELY: Duration = Duration::from_secs(1);
/// A page that is smaller than this was not cut because of its size.
const PAGE_BYTES: usize = 256 << 10;

type Key = (CompanyId, &'static str, Uuid);

/// A state and where it stands.
#[derive(Clone)]
pub struct Kept {
    pub state: State,
    pub sequence: Sequence,
    /// The position of the last entry in it.
    pub position: Position,
    /// The hash of that entry. Only where it stands in the ledger still is the state of this ledger: databases are restored
    /// and failed over.
    pub hash: Hash,
}

impl Kept {
    /// Before the first entry.
    pub fn blank(served: &Served) -> Self {
        Self { state: served.rules.blank(), sequence: 0, position: 0, hash: Hash::default() }
    }

    /// The last entry in it.
    pub fn head(&self) -> StreamHead {
        StreamHead { sequence: self.sequence, hash: self.hash }
    }
}

/// Where states come from.
pub struct Shelf {
    ledger: Arc<dyn Ledger>,
    kept: Mutex<Recent<Key, Kept>>,
    /// How far each state was when the ledger was last asked for it.
    asked: Lately<Key, Sequence>,
}

impl Shelf {
    pub fn new(ledger: Arc<dyn Ledger>, limit: usize) -> Self {
        Self { ledger, kept: Mutex::new(Recent::new(limit)), asked: Lately::new(limit, LATELY) }
    }

    pub fn ledger(&self) -> &Arc<dyn Ledger> {
        &self.ledger
    }

    /// The state of an aggregate, and whether the ledger was asked for it just now.
    pub async fn load(
        &self,
        company: CompanyId,
        served: &Served,
        id: Uuid,
        fresh: bool,
    ) -> Result<(Kept, bool), Fault> {
        let key = (company, served.stream, id);
        let kept = self.kept().get(&key);
        match kept {
            Some(kept) if !fresh => Ok((kept, false)),
            kept => {
                let from = kept.unwrap_or_else(|| Kept::blank(served));
                let before = from.head();
                let now = self.fold(company, served, id, from, Position::MAX).await?;
                // A stream without entries is not kept: anybody may ask for any id.
                if now.sequence > 0 && now.head() != before {
                    self.keep(company, served, id, now.clone());
                }
                Ok((now, true))
            }
        }
    }

    /// The state of an aggregate as it was at most [`LATELY`] ago, or as this process has left it since.
    pub async fn lately(&self, company: CompanyId, served: &Served, id: Uuid) -> Result<Kept, Fault> {
        let key = (company, served.stream, id);
        if let Some(sequence) = self.asked.get(&key) {
            match self.kept().get(&key) {
                Some(kept) => return Ok(kept),
                None if sequence == 0 => return Ok(Kept::blank(served)),
                // It is kept no longer.
                None => {}
            }
        }
        let now = Instant::now();
        let (kept, _) = self.load(company, served, id, true).await?;
        self.asked.put(key, kept.sequence, now);
        Ok(kept)
    }

    /// The state of an aggregate as it stood after `position`.
    pub async fn past(&self, company: CompanyId, served: &Served, id: Uuid, position: Position) -> Result<Kept, Fault> {
        self.fold(company, served, id, Kept::blank(served), position).await
    }

    /// Keeps a state, unless a newer one is kept. Of two that stand at the same sequence, the other is of a history that is
    /// no more.
    pub fn keep(&self, company: CompanyId, served: &Served, id: Uuid, state: Kept) {
        let key = (company, served.stream, id);
        let mut kept = self.kept();
        if kept.get(&key).is_none_or(|there| there.sequence <= state.sequence && there.head() != state.head()) {
            kept.put(key, state);
        }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Recent<Key, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the entries after `kept` up to `until` into it. The entry that it stands at is read again: where another stands
    /// there, or none, all is folded anew.
    async fn fold(
        &self,
        company: CompanyId,
        served: &Served,
        id: Uuid,
        mut kept: Kept,
        until: Position,
    ) -> Result<Kept, Fault> {
        let mut compared = kept.sequence == 0;
        loop {
            let after = kept.sequence - u64::from(!compared);
            let lines = self.ledger.read_stream(company, served.stream, id, after, PAGE).await?;
            let bytes: usize = lines.iter().map(String::len).sum();
            let mut fresh = &lines[..];
            if !compared {
                compared = true;
                if lines.first().map(Hash::of) != Some(kept.hash) {
                    self.drop_lost(company, served, id, &kept);
                    kept = Kept::blank(served);
                    continue;
                }
                fresh = &lines[1..];
            }
            for line in fresh {
                let entry = Entry::read(line).map_err(|cause| Fault::broken("read an entry", cause))?;
                if entry.position > until {
                    return Ok(kept);
                }
                take(served, id, &mut kept, &entry)?;
                kept.hash = Hash::of(line);
            }
            // A page ends at a number of lines or of megabytes; one that does neither is the last.
            if lines.is_empty() || (lines.len() < PAGE && bytes < PAGE_BYTES) {
                return Ok(kept);
            }
        }
    }

    /// A state is of another history than the ledger's: it is kept no longer.
    fn drop_lost(&self, company: CompanyId, served: &Served, id: Uuid, lost: &Kept) {
        let (stream, at) = (served.stream, lost.head());
        tracing::warn!(%company, stream, %id, %at, "a kept state is of a history that the ledger does not have: it is dropped");
        let key = (company, stream, id);
        let mut kept = self.kept();
        if kept.get(&key).is_some_and(|there| there.head() == at) {
            kept.remove(&key);
        }
    }
}

fn take(served: &Served, id: Uuid, kept: &mut Kept, entry: &Entry) -> Result<(), Fault> {
    let place = || format!("{} {id} at position {}", served.stream, entry.position);
    if entry.sequence != kept.sequence + 1 {
        let wrong = format!("{}: sequence {} after {}", place(), entry.sequence, kept.sequence);
        return Err(Fault::broken("fold a stream", wrong));
    }
    let event = Recorded { event: &entry.event, version: entry.version, payload: entry.payload.get() };
    served
        .rules
        .evolve(&mut kept.state, event)
        // The cause may quote a field; only what cannot be personal is told.
        .map_err(|unreadable| {
            Fault::broken("fold a stream", format!("{}: cannot read {}", place(), unreadable.name))
        })?;
    kept.sequence = entry.sequence;
    kept.position = entry.position;
    Ok(())
}
