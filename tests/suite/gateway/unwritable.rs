//! What `/health/ready` says of a database that takes no entries, or may lose some.

use std::time::Duration;

use cnc_tests::{
    mover::Mover,
    postgres::{Cluster, cluster},
    system::{PATIENCE, Running},
};
use reqwest::StatusCode;
use serde_json::Value;
use sqlx::{Connection as _, Executor as _, PgConnection};

/// Waits until it says something of its ledger, and gives the status that it had then.
async fn until_ready_says(running: &Running, what: &str) -> StatusCode {
    let mut last = Value::Null;
    let asking = async {
        loop {
            let answer = reqwest::get(running.url("/health/ready")).await.expect("answers");
            let status = answer.status();
            last = answer.json().await.expect("is JSON");
            if last["parts"]["ledger"].as_str().is_some_and(|says| says.contains(what)) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, asking).await;
    found.unwrap_or_else(|_| panic!("it never said {what}, but {last}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_only_reads_is_not_ready() {
    let url = cluster().database().await;
    let running = Running::postgres(&url).await.expect("starts");
    assert_eq!(until_ready_says(&running, "ok").await, 200);
    let mut admin = PgConnection::connect(&url).await.expect("connects");
    let reads = "DO $$ BEGIN
        EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database());
        PERFORM pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid();
    END $$";
    admin.execute(reads).await.expect("only reads");
    assert_eq!(until_ready_says(&running, "read-only").await, 503);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_database_is_not_ready_until_there_is_room() {
    let url = cluster().database().await;
    let mover = Mover::on(Running::postgres(&url).await.expect("starts")).await;
    let mut admin = PgConnection::connect(&url).await.expect("connects");
    // As far as a client can tell.
    let full = "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = 'disk_full'; END $$;
                CREATE TRIGGER full_disk BEFORE INSERT ON cnc.events EXECUTE FUNCTION full_disk()";
    admin.execute(sqlx::raw_sql(full)).await.expect("is filled");
    let path = format!("/v1/truck_journey/{}/tag", mover.journeys[0]);
    let tag = serde_json::json!({ "tag": "heavy" });
    mover.post(&mover.token("dispatcher").await, &path, &tag).await.problem(503, "unavailable");
    assert_eq!(until_ready_says(&mover.running, "full").await, 503);
    admin.execute("DROP TRIGGER full_disk ON cnc.events").await.expect("is emptied");
    assert_eq!(until_ready_says(&mover.running, "ok").await, 200);
    mover.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_wait_for_its_disk_says_so() {
    let lax = Cluster::start();
    let url = lax.database().await;
    let mut admin = PgConnection::connect(&url).await.expect("connects");
    for statement in ["ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()"] {
        admin.execute(statement).await.expect("is set");
    }
    let is_off = "SELECT current_setting('fsync') = 'off'";
    while !sqlx::query_scalar::<_, bool>(is_off).fetch_one(&mut admin).await.expect("is asked") {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let running = Running::postgres(&url).await.expect("starts");
    assert_eq!(until_ready_says(&running, "fsync is off").await, 200);
    running.stop().await;
}
