use std::sync::Arc;

use cnc_domain::kernel::fold;

use super::{
    ACME, Place, Running, ZETA, put_in, till, views,
    world::{Counts, Event, Ledgers, Sums},
};
use crate::ledger::on_both;
use cnc_projections::{EngineFolds, Poison};

on_both!(
    every crate::folds::Place;
    entries_are_folded_once_whatever_the_feed_repeats,
    an_engine_that_is_stopped_anywhere_goes_on_where_it_was,
    two_engines_that_compete_fold_each_entry_once,
    an_entry_that_cannot_be_folded_stops_that_fold_for_that_company_alone,
    a_document_that_cannot_be_read_stops_that_fold_for_that_company_alone,
    a_new_version_is_built_beside_and_swapped_in_when_it_has_caught_up,
    a_rebuild_repairs_what_verify_finds,
    a_view_can_be_read_as_it_was,
);

fn both_views() -> EngineFolds {
    views(&[fold::<Counts>(), fold::<Sums<1>>()])
}

async fn entries_are_folded_once_whatever_the_feed_repeats(place: Place) {
    let feed = Arc::new(Ledgers::default());
    for number in 0..300 {
        feed.tell(ACME, till(number % 7), put_in(1));
        feed.aside(ACME);
    }
    let running = Running::start(&feed, &place, both_views()).await;
    running.reached(ACME, "sums", 600).await;
    running.reached(ACME, "counts", 600).await;
    assert_eq!(running.rows(ACME, "counts").await[0].doc["times"], 300);
    assert_eq!(running.rows(ACME, "sums").await.len(), 7);
    let live = feed.tell(ACME, till(0), put_in(1000));
    running.reached(ACME, "sums", live).await;
    assert_eq!(running.total(ACME, 0).await, Some(43 + 1000));
    running.verified().await;
    running.stop().await;
}

async fn an_engine_that_is_stopped_anywhere_goes_on_where_it_was(place: Place) {
    let feed = Arc::new(Ledgers::default());
    let mut last = 0;
    for round in 0..6_i64 {
        for number in 0..200 {
            last = feed.tell(ACME, till(number % 13), if number % 31 == 30 { Event::TakenAway } else { put_in(round) });
        }
        let running = Running::start(&feed, &place, both_views()).await;
        running
            .until("it has begun", async |running| running.store.position(ACME, "sums").await.is_ok_and(|at| at > 0))
            .await;
        // Cut off, not ended.
        running.task.abort();
        let _ = running.task.await;
    }
    let running = Running::start(&feed, &place, both_views()).await;
    running.reached(ACME, "sums", last).await;
    running.reached(ACME, "counts", last).await;
    running.verified().await;
    running.stop().await;
}

async fn two_engines_that_compete_fold_each_entry_once(place: Place) {
    let feed = Arc::new(Ledgers::default());
    let one = Running::start(&feed, &place, both_views()).await;
    let other = Running::start(&feed, &place, both_views()).await;
    let mut last = 0;
    for number in 0..2_000 {
        last = feed.tell(if number % 2 == 0 { ACME } else { ZETA }, till(number % 5), put_in(1));
        if number % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    for running in [&one, &other] {
        running.reached(ACME, "counts", last).await;
        running.reached(ZETA, "sums", last).await;
    }
    assert_eq!(one.rows(ACME, "counts").await[0].doc["times"], 1_000);
    // The one that wins may go; the other takes over.
    one.stop().await;
    let last = feed.tell(ACME, till(0), put_in(1));
    other.reached(ACME, "counts", last).await;
    assert_eq!(other.rows(ACME, "counts").await[0].doc["times"], 1_001);
    other.reached(ACME, "sums", last).await;
    other.verified().await;
    other.stop().await;
}

/// What stops the sums of ACME.
async fn poisoned(running: &Running) -> Option<Poison> {
    let status = running.engine.status().await.expect("answers");
    let sums = status.into_iter().find(|status| status.company == ACME && status.fold == "sums");
    sums.and_then(|sums| sums.poison)
}

async fn an_entry_that_cannot_be_folded_stops_that_fold_for_that_company_alone(place: Place) {
    for poison in [Event::Torn, Event::Exploded] {
        let place = place.another().await;
        let feed = Arc::new(Ledgers::default());
        for company in [ACME, ZETA] {
            (0..100).for_each(|number| _ = feed.tell(company, till(number), put_in(1)));
        }
        let at = feed.tell(ACME, till(0), poison);
        feed.tell(ACME, till(0), put_in(5));
        feed.tell(ZETA, till(0), put_in(5));
        let running = Running::start(&feed, &place, both_views()).await;
        running.reached(ZETA, "sums", 101).await;
        running.reached(ACME, "counts", at + 1).await;
        running.reached(ACME, "sums", at - 1).await;
        running
            .until("it is poisoned", async |running| poisoned(running).await.is_some_and(|p| p.position == at))
            .await;
        let skipped = running.engine.skip(ACME, "sums", "ann").await.expect("skips").expect("was stopped");
        assert_eq!(skipped.position, at);
        running.reached(ACME, "sums", at + 1).await;
        assert_eq!(running.total(ACME, 0).await, Some(6));
        assert!(poisoned(&running).await.is_none());
        running.verified().await;
        running.stop().await;
    }
}

async fn a_document_that_cannot_be_read_stops_that_fold_for_that_company_alone(place: Place) {
    let feed = Arc::new(Ledgers::default());
    let last = (0..50).map(|number| feed.tell(ACME, till(number), put_in(1))).max().expect("some");
    let running = Running::start(&feed, &place, both_views()).await;
    running.reached(ACME, "sums", last).await;
    running.reached(ACME, "counts", last).await;
    running.stop().await;
    let spoil = format!("UPDATE sums_v1 SET doc = '{{\"tags\":[]}}' WHERE key = '{}'", till(7));
    assert_eq!(place.sql(&spoil).await, Ok(1));
    (0..5).for_each(|number| _ = feed.tell(ACME, till(number), put_in(1)));
    let at = feed.tell(ACME, till(7), put_in(1));
    let last = feed.tell(ACME, till(8), put_in(1));
    let running = Running::start(&feed, &place, both_views()).await;
    running.reached(ACME, "counts", last).await;
    running.reached(ACME, "sums", at - 1).await;
    let stops = |poison: Poison| poison.position == at && poison.reason.contains("cannot be read");
    running.until("it is poisoned", async |running| poisoned(running).await.is_some_and(stops)).await;
    // What is made of the ledger can be made again.
    running.engine.rebuild(Some(ACME), "sums").await.expect("rebuilds");
    running.reached(ACME, "sums", last).await;
    assert_eq!(running.total(ACME, 7).await, Some(2));
    running.verified().await;
    running.stop().await;
}

async fn a_new_version_is_built_beside_and_swapped_in_when_it_has_caught_up(place: Place) {
    let feed = Arc::new(Ledgers::default());
    let last = (0..500).map(|number| feed.tell(ACME, till(number % 3), put_in(1))).max().expect("some");
    let old = Running::start(&feed, &place, views(&[fold::<Sums<1>>()])).await;
    old.reached(ACME, "sums", last).await;
    old.stop().await;
    let last = feed.tell(ACME, till(0), put_in(1));
    let new = Running::start(&feed, &place, views(&[fold::<Sums<2>>()])).await;
    assert!(new.total(ACME, 0).await.is_none_or(|total| total == 167 || total == 16_800));
    new.reached(ACME, "sums", last).await;
    assert_eq!(new.total(ACME, 0).await, Some(16_800));
    new.stop().await;
}

async fn a_rebuild_repairs_what_verify_finds(place: Place) {
    let feed = Arc::new(Ledgers::default());
    let last = (0..90).map(|number| feed.tell(ACME, till(number % 3), put_in(1))).max().expect("some");
    let running = Running::start(&feed, &place, both_views()).await;
    running.reached(ACME, "sums", last).await;
    place.spoil(&till(1).to_string()).await;
    let verified = running.engine.verify(Some(ACME)).await.expect("verifies");
    let sums = verified.iter().find(|verified| verified.fold == "sums").expect("is verified");
    assert_eq!(
        sums.differences.iter().map(|found| (found.key.clone(), found.wrong)).collect::<Vec<_>>(),
        [(till(1).to_string(), "different")]
    );
    let rebuilt = running.engine.rebuild(Some(ACME), "sums").await.expect("rebuilds");
    assert_eq!((rebuilt[0].position, &rebuilt[0].stopped), (last, &None));
    assert_eq!(running.total(ACME, 1).await, Some(30));
    let last = feed.tell(ACME, till(1), put_in(1));
    running.reached(ACME, "sums", last).await;
    running.verified().await;
    running.stop().await;
}

async fn a_view_can_be_read_as_it_was(place: Place) {
    let feed = Arc::new(Ledgers::default());
    (0..90).for_each(|number| _ = feed.tell(ACME, till(number % 3), put_in(1)));
    let running = Running::start(&feed, &place, both_views()).await;
    let rows = running.engine.view_as_of(ACME, "sums", 45).await.expect("folds");
    assert_eq!(rows.iter().map(|row| row.doc["total"].as_i64()).collect::<Vec<_>>(), [Some(15); 3]);
    let key = till(1).to_string();
    let row = running.engine.document_as_of(ACME, "sums", &key, 5).await;
    assert_eq!(row.expect("folds").expect("is there").doc["total"], 2);
    running.stop().await;
}
