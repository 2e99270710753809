use std::{collections::BTreeSet, sync::Arc};

use cnc_domain::kernel::fold;

use sqlx::{Connection as _, PgConnection};

use super::{
    ACME, NORTH, Place, Running, SOUTH, ZETA, put_in, till, views,
    world::{Event, Ledgers, Sums},
};
use crate::ledger::on_both;
use cnc_projections::{Query, QueryError};

on_both!(
    every crate::folds::Place;
    rows_are_found_by_declared_filters_only,
    pages_by_cursor_give_every_row_once_in_order,
    a_cursor_of_another_query_is_refused,
    who_is_bound_to_a_branch_sees_that_branch_of_that_company,
    a_row_read_again_has_what_the_view_has_reached,
    a_row_read_again_is_of_the_store_after_a_moment,
    restricted_members_stand_apart,
    watchers_learn_of_every_change_and_of_what_was_before_it,
    removals_are_forgotten_after_a_day,
);

async fn filled(place: &Place) -> (Arc<Ledgers>, Running) {
    let feed = Arc::new(Ledgers::default());
    for number in 0..50_u8 {
        let location = if number % 2 == 0 { NORTH } else { SOUTH };
        let tag = if number % 5 == 0 { "card" } else { "cash" };
        let amount = i64::from(number / 10) * 50;
        feed.tell(ACME, till(number.into()), Event::PutIn { amount, location: Some(location), tag: tag.into() });
    }
    feed.tell(ZETA, till(99), put_in(1));
    let running = Running::start(&feed, place, views(&[fold::<Sums<1>>()])).await;
    running.reached(ACME, "sums", 50).await;
    running.reached(ZETA, "sums", 1).await;
    (feed, running)
}

fn filter(name: &str, value: &str) -> Query {
    Query { filters: vec![(name.into(), value.into())], limit: 100, ..Query::default() }
}

async fn rows_are_found_by_declared_filters_only(place: Place) {
    let (_feed, running) = filled(&place).await;
    for (name, value, found) in [("tags", "card", 10), ("much", "true", 30), ("total", "50", 10), ("tags", "gold", 0)] {
        let page = running.store.query(ACME, "sums", &filter(name, value)).await.expect("answers");
        assert_eq!((page.rows.len(), page.position), (found, 50), "{name}={value}");
    }
    let ask = async |query: Query| running.store.query(ACME, "sums", &query).await;
    assert!(matches!(ask(filter("last", "1")).await, Err(QueryError::UnknownFilter(_))));
    assert!(matches!(ask(filter("total", "many")).await, Err(QueryError::WrongValue { .. })));
    assert!(matches!(ask(Query { limit: 501, ..Query::default() }).await, Err(QueryError::Limit)));
    let sort = Some(("tags".to_owned(), false));
    assert!(matches!(ask(Query { sort, limit: 1, ..Query::default() }).await, Err(QueryError::UnknownSort(_))));
}

async fn pages_by_cursor_give_every_row_once_in_order(place: Place) {
    let (_feed, running) = filled(&place).await;
    for descending in [false, true] {
        let mut query = Query { sort: Some(("total".into(), descending)), limit: 7, ..Query::default() };
        let mut found = Vec::new();
        loop {
            let page = running.store.query(ACME, "sums", &query).await.expect("answers");
            found.extend(page.rows.into_iter().map(|row| (row.doc["total"].as_i64(), row.key)));
            query.cursor = page.next;
            if query.cursor.is_none() {
                break;
            }
        }
        let mut sorted = found.clone();
        sorted.sort();
        sorted.dedup();
        if descending {
            sorted.reverse();
        }
        assert_eq!((found.len(), &found), (50, &sorted));
    }
}

async fn a_cursor_of_another_query_is_refused(place: Place) {
    let (_feed, running) = filled(&place).await;
    let query = Query { limit: 5, ..Query::default() };
    let cursor = running.store.query(ACME, "sums", &query).await.expect("answers").next;
    for cursor in [cursor, Some("AAAA".into())] {
        let other = Query { cursor, ..filter("tags", "card") };
        assert!(matches!(running.store.query(ACME, "sums", &other).await, Err(QueryError::Cursor)));
    }
}

async fn who_is_bound_to_a_branch_sees_that_branch_of_that_company(place: Place) {
    let (_feed, running) = filled(&place).await;
    let scope = Some(BTreeSet::from([SOUTH]));
    let query = Query { scope: scope.clone(), limit: 100, ..Query::default() };
    let page = running.store.query(ACME, "sums", &query).await.expect("answers");
    assert_eq!(page.rows.len(), 25);
    assert!(page.rows.iter().all(|row| row.location == Some(SOUTH)));
    let north = till(0).to_string();
    assert!(running.store.get(ACME, "sums", &north, scope.as_ref()).await.expect("reads").row.is_none());
    assert!(running.store.get(ACME, "sums", &north, None).await.expect("reads").row.is_some());
    assert!(running.store.get(ZETA, "sums", &north, None).await.expect("reads").row.is_none());
}

async fn a_row_read_again_has_what_the_view_has_reached(place: Place) {
    let (feed, running) = filled(&place).await;
    let (key, south) = (till(0).to_string(), BTreeSet::from([SOUTH]));
    let read = async |scope, at_least| running.engine.row(ACME, "sums", &key, scope, at_least).await.expect("reads");
    let mut watching = None;
    for at in 51..=80 {
        // Half of them while somebody is told what changed.
        if at == 65 {
            watching = Some(running.engine.changes());
        }
        let before = read(None, at - 1).await.row.expect("is there").doc["total"].as_i64().expect("a number");
        assert!(read(Some(&south), 0).await.row.is_none(), "it is of another branch");
        feed.tell(ACME, till(0), Event::PutIn { amount: 1, location: Some(NORTH), tag: "cash".into() });
        running.reached(ACME, "sums", at).await;
        let found = read(None, at).await;
        assert!(found.position >= at);
        assert_eq!(found.row.expect("is there").doc["total"], before + 1);
    }
    drop(watching);
    feed.tell(ACME, till(0), Event::TakenAway);
    running.reached(ACME, "sums", 81).await;
    assert!(read(None, 81).await.row.is_none());
}

async fn a_row_read_again_is_of_the_store_after_a_moment(place: Place) {
    let (_feed, running) = filled(&place).await;
    let key = till(0).to_string();
    let total = async || running.engine.row(ACME, "sums", &key, None, 0).await.expect("reads").row.expect("is there");
    assert_eq!(total().await.doc["total"], 0);
    place.spoil(&key).await;
    running.until("what nobody told to be seen", async |_| total().await.doc["total"] == 999).await;
}

async fn restricted_members_stand_apart(place: Place) {
    let (_feed, running) = filled(&place).await;
    let row = running.store.get(ACME, "sums", &till(20).to_string(), None).await.expect("reads").row.expect("is there");
    assert_eq!((row.doc.get("last"), &row.restricted), (None, &Some(serde_json::json!({ "last": 100 }))));
}

async fn watchers_learn_of_every_change_and_of_what_was_before_it(place: Place) {
    let (feed, running) = filled(&place).await;
    let mut changes = running.engine.changes();
    let mut seen = running.store.position(ACME, "sums").await.expect("reads");
    let moved = Event::PutIn { amount: 1, location: Some(SOUTH), tag: "cash".into() };
    feed.aside(ACME);
    for event in [moved, Event::TakenAway] {
        feed.tell(ACME, till(0), event.clone());
        // The other company's may only now be told, or what was folded before.
        let told = loop {
            let told = changes.recv().await.expect("is told");
            if told[0].company == ACME && told[0].position > seen {
                break told;
            }
        };
        let change = &told[0];
        assert!(change.previous <= seen && change.position > seen, "{change:?} after {seen}");
        assert_eq!(
            (change.key.clone(), change.row.is_some()),
            (till(0).to_string(), !matches!(event, Event::TakenAway))
        );
        seen = change.position;
    }
    let since = |scope| {
        let store = running.store.clone();
        async move {
            store
                .changes_since(ACME, "sums", 50, Some(&BTreeSet::from([scope])))
                .await
                .expect("reads")
                .expect("is known")
        }
    };
    for branch in [NORTH, SOUTH] {
        let changes = since(branch).await;
        assert_eq!(changes.iter().map(|change| change.row.is_some()).collect::<Vec<_>>(), [false], "{branch}");
    }
    assert!(running.store.changes_since(ACME, "sums", 500, None).await.expect("reads").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_itself_shows_its_reader_one_company_and_the_locations_that_it_names() {
    let place = Place::postgres().await;
    let (_feed, running) = filled(&place).await;
    let Place::Postgres(url) = &place else { panic!("it is on Postgres") };
    let mut reader = PgConnection::connect(url).await.expect("connects");
    sqlx::query("SET ROLE cnc_read").execute(&mut reader).await.expect("the role is there");
    for (company, locations, seen) in [
        (String::new(), "*".to_owned(), 0),
        (ACME.to_string(), String::new(), 0),
        (ACME.to_string(), "*".to_owned(), 50),
        (ACME.to_string(), SOUTH.to_string(), 25),
        (ZETA.to_string(), format!("{SOUTH},{NORTH}"), 1),
    ] {
        sqlx::query("SELECT set_config('cnc.company', $1, false), set_config('cnc.locations', $2, false)")
            .bind(&company)
            .bind(&locations)
            .execute(&mut reader)
            .await
            .expect("sets");
        let rows: i64 =
            sqlx::query_scalar("SELECT count(*) FROM cnc_views.sums_v1").fetch_one(&mut reader).await.expect("counts");
        assert_eq!(rows, seen, "{company} {locations}");
    }
    assert!(sqlx::query("DELETE FROM cnc_views.sums_v1").execute(&mut reader).await.is_err());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_on_the_same_connections_see_each_their_own_company_and_branches() {
    let place = Place::postgres().await;
    let (_feed, running) = filled(&place).await;
    let south = BTreeSet::from([SOUTH]);
    let reads = (0..200_u8).map(|nth| {
        let (store, south, number) = (running.store.clone(), south.clone(), nth % 50);
        tokio::spawn(async move {
            let key = till(number.into()).to_string();
            let seen = async |company, scope| {
                store.get(company, "sums", &key, scope).await.expect("reads").row.map(|row| row.key.clone())
            };
            assert_eq!(seen(ZETA, None).await, None);
            assert_eq!(seen(ACME, None).await, Some(key.clone()));
            assert_eq!(seen(ACME, Some(&south)).await, (number % 2 == 1).then(|| key.clone()));
            assert_eq!(seen(ACME, Some(&BTreeSet::new())).await, None);
            let page = store.query(ZETA, "sums", &Query { limit: 100, ..Query::default() }).await.expect("answers");
            assert_eq!(page.rows.len(), 1);
        })
    });
    for read in reads.collect::<Vec<_>>() {
        read.await.expect("sees its own");
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_are_made_as_the_role_that_reads_and_go_on_after_connections_were_cut() {
    let place = Place::postgres().await;
    let (_feed, running) = filled(&place).await;
    let key = till(0).to_string();
    let get = async || running.store.get(ACME, "sums", &key, None).await;
    assert!(get().await.expect("reads").row.is_some());
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'cnc' \
        AND datname = current_database()";
    assert!(place.sql(cut).await.expect("cuts") > 0);
    running.until("it reads again", async |_| get().await.is_ok_and(|found| found.row.is_some())).await;
    place.sql("REVOKE SELECT ON sums_v1 FROM cnc_read").await.expect("revokes");
    assert!(get().await.is_err());
    assert!(running.store.query(ACME, "sums", &Query { limit: 1, ..Query::default() }).await.is_err());
    running.stop().await;
}

async fn removals_are_forgotten_after_a_day(place: Place) {
    let feed = Arc::new(Ledgers::default());
    let start = async || Running::start(&feed, &place, views(&[fold::<Sums<1>>()])).await;
    let running = start().await;
    let before = feed.tell(ACME, till(0), put_in(1));
    running.reached(ACME, "sums", before).await;
    let last = feed.tell(ACME, till(0), Event::TakenAway);
    running.reached(ACME, "sums", last).await;
    let known = async |running: &Running| {
        running.store.changes_since(ACME, "sums", before, None).await.expect("reads").map(|changes| changes.len())
    };
    assert_eq!(known(&running).await, Some(1));
    running.stop().await;
    // As if it had happened so many hours ago; an engine looks for old ones as it starts.
    let aged = async |hours: u128| {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_micros();
        place.sql(&format!("UPDATE removals SET removed_at = {}", now - hours * 3_600_000_000)).await
    };
    assert_eq!(aged(23).await, Ok(1));
    let running = start().await;
    running.until("it has looked", async |running| running.engine.heartbeat().is_some()).await;
    assert_eq!(known(&running).await, Some(1), "it is known for a day");
    running.stop().await;
    assert_eq!(aged(25).await, Ok(1));
    let running = start().await;
    running.until("it is forgotten", async |running| known(running).await.is_none()).await;
    running.stop().await;
}
