//! What goes wrong in the server itself: a clean problem, an id in the log, and nothing of the cause.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use cnc_commands::{Host, HostOptions};
use cnc_gateway::{
    http::{App, listen, serve},
    limits::Limits,
};
use cnc_projections::{Engine, EngineFolds, Store};
use cnc_tests::{
    mover::{Mover, answered},
    system::PATIENCE,
};
use reqwest::{Client, Method, RequestBuilder};
use tempfile::TempDir;
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
};

use super::describing;
use crate::faulty::{Faulty, Whim};

/// A gateway at the same host, with parts of its own.
struct Beside {
    address: SocketAddr,
    client: Client,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl Beside {
    fn serve(mover: &Mover, host: Host, store: Store, engine: Engine, limits: Limits) -> Self {
        let tokens = mover.running.system.rooms.tokens.clone();
        let app = Arc::new(App::with_limits(host, store, engine, tokens, limits));
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).expect("listens");
        let address = listener.local_addr().expect("has an address");
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(async move { serve(listener, app, async { drop(stopped.await) }).await });
        Self { address, client: Client::new(), stop, serving }
    }

    /// One whose views are folded by nobody.
    async fn unfolded(mover: &Mover, folder: &TempDir, limits: Limits) -> Self {
        let rooms = &mover.running.system.rooms;
        let store = Store::sqlite(folder.path()).await.expect("opens");
        let engine = Engine::new(rooms.ledger.clone(), store.clone(), EngineFolds::default());
        Self::serve(mover, rooms.host.clone(), store, engine, limits)
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.address))
    }

    async fn stop(self) {
        self.stop.send(()).expect("serves");
        drop(self.client);
        self.serving.await.expect("ends");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_does_not_come_is_503_with_how_far_it_is() {
    let (mover, folder) = (Mover::start().await, TempDir::new().expect("a temporary folder"));
    let limits = Limits { at_least: Duration::from_millis(150), ..Limits::default() };
    let gateway = Beside::unfolded(&mover, &folder, limits).await;
    let path = format!("/v1/views/alerts?at_least={}", mover.head().await);
    let answer = answered(gateway.request(Method::GET, &path).bearer_auth(mover.token("admin").await)).await;
    assert!(answer.headers.contains_key("retry-after"));
    assert_eq!(answer.problem(503, "view_behind")["position"], 0);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_too_long_is_a_problem_that_says_to_try_again() {
    let (mover, folder) = (Mover::start().await, TempDir::new().expect("a temporary folder"));
    let limits = Limits { request: Duration::from_millis(300), ..Limits::default() };
    let gateway = Beside::unfolded(&mover, &folder, limits).await;
    let never = format!("/v1/views/alerts?at_least={}", mover.head().await);
    let answer = answered(gateway.request(Method::GET, &never).bearer_auth(mover.token("dispatcher").await)).await;
    assert_eq!(answer.headers["retry-after"], "1");
    assert!(answer.headers.contains_key("x-request-id"));
    answer.problem(503, "timed_out");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_or_a_fault_is_a_problem_that_tells_nothing_of_its_cause() {
    let mover = Mover::start().await;
    let rooms = &mover.running.system.rooms;
    let ledger = Faulty::over(rooms.ledger.clone());
    let host = Host::start(ledger.clone(), rooms.host.keyring().clone(), HostOptions::default()).expect("starts");
    let engine = mover.running.system.engine.clone();
    let gateway = Beside::serve(&mover, host, rooms.store.clone(), engine, Limits::default());
    let ask = async || answered(gateway.request(Method::GET, "/health/ready")).await;
    ask().await.good();
    ledger.does(Whim::Panics);
    let problem = ask().await.problem(500, "fault");
    assert!(problem["error"].is_string() && !problem.to_string().contains("panic"), "{problem}");
    ledger.does(Whim::Away);
    let away = describing::is_described("/health/ready", "get", ask().await);
    assert_eq!((&away["code"], &away["parts"]["ledger"]), (&"not_ready".into(), &"does not answer".into()), "{away}");
    assert_eq!(away["parts"]["views"], "ok", "{away}");
    ledger.does(Whim::Fails);
    let tag = gateway
        .request(Method::POST, &format!("/v1/truck_journey/{}/tag", mover.journeys[0]))
        .bearer_auth(mover.token("dispatcher").await)
        .header("idempotency-key", "k")
        .json(&serde_json::json!({ "tag": "heavy" }));
    let problem = answered(tag.try_clone().expect("can be sent again")).await.problem(503, "unavailable");
    assert!(problem["error"].is_string() && !problem.to_string().contains("disk"), "{problem}");
    ledger.does(Whim::Works);
    answered(tag).await.good();
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_whose_folds_stand_still_says_that_it_should_be_started_again() {
    let (mover, folder) = (Mover::start().await, TempDir::new().expect("a temporary folder"));
    let rooms = &mover.running.system.rooms;
    let ledger = Faulty::over(rooms.ledger.clone());
    let store = Store::sqlite(folder.path()).await.expect("opens");
    let engine = Engine::new(ledger.clone(), store.clone(), EngineFolds::default());
    let (stop, stopped) = watch::channel(false);
    let folding = tokio::spawn({
        let engine = engine.clone();
        async move { engine.run(stopped).await }
    });
    let limits = Limits { standstill: Duration::from_secs(3), ..Limits::default() };
    let gateway = Beside::serve(&mover, rooms.host.clone(), store, engine.clone(), limits);
    let until = async |status: u16| loop {
        let answer = answered(gateway.request(Method::GET, "/health/live")).await;
        if answer.status == status {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let goes_round = async {
        while engine.heartbeat().is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        until(200).await
    };
    tokio::time::timeout(PATIENCE, goes_round).await.expect("it goes round");
    ledger.does(Whim::Hangs);
    let wedged = tokio::time::timeout(PATIENCE, until(503)).await.expect("it stands still");
    describing::is_described("/health/live", "get", wedged);
    stop.send_replace(true);
    folding.await.expect("ends");
    gateway.stop().await;
}
