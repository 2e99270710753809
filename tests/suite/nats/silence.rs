//! A broker that says nothing any more.

use std::time::Duration;

use cnc_tests::{
    nats::Broker,
    postgres::cluster,
    system::{Running, Shape},
    wire::{Mode, Wire},
};
use serde_json::Value;

/// Waits until `/health/ready` says this of NATS, or something else.
async fn until_nats_is(running: &Running, ok: bool) {
    let asking = async {
        loop {
            let answer = reqwest::get(running.url("/health/ready")).await.expect("answers");
            let says: Value = answer.json().await.expect("is JSON");
            if (says["parts"]["nats"] == "ok") == ok {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let seconds = Duration::from_secs(30);
    tokio::time::timeout(seconds, asking).await.unwrap_or_else(|_| panic!("NATS was not seen to be well ({ok})"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_says_nothing_any_more_is_seen_to_be_away_in_seconds() {
    let broker = Broker::start();
    let wire = Wire::to(broker.address()).await.expect("a wire");
    let shape = Shape {
        ledger: Some(cluster().database().await),
        nats: Some(format!("nats://{}", wire.address())),
        ..Shape::default()
    };
    let running = Running::shaped(shape).await.expect("starts");
    until_nats_is(&running, true).await;
    wire.set(Mode::Stalled);
    until_nats_is(&running, false).await;
    wire.set(Mode::Open);
    until_nats_is(&running, true).await;
    running.stop().await;
}
