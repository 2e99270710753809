//! States of aggregates: folded from a stream's entries, and kept while they are in use.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use cnc_domain::{
    kernel::{CompanyId, Recorded, State},
    ledger::{Entry, Fault, Ledger, Position, Sequence},
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
                let before = kept.as_ref().map(|kept| kept.sequence);
                let from = kept.unwrap_or_else(|| Kept { state: served.rules.blank(), sequence: 0, position: 0 });
                let now = self.fold(company, served, id, from, Position::MAX).await?;
                // A stream without entries is not kept: anybody may ask for any id.
                if now.sequence > 0 && before != Some(now.sequence) {
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
                None if sequence == 0 => return Ok(Kept { state: served.rules.blank(), sequence: 0, position: 0 }),
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
        let blank = Kept { state: served.rules.blank(), sequence: 0, position: 0 };
        self.fold(company, served, id, blank, position).await
    }

    /// Keeps a state, unless a newer one is kept.
    pub fn keep(&self, company: CompanyId, served: &Served, id: Uuid, state: Kept) {
        let key = (company, served.stream, id);
        let mut kept = self.kept();
        if kept.get(&key).is_none_or(|there| there.sequence < state.sequence) {
            kept.put(key, state);
        }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Recent<Key, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the entries after `kept` up to `until` into it.
    async fn fold(
        &self,
        company: CompanyId,
        served: &Served,
        id: Uuid,
        mut kept: Kept,
        until: Position,
    ) -> Result<Kept, Fault> {
        loop {
            let lines = self.ledger.read_stream(company, served.stream, id, kept.sequence, PAGE).await?;
            let bytes: usize = lines.iter().map(String::len).sum();
            for line in &lines {
                let entry = Entry::read(line).map_err(|cause| Fault::broken("read an entry", cause))?;
                if entry.position > until {
                    return Ok(kept);
                }
                take(served, id, &mut kept, &entry)?;
            }
            // A page ends at a number of lines or of megabytes; one that does neither is the last.
            if lines.is_empty() || (lines.len() < PAGE && bytes < PAGE_BYTES) {
                return Ok(kept);
            }
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
