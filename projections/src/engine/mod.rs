//! Folds every company's ledger into the store: views, triggers or both.

mod status;

use std::{sync::Arc, time::Duration};

use cnc_domain::{
    kernel::{CompanyId, FoldKind},
    ledger::{Fault, Feed, Position},
};
pub use status::{AsOf, AsOfError, Difference, FoldStatus, Poison, Pruned, Rebuilt, Skipped, Verified};
use tokio::sync::{broadcast, watch};

use crate::{Change, Row, Store};

/// Which folds an engine runs.
#[derive(Clone, Default)]
pub struct EngineFolds {
    /// Those whose documents are served.
    pub views: Vec<&'static dyn FoldKind>,
    /// Those that send commands.
    pub triggers: Vec<&'static dyn FoldKind>,
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
    changes: broadcast::Sender<Arc<Vec<Change>>>,
}

impl Engine {
    /// An engine of these folds; nothing runs yet.
    pub fn new(feed: Arc<dyn Feed>, store: Store, folds: EngineFolds) -> Self {
        Self { inner: Arc::new(Inner { feed, store, folds, changes: broadcast::channel(1024).0 }) }
    }

    /// Folds until `stop` says true. Views that this engine does not fold are watched, so that their changes are told.
    pub async fn run(&self, mut stop: watch::Receiver<bool>) {
        let _ = stop.wait_for(|stop| *stop).await;
    }

    /// The changes of all views from now on, in the order in which each view made them.
    pub fn changes(&self) -> broadcast::Receiver<Arc<Vec<Change>>> {
        self.inner.changes.subscribe()
    }

    /// Waits until a view has reached `position`: how far it is then. `Err` is how far it was when the time was over.
    pub async fn wait_for(
        &self,
        company: CompanyId,
        view: &str,
        position: Position,
        timeout: Duration,
    ) -> Result<Position, Position> {
        let _ = (timeout, position);
        self.inner.store.position(company, view).await.map_err(|_| 0)
    }

    /// How all folds stand, by company and fold.
    pub async fn status(&self) -> Result<Vec<FoldStatus>, Fault> {
        self.inner.feed.heads().await.map(|_| Vec::new())
    }

    /// Builds a fold anew beside the one that stands, and swaps it in, for one company or all.
    pub async fn rebuild(&self, company: Option<CompanyId>, fold: &str) -> Result<Vec<Rebuilt>, Fault> {
        let _ = (company, fold, &self.inner.folds);
        Ok(Vec::new())
    }

    /// Builds every fold beside the one that stands and compares each document, for one company or all.
    pub async fn verify(&self, company: Option<CompanyId>) -> Result<Vec<Verified>, Fault> {
        let _ = company;
        Ok(Vec::new())
    }

    /// Lets folds that an entry stopped try again, for one company or all, one fold or all. Returns how many.
    pub async fn retry(&self, company: Option<CompanyId>, fold: Option<&str>) -> Result<usize, Fault> {
        let _ = (company, fold);
        Ok(0)
    }

    /// Skips the entry that stopped a fold, on the record; nothing where none did.
    pub async fn skip(&self, company: CompanyId, fold: &str, by: &str) -> Result<Option<Skipped>, Fault> {
        let _ = (company, fold, by);
        Ok(None)
    }

    /// Drops what was replaced.
    pub async fn prune(&self) -> Result<Pruned, Fault> {
        Ok(Pruned::default())
    }

    /// The row of a view as it was: folded again in memory.
    pub async fn document_as_of(
        &self,
        company: CompanyId,
        view: &str,
        key: &str,
        as_of: AsOf,
    ) -> Result<Option<Row>, AsOfError> {
        let _ = (company, key, as_of);
        Err(AsOfError::UnknownView(view.into()))
    }

    /// All rows of a view as they were, by key: folded again in memory. Filters, sorts and pages are the caller's.
    pub async fn view_as_of(&self, company: CompanyId, view: &str, as_of: AsOf) -> Result<Vec<Row>, AsOfError> {
        let _ = (company, as_of);
        Err(AsOfError::UnknownView(view.into()))
    }

    /// The names of the folds that this engine runs.
    pub fn folds(&self) -> Vec<&'static str> {
        let EngineFolds { views, triggers } = &self.inner.folds;
        views.iter().chain(triggers).map(|kind| kind.name()).collect()
    }
}

impl EngineFolds {
    /// All views.
    pub fn views() -> Self {
        Self { views: crate::VIEWS.iter().map(|view| view.kind).collect(), triggers: Vec::new() }
    }

    /// These triggers.
    pub fn triggers(triggers: Vec<&'static dyn FoldKind>) -> Self {
        Self { views: Vec::new(), triggers }
    }

    /// All views and these triggers.
    pub fn both(triggers: Vec<&'static dyn FoldKind>) -> Self {
        Self { triggers, ..Self::views() }
    }
}
