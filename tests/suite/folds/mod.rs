//! The fold engine over ledgers in memory, on every store.

mod crashing;
mod dying;
mod failing;
mod folding;
mod forking;
mod idling;
mod indexes;
mod outbox;
mod pruning;
mod querying;
mod silence;
mod triggers;
mod versions;
pub mod world;
mod writing;

use std::{sync::Arc, time::Duration};

use cnc_domain::{
    kernel::{CompanyId, FoldKind, Id, LocationId},
    ledger::{Feed, Position},
};
use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;
use tokio::{sync::watch, task::JoinHandle};
use world::{Event, Till};

use cnc_commands::ledger::PostgresLedger;
use cnc_projections::{Engine, EngineFolds, Query, Row, Store};
use cnc_tests::postgres::{Cluster, cluster};

pub const ACME: CompanyId = CompanyId::number(1);
pub const ZETA: CompanyId = CompanyId::number(2);
pub const NORTH: LocationId = LocationId::number(5);
pub const SOUTH: LocationId = LocationId::number(6);
pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn till(number: u128) -> Id<Till> {
    Id::number(100 + number)
}

pub fn put_in(amount: i64) -> Event {
    Event::PutIn { amount, location: Some(NORTH), tag: "cash".into() }
}

/// Where documents are kept in a test.
pub enum Place {
    Sqlite(TempDir),
    Postgres(String),
}

impl Place {
    pub fn sqlite() -> Self {
        Self::Sqlite(TempDir::new().expect("a temporary folder"))
    }

    pub async fn postgres() -> Self {
        Self::on(cluster()).await
    }

    /// Documents stand beside a ledger, which is made first.
    pub async fn on(cluster: &Cluster) -> Self {
        let url = cluster.database().await;
        PostgresLedger::connect(&url).await.expect("connects").migrate().await.expect("migrates");
        Self::Postgres(url)
    }

    /// Another, empty one of the same kind.
    pub async fn another(&self) -> Self {
        match self {
            Self::Sqlite(_) => Self::sqlite(),
            Self::Postgres(_) => Self::postgres().await,
        }
    }

    /// Writes a wrong total into a document, behind the engine's back.
    async fn spoil(&self, key: &str) {
        match self {
            Self::Sqlite(folder) => {
                let views = rusqlite::Connection::open(folder.path().join("views.db")).expect("opens");
                let spoil = "UPDATE sums_v1 SET doc = json_set(doc, '$.total', 999) WHERE key = ?";
                views.execute(spoil, [key]).expect("spoils");
            }
            Self::Postgres(url) => {
                let mut views = PgConnection::connect(url).await.expect("connects");
                let spoil = "UPDATE cnc_views.sums_v1 SET doc = jsonb_set(doc::jsonb, '{total}', '999') WHERE key = $1";
                sqlx::query(spoil).bind(key).execute(&mut views).await.expect("spoils");
            }
        }
    }

    /// Runs SQL on the tables of views, behind the engine's back. Gives how many rows it touched.
    async fn sql(&self, sql: &str) -> Result<u64, String> {
        match self {
            Self::Sqlite(folder) => {
                let views = rusqlite::Connection::open(folder.path().join("views.db")).expect("opens");
                views.execute(sql, []).map(|rows| rows as u64).map_err(|error| error.to_string())
            }
            Self::Postgres(url) => {
                let mut views = PgConnection::connect(url).await.expect("connects");
                sqlx::query("SET search_path TO cnc_views").execute(&mut views).await.expect("sets");
                let done = sqlx::query(sql).execute(&mut views).await;
                done.map(|done| done.rows_affected()).map_err(|error| error.to_string())
            }
        }
    }

    /// The store, with connections of its own.
    pub async fn store(&self) -> Store {
        let store = match self {
            Self::Sqlite(folder) => Store::sqlite(folder.path()).await,
            Self::Postgres(url) => Store::postgres(url).await,
        };
        store.expect("the store opens")
    }

    /// An engine that does not run, with connections of its own: what an operator's command has.
    pub async fn engine<F: Feed + 'static>(&self, feed: &Arc<F>, folds: EngineFolds) -> Engine {
        Engine::new(feed.clone(), self.store().await, folds)
    }
}

/// A running engine on a store of its own connections.
pub struct Running {
    pub engine: Engine,
    pub store: Store,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Running {
    pub async fn start<F: Feed + 'static>(feed: &Arc<F>, place: &Place, folds: EngineFolds) -> Self {
        let store = place.store().await;
        let engine = Engine::new(feed.clone(), store.clone(), folds);
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn({
            let engine = engine.clone();
            async move { engine.run(stopped).await }
        });
        Self { engine, store, stop, task }
    }

    pub async fn reached(&self, company: CompanyId, view: &str, position: Position) {
        let reached = self.engine.wait_for(company, view, position, PATIENCE).await;
        assert!(reached.is_ok(), "{view} is at {reached:?}, not at {position}: {:?}", self.engine.status().await);
    }

    /// Waits until something holds.
    pub async fn until(&self, what: &str, mut holds: impl AsyncFnMut(&Self) -> bool) {
        let waiting = async {
            while !holds(self).await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "{what}: {:?}", self.engine.status().await);
    }

    pub async fn stop(self) {
        self.stop.send_replace(true);
        self.task.await.expect("stops");
    }

    /// Ends it as the kernel ends a process.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    pub async fn rows(&self, company: CompanyId, view: &str) -> Vec<Row> {
        let query = Query { limit: 500, ..Query::default() };
        self.store.query(company, view, &query).await.expect("answers").rows
    }

    pub async fn total(&self, company: CompanyId, number: u128) -> Option<i64> {
        let row = self.store.get(company, "sums", &till(number).to_string(), None).await.expect("reads").row;
        row.and_then(|row| row.doc["total"].as_i64())
    }

    pub async fn verified(&self) {
        for verified in self.engine.verify(None).await.expect("verifies") {
            assert_eq!((&verified.differences, &verified.stopped), (&Vec::new(), &None), "{}", verified.fold);
        }
    }
}

pub fn views(kinds: &[&'static dyn FoldKind]) -> EngineFolds {
    EngineFolds { views: kinds.to_vec(), ..EngineFolds::default() }
}
