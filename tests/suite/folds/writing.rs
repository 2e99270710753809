//! What becomes of the several writes of one commit.

use std::{collections::BTreeSet, sync::Arc};

use cnc_domain::{
    kernel::{LocationId, Timestamp, fold},
    ledger::{Hash, Position},
};
use cnc_projections::EngineFolds;
use sqlx::{Connection as _, PgConnection};

use super::{
    ACME, NORTH, Place, Running, SOUTH, put_in, till, views,
    world::{Counting, Counts, Event, Ledgers, Sums},
};
use crate::ledger::on_both;

on_both!(
    every crate::folds::Place;
    a_view_that_another_process_has_moved_is_left_out_while_others_are_written,
    documents_that_go_move_and_come_in_one_write_are_told_of_by_branch,
);

fn both_views() -> EngineFolds {
    views(&[fold::<Counts>(), fold::<Sums<1>>()])
}

async fn times(running: &Running) -> serde_json::Value {
    running.rows(ACME, "counts").await[0].doc["times"].clone()
}

async fn a_view_that_another_process_has_moved_is_left_out_while_others_are_written(place: Place) {
    let feed = Arc::new(Ledgers::default());
    feed.tell(ACME, till(0), put_in(1));
    let running = Running::start(&feed, &place, both_views()).await;
    running.reached(ACME, "counts", 1).await;
    running.reached(ACME, "sums", 1).await;
    // Another process has folded the second entry already, into one of the two.
    assert_eq!(place.sql(r#"UPDATE counts_v1 SET doc = '{"times":2}', position = 2"#).await, Ok(1));
    let twin = Ledgers::default();
    let _ = [1, 10].map(|amount| twin.tell(ACME, till(0), put_in(amount)));
    let hash = Hash::of(&twin.lines(ACME)[1]);
    let hash = if matches!(place, Place::Sqlite(_)) { format!("x'{hash}'") } else { format!("'\\x{hash}'") };
    let moves = format!("UPDATE folds SET position = 2, hash = {hash} WHERE fold = 'counts'");
    assert_eq!(place.sql(&moves).await, Ok(1));
    feed.tell(ACME, till(0), put_in(10));
    running.reached(ACME, "sums", 2).await;
    running.reached(ACME, "counts", 2).await;
    assert_eq!((running.total(ACME, 0).await, times(&running).await), (Some(11), 2.into()));
    feed.tell(ACME, till(0), put_in(100));
    running.reached(ACME, "sums", 3).await;
    running.reached(ACME, "counts", 3).await;
    assert_eq!((running.total(ACME, 0).await, times(&running).await), (Some(111), 3.into()));
    running.verified().await;
    running.stop().await;
}

async fn documents_that_go_move_and_come_in_one_write_are_told_of_by_branch(place: Place) {
    let feed = Arc::new(Ledgers::default());
    (0..3).for_each(|number| _ = feed.tell(ACME, till(number), put_in(1)));
    let running = Running::start(&feed, &place, both_views()).await;
    running.reached(ACME, "sums", 3).await;
    running.stop().await;
    // Nobody folds, so that these are one write.
    let moved = Event::PutIn { amount: 1, location: Some(SOUTH), tag: "cash".into() };
    feed.tell(ACME, till(0), Event::TakenAway);
    feed.tell(ACME, till(1), moved.clone());
    feed.tell(ACME, till(2), put_in(1));
    feed.tell(ACME, till(3), moved);
    // This one was never there.
    feed.tell(ACME, till(4), Event::TakenAway);
    let running = Running::start(&feed, &place, both_views()).await;
    running.reached(ACME, "sums", 8).await;
    let since = async |scope: LocationId| {
        let scope = BTreeSet::from([scope]);
        let changes = running.store.changes_since(ACME, "sums", 3, Some(&scope)).await.expect("reads");
        let changes = changes.expect("is known").into_iter();
        changes.map(|change| (change.key, change.row.map(|row| row.position))).collect::<Vec<_>>()
    };
    let told = |number, at: Option<Position>| (till(number).to_string(), at);
    assert_eq!(since(NORTH).await, [told(0, None), told(1, None), told(2, Some(8))]);
    assert_eq!(since(SOUTH).await, [told(1, Some(8)), told(3, Some(8))]);
    running.verified().await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_whose_row_another_process_holds_is_left_out_while_others_are_written() {
    let place = Place::postgres().await;
    let Place::Postgres(url) = &place else { panic!("it is on Postgres") };
    let feed = Arc::new(Ledgers::default());
    feed.tell(ACME, till(0), put_in(1));
    let running = Running::start(&feed, &place, both_views()).await;
    running.reached(ACME, "counts", 1).await;
    running.reached(ACME, "sums", 1).await;
    let mut other = PgConnection::connect(url).await.expect("connects");
    let mut held = other.begin().await.expect("begins");
    sqlx::query("SELECT FROM cnc_views.folds WHERE fold = 'counts' FOR UPDATE")
        .execute(&mut *held)
        .await
        .expect("holds");
    feed.tell(ACME, till(0), put_in(10));
    running.reached(ACME, "sums", 2).await;
    assert_eq!((running.total(ACME, 0).await, times(&running).await), (Some(11), 1.into()));
    held.rollback().await.expect("lets go");
    running.reached(ACME, "counts", 2).await;
    assert_eq!(times(&running).await, 2);
    running.verified().await;
    running.stop().await;
}

const FAR: Timestamp = Timestamp::LAST;

/// Remembers how lasting each commit is that moves a fold.
const WATCH: &str = "
    CREATE TABLE lasting (schema text, setting text);
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO public.lasting VALUES (TG_TABLE_SCHEMA, current_setting('synchronous_commit'));
        RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER noted AFTER UPDATE OF position ON cnc_views.folds DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION note();
    CREATE CONSTRAINT TRIGGER noted AFTER UPDATE OF position ON cnc.folds DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION note()";

#[tokio::test(flavor = "multi_thread")]
async fn what_triggers_write_lasts_as_the_ledger_does_and_views_need_not() {
    let place = Place::postgres().await;
    let Place::Postgres(url) = &place else { panic!("it is on Postgres") };
    let feed = Arc::new(Ledgers::default());
    let first = feed.aside(ACME);
    let triggers = vec![fold::<Counting<1>>()];
    let running = Running::start(&feed, &place, EngineFolds { triggers, ..both_views() }).await;
    let all_stand_at = async |position| {
        let stand = async |running: &Running| {
            let status = running.engine.status().await.expect("answers");
            status.len() == 3 && status.iter().all(|status| status.position == position)
        };
        running.until("all stand there", stand).await;
    };
    all_stand_at(first).await;
    let mut other = PgConnection::connect(url).await.expect("connects");
    sqlx::raw_sql(WATCH).execute(&mut other).await.expect("watches");
    // One of which the trigger sends something, and one that only moves it on.
    all_stand_at(feed.tell(ACME, till(0), put_in(1))).await;
    assert_eq!(running.store.outbox().waiting(FAR, 10).await.expect("reads").len(), 1);
    all_stand_at(feed.aside(ACME)).await;
    let seen = "SELECT schema, setting, count(*) > 1 FROM lasting GROUP BY 1, 2 ORDER BY 1";
    let seen: Vec<(String, String, bool)> = sqlx::query_as(seen).fetch_all(&mut other).await.expect("reads");
    assert_eq!(seen, [("cnc".into(), "on".into(), true), ("cnc_views".into(), "off".into(), true)]);
    running.stop().await;
}
