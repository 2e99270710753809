//! One build of one fold at work for one company: from entries to what is to be written.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::AssertUnwindSafe,
    sync::Arc,
};

use cnc_domain::{
    kernel::{self, Outbox, Running, Told, Tried, try_batch},
    ledger::{Fault, Head, Position},
};

use super::{
    reader::Chunk,
    resting::Rest,
    starting::{Deaths, Process, Start},
};
use crate::store::{Clock, FoldRow, Loaded, Opened, Plan, Poisoned, Standing, Storage, Wanted, Write, Written};

/// Loaded documents are forgotten past this much text.
const TEXT_MAX: usize = 4 << 20;
/// What the place of a document takes beside its text, about; also of one that is known not to be there.
pub(super) const PLACE: usize = 512;
/// A position is written at the latest after this many entries that changed nothing.
const UNWRITTEN_MAX: u64 = 1_000;
/// How often a batch may ask for more documents.
const PASSES_MAX: usize = 64;
/// Fewer entries than this are folded in place.
const IN_PLACE: usize = 64;

/// A fold's build, and what it has loaded.
pub(super) struct Worker {
    pub plan: Arc<Plan>,
    clock: Clock,
    pub row: FoldRow,
    /// Folded up to here; written is `row.position`.
    pub at: Head,
    skipped: BTreeSet<Position>,
    /// Where it stood when an entry stopped it, until it has gone on from there.
    warned: Option<Head>,
    fold: Option<Box<dyn Running>>,
    /// Whether all documents that there are, are loaded: since it began with none, it has forgotten none.
    complete: bool,
    /// How much text was loaded and written since it last forgot, places included.
    pub text: usize,
    /// Whether this process has said that it begins.
    begun: bool,
    /// What is known of other processes that have begun here.
    deaths: Deaths,
    /// Up to here entries are folded one by one, since among them is what may end the process.
    careful_until: Position,
    /// Another process folds it.
    pub resting: Option<Rest>,
    /// The row must be read again.
    pub stale: bool,
}

/// What a part of a chunk comes to.
pub(super) enum Prepared {
    /// This is to be written.
    Write(Write),
    /// Nothing to write; it is folded.
    Moved(Head),
    /// The entry at this position cannot be folded.
    Stopped(Position, String),
    /// The build does not stand where it is thought to.
    Lost,
    /// It cannot be said yet whether the next entry ends processes.
    Doubtful,
    /// What is read does not continue what was folded: it names another hash of the last entry.
    Parted,
}

/// How loading documents ended.
enum Loading {
    Done,
    /// One cannot be read, which is a matter of this fold alone: it must not hold up the others of its company, as a fault
    /// does.
    Unreadable(String),
    /// They are not those of where the fold stands.
    Elsewhere,
}

/// What folding a batch in memory comes to.
enum Pass {
    Done(Vec<(usize, Vec<kernel::Change>)>, kernel::Sent),
    Wanted(Vec<(usize, String)>),
    Unfoldable(usize, String),
    Panicked(String),
}

impl Worker {
    pub fn new(plan: Arc<Plan>, opened: Opened, clock: Clock) -> Self {
        let Opened { row, skipped } = opened;
        let at = row.head();
        let (fold, complete) = (None, at.position == 0);
        let mut deaths = Deaths::default();
        deaths.look(&row.begun);
        let warned = warned(&row, &skipped);
        Self {
            plan,
            clock,
            row,
            at,
            skipped,
            warned,
            fold,
            complete,
            text: 0,
            begun: false,
            deaths,
            careful_until: 0,
            resting: None,
            stale: false,
        }
    }

    /// Takes the row as it is now; what is loaded is kept only where the row is the same and stands where it was left.
    pub fn reopen(&mut self, opened: Opened) {
        let Opened { row, skipped } = opened;
        if row.id != self.row.id || row.head() != self.row.head() {
            self.forget();
            self.at = row.head();
            self.deaths = Deaths::default();
        }
        self.deaths.look(&row.begun);
        self.warned = warned(&row, &skipped).or(self.warned);
        (self.row, self.skipped, self.stale) = (row, skipped, false);
    }

    /// Whether it is served or acts, or is on its way to.
    pub fn is_live(&self) -> bool {
        self.row.standing == Standing::Live
    }

    /// Whether it can go on now.
    pub fn is_ready(&self) -> bool {
        !self.stale && !self.deaths.are_doubtful && self.resting.is_none() && !self.is_stopped()
    }

    /// Whether an entry stops it, for now or until an operator lets it go on.
    pub fn is_stopped(&self) -> bool {
        self.row.poisoned.as_ref().is_some_and(|poisoned| {
            // Up to the entry that stopped it, it goes on.
            self.at.position + 1 >= poisoned.position && poisoned.holds((self.clock)())
        })
    }

    /// Whether its row must be looked at once a second.
    pub fn needs_watch(&self) -> bool {
        self.stale
            || self.deaths.are_doubtful
            || self.is_stopped()
            || self.at != self.row.head()
            || self.row.standing == Standing::Building
    }

    /// Trusts nothing that it remembers of its build: the row is to be read again. That it has begun stays true, or each
    /// passing fault would be counted as a death of the process.
    pub fn distrust(&mut self) {
        self.forget();
        (self.at, self.stale, self.resting) = (self.row.head(), true, None);
    }

    /// Drops all that is loaded.
    pub fn forget(&mut self) {
        (self.fold, self.text, self.complete) = (None, 0, false);
    }

    /// Folds what of the chunk comes next, up to `until`.
    pub async fn prepare(
        &mut self,
        storage: &dyn Storage,
        process: &Process,
        chunk: &Arc<Chunk>,
        until: Position,
    ) -> Result<Prepared, Fault> {
        let next = self.at.position + 1;
        if chunk.hash(self.at.position).is_some_and(|hash| hash != self.at.hash) {
            return Ok(Prepared::Parted);
        }
        if self.skipped.contains(&next) {
            return Ok(self.moved(chunk.head(next)));
        }
        if next > chunk.end() {
            let reason = chunk.broken.as_ref().map_or_else(|| "the feed has a gap".into(), |(wrong, _)| wrong.clone());
            return Ok(Prepared::Stopped(next, reason));
        }
        if let Some(stopped) = self.begin(storage, process, chunk.end()).await? {
            return Ok(stopped);
        }
        let mut end = self.batch_end(chunk.end().min(until));
        if !self.listens_to(chunk.part(self.at.position, end)) {
            return Ok(self.moved(chunk.head(end)));
        }
        for _ in 0..PASSES_MAX {
            let tried = match self.pass(chunk, end).await? {
                Pass::Done(changes, sent) => return Ok(self.done(chunk.head(end), changes, sent)),
                Pass::Wanted(wanted) => match self.load(storage, wanted).await? {
                    Loading::Done => Ok(()),
                    Loading::Unreadable(cause) => Err(cause),
                    Loading::Elsewhere => {
                        self.lost();
                        return Ok(Prepared::Lost);
                    }
                },
                Pass::Unfoldable(0, cause) => return Ok(Prepared::Stopped(next, cause)),
                Pass::Unfoldable(index, _) => {
                    end = self.at.position + index as u64;
                    Ok(())
                }
                Pass::Panicked(message) => Err(format!("the fold panicked: {message}")),
            };
            let Err(cause) = tried else { continue };
            let Some(half) = self.half(end) else { return Ok(Prepared::Stopped(next, cause)) };
            end = half;
        }
        self.forget();
        Ok(Prepared::Stopped(next, "the fold asks for ever more documents".into()))
    }

    /// How far to go where it failed before `end`: at which entry exactly is found by halves. `None` at a single entry. The
    /// documents may be in any state, so they are loaded again.
    fn half(&mut self, end: Position) -> Option<Position> {
        self.forget();
        let at = self.at.position;
        (end > at + 1).then(|| at + (end - at).div_ceil(2))
    }

    fn listens_to(&self, batch: &[Told]) -> bool {
        let streams = self.plan.kind.streams();
        batch.iter().any(|told| streams.contains(&told.entry.stream.as_str()))
    }

    /// Says, before the first batch of this process, that it begins; and stops where too many that began here have died.
    async fn begin(
        &mut self,
        storage: &dyn Storage,
        process: &Process,
        end: Position,
    ) -> Result<Option<Prepared>, Fault> {
        if self.begun {
            return Ok(None);
        }
        match self.deaths.start(process, self.row.poisoned.is_some()) {
            Start::Stop(reason) => return Ok(Some(Prepared::Stopped(self.at.position + 1, reason))),
            Start::Wait => return Ok(Some(Prepared::Doubtful)),
            Start::Carefully => self.careful_until = end,
            Start::Freely => {}
        }
        process.begin(storage, self.plan.trigger, &self.row).await?;
        self.begun = true;
        Ok(None)
    }

    /// Waits until it is known whether those who have begun live.
    pub fn doubt(&mut self) {
        self.deaths.are_doubtful = true;
    }

    /// How far one batch may go: not past where silence ends, nor onto an entry that is skipped.
    fn batch_end(&self, end: Position) -> Position {
        let at = self.at.position;
        let mut end = if at < self.careful_until { at + 1 } else { end };
        if at < self.row.silent_until {
            end = end.min(self.row.silent_until);
        }
        match self.skipped.range(at + 1..=end).next() {
            Some(skipped) => skipped - 1,
            None => end,
        }
    }

    async fn pass(&mut self, chunk: &Arc<Chunk>, end: Position) -> Result<Pass, Fault> {
        let mut fold = self.fold.take().unwrap_or_else(|| self.plan.kind.start());
        let (chunk, at) = (chunk.clone(), self.at.position);
        let small = end - at < IN_PLACE as u64;
        let work = move || {
            let pass = std::panic::catch_unwind(AssertUnwindSafe(|| pass(fold.as_mut(), &chunk, at, end)));
            match pass {
                Ok(pass) => (Some(fold), pass),
                Err(panic) => (None, Ok(Pass::Panicked(message(panic.as_ref())))),
            }
        };
        let (fold, pass) = if small {
            work()
        } else {
            tokio::task::spawn_blocking(work).await.map_err(|died| Fault::broken("folding", died))?
        };
        self.fold = fold;
        pass.map_err(|wrong| Fault::broken("writing documents as text", wrong))
    }

    /// Loads documents, of where it stands: after a crash the store may be back before that, and be there again by what
    /// another process folds before this one writes.
    async fn load(&mut self, storage: &dyn Storage, wanted: Vec<(usize, String)>) -> Result<Loading, Fault> {
        let mut keys: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for (shelf, key) in &wanted {
            keys.entry(*shelf).or_default().push(key.clone());
        }
        let asked = keys.into_iter().map(|(shelf, keys)| Wanted { shelf, keys }).collect();
        let at = Some(self.row.head());
        let found =
            if self.complete { Some(Vec::new()) } else { storage.load(&self.plan, &self.row.id, at, asked).await? };
        let Some(found) = found else { return Ok(Loading::Elsewhere) };
        Ok(self.take_in(wanted, found).map_or_else(Loading::Unreadable, |()| Loading::Done))
    }

    /// Takes in documents that were asked for. Those that were not found are not there, which is kept as well.
    fn take_in(&mut self, wanted: Vec<(usize, String)>, found: Loaded) -> Result<(), String> {
        let fold = self.fold.get_or_insert_with(|| self.plan.kind.start());
        let mut shelves = fold.shelves();
        let wanted = wanted.into_iter().map(|(shelf, key)| (shelf, key, None));
        for (shelf, key, text) in wanted.chain(found.into_iter().map(|(shelf, key, text)| (shelf, key, Some(text)))) {
            self.text += text.as_ref().map_or(PLACE + key.len(), String::len);
            let loaded = shelves[shelf].load(key.clone(), text.as_deref());
            loaded.map_err(|wrong| format!("the {} {key} cannot be read: {wrong}", shelves[shelf].name()))?;
        }
        Ok(())
    }

    fn done(&mut self, to: Head, changes: Vec<(usize, Vec<kernel::Change>)>, sent: kernel::Sent) -> Prepared {
        let silent = to.position <= self.row.silent_until;
        let (parcels, deadlines) = if silent { Default::default() } else { (sent.parcels, sent.deadlines) };
        if changes.is_empty() && parcels.is_empty() && deadlines.is_empty() {
            return self.moved(to);
        }
        Prepared::Write(Write { changes, parcels, deadlines, ..self.blank(to) })
    }

    /// Nothing changed up to `to`. A view's position is what its readers wait for; a trigger's can be written later,
    /// since folding the same again would give the same nothing.
    fn moved(&self, to: Head) -> Prepared {
        if self.plan.trigger && self.is_live() && to.position - self.row.position < UNWRITTEN_MAX {
            Prepared::Moved(to)
        } else {
            Prepared::Write(self.blank(to))
        }
    }

    /// The write of a position alone.
    pub fn blank(&self, to: Head) -> Write {
        Write {
            plan: self.plan.clone(),
            id: self.row.id.clone(),
            expected: self.row.head(),
            to,
            changes: Vec::new(),
            parcels: Vec::new(),
            deadlines: Vec::new(),
        }
    }

    /// Takes note of what became of a write.
    pub fn settle(&mut self, to: Head, written: Option<&Written>, text: usize) {
        if written.is_none() {
            return self.lost();
        }
        self.text += text;
        if self.text > TEXT_MAX {
            self.forget();
        }
        if let Some(fold) = &mut self.fold {
            fold.shelves().into_iter().for_each(kernel::Shelf::settle);
        }
        (self.row.position, self.row.hash, self.at) = (to.position, to.hash, to);
        self.row.poisoned = self.row.poisoned.take().filter(|poisoned| poisoned.position > to.position);
    }

    /// Its row is not what it was.
    pub fn lost(&mut self) {
        self.forget();
        self.stale = true;
    }

    /// Takes note that nothing had to be written.
    pub fn skip_to(&mut self, to: Head) {
        if let Some(fold) = &mut self.fold {
            fold.shelves().into_iter().for_each(kernel::Shelf::settle);
        }
        self.at = to;
    }

    /// Where it stood when an entry stopped it, once it has gone on from there.
    pub fn went_on_after(&mut self) -> Option<Head> {
        self.warned.take_if(|at| at.position < self.row.position)
    }

    /// Takes note of the entry that stopped it.
    pub fn stopped(&mut self, poisoned: Poisoned) {
        self.forget();
        self.row.poisoned = Some(poisoned);
        self.warned = Some(self.row.head());
    }
}

/// Where it stands, where the next entry has stopped it, or is skipped since it did.
fn warned(row: &FoldRow, skipped: &BTreeSet<Position>) -> Option<Head> {
    let next = row.position + 1;
    let stops = row.poisoned.as_ref().is_some_and(|poisoned| poisoned.position == next);
    (stops || skipped.contains(&next)).then(|| row.head())
}

/// Folds a batch once.
fn pass(fold: &mut dyn Running, chunk: &Chunk, at: Position, end: Position) -> Result<Pass, serde_json::Error> {
    match try_batch(fold, chunk.part(at, end)) {
        Tried::Wanted(wanted) => Ok(Pass::Wanted(wanted)),
        Tried::Unfoldable { index, cause } => Ok(Pass::Unfoldable(index, cause)),
        Tried::Done => {
            let mut changes = Vec::new();
            for (place, shelf) in fold.shelves().into_iter().enumerate() {
                let changed = shelf.changes()?;
                if !changed.is_empty() {
                    changes.push((place, changed));
                }
            }
            let sent = fold.outbox().map(Outbox::take).unwrap_or_default();
            Ok(Pass::Done(changes, sent))
        }
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".into())
}

#[cfg(test)]
mod tests {
    use cnc_domain::{
        kernel::{CompanyId, Timestamp},
        ledger::Hash,
    };

    use super::*;
    use crate::{
        VIEWS,
        store::{Begun, FoldId},
    };

    fn worker() -> Worker {
        let plan = Arc::new(Plan::of(VIEWS[0].kind));
        let id = FoldId { company: CompanyId::number(1), fold: plan.fold.into(), version: plan.version, build: 1 };
        let row = FoldRow {
            id,
            standing: Standing::Live,
            position: 0,
            hash: Hash::default(),
            silent_until: 0,
            poisoned: None,
            touched_at: Timestamp::default(),
            horizon: 0,
            whole_from: 0,
            skipped: 0,
            begun: Begun::default(),
        };
        Worker::new(plan, Opened { row, skipped: BTreeSet::new() }, Arc::new(Timestamp::default))
    }

    #[test]
    fn documents_that_are_not_there_are_forgotten_like_any_others() {
        let mut worker = worker();
        for nth in 0..u64::MAX {
            worker.take_in(vec![(0, format!("nobody {nth}"))], Vec::new()).expect("nothing is read");
            worker.settle(Head { position: nth, ..Head::default() }, Some(&Written { were: Vec::new() }), 0);
            if worker.fold.is_none() {
                break;
            }
            assert!(nth < 50_000, "all that is known not to be there is kept");
        }
        assert_eq!(worker.text, 0);
    }
}
