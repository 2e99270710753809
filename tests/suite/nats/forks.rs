//! A ledger that was put back, since its database was restored or taken over by a standby without the tail, and what was
//! published of it: the stream, and whoever keeps a copy of what comes by it, agree with the ledger afterwards.

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use cnc_commands::ledger::PostgresLedger;
use cnc_domain::{
    kernel::CompanyId,
    ledger::{Entry, Position, subject},
};
use sqlx::PgPool;

use super::{
    integrations::{Partners, lines_of},
    relay::{Ground, Working, options, stored, until},
};
use crate::ledger::company;

/// A database that can be put back to what it was.
pub struct Restored {
    pool: PgPool,
}

/// What is put back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The ledgers alone, as where somebody restores their tables.
    Ledgers,
    /// All that is in the database, also what relays remember.
    All,
}

impl Restored {
    pub async fn of(ground: &Ground) -> Self {
        Self { pool: PgPool::connect(&ground.url).await.expect("connected") }
    }

    /// Keeps a copy under a name.
    pub async fn keep(&self, name: &str) {
        let keep = |table: &str| format!("CREATE TABLE {name}.{table} AS TABLE cnc.{table};");
        let tables = ["events", "heads", "relay", "relay_stream"].map(keep).concat();
        let sql = format!("CREATE SCHEMA {name}; {tables}");
        sqlx::raw_sql(&sql).execute(&self.pool).await.expect("kept");
    }

    /// Puts back what was kept, at once.
    pub async fn put_back(&self, name: &str, part: Part) {
        let tables: &[&str] =
            if part == Part::All { &["events", "heads", "relay", "relay_stream"] } else { &["events", "heads"] };
        let put =
            |table: &&str| format!("DELETE FROM cnc.{table}; INSERT INTO cnc.{table} SELECT * FROM {name}.{table};");
        let sql = format!(
            "BEGIN; ALTER TABLE cnc.events DISABLE TRIGGER events_are_not_changed; {}
             ALTER TABLE cnc.events ENABLE ALWAYS TRIGGER events_are_not_changed; COMMIT",
            tables.iter().map(put).collect::<String>()
        );
        sqlx::raw_sql(&sql).execute(&self.pool).await.expect("put back");
    }

    /// Waits until relays have recorded that all of a company is published.
    pub async fn recorded(&self, company: CompanyId) {
        let sql = "SELECT EXISTS (SELECT FROM cnc.relay AS r JOIN cnc.heads AS h ON h.company = r.company
                                  WHERE r.company = $1 AND r.published = h.position AND r.published_hash = h.hash)";
        let recorded = || sqlx::query_scalar::<_, bool>(sql).bind(company.uuid()).fetch_one(&self.pool);
        until("it to be recorded", async || recorded().await.expect("read")).await;
    }
}

/// What somebody holds who has taken all messages of a company in their order: forgets where they say so, takes each line
/// once, and finds that each goes on from the one before.
async fn copied(ground: &Ground, company: CompanyId) -> Vec<String> {
    let jetstream = ground.broker.jetstream().await;
    let mut copy: BTreeMap<Position, String> = BTreeMap::new();
    for message in stored(&jetstream, subject::entries_of(company)).await {
        if let Some(after) = message.headers.get("Cnc-Fork-After") {
            let after: Position = after.parse().expect("a position");
            copy.retain(|position, _| *position <= after);
        }
        let position = Entry::read(&message.body).expect("is an entry").position;
        copy.entry(position).or_insert(message.body);
    }
    copy.into_values().collect()
}

/// Waits until who copies the stream holds what the ledger does.
async fn agree(ground: &Ground, number: u128) {
    let lines = ground.lines(company(number)).await;
    until("the copy to agree with the ledger", async || copied(ground, company(number)).await == lines).await;
}

fn forks(relay: &Working) -> u64 {
    relay.metrics.forks.load(Ordering::Relaxed)
}

/// Two companies that are published as far as they go, a copy `early` of the database, and then more of company 1.
async fn ahead(ground: &Ground, relay: &Working) -> Restored {
    ground.found(2).await;
    for number in 1..=2 {
        ground.fill(company(number), 1, 20).await;
    }
    ground.all_arrive_once(1..=2).await;
    let restored = Restored::of(ground).await;
    for number in 1..=2 {
        restored.recorded(company(number)).await;
    }
    restored.keep("early").await;
    ground.fill(company(1), 2, 20).await;
    ground.all_arrive_once(1..=2).await;
    restored.recorded(company(1)).await;
    assert_eq!(forks(relay), 0);
    restored
}

/// Puts the ledger back, under a relay that goes on or one that is started anew, and records other entries or none.
async fn put_back(part: Part, is_restarted: bool, more: usize) {
    let ground = Ground::new().await;
    let mut running = Some(ground.relay(options()).await);
    let restored = ahead(&ground, running.as_ref().expect("runs")).await;
    if is_restarted {
        running.take().expect("runs").stop().await;
    }
    restored.put_back("early", part).await;
    let other = PostgresLedger::connect(&ground.url).await.expect("connected");
    let ground = Ground { ledger: other, ..ground };
    if more > 0 {
        ground.fill(company(1), 3, more).await;
    }
    let relay = match running {
        Some(relay) => relay,
        None => ground.relay(options()).await,
    };
    agree(&ground, 1).await;
    assert_eq!(forks(&relay), 1);
    // It goes on, the other company was not touched, and nothing is said twice.
    ground.fill(company(1), 4, 5).await;
    ground.fill(company(2), 4, 5).await;
    agree(&ground, 1).await;
    ground.all_arrive_once([2]).await;
    restored.recorded(company(1)).await;
    relay.stop().await;
    let again = ground.relay(options()).await;
    until("it to hold both", async || again.companies() == 2).await;
    agree(&ground, 1).await;
    assert_eq!(forks(&again), 0);
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_put_back_under_a_running_relay_is_published_from_where_they_parted() {
    put_back(Part::All, false, 7).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_put_back_while_no_relay_ran_is_published_from_where_they_parted() {
    put_back(Part::All, true, 7).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_is_merely_shorter_is_told_under_a_running_relay() {
    put_back(Part::All, false, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_is_merely_shorter_is_told_by_a_relay_that_starts() {
    put_back(Part::All, true, 0).await;
}

/// Then relays remember what is no more, and must not believe themselves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ledgers_put_back_alone_are_published_from_where_they_parted() {
    put_back(Part::Ledgers, false, 30).await;
    put_back(Part::Ledgers, true, 30).await;
}

/// The entries that come back were published under the very same ids, which the broker still knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_put_back_and_forth_is_published_as_it_ends() {
    let ground = Ground::new().await;
    let relay = ground.relay(options()).await;
    let restored = ahead(&ground, &relay).await;
    restored.keep("late").await;
    restored.put_back("early", Part::All).await;
    agree(&ground, 1).await;
    restored.put_back("late", Part::All).await;
    agree(&ground, 1).await;
    assert_eq!(copied(&ground, company(1)).await.len(), 41);
    relay.stop().await;
}

/// What was sent over a connection that broke, or recorded by nobody when a relay was killed, is sent again: no reason for
/// alarm.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeats_are_no_fork() {
    let ground = Ground::new().await;
    ground.found(1).await;
    for round in 1..=3 {
        ground.fill(company(1), round, 100).await;
        let relay = ground.relay(options()).await;
        until("it to be at work", async || relay.published() > 0).await;
        relay.kill().await;
    }
    let relay = ground.relay(options()).await;
    ground.all_arrive_once([1]).await;
    assert_eq!(forks(&relay), 0);
    assert_eq!(relay.metrics.failed.load(Ordering::Relaxed), 0);
    relay.stop().await;
}

/// A partner's example reads what the stream tells it, under the rights that are shipped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partners_copy_agrees_with_a_ledger_that_was_put_back() {
    let mut partners = Partners::new().await;
    let file = partners.operator.data().join("copy.ndjson").to_str().expect("a plain path").to_owned();
    let mut example = partners.example(&file, &[]);
    let agrees = async |partners: &Partners| {
        let lines = partners.ground.lines(company(1)).await;
        until("the partner's copy to agree", async || lines_of(&file) == lines).await;
    };
    agrees(&partners).await;
    let restored = Restored::of(&partners.ground).await;
    restored.recorded(company(1)).await;
    restored.keep("early").await;
    for round in 1..=2 {
        partners.ground.fill(company(1), 10 * round, 20).await;
        agrees(&partners).await;
        // Merely shorter, and then other entries; the second time while nobody is there to see it.
        if round == 2 {
            partners.stop_relay().await;
            example.kill().expect("killed");
            example.wait().expect("ended");
        }
        restored.put_back("early", Part::All).await;
        if round == 2 {
            partners.start_relay(options()).await;
            example = partners.example(&file, &[]);
        }
        agrees(&partners).await;
        partners.ground.fill(company(1), 10 * round + 1, 5).await;
        agrees(&partners).await;
    }
    assert!(example.try_wait().expect("a child").is_none(), "it goes on");
    example.kill().expect("killed");
    example.wait().expect("ended");
    partners.stop_relay().await;
}

/// A relay was killed after it had deleted a consumer, and before it had made it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_a_killed_relay_deleted_is_made_by_the_next() {
    let ground = Ground::new().await;
    ground.found(1).await;
    let relay = ground.relay(options()).await;
    ground.all_arrive_once([1]).await;
    relay.stop().await;
    let stream = ground.broker.jetstream().await.get_stream(subject::STREAM).await.expect("is there");
    let created = stream.cached_info().created.unix_timestamp_nanos().to_string();
    let config = r#"{"durable_name":"integration_x","deliver_policy":"by_start_sequence","opt_start_seq":1,
                     "ack_policy":"explicit","ack_wait":30000000000,"max_deliver":-1,"max_ack_pending":1000,
                     "filter_subject":"cnc.events.>","replay_policy":"instant","num_replicas":0}"#;
    let restored = Restored::of(&ground).await;
    let sql = "INSERT INTO cnc.relay_consumers VALUES ('integration_x', $1, $2)";
    sqlx::query(sql).bind(created).bind(config).execute(&restored.pool).await.expect("inserted");
    let relay = ground.relay(options()).await;
    let made = async || stream.consumer_info("integration_x").await.is_ok();
    until("the consumer to be made", made).await;
    let left = || sqlx::query_scalar::<_, i64>("SELECT count(*) FROM cnc.relay_consumers").fetch_one(&restored.pool);
    until("it to be forgotten", async || left().await.expect("read") == 0).await;
    let info = stream.consumer_info("integration_x").await.expect("is there");
    assert_eq!((info.num_pending, info.config.ack_wait), (1, Duration::from_secs(30)));
    relay.stop().await;
}
