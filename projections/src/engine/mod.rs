//! Folds every company's ledger into the store: views, triggers or both.

mod as_of;
mod beside;
mod board;
mod company;
mod following;
mod forking;
mod fresh;
mod reader;
mod resting;
mod running;
mod starting;
mod status;
mod upkeep;
mod verifying;
mod warning;
mod worker;

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use board::Board;
#[cfg(test)]
pub(crate) use board::row;
pub(crate) use board::{Batch, Folded};
use cnc_domain::{
    kernel::{CompanyId, FoldKind, LocationId, Timestamp},
    ledger::{Fault, Feed, Position},
};
use starting::Process;
pub use status::{AsOfError, Difference, FoldStatus, Poison, Pruned, Rebuilt, Skipped, Verified};
use tokio::{
    sync::{broadcast, mpsc, watch},
    time::Instant,
};

use crate::{
    Change, Found, Places, Store, Unwell, VIEWS,
    store::{Plan, Storage},
};

/// How long a wait for a view relies on what this process knows, before it looks into the store.
const KNOWN_FOR: Duration = Duration::from_millis(100);
/// How long an answer to which folds are not well is good for.
const UNWELL_FOR: Duration = Duration::from_secs(2);
/// How many past moments are read at once.
const PASTS_AT_ONCE: usize = 2;
/// How many of one company.
const PASTS_EACH: usize = 1;

/// Which folds an engine runs.
#[derive(Clone, Default)]
pub struct EngineFolds {
    /// Those whose documents are served.
    pub views: Vec<&'static dyn FoldKind>,
    /// Those that send commands.
    pub triggers: Vec<&'static dyn FoldKind>,
    /// Nobody asks this process about views: those that others fold need not be followed.
    pub unwatched: bool,
    /// Companies are warned, by an alert, of folds that an entry has stopped.
    pub warns: bool,
}

/// Reads the feed and folds what is new. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    feed: Arc<dyn Feed>,
    store: Store,
    folds: EngineFolds,
    board: Board,
    pasts: Places,
    /// This process, as it shows itself to others.
    process: Process,
    restarts: AtomicU64,
    /// How much text the folds of companies that wait for news hold.
    held: AtomicUsize,
    /// Folds that stand still in some company, since another program folds a higher version.
    outdated: Mutex<BTreeSet<&'static str>>,
    /// Whether other processes tell what they fold, so that the store need not be asked all the time.
    told: AtomicBool,
    /// Which folds are not well, as of when that was asked last.
    unwell: tokio::sync::Mutex<Option<(Instant, Vec<Unwell>)>>,
    /// When the loop last looked, in microseconds.
    beat: AtomicI64,
}

impl Engine {
    /// An engine of these folds; nothing runs yet.
    pub fn new(feed: Arc<dyn Feed>, store: Store, folds: EngineFolds) -> Self {
        let inner = Inner {
            feed,
            store,
            folds,
            board: Board::default(),
            pasts: Places::new(PASTS_AT_ONCE, PASTS_EACH),
            process: Process::default(),
            restarts: AtomicU64::new(0),
            held: AtomicUsize::new(0),
            outdated: Mutex::default(),
            told: AtomicBool::new(false),
            unwell: tokio::sync::Mutex::default(),
            beat: AtomicI64::new(0),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Folds until `stop` says true. Views that this engine does not fold are watched, so that their changes are told.
    pub async fn run(&self, stop: watch::Receiver<bool>) {
        let folds = &self.inner.folds;
        let folding = async {
            if !folds.views.is_empty() || !folds.triggers.is_empty() {
                running::run(self.inner.clone(), stop.clone()).await;
            }
        };
        let following = async {
            if folds.views.is_empty() && !folds.unwatched {
                following::run(self.inner.clone(), stop.clone()).await;
            }
        };
        tokio::join!(folding, following);
    }

    /// The changes of all views from now on, in the order in which each view made them.
    pub fn changes(&self) -> broadcast::Receiver<Arc<Vec<Change>>> {
        self.inner.board.subscribe()
    }

    /// What this engine folds, to be told to other processes, once for its life.
    pub(crate) fn tell_others(&self, length: usize) -> mpsc::Receiver<Folded> {
        self.inner.board.tell_others(length)
    }

    /// Takes what another process says that it folded.
    pub(crate) async fn hear(&self, batch: Batch) -> Result<(), Fault> {
        self.inner.hear(batch).await
    }

    /// Says whether other processes tell what they fold.
    pub(crate) fn set_told(&self, told: bool) {
        self.inner.told.store(told, Ordering::Relaxed);
    }

    /// Whether a view is known here to have reached `position`: nothing is asked for it.
    pub fn has_reached(&self, company: CompanyId, view: &str, position: Position) -> bool {
        let view = self.inner.view(view).map(FoldKind::name);
        view.and_then(|view| self.inner.board.position(company, view)).is_some_and(|at| at >= position)
    }

    /// Waits until a view has reached `position`: how far it is then. `Err` is how far it was when the time was over.
    pub async fn wait_for(
        &self,
        company: CompanyId,
        view: &str,
        position: Position,
        timeout: Duration,
    ) -> Result<Position, Position> {
        let Some(view) = self.inner.view(view).map(FoldKind::name) else { return Err(0) };
        // A view goes back only where a server crashes, which is noticed within a second: so what is known here holds.
        if let Some(at) = self.inner.board.position(company, view).filter(|at| *at >= position) {
            return Ok(at);
        }
        let until = Instant::now() + timeout;
        loop {
            let at = self.inner.store.position(company, view).await.unwrap_or(0);
            let left = until.saturating_duration_since(Instant::now());
            if at >= position {
                return Ok(at);
            }
            if left.is_zero() {
                return Err(at);
            }
            if let Some(at) = self.inner.board.reached(company, view, position, left.min(KNOWN_FOR)).await {
                return Ok(at);
            }
        }
    }

    /// A row of a view under `key`, where there is one and `scope` may see it. What was read a moment ago is not read again:
    /// it is as new as what this process was told of the view, at most a second older than the store, and not from before
    /// `at_least`, which the view must have reached (see [`Engine::wait_for`]).
    pub async fn row(
        &self,
        company: CompanyId,
        view: &str,
        key: &str,
        scope: Option<&BTreeSet<LocationId>>,
        at_least: Position,
    ) -> Result<Found, Fault> {
        let Some(view) = self.inner.view(view).map(FoldKind::name) else { return Ok(Found::default()) };
        let fresh = self.inner.board.fresh(company, view, key);
        if let Some(mut found) = fresh.filter(|found| found.position >= at_least) {
            found.row = found.row.filter(|row| row.is_within(scope));
            return Ok(found);
        }
        let found = self.inner.store.get(company, view, key, scope).await?;
        self.inner.board.keep_fresh(company, view, &found);
        Ok(found)
    }

    /// When its loop last looked at the ledgers' heads; `None` before it has started.
    pub fn heartbeat(&self) -> Option<Timestamp> {
        Some(self.inner.beat.load(Ordering::Relaxed)).filter(|beat| *beat > 0).map(Timestamp::from_micros)
    }

    /// The live folds, of views and triggers, that are not well in some company, whoever folds them; a moment ago.
    pub async fn unwell(&self) -> Result<Vec<Unwell>, Fault> {
        let mut known = self.inner.unwell.lock().await;
        if let Some((_, unwell)) = known.as_ref().filter(|(asked, _)| asked.elapsed() < UNWELL_FOR) {
            return Ok(unwell.clone());
        }
        let mut unwell = self.inner.storage().unwell_of(false).await?;
        unwell.extend(self.inner.storage().unwell_of(true).await?);
        *known = Some((Instant::now(), unwell.clone()));
        Ok(unwell)
    }

    /// How often a company's folds had to be started again since this process started.
    pub fn restarts(&self) -> u64 {
        self.inner.restarts.load(Ordering::Relaxed)
    }

    /// How many bytes of documents its folds hold between two pieces of news, about, looked at once a second.
    pub fn held_bytes(&self) -> usize {
        self.inner.held.load(Ordering::Relaxed)
    }

    /// The names of the folds that this engine runs.
    pub fn folds(&self) -> Vec<&'static str> {
        self.inner.kinds().map(FoldKind::name).collect()
    }
}

impl Inner {
    fn storage(&self) -> &Arc<dyn Storage> {
        self.store.storage()
    }

    fn now(&self) -> Timestamp {
        (self.store.clock())()
    }

    /// The loop is about to wait for something that has an end.
    fn goes_round(&self) {
        self.beat.store(self.now().micros(), Ordering::Relaxed);
    }

    /// The view of this name.
    fn view(&self, name: &str) -> Option<&'static dyn FoldKind> {
        let mut kinds = VIEWS.iter().map(|view| view.kind).chain(self.folds.views.iter().copied());
        kinds.find(|kind| kind.name() == name)
    }

    fn is_told(&self) -> bool {
        self.told.load(Ordering::Relaxed)
    }

    /// Remembers that a fold stands still, and says so once.
    fn note_outdated(&self, plan: &Plan) {
        let mut outdated = self.outdated.lock().unwrap_or_else(PoisonError::into_inner);
        if outdated.insert(plan.fold) {
            let (fold, version) = (plan.fold, plan.version);
            tracing::warn!(
                fold,
                version,
                "a higher version stands: ours rests, unless `cnc folds rebuild` brings it back"
            );
        }
    }

    /// Whether a fold stands still in some company, or did.
    fn is_outdated(&self, fold: &str) -> bool {
        self.outdated.lock().unwrap_or_else(PoisonError::into_inner).contains(fold)
    }

    fn kinds(&self) -> impl Iterator<Item = &'static dyn FoldKind> {
        self.folds.views.iter().chain(&self.folds.triggers).copied()
    }

    /// Makes tables, and registers triggers that start for the first time.
    async fn prepare(&self) -> Result<Vec<Arc<Plan>>, Fault> {
        let plans = self.store.admit(&self.kinds().collect::<Vec<_>>()).await?;
        if plans.iter().any(|plan| plan.trigger) {
            let heads = self.feed.heads().await?;
            for plan in plans.iter().filter(|plan| plan.trigger) {
                self.storage().register(plan, &heads).await?;
            }
        }
        Ok(plans)
    }
}

impl EngineFolds {
    /// All views.
    pub fn views() -> Self {
        Self { views: VIEWS.iter().map(|view| view.kind).collect(), ..Self::default() }
    }

    /// These triggers.
    pub fn triggers(triggers: Vec<&'static dyn FoldKind>) -> Self {
        Self { triggers, ..Self::default() }
    }

    /// All views and these triggers.
    pub fn both(triggers: Vec<&'static dyn FoldKind>) -> Self {
        Self { triggers, ..Self::views() }
    }
}
