//! What triggers sent, where several workers carry it out, or some of it cannot be read.

use std::sync::Arc;

use cnc_domain::{
    kernel::{Minutes, fold},
    ledger::{Parcel, Replied},
};
use cnc_projections::EngineFolds;
use sqlx::{Connection as _, PgConnection};

use super::{
    ACME, Place, Running, put_in, till,
    world::{Counting, Ledgers, time},
};
use crate::ledger::on_both;

on_both!(
    every crate::folds::Place;
    a_parcel_that_cannot_be_read_is_put_off_with_its_cause_and_the_others_go_on,
    a_deadline_that_cannot_be_read_is_put_off_and_the_others_ring,
);

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

/// Runs SQL on what triggers keep, behind the engine's back. Gives the first column of the first row, where there is one.
async fn sql(place: &Place, sql: &str) -> Option<String> {
    match place {
        Place::Sqlite(folder) => {
            let ledger = rusqlite::Connection::open(folder.path().join("ledger.db")).expect("opens");
            let mut statement = ledger.prepare(sql).expect("is SQL");
            let mut rows = statement.query([]).expect("runs");
            rows.next().expect("reads").map(|row| row.get(0).expect("is text"))
        }
        Place::Postgres(url) => {
            let mut ledger = PgConnection::connect(url).await.expect("connects");
            sqlx::query("SET search_path TO cnc").execute(&mut ledger).await.expect("sets");
            sqlx::query_scalar(sql).fetch_optional(&mut ledger).await.expect("runs")
        }
    }
}

/// What a program of another version may have written.
const ODD: &str = r#"{"sort":"odd"}"#;

async fn a_parcel_that_cannot_be_read_is_put_off_with_its_cause_and_the_others_go_on(place: Place) {
    let (running, parcels) = sent(&place, 3).await;
    let (outbox, odd) = (running.store.outbox(), parcels[0].command);
    let whole = serde_json::to_string(&parcels[0]).expect("is JSON");
    sql(&place, &format!("UPDATE outbox SET parcel = '{ODD}' WHERE command = '{odd}'")).await;
    let (now, later) = (time(10), time(11));
    let commands = |parcels: &[Parcel]| parcels.iter().map(|parcel| parcel.command).collect::<Vec<_>>();
    let waiting = async |at| commands(&outbox.waiting(at, 10).await.expect("reads"));
    assert_eq!(waiting(now).await, commands(&parcels[1..]));
    let cause = sql(&place, &format!("SELECT last_fault FROM outbox WHERE command = '{odd}' AND tries = 1")).await;
    assert!(cause.as_ref().is_some_and(|cause| cause.contains("cannot be read")), "{cause:?}");
    // Once a program reads it, it goes on.
    sql(&place, &format!("UPDATE outbox SET parcel = '{whole}' WHERE command = '{odd}'")).await;
    assert_eq!(waiting(now).await, commands(&parcels[1..]), "it waits a second");
    assert_eq!(waiting(later).await, commands(&parcels));
    running.stop().await;
}

async fn a_deadline_that_cannot_be_read_is_put_off_and_the_others_ring(place: Place) {
    let (running, _) = sent(&place, 3).await;
    let (outbox, now) = (running.store.outbox(), time(10).plus(Minutes(60)));
    let odd = format!("WHERE key = '{}'", till(0));
    let whole = if matches!(place, Place::Sqlite(_)) { "parcel" } else { "parcel::text" };
    let whole = sql(&place, &format!("SELECT {whole} FROM deadlines {odd}")).await.expect("is set");
    sql(&place, &format!("UPDATE deadlines SET parcel = '{ODD}' {odd}")).await;
    let later = now.plus(Minutes(5));
    assert_eq!(outbox.ring(now).await.expect("rings"), (2, Some(later)));
    assert_eq!(outbox.ring(now).await.expect("rings"), (0, Some(later)));
    sql(&place, &format!("UPDATE deadlines SET parcel = '{whole}' {odd}")).await;
    assert_eq!(outbox.ring(later).await.expect("rings"), (1, None));
    running.stop().await;
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
