//! Companies that have nothing to fold: they cost nothing.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use async_trait::async_trait;
use cnc_domain::{
    kernel::{CompanyId, Timestamp, fold},
    ledger::{Fault, Weather},
};
use cnc_projections::{Engine, simulated::Databases};
use tokio::{sync::watch, task::JoinHandle};

use super::{
    PATIENCE, put_in, till, views,
    world::{Counts, Ledgers, Sums, time},
};

/// Counts how often a fold is opened.
#[derive(Default)]
struct Counting(AtomicU32);

#[async_trait]
impl Weather for Counting {
    async fn before(&self, doing: &'static str) -> Result<(), Fault> {
        self.0.fetch_add(u32::from(doing == "opening a fold"), Ordering::Relaxed);
        Ok(())
    }
    async fn after(&self, _: &'static str) -> Result<(), Fault> {
        Ok(())
    }
    fn now(&self) -> Timestamp {
        time(1)
    }
}

/// Companies that have nothing to do.
const IDLE: u128 = 200;

#[tokio::test(flavor = "multi_thread")]
async fn a_start_opens_no_folds_of_companies_that_are_not_behind() {
    let (feed, databases) = (Arc::new(Ledgers::default()), Databases::new().expect("opens"));
    let run = |opened: Arc<Counting>| -> (Engine, watch::Sender<bool>, JoinHandle<()>) {
        let engine = Engine::new(feed.clone(), databases.store(opened), views(&[fold::<Sums<1>>(), fold::<Counts>()]));
        let (stop, stopped) = watch::channel(false);
        let running = engine.clone();
        (engine, stop, tokio::spawn(async move { running.run(stopped).await }))
    };
    let company = CompanyId::number;
    (1..=IDLE).for_each(|number| _ = feed.tell(company(number), till(0), put_in(1)));
    let first = Arc::new(Counting::default());
    let (engine, stop, task) = run(first.clone());
    for number in 1..=IDLE {
        engine.wait_for(company(number), "sums", 1, PATIENCE).await.expect("is folded");
        engine.wait_for(company(number), "counts", 1, PATIENCE).await.expect("is folded");
    }
    assert!(u128::from(first.0.load(Ordering::Relaxed)) >= 2 * IDLE);
    stop.send_replace(true);
    task.await.expect("stops");

    let behind = feed.tell(company(7), till(0), put_in(1));
    let second = Arc::new(Counting::default());
    let (engine, stop, task) = run(second.clone());
    engine.wait_for(company(7), "sums", behind, PATIENCE).await.expect("is folded");
    assert!(engine.has_reached(company(8), "sums", 1), "it is known where the others stand");
    let news = feed.tell(company(8), till(0), put_in(1));
    engine.wait_for(company(8), "counts", news, PATIENCE).await.expect("is folded");
    assert_eq!(second.0.load(Ordering::Relaxed), 4, "two folds of two companies");
    stop.send_replace(true);
    task.await.expect("stops");
}
