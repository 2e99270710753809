//! What goes wrong in the server itself: a clean problem, an id in the log, and nothing of the cause.

use std::{sync::Arc, time::Duration};

use cnc_commands::{Host, HostOptions};
use cnc_gateway::{
    http::{App, router, serve},
    limits::Limits,
};
use cnc_tests::{
    mover::{Mover, answered},
    system::Running,
};
use reqwest::Client;
use tokio::{net::TcpListener, sync::oneshot};

use super::describing;
use crate::faulty::{Faulty, Whim};

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_too_long_is_a_problem_that_says_to_try_again() {
    let limits = Limits { request: Duration::from_millis(300), ..Limits::default() };
    let mover = Mover::on(Running::limited(limits).await.expect("starts")).await;
    let never = format!("/v1/views/alerts?at_least={}", mover.head().await + 1_000);
    let answer = mover.get(&mover.token("dispatcher"), &never).await;
    assert_eq!(answer.headers["retry-after"], "1");
    assert!(answer.headers.contains_key("x-request-id"));
    answer.problem(503, "timed_out");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_or_a_fault_is_a_problem_that_tells_nothing_of_its_cause() {
    let mover = Mover::start().await;
    let rooms = &mover.running.system.rooms;
    let ledger = Faulty::over(rooms.ledger.clone());
    let host = Host::start(ledger.clone(), rooms.host.keyring().clone(), HostOptions::default()).expect("starts");
    let engine = mover.running.system.engine.clone();
    let app = App::with_limits(host, rooms.store.clone(), engine, rooms.tokens.clone(), Limits::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let address = listener.local_addr().expect("has an address");
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(async move {
        serve(listener, router(Arc::new(app)), &Limits::default(), async { drop(stopped.await) }).await;
    });
    let client = Client::new();
    let ready = || format!("http://{address}/health/ready");
    let ask = async || answered(client.get(ready())).await;
    ask().await.good();
    ledger.does(Whim::Panics);
    let problem = ask().await.problem(500, "fault");
    assert!(problem["error"].is_string() && !problem.to_string().contains("panic"), "{problem}");
    ledger.does(Whim::Fails);
    let path = format!("http://{address}/v1/truck_journey/{}/tag", mover.journeys[0]);
    let tag = client
        .post(path)
        .bearer_auth(mover.token("dispatcher"))
        .header("idempotency-key", "k")
        .json(&serde_json::json!({ "tag": "heavy" }));
    let away = describing::is_described("/health/ready", "get", answered(client.get(ready())).await);
    assert!(away["parts"].is_object(), "{away}");
    let problem = answered(tag.try_clone().expect("can be sent again")).await.problem(503, "unavailable");
    assert!(problem["error"].is_string() && !problem.to_string().contains("disk"), "{problem}");
    ledger.does(Whim::Works);
    answered(tag).await.good();
    stop.send(()).expect("serves");
    drop(client);
    serving.await.expect("ends");
}
