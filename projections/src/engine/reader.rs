//! Reading a company's entries in chunks, one ahead.

use std::sync::Arc;

use cnc_domain::{
    kernel::{CompanyId, Told},
    ledger::{Entry, Fault, Feed, Hash, Head, Position},
};
use tokio::task::JoinHandle;

/// How many entries are read and folded at once, at most.
pub(super) const CHUNK: usize = 2_000;

/// Entries after a position, in order, without a gap. Each is decoded once for all folds.
pub(super) struct Chunk {
    /// The position before the first.
    pub after: Position,
    /// The entries.
    pub told: Vec<Told>,
    /// The line after them is none that can be read: why, and its hash.
    pub broken: Option<(String, Hash)>,
}

impl Chunk {
    /// The position of the last entry.
    pub fn end(&self) -> Position {
        self.after + self.told.len() as u64
    }

    /// The hash of the entry at a position, as the entry after it names it; of the last, as it is. `None` where the chunk does
    /// not say.
    pub fn hash(&self, at: Position) -> Option<Hash> {
        let place = usize::try_from(at.checked_sub(self.after)?).ok()?;
        match (self.told.get(place), self.told.last()) {
            (Some(next), _) => Some(next.entry.previous),
            (None, Some(last)) if place == self.told.len() => Some(last.hash),
            _ => self.broken.as_ref().filter(|_| place == self.told.len() + 1).map(|(_, hash)| *hash),
        }
    }

    /// The entry at a position, with its hash.
    pub fn head(&self, position: Position) -> Head {
        Head { position, hash: self.hash(position).unwrap_or_default() }
    }

    /// The entries after `at` up to `to`.
    pub fn part(&self, at: Position, to: Position) -> &[Told] {
        let place = |position: Position| {
            usize::try_from(position.saturating_sub(self.after)).unwrap_or(usize::MAX).min(self.told.len())
        };
        &self.told[place(at)..place(to).max(place(at))]
    }
}

/// Reads one company's ledger.
pub(super) struct Reader {
    feed: Arc<dyn Feed>,
    company: CompanyId,
    ahead: Option<(Position, JoinHandle<Result<Chunk, Fault>>)>,
}

impl Reader {
    pub fn new(feed: Arc<dyn Feed>, company: CompanyId) -> Self {
        Self { feed, company, ahead: None }
    }

    /// The entries after a position; more are there up to `head`.
    pub async fn read(&mut self, after: Position, head: Position) -> Result<Arc<Chunk>, Fault> {
        let chunk = match self.ahead.take() {
            Some((start, task)) if start == after => match task.await {
                Ok(chunk) => chunk?,
                Err(died) => return Err(Fault::broken("reading entries", died)),
            },
            other => {
                if let Some((_, task)) = other {
                    task.abort();
                }
                read(self.feed.clone(), self.company, after).await?
            }
        };
        if chunk.told.is_empty() && chunk.broken.is_none() {
            return Err(Fault::passing("reading entries", "the feed ends before the ledger's head"));
        }
        if chunk.end() < head && chunk.broken.is_none() {
            self.ahead = Some((chunk.end(), tokio::spawn(read(self.feed.clone(), self.company, chunk.end()))));
        }
        Ok(Arc::new(chunk))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some((_, task)) = self.ahead.take() {
            task.abort();
        }
    }
}

async fn read(feed: Arc<dyn Feed>, company: CompanyId, after: Position) -> Result<Chunk, Fault> {
    let lines = feed.read(company, after, CHUNK).await?;
    if lines.len() < 64 {
        return Ok(decode(company, after, &lines));
    }
    let decoding = tokio::task::spawn_blocking(move || decode(company, after, &lines));
    decoding.await.map_err(|died| Fault::broken("decoding entries", died))
}

/// Reads lines; whatever the feed repeats or leaves out, what comes of it are entries in order without a gap.
fn decode(company: CompanyId, after: Position, lines: &[String]) -> Chunk {
    let mut entries = Vec::with_capacity(lines.len());
    let (mut last, mut broken) = (None, None);
    for line in lines {
        let next = after + 1 + entries.len() as u64;
        let wrong = match Entry::read(line) {
            Ok(entry) if entry.company != company => "an entry of another company".into(),
            Ok(entry) if entry.position < next => continue,
            Ok(entry) if entry.position == next => {
                entries.push(entry);
                last = Some(line);
                continue;
            }
            // The missing ones are read next.
            Ok(_) => break,
            Err(malformed) => malformed.to_string(),
        };
        broken = Some((wrong, Hash::of(line)));
        break;
    }
    let told = Told::chain(entries, last.map(Hash::of).unwrap_or_default());
    Chunk { after, told, broken }
}
