//! Where documents and the positions of folds are kept.

mod carrying;
mod plan;
mod postgres;
#[cfg(feature = "simulation")]
pub mod simulated;
mod sqlite;
mod storage;

use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
    sync::{Arc, RwLock},
};

use cnc_domain::{
    kernel::{CompanyId, FoldKind, LocationId, Timestamp},
    ledger::{Fault, Outbox, Position},
};

use crate::{Change, Found, LIMIT_MAX, Page, Query, QueryError, VIEWS};
pub use carrying::{TriggerState, TriggerStore, carry_triggers};
pub use postgres::carrying::holds_folds;

pub(crate) use plan::{Form, Plan, Table};
pub(crate) use storage::{
    Begun, Build, Commit, FoldId, FoldRow, Generation, KeptParcel, LivePosition, Loaded, Opened, Poisoned, Standing,
    Storage, Wanted, Write, Written, latest_retry, now, put_off, read_parcels, retry_parcel_at, whole,
};

/// Documents and positions of folds, on SQLite or Postgres. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    storage: Arc<dyn Storage>,
    plans: Arc<RwLock<HashMap<&'static str, Arc<Plan>>>>,
    clock: Clock,
}

/// Tells the time.
pub(crate) type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

impl Store {
    /// Opens the store of a data folder: `views.db` for views, `ledger.db` for what triggers keep and send.
    pub async fn sqlite(data_dir: &Path) -> Result<Self, Fault> {
        Self::over(Arc::new(sqlite::Sqlite::open(data_dir).await?)).await
    }

    /// Opens the store of a Postgres database.
    pub async fn postgres(url: &str) -> Result<Self, Fault> {
        Self::over(Arc::new(postgres::Postgres::connect(url).await?)).await
    }

    /// The store of a data folder, only to look how folds stand: nothing is made, and nothing can be written.
    pub fn sqlite_read_only(data_dir: &Path) -> Self {
        Self::bare(Arc::new(sqlite::Sqlite::read_only(data_dir)))
    }

    /// The store of a Postgres database, only to look how folds stand.
    pub async fn postgres_read_only(url: &str) -> Result<Self, Fault> {
        Ok(Self::bare(Arc::new(postgres::Postgres::read_only(url).await?)))
    }

    /// Leaves nothing beside its files that the next start would have to bring in.
    pub async fn close(&self) -> Result<(), Fault> {
        self.storage.close().await
    }

    /// The same, by another clock than this machine's.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Fn() -> Timestamp + Send + Sync>) -> Self {
        Self { clock, ..self }
    }

    /// The row of a view under `key`, where there is one and `scope` may see it.
    pub async fn get(
        &self,
        company: CompanyId,
        view: &str,
        key: &str,
        scope: Option<&BTreeSet<LocationId>>,
    ) -> Result<Found, Fault> {
        let Some(plan) = self.plan(view) else { return Ok(Found::default()) };
        self.storage.get(&plan, company, key, scope).await
    }

    /// A page of a view.
    pub async fn query(&self, company: CompanyId, view: &str, query: &Query) -> Result<Page, QueryError> {
        if !(1..=LIMIT_MAX).contains(&query.limit) {
            return Err(QueryError::Limit);
        }
        let plan = self.plan(view).ok_or_else(|| QueryError::UnknownView(view.into()))?;
        self.storage.query(&plan, company, query).await
    }

    /// How far a view has read its company's ledger.
    pub async fn position(&self, company: CompanyId, view: &str) -> Result<Position, Fault> {
        let standing = self.storage.standing(Some(company), &[view.to_owned()]).await?;
        Ok(standing.first().map_or(0, |standing| standing.position))
    }

    /// What changed in a view after `position` and until now, each row once, as it is now; `None` where that is not known
    /// any more (removals are remembered for 24 hours): query again.
    pub async fn changes_since(
        &self,
        company: CompanyId,
        view: &str,
        position: Position,
        scope: Option<&BTreeSet<LocationId>>,
    ) -> Result<Option<Vec<Change>>, Fault> {
        let Some(plan) = self.plan(view) else { return Ok(None) };
        self.storage.changes_since(&plan, company, position, scope).await
    }

    /// The pools of connections: of each its name, how many are open, and how many of those nobody uses. None in a folder.
    pub fn pools(&self) -> Vec<(&'static str, usize, usize)> {
        self.storage.pools()
    }

    /// What triggers have sent.
    pub fn outbox(&self) -> Arc<dyn Outbox> {
        self.storage.clone()
    }

    /// Makes folds known, and their tables.
    pub(crate) async fn admit(&self, kinds: &[&'static dyn FoldKind]) -> Result<Vec<Arc<Plan>>, Fault> {
        let plans: Vec<Arc<Plan>> = kinds.iter().map(|kind| Arc::new(Plan::of(*kind))).collect();
        self.storage.prepare(&plans).await?;
        let mut known = self.plans.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        known.extend(plans.iter().map(|plan| (plan.fold, plan.clone())));
        Ok(plans)
    }

    /// Where it is kept.
    pub(crate) fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// By which it is told when to try again what failed.
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    fn plan(&self, fold: &str) -> Option<Arc<Plan>> {
        self.plans.read().unwrap_or_else(std::sync::PoisonError::into_inner).get(fold).cloned()
    }

    async fn over(storage: Arc<dyn Storage>) -> Result<Self, Fault> {
        let store = Self::bare(storage);
        store.admit(&VIEWS.iter().map(|view| view.kind).collect::<Vec<_>>()).await?;
        Ok(store)
    }

    /// Without the tables of views.
    fn bare(storage: Arc<dyn Storage>) -> Self {
        Self { storage, plans: Arc::default(), clock: Arc::new(now) }
    }
}
