//! Stores that fail for a while, under simulated time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use cnc_domain::{
    kernel::{Timestamp, fold},
    ledger::{Fault, Weather},
};
use cnc_projections::{Engine, simulated::Databases};
use tokio::{sync::watch, time::Instant};

use super::{
    ACME, put_in, till, views,
    world::{Ledgers, Sums, time},
};

/// Refuses to write documents for a while; all else goes well.
struct FullDisk {
    refusals: AtomicU32,
    begun: Instant,
}

#[async_trait]
impl Weather for FullDisk {
    async fn before(&self, doing: &'static str) -> Result<(), Fault> {
        let left = |left: u32| left.checked_sub(1).filter(|_| doing == "writing documents");
        match self.refusals.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left) {
            Ok(_) => Err(Fault::passing(doing, "the disk is full")),
            Err(_) => Ok(()),
        }
    }
    async fn after(&self, _: &'static str) -> Result<(), Fault> {
        Ok(())
    }
    fn now(&self) -> Timestamp {
        let passed = i64::try_from(self.begun.elapsed().as_micros()).expect("fits");
        Timestamp::from_micros(time(1).micros() + passed)
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_refuses_again_and_again_is_not_taken_for_a_process_that_dies() {
    let feed = Arc::new(Ledgers::default());
    let last = (0..3).map(|number| feed.tell(ACME, till(number), put_in(1))).max().expect("some");
    let disk = Arc::new(FullDisk { refusals: AtomicU32::new(100), begun: Instant::now() });
    let store = Databases::new().expect("opens").store(disk.clone());
    let engine = Engine::new(feed, store.clone(), views(&[fold::<Sums<1>>()]));
    let (_stop, stopped) = watch::channel(false);
    let running = tokio::spawn({
        let engine = engine.clone();
        async move { engine.run(stopped).await }
    });
    let folded = async {
        while store.position(ACME, "sums").await.expect("reads") < last {
            let status = engine.status().await.expect("answers");
            assert!(status.iter().all(|fold| fold.poison.is_none()), "{status:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(10), folded).await.expect("goes on when there is room");
    assert_eq!(disk.refusals.load(Ordering::Relaxed), 0);
    running.abort();
}
