//! Documents in SQLite: views in `views.db`, which may be lost and folded anew; what triggers keep and send in
//! `ledger.db`, beside the ledger and as durable as it.

mod builds;
pub(super) mod carrying;
mod db;
mod outbox;
mod reading;
mod schema;
mod writing;

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use cnc_domain::{
    kernel::{CompanyId, Timestamp},
    ledger::{Fault, Head, Parcel, Position},
};
use db::Db;
use rusqlite::Transaction;
use tokio::sync::Notify;
use uuid::Uuid;

use super::{
    Commit, FoldId, FoldRow, Generation, LivePosition, Opened, Plan, Poisoned, Storage, Wanted, Write,
    storage::{Documents, Loaded, Scope, unwell_text},
};
use crate::{Change, Found, Page, Query, QueryError, Unwell};

#[cfg(feature = "simulation")]
pub(super) use schema::make as make_tables;

pub(crate) struct Sqlite {
    views: Db,
    ledger: Db,
    filled: Notify,
}

impl Sqlite {
    /// Opens both files of a data folder, and makes what is missing in them.
    pub async fn open(data_dir: &Path) -> Result<Self, Fault> {
        std::fs::create_dir_all(data_dir).map_err(|cause| Fault::passing("making the data folder", cause))?;
        let views = Db::open(data_dir.join("views.db"), "NORMAL").await?;
        let ledger = Db::open(data_dir.join("ledger.db"), "FULL").await?;
        for db in [&views, &ledger] {
            db.write("making the tables of folds", schema::make).await?;
        }
        Ok(Self { views, ledger, filled: Notify::new() })
    }

    /// Both files of a data folder for reading how folds stand, whatever of them is there; nothing is made.
    pub fn read_only(data_dir: &Path) -> Self {
        let db = |name| Db::read_only(data_dir.join(name));
        Self { views: db("views.db"), ledger: db("ledger.db"), filled: Notify::new() }
    }

    /// Over databases in memory, as one process sees them.
    #[cfg(feature = "simulation")]
    pub fn in_memory(
        views: &Arc<super::simulated::Shared>,
        ledger: &Arc<super::simulated::Shared>,
        weather: &Arc<dyn cnc_domain::ledger::Weather>,
    ) -> Self {
        let db = |shared: &Arc<super::simulated::Shared>| Db::Memory(shared.clone(), weather.clone());
        Self { views: db(views), ledger: db(ledger), filled: Notify::new() }
    }

    fn db(&self, trigger: bool) -> &Db {
        if trigger { &self.ledger } else { &self.views }
    }
}

#[async_trait]
impl Storage for Sqlite {
    async fn prepare(&self, plans: &[Arc<Plan>]) -> Result<(), Fault> {
        for plan in plans {
            let mine = plan.clone();
            self.db(plan.trigger).write("making a fold's tables", move |tx| builds::prepare(tx, &mine)).await?;
        }
        Ok(())
    }

    async fn register(&self, plan: &Arc<Plan>, heads: &[(CompanyId, Head)]) -> Result<(), Fault> {
        let (fold, heads) = (plan.fold, heads.to_vec());
        self.ledger.write("registering a trigger", move |tx| builds::register(tx, fold, &heads)).await
    }

    async fn registered(&self, plan: &Arc<Plan>, company: CompanyId) -> Result<Option<Head>, Fault> {
        let fold = plan.fold;
        self.ledger.read("reading a trigger's start", move |tx| builds::registered(tx, fold, company)).await
    }

    async fn open(&self, plan: &Arc<Plan>, company: CompanyId) -> Result<Option<Opened>, Fault> {
        let mine = plan.clone();
        self.db(plan.trigger).write("opening a fold", move |tx| builds::open(tx, &mine, company)).await
    }

    async fn live_in(&self, plan: &Arc<Plan>) -> Result<Vec<CompanyId>, Fault> {
        let mine = plan.clone();
        self.db(plan.trigger).read("looking for outdated folds", move |tx| builds::live_in(tx, &mine)).await
    }

    async fn replace(
        &self,
        plan: &Arc<Plan>,
        forked: &FoldRow,
        whole_from: Position,
        silent_until: Position,
    ) -> Result<bool, Fault> {
        let (mine, forked) = (plan.clone(), forked.clone());
        let work = move |tx: &Transaction<'_>| builds::replace(tx, &mine, &forked, whole_from, silent_until);
        self.db(plan.trigger).write("replacing a build of another history", work).await
    }

    async fn begin(&self, trigger: bool, id: &FoldId, at: Head, process: Uuid, beat: i64) -> Result<bool, Fault> {
        let id = id.clone();
        self.db(trigger).write("beginning to fold", move |tx| builds::begin(tx, &id, at, process, beat)).await
    }

    async fn load(
        &self,
        plan: &Arc<Plan>,
        id: &FoldId,
        at: Option<Head>,
        wanted: Vec<Wanted>,
    ) -> Result<Option<Loaded>, Fault> {
        let (mine, id) = (plan.clone(), id.clone());
        let load = move |tx: &Transaction<'_>| match at {
            Some(at) if builds::row(tx, &id)?.is_none_or(|row| row.head() != at) => Ok(None),
            _ => reading::load(tx, &mine, &id, &wanted).map(Some),
        };
        self.db(plan.trigger).read("loading documents", load).await
    }

    async fn commit(&self, trigger: bool, now: Timestamp, writes: Vec<Write>) -> Result<Commit, Fault> {
        let sends = writes.iter().any(|write| !write.parcels.is_empty() || !write.deadlines.is_empty());
        let commit = self.db(trigger).write(db::WRITING, move |tx| writing::commit(tx, now, &writes)).await?;
        if sends {
            self.filled.notify_one();
        }
        Ok(commit)
    }

    async fn poison(
        &self,
        trigger: bool,
        id: &FoldId,
        position: Position,
        reason: &str,
        now: Timestamp,
    ) -> Result<Poisoned, Fault> {
        let (id, reason) = (id.clone(), reason.to_owned());
        let work = move |tx: &rusqlite::Transaction<'_>| builds::poison(tx, &id, position, &reason, now);
        self.db(trigger).write("recording an entry that cannot be folded", work).await
    }

    async fn retry(&self, trigger: bool, id: &FoldId) -> Result<(), Fault> {
        let id = id.clone();
        self.db(trigger).write("retrying a fold", move |tx| builds::retry(tx, &id)).await
    }

    async fn skip(
        &self,
        trigger: bool,
        id: &FoldId,
        position: Position,
        by: &str,
        now: Timestamp,
    ) -> Result<bool, Fault> {
        let (id, by) = (id.clone(), by.to_owned());
        self.db(trigger).write("skipping an entry", move |tx| builds::skip(tx, &id, position, &by, now)).await
    }

    async fn rows_of(&self, trigger: bool, company: Option<CompanyId>) -> Result<Vec<FoldRow>, Fault> {
        self.db(trigger).read("reading folds", move |tx| builds::rows(tx, company)).await
    }

    async fn beside(&self, plan: &Arc<Plan>, company: CompanyId) -> Result<Opened, Fault> {
        let mine = plan.clone();
        self.db(plan.trigger).write("starting a build", move |tx| builds::beside(tx, &mine, company)).await
    }

    async fn swap(&self, trigger: bool, id: &FoldId) -> Result<bool, Fault> {
        let id = id.clone();
        self.db(trigger).write("swapping builds", move |tx| builds::swap(tx, trigger, &id)).await
    }

    async fn drop_some(&self, trigger: bool, id: &FoldId) -> Result<(u64, bool), Fault> {
        let id = id.clone();
        self.db(trigger).write("dropping a build", move |tx| builds::drop_some(tx, &id)).await
    }

    async fn drop_tables(&self, trigger: bool, known: &[(&'static str, u32)]) -> Result<u64, Fault> {
        let known = known.to_vec();
        self.db(trigger).write("dropping tables", move |tx| builds::drop_tables(tx, &known)).await
    }

    async fn page(
        &self,
        plan: &Arc<Plan>,
        id: &FoldId,
        shelf: usize,
        after: &str,
        limit: usize,
    ) -> Result<Documents, Fault> {
        let (mine, id, after) = (plan.clone(), id.clone(), after.to_owned());
        let work = move |tx: &rusqlite::Transaction<'_>| reading::page(tx, &mine, &id, shelf, &after, limit);
        self.db(plan.trigger).read("reading documents", work).await
    }

    async fn generation(&self) -> Result<Generation, Fault> {
        // A file loses commits only with its machine, and then nobody is left who remembers them; a simulation counts.
        let generation = |tx: &rusqlite::Transaction<'_>| {
            let losses = tx.pragma_query_value(None, "user_version", |row| row.get(0))?;
            let swaps = tx.prepare_cached("SELECT number FROM swaps")?.query_row([], |row| row.get(0))?;
            Ok(Generation { losses, swaps })
        };
        self.views.read("asking for lost commits", generation).await
    }

    async fn standing(&self, company: Option<CompanyId>, folds: &[String]) -> Result<Vec<LivePosition>, Fault> {
        let folds = folds.to_vec();
        self.views.read("reading positions", move |tx| reading::standing(tx, company, &folds)).await
    }

    async fn get(&self, plan: &Arc<Plan>, company: CompanyId, key: &str, scope: Scope<'_>) -> Result<Found, Fault> {
        let (mine, key, scope) = (plan.clone(), key.to_owned(), reading::scope(scope));
        let work = move |tx: &rusqlite::Transaction<'_>| reading::get(tx, &mine, company, &key, &scope);
        self.db(plan.trigger).read("reading a document", work).await
    }

    async fn query(&self, plan: &Arc<Plan>, company: CompanyId, query: &Query) -> Result<Page, QueryError> {
        let asked = reading::Asked::of(plan, query)?;
        let (mine, query) = (plan.clone(), query.clone());
        let work = move |tx: &rusqlite::Transaction<'_>| reading::query(tx, &mine, company, &query, &asked);
        Ok(self.db(plan.trigger).read("querying a view", work).await?)
    }

    async fn changes_since(
        &self,
        plan: &Arc<Plan>,
        company: CompanyId,
        position: Position,
        scope: Scope<'_>,
    ) -> Result<Option<Vec<Change>>, Fault> {
        let (mine, scope) = (plan.clone(), reading::scope(scope));
        let work = move |tx: &rusqlite::Transaction<'_>| reading::changes_since(tx, &mine, company, position, &scope);
        self.db(plan.trigger).read("reading changes", work).await
    }

    async fn unwell_of(&self, trigger: bool) -> Result<Vec<Unwell>, Fault> {
        let unwell = |tx: &Transaction<'_>| {
            let mut select = tx.prepare_cached(&unwell_text("folds"))?;
            let found = select.query_map([], |row| {
                let (stopped, skipped) = (row.get(1)?, row.get(2)?);
                Ok(Unwell { fold: row.get(0)?, stopped, skipped, rebuilding: row.get(3)? })
            })?;
            found.collect()
        };
        self.db(trigger).read("asking which folds are not well", unwell).await
    }

    async fn send(&self, parcels: Vec<Parcel>) -> Result<(), Fault> {
        self.ledger.write("filling the outbox", move |tx| writing::parcels(tx, &parcels)).await?;
        self.filled.notify_one();
        Ok(())
    }

    async fn close(&self) -> Result<(), Fault> {
        self.views.truncate_log().await
    }

    async fn forget_removals(&self, before: Timestamp) -> Result<(), Fault> {
        self.views.write("forgetting removals", move |tx| builds::forget_removals(tx, before)).await
    }
}
