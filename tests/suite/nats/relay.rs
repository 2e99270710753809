//! The relay carries every entry from the ledger to the stream.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_nats::jetstream::{self, Context, consumer::AckPolicy};
use cnc_commands::{
    ledger::PostgresLedger,
    relay::{Relay, RelayMetrics, RelayOptions, ensure_stream},
};
use cnc_domain::{
    kernel::{CompanyId, Timestamp},
    ledger::{Entry, Feed as _, Hash, Ledger as _, Position, subject},
};
use cnc_tests::{fixtures::now, nats::Broker, postgres::cluster};
use futures::StreamExt as _;
use tokio::{sync::watch, task::JoinHandle};

use crate::ledger::{append_all, company, deed, founding, truck, within};

/// A ledger and a broker, and nothing between them.
pub struct Ground {
    pub broker: Broker,
    pub url: String,
    pub ledger: PostgresLedger,
}

/// A relay at work.
pub struct Working {
    pub metrics: Arc<RelayMetrics>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// A message as it lies in the stream.
pub struct Stored {
    pub subject: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

/// Keeps messages for ever, and a dead relay's companies for two seconds.
pub fn options() -> RelayOptions {
    RelayOptions { keep: Duration::ZERO, lease: Duration::from_secs(2), ..RelayOptions::default() }
}

impl Ground {
    pub async fn new() -> Self {
        Self::on(Broker::start()).await
    }

    pub async fn on(broker: Broker) -> Self {
        let url = cluster().database().await;
        let ledger = PostgresLedger::connect(&url).await.expect("connected");
        ledger.migrate().await.expect("migrated");
        Self { broker, url, ledger }
    }

    /// Founds companies 1 to `count`.
    pub async fn found(&self, count: u128) {
        let batch = (1..=count).map(|number| founding(company(number))).collect();
        let outcomes = self.ledger.append(batch).await.expect("no fault");
        assert!(outcomes.iter().all(Result::is_ok));
    }

    /// Appends entries of one truck, now.
    pub async fn fill(&self, company: CompanyId, number: u128, count: usize) {
        self.fill_at(now(), company, number, count).await;
    }

    pub async fn fill_at(&self, at: Timestamp, company: CompanyId, number: u128, count: usize) {
        let mut append = deed(company, truck(number), 0, &vec!["cleaned"; count]);
        append.now = at;
        assert!(append_all(&self.ledger, vec![append]).await.expect("no fault")[0].is_ok());
    }

    /// Starts a relay as another process would, with a database connection and a client of its own.
    pub async fn relay(&self, options: RelayOptions) -> Working {
        let ledger = PostgresLedger::connect(&self.url).await.expect("connected");
        Working::start(ledger, self.broker.jetstream().await, options)
    }

    /// All lines of a company.
    pub async fn lines(&self, company: CompanyId) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let page = self.ledger.read(company, lines.len() as u64, 1_000).await.expect("read");
            if page.is_empty() {
                return lines;
            }
            lines.extend(page);
        }
    }

    /// Waits until every entry of these companies lies in the stream, and checks that each does once, as it is.
    pub async fn all_arrive_once(&self, companies: impl IntoIterator<Item = u128>) {
        let jetstream = self.broker.jetstream().await;
        for number in companies {
            let lines = self.lines(company(number)).await;
            let bodies = arrived(&jetstream, company(number), lines.len()).await;
            assert_eq!(bodies, lines, "of company {number}");
        }
    }

    /// Waits until every entry of these companies lies in the stream. Some may have changed places, since those after a
    /// lost one had arrived, or be there twice.
    pub async fn all_arrive(&self, companies: impl IntoIterator<Item = u128>) {
        let jetstream = self.broker.jetstream().await;
        for number in companies {
            let lines = self.lines(company(number)).await;
            assert_eq!(settled(arrived(&jetstream, company(number), lines.len()).await), lines, "of company {number}");
        }
    }
}

impl Working {
    pub fn start(ledger: PostgresLedger, jetstream: Context, options: RelayOptions) -> Self {
        let relay = Relay::new(ledger, jetstream, options);
        let (metrics, (stop, stopped)) = (relay.metrics(), watch::channel(false));
        let task = tokio::spawn(async move { relay.run(stopped).await });
        Self { metrics, stop, task }
    }

    /// Ends it as `kill -9` does.
    pub async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.is_err_and(|ended| ended.is_cancelled()));
    }

    pub async fn stop(self) {
        self.stop.send_replace(true);
        within("the relay to stop", self.task).await.expect("stopped");
    }

    pub fn published(&self) -> u64 {
        self.metrics.published.load(Ordering::Relaxed)
    }

    pub fn companies(&self) -> u64 {
        self.metrics.companies.load(Ordering::Relaxed)
    }
}

/// Waits until something is so.
pub async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::task::yield_now().await;
        }
    };
    within(what, waiting).await;
}

/// All messages of these subjects as they lie in the stream; none where the stream is out of reach or goes away meanwhile.
pub async fn stored(jetstream: &Context, filter: String) -> Vec<Stored> {
    let reading = tokio::time::timeout(Duration::from_secs(5), read(jetstream, filter));
    reading.await.ok().flatten().unwrap_or_default()
}

async fn read(jetstream: &Context, filter: String) -> Option<Vec<Stored>> {
    let stream = jetstream.get_stream(subject::STREAM).await.ok()?;
    let config = jetstream::consumer::pull::Config {
        filter_subject: filter,
        ack_policy: AckPolicy::None,
        inactive_threshold: Duration::from_secs(5),
        ..Default::default()
    };
    let consumer = stream.create_consumer(config).await.ok()?;
    let pending = usize::try_from(consumer.cached_info().num_pending).expect("fits");
    let fetch = consumer.fetch().max_messages(pending.max(1)).messages().await.ok()?;
    let read = |message: jetstream::Message| Stored {
        subject: message.subject.to_string(),
        headers: message.headers.iter().flat_map(async_nats::HeaderMap::iter).map(header).collect(),
        body: String::from_utf8(message.payload.to_vec()).expect("is text"),
    };
    let found = fetch.take(pending).map(|message| message.ok().map(read)).collect::<Vec<_>>().await;
    // Whoever asks again and again leaves no thousands of them to the broker.
    stream.delete_consumer(&consumer.cached_info().name).await.ok()?;
    found.into_iter().collect()
}

fn header((name, values): (&async_nats::HeaderName, &Vec<async_nats::HeaderValue>)) -> (String, String) {
    (name.to_string(), values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
}

/// Waits until the stream has so many of a company, and returns their bodies by the position of each; repeats stay.
pub async fn arrived(jetstream: &Context, company: CompanyId, count: usize) -> Vec<String> {
    let filter = subject::entries_of(company);
    let mut found = Vec::new();
    until("entries to arrive", async || {
        found = stored(jetstream, filter.clone()).await;
        found.len() >= count
    })
    .await;
    found.into_iter().map(|stored| stored.body).collect()
}

fn position(line: &str) -> Position {
    Entry::read(line).expect("is an entry").position
}

/// The lines by position, each once.
pub fn settled(mut lines: Vec<String>) -> Vec<String> {
    lines.sort_by_key(|line| position(line));
    lines.dedup();
    lines
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_entry_arrives_once_in_order_as_it_is() {
    let ground = Ground::new().await;
    ground.found(5).await;
    for number in 1..=5 {
        ground.fill(company(number), 1, 150).await;
    }
    let relay = ground.relay(options()).await;
    // And while it is at work.
    for round in 2..=20 {
        for number in 1..=5 {
            ground.fill(company(number), round, 7).await;
        }
    }
    ground.all_arrive_once(1..=5).await;
    until("it to be told", async || relay.published() >= 5 * (1 + 150 + 19 * 7)).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_says_what_it_is() {
    let ground = Ground::new().await;
    ground.found(1).await;
    ground.fill(company(1), 1, 2).await;
    let relay = ground.relay(options()).await;
    let lines = ground.lines(company(1)).await;
    let jetstream = ground.broker.jetstream().await;
    arrived(&jetstream, company(1), lines.len()).await;
    let last = stored(&jetstream, subject::ALL_ENTRIES.into()).await.pop().expect("arrived");
    let entry = Entry::read(&last.body).expect("is an entry");
    assert_eq!((&last.body, entry.position), (&lines[2], 3));
    let (company, truck) = (company(1), truck(1));
    assert_eq!(last.subject, format!("cnc.events.{company}.truck.cleaned"));
    let expected = [
        ("Cnc-Hash", Hash::of(&last.body).to_string()),
        ("Nats-Msg-Id", format!("{company}:3:{}", Hash::of(&last.body))),
        ("ce-datacontenttype", "application/json".into()),
        ("ce-id", format!("{company}:3:{}", Hash::of(&last.body))),
        ("ce-source", format!("/companies/{company}")),
        ("ce-specversion", "1.0".into()),
        ("ce-subject", format!("truck/{truck}")),
        ("ce-time", entry.at.to_string()),
        ("ce-type", "cnc.truck.cleaned.v1".into()),
        ("content-type", "application/json".into()),
    ];
    assert_eq!(last.headers, expected.map(|(name, value)| (name.to_owned(), value)).into());
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn relays_share_the_companies_and_take_over_from_each_other() {
    let ground = Ground::new().await;
    ground.found(6).await;
    let first = ground.relay(options()).await;
    until("one to have all", async || first.companies() == 6).await;
    let second = ground.relay(options()).await;
    until("each to have half", async || (first.companies(), second.companies()) == (3, 3)).await;
    for number in 1..=6 {
        ground.fill(company(number), 1, 20).await;
    }
    ground.all_arrive_once(1..=6).await;
    // Given back at once.
    first.stop().await;
    until("the other to have all", async || second.companies() == 6).await;
    // Founded later.
    ground.ledger.append(vec![founding(company(7))]).await.expect("founded");
    // Killed: its leases run out.
    second.kill().await;
    let third = ground.relay(options()).await;
    until("the next to have all", async || third.companies() == 7).await;
    ground.fill(company(7), 1, 3).await;
    ground.all_arrive_once(1..=7).await;
    third.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_may_read_ledgers_and_append_to_none() {
    let ground = Ground::new().await;
    ground.found(1).await;
    let pool = sqlx::PgPool::connect(&ground.url).await.expect("connected");
    let as_relay = async |statement: &str| {
        let mut tx = pool.begin().await.expect("begun");
        sqlx::raw_sql("SET LOCAL ROLE cnc_relay").execute(&mut *tx).await.expect("the role is there");
        sqlx::raw_sql(statement).execute(&mut *tx).await.map(|_| ()).map_err(|error| error.to_string())
    };
    for allowed in ["SELECT FROM cnc.events", "SELECT FROM cnc.heads", "UPDATE cnc.relay SET holder = NULL"] {
        assert_eq!(as_relay(allowed).await, Ok(()), "{allowed}");
    }
    for refused in ["DELETE FROM cnc.events", "UPDATE cnc.heads SET position = 9", "SELECT FROM cnc.commands"] {
        assert!(as_relay(refused).await.expect_err("refused").contains("permission denied"), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_streams_settings_follow_the_options_and_leave_the_rest() {
    let ground = Ground::new().await;
    let jetstream = ground.broker.jetstream().await;
    let mut config = ensure_stream(&jetstream, &options()).await.expect("made").cached_info().config.clone();
    assert_eq!((config.max_age, config.subjects.clone()), (Duration::ZERO, vec![subject::ALL_ENTRIES.into()]));
    config.max_bytes = 1 << 30;
    jetstream.update_stream(config).await.expect("an operator's own");
    let keep = Duration::from_hours(1);
    let stream = ensure_stream(&jetstream, &RelayOptions { keep, ..options() }).await.expect("changed");
    let config = &stream.cached_info().config;
    assert_eq!((config.max_age, config.max_bytes, config.duplicate_window), (keep, 1 << 30, Duration::from_mins(2)));
}
