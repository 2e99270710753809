//! What only a Postgres ledger promises.

use std::collections::BTreeMap;

use cnc_domain::ledger::Grown;
use cnc_tests::postgres::Cluster;
use cqrs_es::{
    Aggregate, DomainEvent,
    event_sink::EventSink,
    persist::{PersistedEventRepository as _, SerializedEvent},
};
use postgres_es::PostgresEventRepository;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

use super::*;

/// Any aggregate of ours, as postgres-es sees it.
#[derive(Default, Serialize, Deserialize)]
struct Erased;
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Nothing;
impl DomainEvent for Nothing {
    fn event_type(&self) -> String {
        String::new()
    }
    fn event_version(&self) -> String {
        String::new()
    }
}
impl Aggregate for Erased {
    const TYPE: &'static str = "cnc";
    type Command = ();
    type Event = Nothing;
    type Error = std::fmt::Error;
    type Services = ();
    async fn handle(&mut self, (): (), (): &(), _: &EventSink<Self>) -> Result<(), Self::Error> {
        Ok(())
    }
    fn apply(&mut self, _: Nothing) {}
}

async fn pool(ground: &Ground) -> PgPool {
    PgPool::connect(&ground.address()).await.expect("connected")
}

#[tokio::test]
async fn postgres_es_reads_our_streams() {
    let ground = Ground::postgres().await;
    let (ledger, company) = founded(&ground).await;
    append(&*ledger, deed(company, truck(1), 0, &["bought", "painted"])).await.expect("appended");
    let repository = PostgresEventRepository::new(pool(&ground).await).with_tables("cnc.events", "cnc.snapshots");
    let id = format!("{company}/truck/{}", truck(1));
    let events: Vec<SerializedEvent> = repository.get_events::<Erased>(&id).await.expect("read");
    assert_eq!(events.len(), 2);
    assert_eq!(
        (events[1].sequence, events[1].event_type.as_str(), events[1].event_version.as_str()),
        (2, "painted", "1")
    );
    assert_eq!(events[1].aggregate_id, id);
    assert_eq!(events[1].payload, serde_json::json!({ "note": "none" }));
    assert_eq!(events[1].metadata["position"], 3);
    assert_eq!(repository.get_last_events::<Erased>(&id, 1).await.expect("read").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_start_at_once_migrate_once() {
    let ground = Ground::postgres().await;
    let url = ground.address();
    let starting: Vec<_> = (0..6)
        .map(|_| {
            let url = url.clone();
            tokio::spawn(async move { open(&url).await })
        })
        .collect();
    for started in starting {
        started.await.expect("migrated");
    }
    founded(&ground).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_may_do_its_part_only() {
    let ground = Ground::postgres().await;
    let (ledger, first) = founded(&ground).await;
    append(&*ledger, founding(company(2))).await.expect("founded");
    let pool = pool(&ground).await;
    let as_role = async |role: &str, statement: &str| {
        let mut tx = pool.begin().await.expect("begun");
        sqlx::raw_sql(&format!("SET LOCAL ROLE {role}")).execute(&mut *tx).await.expect("the role is there");
        sqlx::query_scalar::<_, i64>(statement).fetch_one(&mut *tx).await.map_err(|error| error.to_string())
    };
    let count = "SELECT count(*) FROM cnc.events";
    assert_eq!(as_role("cnc_write", count).await, Ok(2));
    assert_eq!(as_role("cnc_fold", count).await, Ok(2));
    assert_eq!(as_role("cnc_read", count).await, Ok(0));
    let one = format!(
        "WITH named AS MATERIALIZED (SELECT set_config('cnc.company', '{first}', true))
                       SELECT count(e.*) FROM named LEFT JOIN cnc.events e ON true"
    );
    assert_eq!(as_role("cnc_read", &one).await, Ok(1));
    for role in ["cnc_write", "cnc_fold", "cnc_read"] {
        for statement in
            ["DELETE FROM cnc.events RETURNING position", "UPDATE cnc.events SET at = 0 RETURNING position"]
        {
            let refused = as_role(role, statement).await.expect_err("refused");
            assert!(refused.contains("permission denied"), "{role}: {refused}");
        }
    }
    for role in ["cnc_fold", "cnc_read"] {
        let insert = "INSERT INTO cnc.heads (company, position, at, hash, facts)
                      VALUES (gen_random_uuid(), 1, 1, '\\x00', '\\x00') RETURNING position";
        assert!(as_role(role, insert).await.expect_err("refused").contains("permission denied"), "{role}");
        assert!(as_role(role, "SELECT count(*) FROM cnc.commands").await.is_err(), "{role}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_that_postgres_refuses_leaves_its_neighbours_alone() {
    let ground = Ground::postgres().await;
    let (ledger, company) = founded(&ground).await;
    // Deeper than the server's stack: valid for a parser without recursion, refused by its own.
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(60_000), "]".repeat(60_000));
    let mut bad = deed(company, truck(2), 0, &[]);
    let payload = serde_json::from_str::<Box<RawValue>>(&deep);
    bad.drafts.push(Draft { payload: payload.expect("JSON"), ..draft(truck(2), 1, "noted", "{}") });
    let batch = vec![deed(company, truck(1), 0, &["bought"]), bad, deed(company, truck(3), 0, &["bought"])];
    let outcomes = append_all(&*ledger, batch).await.expect("no fault");
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok());
    assert!(matches!(&outcomes[1], Err(AppendError::Fault(fault)) if !fault.passing));
    assert_eq!(lines(&*ledger, company).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_records_nothing_and_passes() {
    let ground = Ground::postgres().await;
    let (ledger, company) = founded(&ground).await;
    // As far as a client can tell.
    let full = "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = 'disk_full'; END $$;
                CREATE TRIGGER full_disk BEFORE INSERT ON events EXECUTE FUNCTION full_disk()";
    ground.sql(full).await.expect("filled");
    let batch = || vec![deed(company, truck(1), 0, &["bought"]), deed(company, truck(2), 0, &["bought"])];
    assert!(append_all(&*ledger, batch()).await.expect_err("a fault").passing);
    ground.sql("DROP TRIGGER full_disk ON events").await.expect("emptied");
    assert!(append_all(&*ledger, batch()).await.expect("healed").iter().all(Result::is_ok));
    assert_eq!(lines(&*ledger, company).await.len(), 3);
}

/// A transaction that notifies keeps all others of its cluster from committing until it is on the disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_of_several_processes_do_not_wait_in_one_line() {
    const PROCESSES: u128 = 8;
    const ROUNDS: u64 = 3;
    const SYNC: Duration = Duration::from_millis(100);
    let cluster = Cluster::start();
    let ground = Ground::Postgres(cluster.database().await);
    for setting in [format!("commit_delay = {}", SYNC.as_micros()), "commit_siblings = 0".into()] {
        let set = format!("EXECUTE format('ALTER DATABASE %I SET {setting}', current_database())");
        ground.sql(&format!("DO $$ BEGIN {set}; END $$")).await.expect("set");
    }
    let mut processes = Vec::new();
    for number in 1..=PROCESSES {
        let process = ground.ledger().await;
        append(&*process, founding(company(number))).await.expect("founded");
        processes.push((process, company(number)));
    }
    let started = std::time::Instant::now();
    let appending = processes.iter().map(|(process, company)| async move {
        for sequence in 0..ROUNDS {
            append(&**process, deed(*company, truck(1), sequence, &["cleaned"])).await.expect("appended");
        }
    });
    futures::future::join_all(appending).await;
    let in_one_line = SYNC * u32::try_from(PROCESSES).expect("is small") * u32::try_from(ROUNDS).expect("is small");
    assert!(started.elapsed() < in_one_line / 2, "{:?} of {in_one_line:?}", started.elapsed());
    // And each hears of all the others.
    let told: BTreeMap<_, _> = heads(&*processes[0].0).await;
    within("all to be told", async {
        let (mut cursor, mut heard) = (0, BTreeMap::new());
        while heard != told {
            let told = processes[1].0.changed(cursor).await;
            cursor = told.cursor;
            match told.grown {
                Grown::These(heads) => heard.extend(heads),
                Grown::Any => heard.extend(heads(&*processes[1].0).await),
            }
        }
    })
    .await;
}

async fn heads(ledger: &dyn Audit) -> BTreeMap<CompanyId, Head> {
    ledger.heads().await.expect("read").into_iter().collect()
}
