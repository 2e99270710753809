//! Folds that `JetStream` hurries along, over a ledger in memory: whatever the broker does, documents are what the ledger
//! says.

use std::{sync::Arc, time::Duration};

use async_nats::{
    HeaderMap,
    jetstream::{Context, consumer::Info, stream},
};
use cnc_domain::{
    kernel::{CompanyId, fold},
    ledger::{Entry, Feed, Hash, Position, subject},
};
use cnc_projections::{EngineFolds, FeedOptions, JetStreamFeed};
use cnc_tests::{nats::Broker, system::PATIENCE};
use proptest::{
    prelude::{Just, Strategy},
    strategy::ValueTree,
    test_runner::TestRunner,
};
use tokio::{sync::watch, task::JoinHandle};

use crate::folds::{
    ACME, Place, Running, ZETA, put_in, till, views,
    world::{Counts, Event, Ledgers, Sums},
};

fn folds() -> EngineFolds {
    views(&[fold::<Counts>(), fold::<Sums<1>>()])
}

/// A broker, ledgers, and a client that publishes by hand what a relay would.
struct World {
    broker: Broker,
    ledgers: Arc<Ledgers>,
    jetstream: Context,
}

/// A feed that listens.
struct Listening {
    feed: Arc<JetStreamFeed>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl World {
    async fn new() -> Self {
        let broker = Broker::start();
        let jetstream = broker.jetstream().await;
        let world = Self { broker, ledgers: Arc::default(), jetstream };
        world.make_stream().await;
        world
    }

    async fn make_stream(&self) {
        let config = stream::Config {
            name: subject::STREAM.into(),
            subjects: vec![subject::ALL_ENTRIES.into()],
            ..stream::Config::default()
        };
        self.jetstream.create_stream(config).await.expect("is made");
    }

    async fn listen(&self, options: FeedOptions) -> Listening {
        let feed = JetStreamFeed::new(self.ledgers.clone(), self.broker.jetstream().await, options);
        let (stop, stopped) = watch::channel(false);
        let listening = feed.clone();
        let task = tokio::spawn(async move { listening.run(stopped).await });
        let listening = Listening { feed, stop, task };
        self.until("there is a durable", async || self.durable().await.is_some_and(|durable| durable.num_waiting > 0))
            .await;
        listening
    }

    /// The durable as the broker sees it; `None` while there is none, or no broker.
    async fn durable(&self) -> Option<Info> {
        let stream = self.jetstream.get_stream_no_info(subject::STREAM).await.ok()?;
        stream.consumer_info("folds").await.ok()
    }

    async fn publish(&self, line: &str) {
        let entry = Entry::read(line).expect("is a line");
        self.publish_as(&subject::of_entry(&entry), line, &Hash::of(line).to_string()).await;
    }

    async fn publish_as(&self, subject: &str, body: &str, hash: &str) {
        let mut headers = HeaderMap::new();
        headers.insert(subject::HASH_HEADER, hash);
        let publish =
            || self.jetstream.publish_with_headers(subject.to_owned(), headers.clone(), body.to_owned().into());
        // A broker that has just come back may not answer yet.
        self.until("it is published", async || match publish().await {
            Ok(stored) => stored.await.is_ok(),
            Err(_) => false,
        })
        .await;
    }

    /// Records an entry and publishes it.
    async fn tell(&self, company: CompanyId, number: u128) -> Position {
        let position = self.ledgers.tell(company, till(number), put_in(1));
        self.publish(self.ledgers.lines(company).last().expect("was told")).await;
        position
    }

    /// Waits until something is so.
    async fn until(&self, what: &str, mut is: impl AsyncFnMut() -> bool) {
        let waiting = async {
            while !is().await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "{what}: never\n{}", self.broker.log());
    }

    async fn until_all_is_acknowledged(&self) {
        self.until("all is acknowledged", async || {
            self.durable().await.is_some_and(|durable| durable.num_pending == 0 && durable.num_ack_pending == 0)
        })
        .await;
    }
}

impl Listening {
    async fn stop(self) {
        self.stop.send_replace(true);
        self.task.await.expect("stops");
    }
}

/// Gives nothing back.
fn patient() -> FeedOptions {
    let look_every = Duration::from_millis(200);
    FeedOptions { patience: Duration::from_mins(1), look_every, ..FeedOptions::of(["folds"]) }
}

/// For a broker that restarts, and may forget what was acknowledged last.
fn reminded() -> FeedOptions {
    FeedOptions { ack_wait: Duration::from_secs(1), ..patient() }
}

/// The lines of both companies in a wild order: some twice, some missing, some changed on their way.
fn wild(lines: &[String], runner: &mut TestRunner) -> Vec<(String, String, String)> {
    let nth = (0..lines.len()).collect::<Vec<_>>();
    let order = Just(nth.repeat(2)).prop_shuffle().new_tree(runner).expect("is shuffled").current();
    let message = |nth: &usize| {
        let line = &lines[*nth];
        let subject = subject::of_entry(&Entry::read(line).expect("is a line"));
        let hash = Hash::of(line).to_string();
        match nth % 10 {
            3 => None,
            5 => Some((subject, line.replace("\"amount\":1", "\"amount\":9"), hash)),
            6 => Some((subject.replace("put_in", "taken_away"), line.clone(), hash)),
            7 => Some((subject, line.replace("\"amount\":1", "\"amount\":7"), Hash::of("other").to_string())),
            8 => Some((subject, "{}".into(), Hash::of("{}").to_string())),
            _ => Some((subject, line.clone(), hash)),
        }
    };
    order.iter().filter_map(message).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_the_same_whatever_is_repeated_reordered_changed_or_missing() {
    let mut runner = TestRunner::deterministic();
    for _ in 0..4 {
        let (world, place) = (World::new().await, Place::sqlite());
        let listening = world.listen(patient()).await;
        let running = Running::start(&listening.feed, &place, folds()).await;
        let mut lasts = [0, 0];
        for round in 0..4 {
            for number in 0..60 {
                let event = if number % 17 == 16 { Event::TakenAway } else { put_in(1) };
                let nth = usize::from(number % 3 == 0);
                lasts[nth] = world.ledgers.tell([ACME, ZETA][nth], till(number % 7), event);
            }
            let mut lines = world.ledgers.lines(ACME);
            lines.extend(world.ledgers.lines(ZETA));
            let from = lines.len() * round / 5;
            for (subject, body, hash) in wild(&lines[from..], &mut runner) {
                world.publish_as(&subject, &body, &hash).await;
            }
        }
        let (alone, elsewhere) = (world.ledgers.clone(), place.another().await);
        let alone = Running::start(&alone, &elsewhere, folds()).await;
        for (company, last) in [(ACME, lasts[0]), (ZETA, lasts[1])] {
            for view in ["counts", "sums"] {
                running.reached(company, view, last).await;
                alone.reached(company, view, last).await;
            }
            let documents = async |running: &Running| {
                let rows = running.rows(company, "sums").await;
                rows.into_iter().map(|row| (row.key, row.doc, row.restricted)).collect::<Vec<_>>()
            };
            assert_eq!(documents(&running).await, documents(&alone).await);
        }
        running.verified().await;
        world.until_all_is_acknowledged().await;
        running.stop().await;
        listening.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_read_from_messages_where_they_continue_what_was_read() {
    let (world, place) = (World::new().await, Place::sqlite());
    let listening = world.listen(patient()).await;
    let running = Running::start(&listening.feed, &place, folds()).await;
    let mut last = world.tell(ACME, 1).await;
    running.reached(ACME, "sums", last).await;
    world
        .until("lines are served", async || {
            last = world.tell(ACME, 1).await;
            running.reached(ACME, "sums", last).await;
            listening.feed.served() > 3
        })
        .await;
    running.verified().await;
    world.until_all_is_acknowledged().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_acknowledged_when_its_entry_is_folded_and_not_before() {
    let world = World::new().await;
    let listening = world.listen(patient()).await;
    for _ in 0..3 {
        world.tell(ACME, 1).await;
    }
    let unanswered = async || world.durable().await.map(|durable| durable.num_ack_pending);
    world.until("all are here", async || listening.feed.waiting() == 3).await;
    assert_eq!(unanswered().await, Some(3));
    listening.feed.folded(ACME, 2);
    world.until("two are acknowledged", async || unanswered().await == Some(1)).await;
    assert_eq!(listening.feed.waiting(), 1);
    listening.feed.folded(ACME, 3);
    world.until_all_is_acknowledged().await;
    world.publish(&world.ledgers.lines(ACME)[1]).await;
    world.until_all_is_acknowledged().await;
    assert_eq!(listening.feed.waiting(), 0, "what is folded is acknowledged at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_folded_in_time_is_given_to_another_process() {
    let world = World::new().await;
    let stuck = world.listen(FeedOptions { patience: Duration::from_millis(20), ..patient() }).await;
    world.tell(ACME, 1).await;
    world
        .until("it was given back", async || {
            stuck.feed.waiting() == 0 && world.durable().await.is_some_and(|durable| durable.num_redelivered > 0)
        })
        .await;
    stuck.stop().await;
    let other = world.listen(patient()).await;
    world.until("another has it", async || other.feed.waiting() == 1).await;
    other.stop().await;
    let third = world.listen(patient()).await;
    world.until("who stops gives back at once", async || third.feed.waiting() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn folds_go_on_without_a_broker_and_listen_again_when_it_is_back() {
    let (world, place) = (World::new().await, Place::sqlite());
    let listening = world.listen(reminded()).await;
    let running = Running::start(&listening.feed, &place, folds()).await;
    let last = world.tell(ACME, 1).await;
    running.reached(ACME, "sums", last).await;
    world.broker.kill();
    let last = (0..50).map(|number| world.ledgers.tell(ACME, till(number % 3), put_in(1))).max().expect("some");
    running.reached(ACME, "sums", last).await;
    world.broker.start_again();
    hears_again(&world, &listening, &running).await;
    world.broker.wipe();
    let last = world.ledgers.tell(ZETA, till(1), put_in(1));
    running.reached(ZETA, "sums", last).await;
    world.make_stream().await;
    hears_again(&world, &listening, &running).await;
    running.verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_durable_that_was_made_anew_is_read_from() {
    let (world, place) = (World::new().await, Place::sqlite());
    let listening = world.listen(patient()).await;
    let running = Running::start(&listening.feed, &place, folds()).await;
    let mut last = 0;
    for number in 0..40 {
        last = world.tell(ACME, number % 3).await;
    }
    running.reached(ACME, "sums", last).await;
    world.until_all_is_acknowledged().await;
    // As a relay does, where it stood ahead of its stream.
    let config = world.durable().await.expect("is there").config;
    let stream = world.jetstream.get_stream(subject::STREAM).await.expect("is there");
    stream.delete_consumer("folds").await.expect("deleted");
    stream.create_consumer(config).await.expect("made");
    hears_again(&world, &listening, &running).await;
    running.verified().await;
}

/// Publishes until a line was read from a message.
async fn hears_again(world: &World, listening: &Listening, running: &Running) {
    let before = listening.feed.served();
    world
        .until("messages are heard again", async || {
            let last = world.tell(ACME, 2).await;
            running.reached(ACME, "sums", last).await;
            listening.feed.served() > before
        })
        .await;
    world.until_all_is_acknowledged().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_compete_fold_each_entry_once_and_take_over_from_one_that_is_killed() {
    let (world, place) = (World::new().await, Place::postgres().await);
    let (one, other) = (world.listen(patient()).await, world.listen(patient()).await);
    let first = Running::start(&one.feed, &place, folds()).await;
    let second = Running::start(&other.feed, &place, folds()).await;
    let mut lasts = [0, 0];
    for number in 0..300 {
        lasts[number % 2] = world.tell([ACME, ZETA][number % 2], (number % 5) as u128).await;
    }
    for running in [&first, &second] {
        running.reached(ACME, "sums", lasts[0]).await;
        running.reached(ZETA, "sums", lasts[1]).await;
        running.reached(ACME, "counts", lasts[0]).await;
    }
    assert_eq!(first.rows(ACME, "counts").await[0].doc["times"], 150);
    world.until_all_is_acknowledged().await;
    first.kill().await;
    one.stop().await;
    let last = world.tell(ACME, 0).await;
    second.reached(ACME, "counts", last).await;
    assert_eq!(second.rows(ACME, "counts").await[0].doc["times"], 151);
    second.reached(ACME, "sums", last).await;
    second.verified().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_stops_a_fold_holds_up_no_acknowledgement() {
    let (world, place) = (World::new().await, Place::sqlite());
    let listening = world.listen(patient()).await;
    let running = Running::start(&listening.feed, &place, folds()).await;
    world.tell(ACME, 1).await;
    let at = world.ledgers.tell(ACME, till(1), Event::Torn);
    world.publish(world.ledgers.lines(ACME).last().expect("was told")).await;
    let last = world.tell(ACME, 1).await;
    running.reached(ACME, "counts", last).await;
    running.reached(ACME, "sums", at - 1).await;
    running
        .until("it has stopped", async |running| {
            let status = running.engine.status().await.expect("answers");
            status.iter().any(|fold| fold.poison.as_ref().is_some_and(|poison| poison.position == at))
        })
        .await;
    world.until_all_is_acknowledged().await;
}
