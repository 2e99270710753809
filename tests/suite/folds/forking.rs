//! Ledgers that lose their tail under folds that have read it: a database is restored, or a standby takes over.

use std::{collections::BTreeSet, sync::Arc};

use cnc_domain::{
    kernel::{CommandId, Timestamp, fold},
    ledger::{Feed as _, Head, Position},
};
use cnc_projections::{Change, EngineFolds};
use tokio::sync::broadcast::Receiver;

use super::{
    ACME, Place, Running, put_in, till, views,
    world::{Counting, Counts, Event, Ledgers, Sums},
};
use crate::ledger::on_both;

on_both!(
    crate::folds::Place;
    a_view_that_runs_ahead_of_a_restored_ledger_is_built_anew_and_its_watchers_are_told,
    a_view_that_starts_ahead_of_a_restored_ledger_is_built_anew,
    a_view_of_another_history_is_built_anew_though_the_ledger_has_passed_it,
    a_stopped_view_of_another_history_is_built_anew,
    a_view_of_a_lower_version_that_is_of_another_history_gives_way,
    verifying_says_that_a_view_is_of_another_history_and_a_rebuild_mends_it,
    a_trigger_acts_on_what_is_new_in_the_place_of_what_is_gone_and_not_again_on_what_is_left,
    a_ledger_whose_chain_is_broken_stops_its_folds,
);

fn sums() -> EngineFolds {
    views(&[fold::<Sums<1>>(), fold::<Counts>()])
}

/// A ledger of ten entries, one a till.
fn ten() -> Arc<Ledgers> {
    let feed = Arc::new(Ledgers::default());
    (0..10).for_each(|number| _ = feed.tell(ACME, till(number), put_in(1)));
    feed
}

/// Waits until the views show just these tills, from where the ledger stands, and are what it says.
async fn shows(running: &Running, feed: &Ledgers, tills: impl IntoIterator<Item = u128>) {
    let tills: BTreeSet<String> = tills.into_iter().map(|number| till(number).to_string()).collect();
    let head = feed.head(ACME).await.expect("reads").expect("is there").position;
    running.until("it has begun", async |running| running.engine.heartbeat().is_some()).await;
    running
        .until("the view is of this ledger", async |running| {
            let status = running.engine.status().await.expect("answers");
            let live = status.iter().filter(|fold| fold.standing == "live");
            let keys: BTreeSet<String> = running.rows(ACME, "sums").await.into_iter().map(|row| row.key).collect();
            live.clone().all(|fold| fold.position == head && fold.rebuilding_until.is_none() && !fold.forked)
                && keys == tills
        })
        .await;
    running.verified().await;
}

/// How many builds were found to be of another history.
async fn forked(running: &Running) -> usize {
    let status = running.engine.status().await.expect("answers");
    status.iter().filter(|fold| fold.standing == "forked").count()
}

async fn rebuilt(changes: &mut Receiver<Arc<Vec<Change>>>) {
    let told = async {
        loop {
            let batch = changes.recv().await.expect("is told");
            if batch.iter().any(|change| change.rebuilt && change.view == "sums") {
                return;
            }
        }
    };
    tokio::time::timeout(super::PATIENCE, told).await.expect("it is told that the view was built anew");
}

async fn a_view_that_runs_ahead_of_a_restored_ledger_is_built_anew_and_its_watchers_are_told(place: Place) {
    let feed = ten();
    let running = Running::start(&feed, &place, sums()).await;
    running.reached(ACME, "sums", 10).await;
    let mut changes = running.engine.changes();
    feed.restore(ACME, 6);
    rebuilt(&mut changes).await;
    shows(&running, &feed, 0..6).await;
    assert!(!running.engine.has_reached(ACME, "sums", 7), "what is known here is set back");
    assert_eq!(forked(&running).await, 2);
    let last = feed.tell(ACME, till(20), put_in(1));
    running.reached(ACME, "sums", last).await;
    shows(&running, &feed, (0..6).chain([20])).await;
    let since = running.store.changes_since(ACME, "sums", 9, None).await.expect("reads");
    assert_eq!(since, None, "who stood in the other history asks anew");
    running.engine.prune().await.expect("prunes");
    assert_eq!(forked(&running).await, 0);
    running.stop().await;
}

async fn a_view_that_starts_ahead_of_a_restored_ledger_is_built_anew(place: Place) {
    let feed = ten();
    let running = Running::start(&feed, &place, sums()).await;
    running.reached(ACME, "sums", 10).await;
    running.stop().await;
    feed.restore(ACME, 6);
    let running = Running::start(&feed, &place, sums()).await;
    shows(&running, &feed, 0..6).await;
    running.stop().await;
}

async fn a_view_of_another_history_is_built_anew_though_the_ledger_has_passed_it(place: Place) {
    for (restarts, until) in [(false, 10), (false, 12), (true, 10), (true, 12)] {
        let feed = ten();
        let place = place.another().await;
        let running = Running::start(&feed, &place, sums()).await;
        running.reached(ACME, "sums", 10).await;
        // As far or further than before, with other entries, before anybody looks.
        let running = if restarts {
            running.stop().await;
            None
        } else {
            Some(running)
        };
        feed.restore(ACME, 6);
        (7..=until).for_each(|number| _ = feed.tell(ACME, till(100 + u128::from(number)), put_in(1)));
        let running = match running {
            Some(running) => running,
            None => Running::start(&feed, &place, sums()).await,
        };
        shows(&running, &feed, (0..6).chain((7..=until).map(|number: Position| 100 + u128::from(number)))).await;
        running.stop().await;
    }
}

async fn a_stopped_view_of_another_history_is_built_anew(place: Place) {
    let feed = ten();
    let torn = feed.tell(ACME, till(0), Event::Torn);
    let running = Running::start(&feed, &place, sums()).await;
    let is_stopped = async |running: &Running| {
        let status = running.engine.status().await.expect("answers");
        status.iter().any(|fold| fold.poison.as_ref().is_some_and(|poison| poison.position == torn))
    };
    running.until("it is stopped", is_stopped).await;
    feed.restore(ACME, 6);
    (0..10).for_each(|number| _ = feed.tell(ACME, till(100 + number), put_in(1)));
    shows(&running, &feed, (0..6).chain(100..110)).await;
    running.stop().await;
}

async fn a_view_of_a_lower_version_that_is_of_another_history_gives_way(place: Place) {
    let feed = ten();
    let running = Running::start(&feed, &place, views(&[fold::<Sums<1>>()])).await;
    running.reached(ACME, "sums", 10).await;
    running.stop().await;
    feed.restore(ACME, 6);
    let running = Running::start(&feed, &place, views(&[fold::<Sums<2>>()])).await;
    shows(&running, &feed, 0..6).await;
    assert_eq!(running.total(ACME, 0).await, Some(100), "by the higher version");
    running.stop().await;
}

async fn verifying_says_that_a_view_is_of_another_history_and_a_rebuild_mends_it(place: Place) {
    let feed = ten();
    let running = Running::start(&feed, &place, sums()).await;
    running.reached(ACME, "sums", 10).await;
    running.stop().await;
    feed.restore(ACME, 6);
    let operator = place.engine(&feed, sums()).await;
    assert!(operator.status().await.expect("answers").iter().all(|fold| fold.forked && fold.lag == 0));
    for verified in operator.verify(None).await.expect("verifies") {
        let stopped = verified.stopped.expect("it is not what the ledger says");
        assert!(stopped.contains("position 10") && stopped.contains("does not have"), "{stopped}");
    }
    for name in ["sums", "counts"] {
        let rebuilt = operator.rebuild(None, name).await.expect("rebuilds");
        assert_eq!((rebuilt[0].position, &rebuilt[0].stopped), (6, &None));
    }
    let running = Running::start(&feed, &place, sums()).await;
    shows(&running, &feed, 0..6).await;
    assert_eq!(forked(&running).await, 2, "each was replaced once");
    running.stop().await;
}

const FAR: Timestamp = Timestamp::LAST;

async fn sent(running: &Running) -> BTreeSet<CommandId> {
    let parcels = running.store.outbox().waiting(FAR, 1_000).await.expect("reads");
    parcels.into_iter().map(|parcel| parcel.command).collect()
}

async fn a_trigger_acts_on_what_is_new_in_the_place_of_what_is_gone_and_not_again_on_what_is_left(place: Place) {
    let counting = || EngineFolds::triggers(vec![fold::<Counting<1>>()]);
    let feed = Arc::new(Ledgers::default());
    (0..3).for_each(|number| _ = feed.tell(ACME, till(number), put_in(1)));
    let running = Running::start(&feed, &place, counting()).await;
    let acted = async |running: &Running, count| {
        running.until("it has acted", async |running| sent(running).await.len() == count).await;
    };
    running.until("it is registered", async |running| running.engine.heartbeat().is_some()).await;
    (3..10).for_each(|number| _ = feed.tell(ACME, till(number), put_in(1)));
    acted(&running, 7).await;
    let before = sent(&running).await;
    let outbox = running.store.outbox();
    feed.restore(ACME, 6);
    // Only what of the three that are left was ever answered is sent again, by its old name.
    acted(&running, 3).await;
    let left = sent(&running).await;
    assert!(left.is_subset(&before), "{left:?} {before:?}");
    (3..10).for_each(|number| _ = feed.tell(ACME, till(number), put_in(1)));
    acted(&running, 10).await;
    let new: BTreeSet<_> = sent(&running).await.difference(&left).copied().collect();
    assert!(new.is_disjoint(&before), "what stands in the place of another entry is acted on for itself");
    for parcel in outbox.waiting(FAR, 1_000).await.expect("reads") {
        assert!(feed.contains(ACME, parcel.caused_at).await.expect("reads"), "{parcel:?}");
    }
    let (rung, _) = outbox.ring(FAR).await.expect("rings");
    assert_eq!(rung, 7, "one deadline a till that was put in since it was registered");
    running.stop().await;
}

async fn a_ledger_whose_chain_is_broken_stops_its_folds(place: Place) {
    let feed = ten();
    let running = Running::start(&feed, &place, sums()).await;
    running.reached(ACME, "sums", 10).await;
    feed.forge(ACME, till(30), Head { position: 10, ..Head::default() });
    running
        .until("it is stopped", async |running| {
            let status = running.engine.status().await.expect("answers");
            let broken = |fold: &cnc_projections::FoldStatus| {
                let poison = fold.poison.as_ref().filter(|poison| poison.position == 11);
                poison.is_some_and(|poison| poison.reason.contains("the chain is broken"))
            };
            status.iter().all(broken)
        })
        .await;
    assert_eq!(
        (forked(&running).await, running.rows(ACME, "sums").await.len()),
        (0, 10),
        "what it has is the ledger's"
    );
    running.stop().await;
}
