mod folding;
mod querying;
mod triggers;
mod world;

use std::{path::Path, sync::Arc, time::Duration};

use cnc_domain::{
    kernel::{CompanyId, FoldKind, Id, LocationId},
    ledger::Position,
};
use tokio::{sync::watch, task::JoinHandle};
use world::{Event, Ledgers, Till};

use super::{Engine, EngineFolds};
use crate::{Query, Row, Store};

const ACME: CompanyId = CompanyId::number(1);
const ZETA: CompanyId = CompanyId::number(2);
const NORTH: LocationId = LocationId::number(5);
const SOUTH: LocationId = LocationId::number(6);
const PATIENCE: Duration = Duration::from_secs(30);

fn till(number: u128) -> Id<Till> {
    Id::number(100 + number)
}

fn put_in(amount: i64) -> Event {
    Event::PutIn { amount, location: Some(NORTH), tag: "cash".into() }
}

/// A running engine on a store of its own connections.
struct Running {
    engine: Engine,
    store: Store,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Running {
    async fn start(feed: &Arc<Ledgers>, folder: &Path, folds: EngineFolds) -> Self {
        let store = Store::sqlite(folder).await.expect("opens");
        let engine = Engine::new(feed.clone(), store.clone(), folds);
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn({
            let engine = engine.clone();
            async move { engine.run(stopped).await }
        });
        Self { engine, store, stop, task }
    }

    async fn reached(&self, company: CompanyId, view: &str, position: Position) {
        let reached = self.engine.wait_for(company, view, position, PATIENCE).await;
        assert!(reached.is_ok(), "{view} is at {reached:?}, not at {position}: {:?}", self.engine.status().await);
    }

    /// Waits until something holds.
    async fn until(&self, what: &str, mut holds: impl AsyncFnMut(&Self) -> bool) {
        let waiting = async {
            while !holds(self).await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "{what}: {:?}", self.engine.status().await);
    }

    async fn stop(self) {
        self.stop.send_replace(true);
        self.task.await.expect("stops");
    }

    async fn rows(&self, company: CompanyId, view: &str) -> Vec<Row> {
        let query = Query { limit: 500, ..Query::default() };
        self.store.query(company, view, &query).await.expect("answers").rows
    }

    async fn total(&self, company: CompanyId, number: u128) -> Option<i64> {
        let row = self.store.get(company, "sums", &till(number).to_string(), None).await.expect("reads");
        row.and_then(|row| row.doc["total"].as_i64())
    }

    async fn verified(&self) {
        for verified in self.engine.verify(None).await.expect("verifies") {
            assert_eq!((&verified.differences, &verified.stopped), (&Vec::new(), &None), "{}", verified.fold);
        }
    }
}

fn views(kinds: &[&'static dyn FoldKind]) -> EngineFolds {
    EngineFolds { views: kinds.to_vec(), triggers: Vec::new() }
}
