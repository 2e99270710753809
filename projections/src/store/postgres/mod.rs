//! Documents in Postgres: views in the schema `cnc_views`, what triggers keep and send in `cnc`, beside the ledger.
//!
//! Who reads, reads as the role `cnc_read`, under forced row security by company and location.

mod builds;
pub(super) mod carrying;
mod outbox;
mod reading;
mod schema;
mod writing;

use std::sync::Arc;

use async_trait::async_trait;
use cnc_domain::{
    kernel::{CompanyId, Timestamp},
    ledger::{Fault, Head, Parcel, Position},
};
use cnc_postgres::Pool;
use tokio::sync::Notify;
use uuid::Uuid;

use super::{
    Commit, FoldId, FoldRow, Generation, LivePosition, Opened, Plan, Poisoned, Storage, Wanted, Write,
    storage::{Documents, Loaded, Scope, Standing, now, unwell_text},
};
use crate::{Change, Found, Page, Query, QueryError, Unwell};

/// For what the engine asks and says.
const CONNECTIONS: usize = 3;
const WRITERS: usize = 2;
const READERS: usize = 4;

type Tx = cnc_postgres::Transaction;

pub(crate) struct Postgres {
    pool: Pool,
    /// For what folds write.
    writers: Pool,
    /// For what is served, as `cnc_read`.
    readers: Pool,
    filled: Notify,
}

/// The schema that a fold's tables are in.
fn schema(trigger: bool) -> &'static str {
    if trigger { "cnc" } else { "cnc_views" }
}

/// What a failed statement means: lost connections, full disks, timeouts pass; broken data does not.
fn fault(doing: &'static str) -> impl Fn(sqlx::Error) -> Fault {
    move |error| match &error {
        sqlx::Error::Database(database) => {
            let code = database.code().unwrap_or_default().into_owned();
            let broken = code.starts_with("22") || code.starts_with("23") || code.starts_with("42");
            if broken { Fault::broken(doing, error) } else { Fault::passing(doing, error) }
        }
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => Fault::broken(doing, error),
        _ => Fault::passing(doing, error),
    }
}

impl Postgres {
    /// Connects, and makes what is missing.
    pub async fn connect(url: &str) -> Result<Self, Fault> {
        Self::open(url, true).await
    }

    /// Connects for reading how folds stand; nothing is made.
    pub async fn read_only(url: &str) -> Result<Self, Fault> {
        Self::open(url, false).await
    }

    async fn open(url: &str, make: bool) -> Result<Self, Fault> {
        let options = cnc_postgres::options(url).map_err(fault("opening the store"))?;
        let pool = Pool::new(options.clone(), CONNECTIONS);
        // The statement that writes is large, and planned once in a connection's life, perhaps while the tables are still
        // empty: the plan must also serve when they are large. So every row is found by its key.
        let by_key = options.clone().options([
            ("plan_cache_mode", "force_generic_plan"),
            ("enable_seqscan", "off"),
            ("enable_hashjoin", "off"),
            ("enable_mergejoin", "off"),
            ("enable_sort", "off"),
        ]);
        let writers = Pool::new(by_key, WRITERS);
        if make {
            schema::make(&pool).await.map_err(fault("making the tables of folds"))?;
        }
        let role = schema::has_reader(&pool).await.map_err(fault("opening the store"))?;
        let readers = Pool::with(options, READERS, cnc_postgres::ANSWER_WITHIN, role.then_some("SET ROLE cnc_read"));
        Ok(Self { pool, writers, readers, filled: Notify::new() })
    }

    async fn transaction(&self, doing: &'static str) -> Result<Tx, Fault> {
        self.pool.begin().await.map_err(fault(doing))
    }
}

/// Does something in one transaction that writes.
macro_rules! write {
    ($self:ident, $doing:literal, |$tx:ident| $work:expr) => {{
        let mut $tx = $self.transaction($doing).await?;
        let result = $work.await.map_err(fault($doing))?;
        $tx.commit().await.map_err(fault($doing))?;
        Ok(result)
    }};
}

/// Reads on one snapshot, seen as `cnc_read` sees it: this company, and these locations of it.
macro_rules! read {
    ($self:ident, $doing:literal, $company:ident, $scope:expr, |$tx:ident| $work:expr) => {{
        let begin = schema::begin_reading($company, $scope);
        let mut $tx = $self.readers.begin_with(&begin).await.map_err(fault($doing))?;
        let result = $work.await.map_err(fault($doing))?;
        $tx.commit().await.map_err(fault($doing))?;
        Ok(result)
    }};
}

#[async_trait]
impl Storage for Postgres {
    fn pools(&self) -> Vec<(&'static str, usize, usize)> {
        let pools = [("views_keep", &self.pool), ("views_write", &self.writers), ("views_read", &self.readers)];
        let counted = pools.map(|(name, pool)| {
            let (open, idle) = pool.open_and_idle();
            (name, open, idle)
        });
        counted.to_vec()
    }

    async fn prepare(&self, plans: &[Arc<Plan>]) -> Result<(), Fault> {
        write!(self, "making the tables of folds", |tx| schema::prepare(&mut tx, plans))
    }

    async fn register(&self, plan: &Arc<Plan>, heads: &[(CompanyId, Head)]) -> Result<(), Fault> {
        write!(self, "registering a trigger", |tx| builds::register(&mut tx, plan.fold, heads))
    }

    async fn registered(&self, plan: &Arc<Plan>, company: CompanyId) -> Result<Option<Head>, Fault> {
        let doing = "reading a trigger's start";
        let mut connection = self.pool.acquire().await.map_err(fault(doing))?;
        builds::registered(&mut connection, plan.fold, company).await.map_err(fault(doing))
    }

    async fn open(&self, plan: &Arc<Plan>, company: CompanyId) -> Result<Option<Opened>, Fault> {
        write!(self, "opening a fold", |tx| builds::open(&mut tx, plan, company))
    }

    async fn live_in(&self, plan: &Arc<Plan>) -> Result<Vec<CompanyId>, Fault> {
        builds::live_in(&self.pool, plan).await.map_err(fault("looking for outdated folds"))
    }

    async fn replace(
        &self,
        plan: &Arc<Plan>,
        forked: &FoldRow,
        whole_from: Position,
        silent_until: Position,
    ) -> Result<bool, Fault> {
        write!(self, "replacing a build of another history", |tx| builds::replace(
            &mut tx,
            plan,
            forked,
            whole_from,
            silent_until
        ))
    }

    async fn begin(&self, trigger: bool, id: &FoldId, at: Head, process: Uuid, beat: i64) -> Result<bool, Fault> {
        write!(self, "beginning to fold", |tx| builds::begin(&mut tx, schema(trigger), id, at, process, beat))
    }

    async fn load(
        &self,
        plan: &Arc<Plan>,
        id: &FoldId,
        at: Option<Head>,
        wanted: Vec<Wanted>,
    ) -> Result<Option<Loaded>, Fault> {
        reading::load(&self.pool, plan, id, at, wanted).await.map_err(fault("loading documents"))
    }

    async fn commit(&self, trigger: bool, now: Timestamp, writes: Vec<Write>) -> Result<Commit, Fault> {
        let doing = "writing documents";
        let sends = writes.iter().any(|write| !write.parcels.is_empty() || !write.deadlines.is_empty());
        if !sends {
            let mut connection = self.writers.acquire().await.map_err(fault(doing))?;
            return writing::commit(&mut connection, trigger, now, &writes).await.map_err(fault(doing));
        }
        let mut tx = self.writers.begin().await.map_err(fault(doing))?;
        let commit = writing::commit(&mut tx, trigger, now, &writes).await.map_err(fault(doing))?;
        writing::send(&mut tx, &writes, &commit).await.map_err(fault(doing))?;
        tx.commit().await.map_err(fault(doing))?;
        self.filled.notify_one();
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
        write!(self, "recording an entry that cannot be folded", |tx| builds::poison(
            &mut tx,
            schema(trigger),
            id,
            position,
            reason,
            now
        ))
    }

    async fn retry(&self, trigger: bool, id: &FoldId) -> Result<(), Fault> {
        write!(self, "retrying a fold", |tx| builds::retry(&mut tx, schema(trigger), id))
    }

    async fn skip(
        &self,
        trigger: bool,
        id: &FoldId,
        position: Position,
        by: &str,
        now: Timestamp,
    ) -> Result<bool, Fault> {
        write!(self, "skipping an entry", |tx| builds::skip(&mut tx, schema(trigger), id, position, by, now))
    }

    async fn rows_of(&self, trigger: bool, company: Option<CompanyId>) -> Result<Vec<FoldRow>, Fault> {
        builds::rows(&self.pool, schema(trigger), company).await.map_err(fault("reading folds"))
    }

    async fn beside(&self, plan: &Arc<Plan>, company: CompanyId) -> Result<Opened, Fault> {
        let silent = Position::try_from(i64::MAX).unwrap_or_default();
        write!(self, "starting a build", |tx| builds::insert(&mut tx, plan, company, Standing::Scratch, silent, now()))
    }

    async fn swap(&self, trigger: bool, id: &FoldId) -> Result<bool, Fault> {
        write!(self, "swapping builds", |tx| builds::swap(&mut tx, trigger, id))
    }

    async fn drop_some(&self, trigger: bool, id: &FoldId) -> Result<(u64, bool), Fault> {
        write!(self, "dropping a build", |tx| builds::drop_some(&mut tx, schema(trigger), id))
    }

    async fn drop_tables(&self, trigger: bool, known: &[(&'static str, u32)]) -> Result<u64, Fault> {
        write!(self, "dropping tables", |tx| schema::drop_tables(&mut tx, schema(trigger), known))
    }

    async fn page(
        &self,
        plan: &Arc<Plan>,
        id: &FoldId,
        shelf: usize,
        after: &str,
        limit: usize,
    ) -> Result<Documents, Fault> {
        reading::page(&self.pool, plan, id, shelf, after, limit).await.map_err(fault("reading documents"))
    }

    async fn generation(&self) -> Result<Generation, Fault> {
        schema::generation(&self.pool).await.map_err(fault("asking for lost commits"))
    }

    async fn standing(&self, company: Option<CompanyId>, folds: &[String]) -> Result<Vec<LivePosition>, Fault> {
        reading::standing(&self.pool, company, folds).await.map_err(fault("reading positions"))
    }

    async fn get(&self, plan: &Arc<Plan>, company: CompanyId, key: &str, scope: Scope<'_>) -> Result<Found, Fault> {
        let doing = "reading a document";
        let mut reader = self.readers.acquire().await.map_err(fault(doing))?;
        let found = reading::get(&mut reader, plan, company, key, scope).await.map_err(fault(doing))?;
        drop(reader);
        if let Some(found) = found {
            return Ok(found);
        }
        read!(self, "reading a document", company, scope, |tx| reading::get_live(&mut tx, plan, company, key, scope))
    }

    async fn query(&self, plan: &Arc<Plan>, company: CompanyId, query: &Query) -> Result<Page, QueryError> {
        let asked = reading::Asked::of(plan, query)?;
        read!(self, "querying a view", company, query.scope.as_ref(), |tx| reading::query(
            &mut tx, plan, company, query, &asked
        ))
    }

    async fn changes_since(
        &self,
        plan: &Arc<Plan>,
        company: CompanyId,
        position: Position,
        scope: Scope<'_>,
    ) -> Result<Option<Vec<Change>>, Fault> {
        read!(self, "reading changes", company, scope, |tx| reading::changes_since(
            &mut tx, plan, company, position, scope
        ))
    }

    async fn unwell_of(&self, trigger: bool) -> Result<Vec<Unwell>, Fault> {
        let doing = "asking which folds are not well";
        let text = unwell_text(&format!("{}.folds", schema(trigger)));
        let found: Vec<(String, i64, i64, i64)> =
            sqlx::query_as(&text).fetch_all(&self.pool).await.map_err(fault(doing))?;
        let count = |number: i64| u64::try_from(number).unwrap_or(0);
        let unwell = found.into_iter().map(|(fold, stopped, skipped, rebuilding)| Unwell {
            fold,
            stopped: count(stopped),
            skipped: count(skipped),
            rebuilding: count(rebuilding),
        });
        Ok(unwell.collect())
    }

    async fn send(&self, parcels: Vec<Parcel>) -> Result<(), Fault> {
        let sent: Result<(), Fault> = write!(self, "filling the outbox", |tx| writing::parcels(&mut tx, &parcels));
        sent?;
        self.filled.notify_one();
        Ok(())
    }

    async fn forget_removals(&self, before: Timestamp) -> Result<(), Fault> {
        write!(self, "forgetting removals", |tx| builds::forget_removals(&mut tx, before))
    }
}
