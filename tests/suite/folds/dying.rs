//! Folds whose task dies, and folds whose process does.

use std::{
    path::Path,
    process::Command,
    sync::{Arc, atomic::Ordering},
};

use cnc_domain::kernel::fold;
use cnc_projections::{Engine, Store};
use tokio::sync::watch;

use super::{
    ACME, Place, Running, put_in, till, views,
    world::{Event, Ledgers, Sums},
};
use crate::ledger::on_both;

on_both!(
    every crate::folds::Place;
    a_task_that_dies_is_started_again_and_counted,
    many_processes_that_start_at_once_call_no_fold_poison,
);

/// How many processes start at once.
const AT_ONCE: usize = 8;

async fn many_processes_that_start_at_once_call_no_fold_poison(place: Place) {
    let feed = Arc::new(Ledgers::default());
    let last = (0..3_000).map(|number| feed.tell(ACME, till(number), put_in(1))).max().expect("some");
    let starting = (0..AT_ONCE).map(|_| Running::start(&feed, &place, views(&[fold::<Sums<1>>()])));
    let all = futures::future::join_all(starting).await;
    let watched = async {
        while all[0].store.position(ACME, "sums").await.is_ok_and(|at| at < last) {
            let status = all[0].engine.status().await.expect("answers");
            assert!(status.iter().all(|fold| fold.poison.is_none()), "{status:?}");
        }
    };
    tokio::time::timeout(super::PATIENCE, watched).await.expect("all is folded");
    all[0].reached(ACME, "sums", last).await;
    for running in all {
        running.stop().await;
    }
}

async fn a_task_that_dies_is_started_again_and_counted(place: Place) {
    let feed = Arc::new(Ledgers::default());
    let last = (0..50).map(|number| feed.tell(ACME, till(number), put_in(1))).max().expect("some");
    feed.panics.store(2, Ordering::Relaxed);
    let running = Running::start(&feed, &place, views(&[fold::<Sums<1>>()])).await;
    running.reached(ACME, "sums", last).await;
    assert_eq!(running.engine.restarts(), 2);
    let status = running.engine.status().await.expect("answers");
    assert!(status.iter().all(|fold| fold.restarts == 2 && fold.poison.is_none()), "{status:?}");
    running.verified().await;
    running.stop().await;
}

const FOLDER: &str = "CNC_TEST_CHILD_FOLDER";
/// Where the entry stands at which a process ends.
const DEADLY: u64 = 11;

/// The same in every process.
fn feed() -> Arc<Ledgers> {
    let feed = Arc::new(Ledgers::default());
    (1..DEADLY).for_each(|number| _ = feed.tell(ACME, till(number.into()), put_in(1)));
    feed.tell(ACME, till(0), Event::Deadly);
    feed.tell(ACME, till(0), put_in(1));
    feed
}

async fn stopped(engine: &Engine) -> Option<String> {
    let status = engine.status().await.expect("answers");
    status
        .into_iter()
        .find_map(|fold| fold.poison.filter(|poison| poison.position == DEADLY).map(|poison| poison.reason))
}

/// Not a test of its own, but what another process does when it is started as this test: it folds until it dies, or until
/// it says why it does not go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_a_child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let store = Store::sqlite(Path::new(&folder)).await.expect("opens");
    let engine = Engine::new(feed(), store, views(&[fold::<Sums<1>>()]));
    let (_stop, running) = watch::channel(false);
    let task = tokio::spawn({
        let engine = engine.clone();
        async move { engine.run(running).await }
    });
    let reason = async {
        loop {
            if let Some(reason) = stopped(&engine).await {
                return reason;
            }
            tokio::task::yield_now().await;
        }
    };
    let reason = tokio::time::timeout(super::PATIENCE, reason).await.expect("it dies, or stops");
    task.abort();
    assert!(reason.contains("the process ended"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_dies_of_an_entry_again_and_again_stops_at_it() {
    let place = Place::sqlite();
    let Place::Sqlite(folder) = &place else { return };
    let die = || {
        let mut child = Command::new(std::env::current_exe().expect("this program"));
        child.args(["--exact", "folds::dying::as_a_child", "--test-threads=1"]).env(FOLDER, folder.path());
        child.output().expect("this program can be started").status.success()
    };
    let deaths = (0..20).take_while(|_| !die()).count();
    assert!((2..10).contains(&deaths), "it died {deaths} times before it stopped at the entry");
    let store = place.store().await;
    assert_eq!(store.position(ACME, "sums").await.expect("reads"), DEADLY - 1, "all before it is folded");
    let engine = Engine::new(feed(), store.clone(), views(&[fold::<Sums<1>>()]));
    assert!(stopped(&engine).await.is_some(), "the reason stays on the record");
    // An operator can go past it.
    engine.skip(ACME, "sums", "ann").await.expect("skips").expect("was stopped");
    let running = Running::start(&feed(), &place, views(&[fold::<Sums<1>>()])).await;
    running.reached(ACME, "sums", DEADLY + 1).await;
    running.stop().await;
}
