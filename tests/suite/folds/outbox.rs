//! What triggers sent, where several workers carry it out, or some of it cannot be read.

use std::sync::Arc;

use cnc_domain::{
    kernel::fold,
    ledger::{Parcel, Replied},
};
use cnc_projections::EngineFolds;
use sqlx::{Connection as _, PgConnection};

use super::{
    ACME, Place, Running, put_in, till,
    world::{Counting, Ledgers, time},
};

/// A trigger that has sent one parcel, and set one deadline, for each of these tills.
async fn sent(place: &Place, tills: u128) -> (Running, Vec<Parcel>) {
    let feed = Arc::new(Ledgers::default());
    let running = Running::start(&feed, place, EngineFolds::triggers(vec![fold::<Counting<1>>()])).await;
    running.until("it is registered", async |running| running.engine.heartbeat().is_some()).await;
    (0..tills).for_each(|number| _ = feed.tell(ACME, till(number), put_in(1)));
    let outbox = running.store.outbox();
    let all = async |_: &Running| outbox.waiting(time(1), 100).await.expect("reads").len() as u128 == tills;
    running.until("all is sent", all).await;
    let parcels = outbox.waiting(time(1), 100).await.expect("reads");
    (running, parcels)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_carried_out_the_same_lock_it_in_the_same_order() {
    let place = Place::postgres().await;
    let Place::Postgres(url) = &place else { panic!("it is on Postgres") };
    let (running, parcels) = sent(&place, 20).await;
    let mut other = PgConnection::connect(url).await.expect("connects");
    let mut held = other.begin().await.expect("begins");
    let first = "SELECT FROM cnc.outbox WHERE command = (SELECT min(command::text)::uuid FROM cnc.outbox) FOR UPDATE";
    sqlx::query(first).execute(&mut *held).await.expect("holds");
    let done = |parcel: &Parcel| Replied { company: parcel.company, command: parcel.command, outcome: Ok(()) };
    let replies: Vec<_> = parcels.iter().map(done).collect();
    let store = running.store.clone();
    let replying = tokio::spawn(async move { store.outbox().replied(time(1), replies).await });
    let waiting = "SELECT count(*) FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
                   WHERE NOT l.granted AND a.datname = current_database()";
    let mut looking = PgConnection::connect(url).await.expect("connects");
    let mut waits = 0_i64;
    while waits == 0 {
        waits = sqlx::query_scalar(waiting).fetch_one(&mut looking).await.expect("reads");
    }
    let free = sqlx::query("SELECT FROM cnc.outbox FOR UPDATE SKIP LOCKED").fetch_all(&mut looking).await;
    assert_eq!(free.expect("reads").len(), 19, "who waits for the first holds none of the others");
    held.rollback().await.expect("lets go");
    replying.await.expect("ends").expect("writes");
    assert!(running.store.outbox().waiting(time(1), 100).await.expect("reads").is_empty());
    running.stop().await;
}
