//! One installation in several processes, over Postgres and NATS: every process does its part and no more.

use std::collections::BTreeSet;

use cnc_domain::{kernel::Actor, ledger::Entry};
use cnc_gateway::roles::Role;
use cnc_tests::{
    mover::{ADDRESS, Mover},
    nats::{Broker, Brokers},
    postgres::cluster,
    system::{PATIENCE, Running, Shape},
};
use futures::StreamExt as _;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{cli::Operator, gateway::live::Client};

/// A database, and a broker where the processes are connected by one.
struct Installation {
    ledger: String,
    broker: Option<Broker>,
}

impl Installation {
    async fn new(broker: Option<Broker>) -> Self {
        Self { ledger: cluster().database().await, broker }
    }

    fn shape(&self, roles: &[Role]) -> Shape {
        let nats = self.broker.as_ref().map(Broker::url);
        Shape { ledger: Some(self.ledger.clone()), nats, roles: Some(roles.to_vec()), ..Shape::default() }
    }

    async fn gateway(&self) -> Running {
        Running::shaped(self.shape(&[Role::Gateway])).await.expect("starts")
    }

    async fn beside(&self, first: &Running, roles: &[Role]) -> Running {
        first.beside(self.shape(roles)).await.expect("starts")
    }
}

async fn tag(mover: &Mover, tag: &str) -> u64 {
    let path = format!("/v1/truck_journey/{}/tag", mover.journeys[0]);
    let answer = mover.post(&mover.token("dispatcher").await, &path, &json!({ "tag": tag })).await.good();
    answer["position"].as_u64().expect("is a position")
}

/// Waits until something is so.
pub async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is().await {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "{what}: never");
}

/// A socket and `?at_least=` at a gateway that folds nothing.
pub async fn serves_what_others_fold(mover: &Mover) {
    let dispatcher = mover.token("dispatcher").await;
    let head = mover.head().await;
    mover.get(&dispatcher, &format!("/v1/views/dispatch_board?at_least={head}")).await.good();
    let mut client = Client::connect(mover, &dispatcher).await;
    client.subscribe("dispatch_board", None).await;
    assert_eq!(client.next().await["snapshot"]["rows"].as_array().map(Vec::len), Some(2));
    for nth in 0..5 {
        let mark = format!("mark_{head}_{nth}");
        let position = tag(mover, &mark).await;
        let board = mover.get(&dispatcher, &format!("/v1/views/dispatch_board?at_least={position}")).await.good();
        assert!(board.to_string().contains(&mark), "{board}");
        while !client.change_of(mover.journeys[0]).await.to_string().contains(&mark) {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_serves_sockets_and_waits_for_what_others_fold() {
    let installation = Installation::new(Some(Broker::start())).await;
    let gateway = installation.gateway().await;
    let relay = installation.beside(&gateway, &[Role::Relay]).await;
    let folds =
        [installation.beside(&gateway, &[Role::Folds]).await, installation.beside(&gateway, &[Role::Folds]).await];
    let broker = installation.broker.as_ref().expect("is there");
    let mut told = broker.client().await.subscribe("cnc.views.>").await.expect("subscribes");
    let mover = Mover::on(gateway).await;
    serves_what_others_fold(&mover).await;
    let mut marked = false;
    while !marked {
        let message = tokio::time::timeout(PATIENCE, told.next()).await.expect("comes").expect("is one");
        let text = String::from_utf8_lossy(&message.payload);
        assert!(!text.contains(ADDRESS), "personal data is sealed on its way too: {text}");
        marked = message.subject.ends_with(".dispatch_board") && text.contains("_4\"");
    }
    broker.kill();
    serves_what_others_fold(&mover).await;
    broker.start_again();
    serves_what_others_fold(&mover).await;
    for process in folds.into_iter().chain([relay]) {
        process.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_nats_processes_notice_each_other_by_the_database() {
    let installation = Installation::new(None).await;
    let gateway = installation.gateway().await;
    let folds = installation.beside(&gateway, &[Role::Folds]).await;
    let mover = Mover::on(gateway).await;
    serves_what_others_fold(&mover).await;
    folds.stop().await;
}

/// What triggers did: their events with what caused each.
async fn triggered(mover: &Mover) -> Vec<(String, Option<Uuid>)> {
    let ledger = &mover.running.system.rooms.ledger;
    let (mut at, mut found) = (0, Vec::new());
    loop {
        let lines = ledger.read(mover.company, at, 500).await.expect("reads");
        if lines.is_empty() {
            return found;
        }
        at += lines.len() as u64;
        let entries = lines.iter().map(|line| Entry::read(line).expect("is a line"));
        let triggered = entries.filter(|entry| matches!(entry.actor, Actor::Trigger { .. }));
        found.extend(triggered.map(|entry| (entry.event, entry.causation)));
    }
}

/// Has a trigger tag a journey as understaffed so often, and untag it in between.
pub async fn tag_and_untag(mover: &Mover, rounds: usize) {
    let (admin, dispatcher) = (mover.token("admin").await, mover.token("dispatcher").await);
    let member = Uuid::now_v7();
    let hire = json!({ "name": "Ann", "phone": "+1 416 555 0101", "roles": ["driver"],
        "home_location": mover.branches[0], "hourly_rate": 3_100, "employment_class": "provincial",
        "duty": "city_driver", "province": "CA-ON", "licence": { "class": "light", "expires": "2031-06-30T00:00:00Z" } });
    mover.post(&admin, &format!("/v1/crew_member/{member}/hire"), &hire).await.good();
    // One person is enough, so that each release leaves it understaffed and each assignment does not.
    let journey = Uuid::now_v7();
    let mut plan: Value = mover.plan(0);
    plan["recommended_crew"] = json!(1);
    plan["window"] = json!({ "start": "2031-01-01T00:00:00Z", "end": "2031-01-01T08:00:00Z" });
    mover.post(&admin, &format!("/v1/truck_journey/{journey}/plan"), &plan).await.good();
    let give = async |command: &str, body: Value| {
        mover.post(&dispatcher, &format!("/v1/truck_journey/{journey}/{command}"), &body).await.good();
    };
    for round in 0..rounds {
        give("assign_crew", json!({ "members": [{ "member": member, "driver": true }] })).await;
        until("it is untagged", async || triggered(mover).await.len() == 2 * round).await;
        give("release_crew", json!({ "member": member })).await;
        until("it is tagged", async || triggered(mover).await.len() == 2 * round + 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_trigger_runner_acts_no_second_time() {
    const ROUNDS: usize = 8;
    let installation = Installation::new(Some(Broker::start())).await;
    let gateway = installation.gateway().await;
    let runners = [
        installation.beside(&gateway, &[Role::Workers, Role::Relay]).await,
        installation.beside(&gateway, &[Role::Workers]).await,
    ];
    let mover = Mover::on(gateway).await;
    tag_and_untag(&mover, ROUNDS).await;
    for runner in runners {
        runner.stop().await;
    }
    let triggered = triggered(&mover).await;
    let causes: BTreeSet<_> = triggered.iter().map(|(_, cause)| cause).collect();
    assert_eq!((triggered.len(), causes.len()), (2 * ROUNDS - 1, 2 * ROUNDS - 1), "{triggered:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_without_the_gateway_says_how_it_is_and_nothing_else() {
    let installation = Installation::new(Some(Broker::start())).await;
    let mover = Mover::on(installation.gateway().await).await;
    until("it is connected", async || {
        let ready = mover.request(Method::GET, "/health/ready").send().await.expect("answers");
        let ready: Value = ready.json().await.expect("is JSON");
        assert_eq!(ready["roles"], json!(["gateway"]));
        ready["parts"]["nats"] == "ok"
    })
    .await;
    let relay = installation.beside(&mover.running, &[Role::Relay, Role::Workers]).await;
    let client = reqwest::Client::new();
    let get = async |path: &str| {
        client.get(relay.url(path)).bearer_auth(mover.token("admin").await).send().await.expect("answers")
    };
    assert_eq!(get("/health/live").await.status(), 200);
    let ready: Value = get("/health/ready").await.json().await.expect("is JSON");
    assert_eq!(ready["roles"], json!(["relay", "workers"]));
    assert_eq!(ready["parts"]["ledger"], "ok");
    assert_eq!(get("/metrics").await.status(), 404, "it is not for who has a token of a company");
    until("all is published", async || {
        let metrics = relay.metrics().await;
        metrics.contains("cnc_nats_connected 1") && !metrics.contains("cnc_relay_published_entries_total 0\n")
    })
    .await;
    for path in ["/v1/ledger/head", "/v1/views/dispatch_board", "/openapi.json", "/docs", "/v1/live"] {
        assert_eq!(get(path).await.status(), 404, "{path}");
    }
    installation.broker.as_ref().expect("is there").kill();
    until("it says that NATS is away", async || {
        let ready: Value = get("/health/ready").await.json().await.expect("is JSON");
        ready["parts"]["nats"] == "not connected"
    })
    .await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_takes_less_than_the_largest_entry_is_named() {
    let installation = Installation::new(Some(Broker::with_config("max_payload: 8192\n"))).await;
    let relay = Running::shaped(installation.shape(&[Role::Relay])).await.expect("starts");
    until("it says so", async || {
        let ready: Value =
            reqwest::get(relay.url("/health/ready")).await.expect("answers").json().await.expect("is JSON");
        ready["parts"]["nats"].as_str().is_some_and(|says| says.contains("max_payload of 8192 bytes"))
    })
    .await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_has_as_many_copies_and_is_kept_as_long_as_the_relay_is_told() {
    let brokers = Brokers::three();
    let operator = Operator::on(&cluster().database().await);
    let relay = ["--roles", "relay", "--nats", &brokers.url(), "--nats-replicas", "3", "--nats-keep-hours", "48"];
    let relay = operator.serve_as(&relay);
    let jetstream = async_nats::jetstream::new(brokers.client().await);
    until("the stream is kept as was told", async || {
        let Ok(stream) = jetstream.get_stream("CNC").await else { return false };
        let config = &stream.cached_info().config;
        (config.num_replicas, config.max_age) == (3, std::time::Duration::from_hours(48))
    })
    .await;
    relay.kill();
}

#[test]
fn what_does_not_go_together_is_a_wrong_command_line() {
    let operator = Operator::new();
    for (arguments, says) in [
        (&["serve", "--nats", "nats://ann:s3cret@localhost"][..], "--ledger"),
        (&["serve", "--roles", "gateway,folds"], "--ledger"),
        (&["serve", "--roles", "relay", "--ledger", "postgres://localhost/cnc"], "--nats"),
        (&["serve", "--roles", "gateway,cook"], "gateway, relay, folds, workers"),
        (&["serve", "--nats-creds", "file"], "--nats"),
        (&["serve", "--nats-replicas", "3"], "--nats"),
        (&["serve", "--nats", "nats://localhost", "--nats-replicas", "2"], "1, 3 or 5"),
        (&["serve", "--nats", "nats://localhost", "--nats-keep-hours", "1000000"], "876000"),
    ] {
        let came = operator.run(arguments);
        assert_eq!(came.status, 2, "{arguments:?}: {}", came.err);
        assert!(came.err.contains(says) && !came.err.contains("s3cret"), "{arguments:?}: {}", came.err);
    }
}
