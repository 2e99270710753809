use std::sync::Arc;

use cnc_domain::kernel::fold;
use cnc_projections::{Engine, Pruned};

use super::{
    ACME, Place, Running, put_in, till, views,
    world::{Event, Ledgers, Sums},
};
use crate::ledger::on_both;

on_both!(
    every crate::folds::Place;
    what_was_replaced_is_dropped_with_its_tables_when_nobody_has_written_it_for_an_hour,
    a_build_that_nobody_ends_is_dropped_and_the_one_that_is_served_stays,
    who_runs_while_its_tables_are_dropped_makes_them_anew,
    a_rebuild_leaves_a_build_that_is_dropped_at_once,
);

const AN_HOUR_LATER: &str = "UPDATE folds SET touched_at = 0";

fn dropped(builds: u64, documents: u64, tables: u64) -> Pruned {
    Pruned { builds, documents, tables, kept: 0 }
}

/// The operator's command, in a program that knows this version.
async fn prune<const VERSION: u32>(feed: &Arc<Ledgers>, place: &Place) -> Pruned {
    let store = place.store().await;
    Engine::new(feed.clone(), store, views(&[fold::<Sums<VERSION>>()])).prune().await.expect("prunes")
}

/// Folds all that there is with one version.
async fn fold_all<const VERSION: u32>(feed: &Arc<Ledgers>, place: &Place, last: u64) {
    let running = Running::start(feed, place, views(&[fold::<Sums<VERSION>>()])).await;
    running
        .until("it is live", async |running| {
            let status = running.engine.status().await.expect("answers");
            status.iter().any(|fold| fold.version == VERSION && fold.standing == "live" && fold.position == last)
        })
        .await;
    running.stop().await;
}

async fn what_was_replaced_is_dropped_with_its_tables_when_nobody_has_written_it_for_an_hour(place: Place) {
    let feed = Arc::new(Ledgers::default());
    let last = (0..30).map(|number| feed.tell(ACME, till(number % 3), put_in(1))).max().expect("some");
    fold_all::<1>(&feed, &place, last).await;
    fold_all::<2>(&feed, &place, last).await;
    assert_eq!(prune::<2>(&feed, &place).await, Pruned { kept: 1, ..Pruned::default() });
    place.sql(AN_HOUR_LATER).await.expect("ages");
    assert_eq!(prune::<2>(&feed, &place).await, dropped(1, 3, 1));
    assert!(place.sql("DELETE FROM sums_v1").await.is_err(), "the table of version 1 is there still");
    assert_eq!(prune::<2>(&feed, &place).await, Pruned::default());
    // Who still has the former program can go back to it.
    let former = place.engine(&feed, views(&[fold::<Sums<1>>()])).await;
    assert_eq!(former.rebuild(None, "sums").await.expect("rebuilds")[0].stopped, None);
    fold_all::<1>(&feed, &place, last).await;
}

async fn a_build_that_nobody_ends_is_dropped_and_the_one_that_is_served_stays(place: Place) {
    let feed = Arc::new(Ledgers::default());
    let last = (0..30).map(|number| feed.tell(ACME, till(number % 3), put_in(1))).max().expect("some");
    fold_all::<1>(&feed, &place, last).await;
    feed.tell(ACME, till(0), Event::Torn);
    let stuck = Running::start(&feed, &place, views(&[fold::<Sums<2>>()])).await;
    stuck
        .until("version 2 is stopped", async |stuck| {
            let status = stuck.engine.status().await.expect("answers");
            status.iter().any(|fold| fold.version == 2 && fold.position == last && fold.poison.is_some())
        })
        .await;
    stuck.stop().await;
    assert_eq!(prune::<3>(&feed, &place).await, Pruned { kept: 1, ..Pruned::default() });
    place.sql(AN_HOUR_LATER).await.expect("ages");
    // A program that knows version 2 may go on with it.
    assert_eq!(prune::<2>(&feed, &place).await, Pruned::default());
    assert_eq!(prune::<3>(&feed, &place).await, dropped(1, 3, 1));
    assert_eq!(place.sql("UPDATE sums_v1 SET position = position").await, Ok(3), "what is served stays");
}

async fn who_runs_while_its_tables_are_dropped_makes_them_anew(place: Place) {
    let feed = Arc::new(Ledgers::default());
    let running = Running::start(&feed, &place, views(&[fold::<Sums<1>>()])).await;
    running.until("its tables are made", async |_| place.sql("DELETE FROM sums_v1").await.is_ok()).await;
    assert_eq!(prune::<2>(&feed, &place).await, dropped(0, 0, 1));
    let last = feed.tell(ACME, till(0), put_in(5));
    running.reached(ACME, "sums", last).await;
    assert_eq!(running.total(ACME, 0).await, Some(5));
    running.stop().await;
}

async fn a_rebuild_leaves_a_build_that_is_dropped_at_once(place: Place) {
    let feed = Arc::new(Ledgers::default());
    let last = (0..30).map(|number| feed.tell(ACME, till(number % 3), put_in(1))).max().expect("some");
    let running = Running::start(&feed, &place, views(&[fold::<Sums<1>>()])).await;
    running.reached(ACME, "sums", last).await;
    running.engine.rebuild(Some(ACME), "sums").await.expect("rebuilds");
    assert_eq!(running.engine.prune().await.expect("prunes"), dropped(1, 3, 0));
    assert_eq!(running.total(ACME, 0).await, Some(10));
    running.stop().await;
}
