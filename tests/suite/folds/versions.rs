//! Programs of several versions of a fold, one after the other and side by side.

use std::sync::{Arc, atomic::Ordering};

use cnc_domain::{
    kernel::{FoldKind, Timestamp, fold},
    ledger::{Position, Replied},
};
use cnc_projections::{EngineFolds, FoldStatus};

use super::{
    ACME, Place, Running, put_in, till, views,
    world::{Counting, Ledgers, Sums},
};
use crate::ledger::on_both;

on_both!(
    every crate::folds::Place;
    of_two_triggers_side_by_side_the_higher_version_acts_and_on_new_entries_alone,
    a_trigger_that_is_replaced_while_it_catches_up_leaves_its_silence_to_the_next,
    of_two_views_side_by_side_the_higher_version_is_built_once_and_stays,
    an_operator_goes_back_to_a_lower_version_by_a_rebuild,
);

const FAR: Timestamp = Timestamp::from_micros(i64::MAX);

fn triggers(kind: &'static dyn FoldKind) -> EngineFolds {
    EngineFolds::triggers(vec![kind])
}

async fn builds(running: &Running) -> Vec<FoldStatus> {
    running.engine.status().await.expect("answers")
}

/// Waits until this version is the live one and has read so far.
async fn live(running: &Running, version: u32, position: Position) {
    let stands =
        |build: &FoldStatus| build.standing == "live" && build.version == version && build.position >= position;
    running.until("this version is live", async |running| builds(running).await.iter().any(stands)).await;
}

/// Has everything in the outbox carried out. Gives how much that was.
async fn carried_out(running: &Running) -> usize {
    let outbox = running.store.outbox();
    let parcels = outbox.waiting(FAR, 1_000).await.expect("reads");
    let done =
        parcels.iter().map(|parcel| Replied { company: parcel.company, command: parcel.command, outcome: Ok(()) });
    outbox.replied(FAR, done.collect()).await.expect("writes");
    parcels.len()
}

/// A trigger that has acted on 20 entries.
async fn acted(feed: &Arc<Ledgers>, place: &Place) -> Running {
    let running = Running::start(feed, place, triggers(fold::<Counting<1>>())).await;
    running.until("it is registered", async |running| running.engine.heartbeat().is_some()).await;
    (0..20).for_each(|number| _ = feed.tell(ACME, till(number), put_in(1)));
    live(&running, 1, 20).await;
    assert_eq!(carried_out(&running).await, 20);
    running
}

async fn of_two_triggers_side_by_side_the_higher_version_acts_and_on_new_entries_alone(place: Place) {
    let feed = Arc::new(Ledgers::default());
    let old = acted(&feed, &place).await;
    let new = Running::start(&feed, &place, triggers(fold::<Counting<2>>())).await;
    live(&new, 2, 20).await;
    // Of each the old program learns that its build is replaced.
    for number in 0..10 {
        let at = feed.tell(ACME, till(number), put_in(1));
        live(&new, 2, at).await;
        assert_eq!(carried_out(&new).await, 1, "only the new entry is acted on");
    }
    assert_eq!(builds(&new).await.len(), 2, "each version was built once");
    old.stop().await;
    new.verified().await;
    new.stop().await;
}

async fn a_trigger_that_is_replaced_while_it_catches_up_leaves_its_silence_to_the_next(place: Place) {
    let feed = Arc::new(Ledgers::default());
    acted(&feed, &place).await.stop().await;
    // Version 2 begins, and is replaced before it has read an entry.
    feed.panics.store(u32::MAX, Ordering::Relaxed);
    let caught = Running::start(&feed, &place, triggers(fold::<Counting<2>>())).await;
    live(&caught, 2, 0).await;
    caught.kill().await;
    feed.panics.store(0, Ordering::Relaxed);
    let rebuilding = place.engine(&feed, triggers(fold::<Counting<2>>())).await;
    let rebuilt = rebuilding.rebuild(Some(ACME), "counting").await.expect("rebuilds");
    assert_eq!((rebuilt[0].position, &rebuilt[0].stopped), (0, &None));
    let next = Running::start(&feed, &place, triggers(fold::<Counting<3>>())).await;
    live(&next, 3, 20).await;
    assert_eq!(carried_out(&next).await, 0, "the first version has acted on all of them");
    let last = feed.tell(ACME, till(0), put_in(1));
    live(&next, 3, last).await;
    assert_eq!(carried_out(&next).await, 1);
    next.stop().await;
}

async fn of_two_views_side_by_side_the_higher_version_is_built_once_and_stays(place: Place) {
    let feed = Arc::new(Ledgers::default());
    let last = (0..50).map(|number| feed.tell(ACME, till(number % 3), put_in(1))).max().expect("some");
    let old = Running::start(&feed, &place, views(&[fold::<Sums<1>>()])).await;
    live(&old, 1, last).await;
    let new = Running::start(&feed, &place, views(&[fold::<Sums<2>>()])).await;
    live(&new, 2, last).await;
    for _ in 0..10 {
        let at = feed.tell(ACME, till(0), put_in(1));
        live(&new, 2, at).await;
        // Who does not fold it any more still serves it as it is.
        old.reached(ACME, "sums", at).await;
    }
    assert_eq!(old.total(ACME, 0).await, Some(2_700));
    assert_eq!(builds(&new).await.len(), 2, "each version was built once");
    old.stop().await;
    new.verified().await;
    new.stop().await;
}

async fn an_operator_goes_back_to_a_lower_version_by_a_rebuild(place: Place) {
    let feed = Arc::new(Ledgers::default());
    let last = (0..50).map(|number| feed.tell(ACME, till(number % 3), put_in(1))).max().expect("some");
    let new = Running::start(&feed, &place, views(&[fold::<Sums<2>>()])).await;
    live(&new, 2, last).await;
    new.stop().await;
    let old = Running::start(&feed, &place, views(&[fold::<Sums<1>>()])).await;
    old.until("it has looked", async |running| running.engine.heartbeat().is_some()).await;
    old.reached(ACME, "sums", last).await;
    assert_eq!(old.total(ACME, 0).await, Some(1_700), "the higher version is served");
    let rebuilt = old.engine.rebuild(Some(ACME), "sums").await.expect("rebuilds");
    assert_eq!(rebuilt[0].stopped, None);
    let last = feed.tell(ACME, till(0), put_in(1));
    live(&old, 1, last).await;
    assert_eq!(old.total(ACME, 0).await, Some(18));
    old.verified().await;
    old.stop().await;
}
