//! All folds of one company, in step where they stand at the same position.

use std::sync::Arc;

use cnc_domain::{
    kernel::{self, CompanyId},
    ledger::{Fault, Head, Position},
};
use tokio::time::Instant;

use super::{
    Inner,
    reader::{Chunk, Reader},
    resting::Rest,
    worker::{PLACE, Prepared, Worker},
};
use crate::store::{Plan, Standing, Write, Written};

/// After this long a company lets others have its turn.
const TURN: std::time::Duration = std::time::Duration::from_secs(2);

/// A company's folds and what they have loaded.
pub(super) struct CompanyFolds {
    pub(super) company: CompanyId,
    reader: Reader,
    pub(super) workers: Vec<Worker>,
    /// Folds that stand still here, since a higher version of them is live or building.
    outdated: Vec<&'static str>,
}

/// How a turn ended.
pub(super) struct Turn {
    /// All folds that can go on have read up to here.
    pub done: Head,
    /// There is something to look after once a second: an entry that stopped a fold, a position that is not written.
    pub watch: bool,
    /// When to look at folds that rest while another process folds.
    pub look: Option<Instant>,
}

/// A fold's write on its way, with what its readers will be told.
struct Pending {
    worker: usize,
    from: Head,
    to: Head,
    text: usize,
    /// `None` where nobody listens.
    told: Option<Vec<kernel::Change>>,
}

impl CompanyFolds {
    pub fn new(inner: &Inner, company: CompanyId) -> Self {
        let reader = Reader::new(inner.feed.clone(), company);
        Self { company, reader, workers: Vec::new(), outdated: Vec::new() }
    }

    /// Has a fold that stood still opened again at the next turn. False where it did not stand still.
    pub fn resume(&mut self, fold: &str) -> bool {
        let before = self.outdated.len();
        self.outdated.retain(|outdated| *outdated != fold);
        self.outdated.len() < before
    }

    /// How much text its folds hold, about.
    pub fn text(&self) -> usize {
        self.workers.iter().map(|worker| worker.text).sum()
    }

    /// Drops all that is loaded.
    pub fn forget(&mut self) {
        self.workers.iter_mut().for_each(Worker::forget);
    }

    /// Forgets what was read ahead.
    pub fn reread(&mut self, inner: &Inner) {
        self.reader = Reader::new(inner.feed.clone(), self.company);
    }

    /// Has everything read from the store again that is remembered of it.
    pub fn distrust(&mut self, inner: &Inner) {
        self.reread(inner);
        self.outdated.clear();
        self.workers.iter_mut().for_each(Worker::distrust);
    }

    /// Folds up to `head`, or until its turn is over.
    pub async fn turn(&mut self, inner: &Inner, plans: &[Arc<Plan>], head: Head, tick: bool) -> Result<Turn, Fault> {
        let started = Instant::now();
        self.open(inner, plans, head, tick).await?;
        self.compare(inner, head, tick).await?;
        loop {
            let mut starts: Vec<Position> = self
                .workers
                .iter()
                .filter(|worker| worker.is_ready() && worker.at.position < head.position)
                .map(|worker| worker.at.position)
                .collect();
            starts.sort_unstable_by(|a, b| b.cmp(a));
            starts.dedup();
            // Those in front first: they are what people look at.
            for start in &starts {
                let chunk = self.reader.read(*start, head.position).await?;
                self.take(inner, &chunk, *start).await?;
            }
            self.reopen_stale(inner).await?;
            self.swap(inner, head).await?;
            if starts.is_empty() || started.elapsed() > TURN {
                break;
            }
        }
        if tick {
            self.flush(inner).await?;
        }
        inner.feed.folded(self.company, self.written(head.position));
        let ready = || self.workers.iter().filter(|worker| worker.is_ready()).map(|worker| worker.at);
        // Who is further than the head, or at another hash, is compared with it at a tick.
        let behind = ready().filter(|at| at.position < head.position).min_by_key(|at| at.position);
        let done = behind.or_else(|| ready().find(|at| *at != head)).unwrap_or(head);
        let watch = self.workers.iter().any(Worker::needs_watch);
        let resting = self.workers.iter_mut().filter_map(|worker| worker.resting.as_mut());
        Ok(Turn { done, watch, look: resting.filter_map(|rest| rest.look(head.position)).min() })
    }

    /// How far all live folds that can go on are written, whoever wrote them.
    fn written(&self, head: Position) -> Position {
        let live = self.workers.iter().filter(|worker| worker.is_live() && !worker.is_stopped());
        live.map(|worker| worker.row.position).min().unwrap_or(head)
    }

    /// Opens folds that are not open, and looks again at those that stand still.
    async fn open(&mut self, inner: &Inner, plans: &[Arc<Plan>], head: Head, tick: bool) -> Result<(), Fault> {
        for plan in plans {
            if self.knows(plan) {
                continue;
            }
            let Some(opened) = inner.storage().open(plan, self.company).await? else {
                self.give_way(inner, plan).await?;
                continue;
            };
            let worker = Worker::new(plan.clone(), opened, inner.store.clock().clone());
            if worker.is_live() && !plan.trigger {
                inner.board.start(self.company, plan.fold, worker.at.position);
                inner.board.built(self.company, plan.fold, worker.at.position, worker.row.id.build());
            }
            self.workers.push(worker);
        }
        let mut outdated = Vec::new();
        for worker in &mut self.workers {
            let again = match &worker.resting {
                Some(rest) => rest.is_due(),
                None => worker.stale || (tick && !worker.is_ready()),
            };
            if !again {
                continue;
            }
            let Some(opened) = inner.storage().open(&worker.plan, self.company).await? else {
                outdated.push(worker.plan.clone());
                continue;
            };
            let now_at = opened.row.position;
            worker.reopen(opened);
            worker.resting = worker.resting.and_then(|rest| rest.looked(now_at, head.position));
            inner.follow(self.company, &worker.plan).await?;
        }
        for plan in outdated {
            self.give_way(inner, &plan).await?;
        }
        Ok(())
    }

    fn knows(&self, plan: &Plan) -> bool {
        self.outdated.contains(&plan.fold) || self.workers.iter().any(|worker| worker.plan.fold == plan.fold)
    }

    /// Stands still with a fold of which another program folds a higher version.
    async fn give_way(&mut self, inner: &Inner, plan: &Plan) -> Result<(), Fault> {
        self.workers.retain(|worker| worker.plan.fold != plan.fold);
        self.outdated.push(plan.fold);
        inner.note_outdated(plan);
        inner.follow(self.company, plan).await
    }

    /// Tells a chunk to all folds that stand at its start, to its end.
    async fn take(&mut self, inner: &Inner, chunk: &Arc<Chunk>, start: Position) -> Result<(), Fault> {
        let mut taking: Vec<usize> = (0..self.workers.len())
            .filter(|worker| self.workers[*worker].is_ready() && self.workers[*worker].at.position == start)
            .collect();
        while !taking.is_empty() {
            let (mut writes, mut parted) = (Vec::new(), Vec::new());
            for place in &taking {
                let worker = &mut self.workers[*place];
                match worker.prepare(inner.storage().as_ref(), &inner.process, chunk, Position::MAX).await? {
                    Prepared::Write(write) => writes.push((*place, write)),
                    Prepared::Moved(to) => worker.skip_to(to),
                    Prepared::Stopped(position, reason) => stop(inner, worker, position, &reason).await?,
                    // Its row is read again before it goes on.
                    Prepared::Lost => {}
                    Prepared::Doubtful => worker.doubt(),
                    Prepared::Parted => parted.push(*place),
                }
            }
            self.commit(inner, writes).await?;
            for place in &parted {
                self.part(inner, *place).await?;
            }
            taking.retain(|place| {
                let worker = &self.workers[*place];
                !parted.contains(place) && worker.is_ready() && worker.at.position < chunk.end()
            });
        }
        Ok(())
    }

    /// Writes views in one transaction and triggers in another, and tells what views changed.
    async fn commit(&mut self, inner: &Inner, writes: Vec<(usize, Write)>) -> Result<(), Fault> {
        let (triggers, views): (Vec<_>, Vec<_>) = writes.into_iter().partition(|(_, write)| write.plan.trigger);
        for (trigger, writes) in [(false, views), (true, triggers)] {
            if writes.is_empty() {
                continue;
            }
            let pending: Vec<Pending> =
                writes.iter().map(|(worker, write)| self.pending(inner, *worker, write)).collect();
            let mine = writes.into_iter().map(|(_, write)| write).collect();
            let result = inner.storage().commit(trigger, inner.now(), mine).await;
            let commit = match result {
                Ok(commit) => commit,
                Err(fault) => {
                    for Pending { worker, to, .. } in &pending {
                        self.workers[*worker].settle(*to, None, 0);
                    }
                    return Err(fault);
                }
            };
            for (pending, written) in pending.into_iter().zip(commit) {
                let (place, company) = (pending.worker, self.company);
                self.settle(inner, pending, written);
                let worker = &mut self.workers[place];
                if let Some(at) = worker.went_on_after() {
                    inner.settle_warning(company, worker.plan.fold, at).await?;
                }
            }
        }
        Ok(())
    }

    fn pending(&self, inner: &Inner, worker: usize, write: &Write) -> Pending {
        let text = write.changes.iter().flat_map(|(_, changes)| changes);
        let text = text.map(|change| change.doc.as_ref().map_or(PLACE, String::len)).sum();
        let main = write.changes.iter().find(|(shelf, _)| *shelf == 0).map_or(&[][..], |(_, changes)| changes);
        let tells = self.workers[worker].is_live() && inner.board.is_told_on();
        let told = (main.is_empty() || tells).then(|| main.to_vec());
        Pending { worker, from: write.expected, to: write.to, text, told }
    }

    fn settle(&mut self, inner: &Inner, pending: Pending, written: Option<Written>) {
        let Pending { worker, from, to, text, told } = pending;
        let worker = &mut self.workers[worker];
        worker.settle(to, written.as_ref(), text);
        let Some(written) = written else { return };
        inner.process.end(worker.plan.trigger, &worker.row.id);
        if worker.is_live() && !worker.plan.trigger {
            inner.board.tell(self.company, worker.plan.fold, from.position, to.position, told, &written.were);
        }
    }

    /// Reads the rows again that others have moved.
    async fn reopen_stale(&mut self, inner: &Inner) -> Result<(), Fault> {
        let mut outdated = Vec::new();
        for worker in self.workers.iter_mut().filter(|worker| worker.stale) {
            let build = worker.row.id.clone();
            let Some(opened) = inner.storage().open(&worker.plan, self.company).await? else {
                outdated.push(worker.plan.clone());
                continue;
            };
            let same = opened.row.id == build;
            worker.reopen(opened);
            // Another process folds it too: it goes on, and this one watches.
            worker.resting = same.then(|| Rest::at(worker.at.position));
            inner.follow(self.company, &worker.plan).await?;
        }
        for plan in outdated {
            self.give_way(inner, &plan).await?;
        }
        Ok(())
    }

    /// Puts new versions that have caught up in the place of the old.
    async fn swap(&mut self, inner: &Inner, head: Head) -> Result<(), Fault> {
        for worker in &mut self.workers {
            let caught_up = worker.at.position >= head.position && worker.at == worker.row.head();
            if worker.row.standing != Standing::Building || !caught_up {
                continue;
            }
            if inner.storage().swap(worker.plan.trigger, &worker.row.id).await? {
                worker.row.standing = Standing::Live;
                inner.board.built(self.company, worker.plan.fold, worker.at.position, worker.row.id.build());
            }
        }
        Ok(())
    }

    /// Writes positions that are not written yet.
    async fn flush(&mut self, inner: &Inner) -> Result<(), Fault> {
        let late =
            self.workers.iter().enumerate().filter(|(_, worker)| !worker.stale && worker.at != worker.row.head());
        let writes = late.map(|(place, worker)| (place, worker.blank(worker.at))).collect();
        self.commit(inner, writes).await
    }
}

/// Records that an entry stopped a fold.
pub(super) async fn stop(inner: &Inner, worker: &mut Worker, position: Position, reason: &str) -> Result<(), Fault> {
    let id = worker.row.id.clone();
    tracing::error!(company = %id.company, fold = id.fold, version = id.version, position, reason, "a fold has stopped");
    let poisoned = inner.storage().poison(worker.plan.trigger, &id, position, reason, inner.now()).await?;
    worker.stopped(poisoned);
    inner.warn(worker, position).await
}
