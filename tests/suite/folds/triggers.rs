use std::sync::Arc;

use cnc_domain::{
    kernel::{CompanyId, FoldKind, Minutes, Seconds, Timestamp, fold},
    ledger::{Parcel, Position, Replied},
};

use super::{
    ACME, Place, Running, ZETA, put_in, till,
    world::{Counting, Event, Ledgers, time},
};
use crate::ledger::on_both;
use cnc_projections::EngineFolds;

on_both!(
    every crate::folds::Place;
    a_new_trigger_is_silent_about_the_past_and_a_new_company_has_none,
    a_changed_trigger_is_silent_up_to_where_its_predecessor_was,
    a_deadline_rings_once_unless_it_was_cleared,
    a_parcel_that_fails_waits_longer_each_time_and_one_that_is_done_is_gone,
    nothing_overtakes_a_parcel_that_failed_for_the_same_aggregate,
    a_clock_that_was_ahead_puts_no_parcel_off_for_the_others,
);

const FAR: Timestamp = Timestamp::LAST;

fn triggers(kind: &'static dyn FoldKind) -> EngineFolds {
    EngineFolds::triggers(vec![kind])
}

async fn parcels(running: &Running) -> Vec<Parcel> {
    running.store.outbox().waiting(FAR, 1_000).await.expect("reads")
}

/// Waits until the trigger has read so far.
async fn read(running: &Running, company: CompanyId, position: Position) {
    let at = async |running: &Running| {
        let status = running.engine.status().await.expect("answers");
        status.iter().any(|fold| fold.company == company && fold.standing == "live" && fold.position >= position)
    };
    running.until("the trigger has read", at).await;
}

async fn a_new_trigger_is_silent_about_the_past_and_a_new_company_has_none(place: Place) {
    let feed = Arc::new(Ledgers::default());
    (0..50).for_each(|number| _ = feed.tell(ACME, till(number), put_in(1)));
    let running = Running::start(&feed, &place, triggers(fold::<Counting<1>>())).await;
    read(&running, ACME, 50).await;
    assert_eq!(parcels(&running).await.len(), 0);
    let last = feed.tell(ACME, till(0), put_in(7));
    (0..3).for_each(|number| _ = feed.tell(ZETA, till(number), put_in(2)));
    read(&running, ACME, last).await;
    read(&running, ZETA, 3).await;
    let sent = parcels(&running).await;
    assert_eq!(sent.iter().filter(|parcel| parcel.company == ACME).count(), 1);
    assert_eq!(sent.iter().filter(|parcel| parcel.company == ZETA).count(), 3);
    running.stop().await;
}

async fn a_changed_trigger_is_silent_up_to_where_its_predecessor_was(place: Place) {
    let feed = Arc::new(Ledgers::default());
    let old = Running::start(&feed, &place, triggers(fold::<Counting<1>>())).await;
    old.until("it is registered", async |running| running.engine.heartbeat().is_some()).await;
    (0..20).for_each(|number| _ = feed.tell(ACME, till(number), put_in(1)));
    read(&old, ACME, 20).await;
    let before: Vec<_> = parcels(&old).await.iter().map(|parcel| parcel.command).collect();
    assert_eq!(before.len(), 20);
    old.stop().await;
    // Two entries that the old one never saw.
    (0..2).for_each(|number| _ = feed.tell(ACME, till(number), put_in(1)));
    let new = Running::start(&feed, &place, triggers(fold::<Counting<2>>())).await;
    read(&new, ACME, 22).await;
    assert_eq!(parcels(&new).await.len(), 22);
    let rebuilt = new.engine.rebuild(Some(ACME), "counting").await.expect("rebuilds");
    assert_eq!(rebuilt[0].stopped, None);
    let last = feed.tell(ACME, till(0), put_in(1));
    read(&new, ACME, last).await;
    assert_eq!(parcels(&new).await.len(), 23);
    new.verified().await;
    new.stop().await;
}

async fn a_deadline_rings_once_unless_it_was_cleared(place: Place) {
    let feed = Arc::new(Ledgers::default());
    let running = Running::start(&feed, &place, triggers(fold::<Counting<1>>())).await;
    running.until("it is registered", async |running| running.engine.heartbeat().is_some()).await;
    feed.tell(ACME, till(0), put_in(1));
    feed.tell(ACME, till(1), put_in(1));
    let last = feed.tell(ACME, till(1), Event::TakenAway);
    read(&running, ACME, last).await;
    let outbox = running.store.outbox();
    let due = time(1).plus(Minutes(60));
    assert_eq!(outbox.ring(due.minus(Seconds(1))).await.expect("rings"), (0, Some(due)));
    assert_eq!(outbox.ring(due).await.expect("rings"), (1, None));
    assert_eq!(outbox.ring(due).await.expect("rings"), (0, None));
    assert_eq!(parcels(&running).await.iter().filter(|parcel| parcel.deadline).count(), 1);
    running.stop().await;
}

async fn a_parcel_that_fails_waits_longer_each_time_and_one_that_is_done_is_gone(place: Place) {
    let feed = Arc::new(Ledgers::default());
    let running = Running::start(&feed, &place, triggers(fold::<Counting<1>>())).await;
    running.until("it is registered", async |running| running.engine.heartbeat().is_some()).await;
    let last = feed.tell(ACME, till(0), put_in(1));
    read(&running, ACME, last).await;
    let outbox = running.store.outbox();
    let Parcel { company, command, .. } = parcels(&running).await.remove(0);
    let mut now = time(1);
    for wait in [1, 2, 4] {
        let replied = Replied { company, command, outcome: Err("down".into()) };
        outbox.replied(now, vec![replied]).await.expect("writes");
        let early = now.plus(Seconds(wait)).minus(Seconds(1));
        assert_eq!(outbox.waiting(early, 10).await.expect("reads").len(), 0);
        now = now.plus(Seconds(wait));
        assert_eq!(outbox.waiting(now, 10).await.expect("reads").len(), 1);
    }
    outbox.replied(now, vec![Replied { company, command, outcome: Ok(()) }]).await.expect("writes");
    assert_eq!(parcels(&running).await.len(), 0);
    running.stop().await;
}

async fn nothing_overtakes_a_parcel_that_failed_for_the_same_aggregate(place: Place) {
    let feed = Arc::new(Ledgers::default());
    let running = Running::start(&feed, &place, triggers(fold::<Counting<1>>())).await;
    running.until("it is registered", async |running| running.engine.heartbeat().is_some()).await;
    feed.tell(ACME, till(0), put_in(1));
    feed.tell(ACME, till(1), put_in(2));
    let last = feed.tell(ACME, till(0), put_in(3));
    read(&running, ACME, last).await;
    let outbox = running.store.outbox();
    let now = time(1);
    let asked = async |at: Timestamp| {
        let waiting = outbox.waiting(at, 10).await.expect("reads");
        waiting
            .into_iter()
            .map(|parcel| (parcel.also.id, parcel.also.command.fields.get().to_owned()))
            .collect::<Vec<_>>()
    };
    let all = asked(now).await;
    assert_eq!(
        all.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
        [till(0), till(1), till(0)].map(cnc_domain::kernel::Id::uuid)
    );
    let Parcel { company, command, .. } = outbox.waiting(now, 1).await.expect("reads").remove(0);
    outbox.replied(now, vec![Replied { company, command, outcome: Err("down".into()) }]).await.expect("writes");
    assert_eq!(asked(now).await, all[1..2], "the second one for the same till waits behind the first");
    assert_eq!(asked(now.plus(Seconds(1))).await, all, "and comes after it");
    running.stop().await;
}

async fn a_clock_that_was_ahead_puts_no_parcel_off_for_the_others(place: Place) {
    let feed = Arc::new(Ledgers::default());
    let running = Running::start(&feed, &place, triggers(fold::<Counting<1>>())).await;
    running.until("it is registered", async |running| running.engine.heartbeat().is_some()).await;
    let last = feed.tell(ACME, till(0), put_in(1));
    read(&running, ACME, last).await;
    let (outbox, now) = (running.store.outbox(), time(1));
    // What was written by this machine's clock is due by one that is years behind.
    let Parcel { company, command, .. } = outbox.waiting(now, 1).await.expect("reads").remove(0);
    let ahead = now.plus(Minutes(60));
    outbox.replied(ahead, vec![Replied { company, command, outcome: Err("down".into()) }]).await.expect("writes");
    assert_eq!(outbox.waiting(ahead, 10).await.expect("reads").len(), 0);
    assert_eq!(outbox.waiting(now, 10).await.expect("reads").len(), 1);
    running.stop().await;
}
