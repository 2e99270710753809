//! The contract of a ledger, the same for every back end.

mod appending;
mod auditing;
mod conflicts;
mod crashes;
mod idempotency;
mod keeping;
mod postgres_only;
mod processes;
mod reading;
mod silence;

use std::{future::Future, sync::Arc, time::Duration};

use cnc_commands::ledger::{Audit, PostgresLedger, SqliteLedger};
use cnc_domain::{
    kernel::{Actor, CommandId, CompanyId, Id, Timestamp},
    ledger::{
        Answer, Append, AppendError, Appended, Check, Draft, Fault, Hash, Head, Idempotency, Ledger, Sequence,
        StreamHead, verify,
    },
};
use cnc_tests::postgres::{Cluster, cluster};
use serde_json::value::RawValue;
use sqlx::{Connection as _, Executor as _};
use tempfile::TempDir;
use uuid::Uuid;

/// Only a test that fails waits so long.
const PATIENCE: Duration = Duration::from_mins(1);

/// Runs each case on both back ends, as `sqlite::<case>` and `postgres::<case>`: on an empty [`Ground`], or on what another
/// suite has for one. What a back end promises is tried on `every` server of Postgres, what is built upon it on one.
macro_rules! on_both {
    (every; $($case:ident),* $(,)?) => {
        $crate::ledger::on_both!(every crate::ledger::Ground; $($case),*);
    };
    (every $ground:ty; $($case:ident),* $(,)?) => {
        $crate::ledger::on_both!($ground; cnc_tests::postgres::clusters(); $($case),*);
    };
    ($($case:ident),* $(,)?) => {
        $crate::ledger::on_both!(crate::ledger::Ground; $($case),*);
    };
    ($ground:ty; $($case:ident),* $(,)?) => {
        $crate::ledger::on_both!($ground; std::iter::once(cnc_tests::postgres::cluster()); $($case),*);
    };
    ($ground:ty; $clusters:expr; $($case:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(<$ground>::sqlite()).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                for cluster in $clusters {
                    eprintln!("on {}", cluster.version());
                    super::$case(<$ground>::on(cluster).await).await;
                }
            })*
        }
    };
}
pub(crate) use on_both;

/// An empty place for ledgers.
pub(crate) enum Ground {
    Sqlite(TempDir),
    Postgres(String),
}

impl Ground {
    pub(crate) fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().expect("a temporary folder"))
    }

    pub(crate) async fn postgres() -> Self {
        Self::on(cluster()).await
    }

    pub(crate) async fn on(cluster: &Cluster) -> Self {
        Self::Postgres(cluster.database().await)
    }

    /// Where it is, as a child process is told.
    fn address(&self) -> String {
        match self {
            Self::Sqlite(folder) => folder.path().to_str().expect("a plain path").into(),
            Self::Postgres(url) => url.clone(),
        }
    }

    /// A ledger here, as a process of its own would open it.
    pub(crate) async fn ledger(&self) -> Arc<dyn Audit> {
        open(&self.address()).await
    }

    /// Runs a statement as a stranger with all rights would.
    async fn sql(&self, statement: &str) -> Result<(), String> {
        match self {
            Self::Sqlite(folder) => {
                let connection = rusqlite::Connection::open(folder.path().join("ledger.db")).expect("opened");
                connection.execute_batch(statement).map_err(|error| error.to_string())
            }
            Self::Postgres(url) => {
                let url = format!("{url}&options[search_path]=cnc");
                let mut connection = sqlx::PgConnection::connect(&url).await.expect("connected");
                connection.execute(sqlx::raw_sql(statement)).await.map(|_| ()).map_err(|error| error.to_string())
            }
        }
    }

    /// Keeps a copy of all that is recorded now, once.
    pub(crate) async fn keep_copy(&self) {
        let keep = "CREATE TABLE kept_events AS SELECT * FROM events; CREATE TABLE kept_heads AS SELECT * FROM heads;
                    CREATE TABLE kept_commands AS SELECT * FROM commands;";
        self.sql(keep).await.expect("copied");
    }

    /// Puts the copy back under all who have the ledger open, as a restore does or a standby that takes over without the last
    /// entries.
    pub(crate) async fn put_back(&self) {
        self.tamper(
            "DELETE FROM events; INSERT INTO events SELECT * FROM kept_events;
             DELETE FROM heads; INSERT INTO heads SELECT * FROM kept_heads;
             DELETE FROM commands; INSERT INTO commands SELECT * FROM kept_commands;",
        )
        .await;
    }

    /// Runs a statement as someone who first removes what guards the entries.
    async fn tamper(&self, statement: &str) {
        let unguard = match self {
            Self::Sqlite(_) => {
                "DROP TRIGGER events_are_not_changed; DROP TRIGGER events_are_not_removed;
                 DROP TRIGGER events_are_not_replaced;"
            }
            Self::Postgres(_) => "DROP TRIGGER events_are_not_changed ON events;",
        };
        self.sql(&format!("{unguard} {statement}")).await.expect("tampered");
    }
}

async fn open(address: &str) -> Arc<dyn Audit> {
    if address.starts_with("postgres://") {
        let ledger = PostgresLedger::connect(address).await.expect("connected");
        ledger.migrate().await.expect("migrated");
        Arc::new(ledger)
    } else {
        Arc::new(SqliteLedger::open(address.as_ref()).expect("opened"))
    }
}

pub(crate) fn noon() -> Timestamp {
    "2026-07-01T12:00:00Z".parse().expect("a time")
}

pub(crate) fn company(number: u128) -> CompanyId {
    CompanyId::number(number)
}

pub(crate) fn truck(number: u128) -> Uuid {
    Id::<()>::number(0x1000 + number).uuid()
}

/// A truck that was seen at a sequence. Whoever [appends](append_all) has read what stands there.
fn consulted(id: Uuid, sequence: Sequence) -> Check {
    Check { stream: "truck".into(), id, seen: StreamHead { sequence, hash: Hash::default() } }
}

/// An append that has seen truck `id` at `seen` and records `events` of it.
pub(crate) fn deed(company: CompanyId, id: Uuid, seen: Sequence, events: &[&str]) -> Append {
    let check = consulted(id, seen);
    let command = CommandId::number(7);
    let mut append = Append {
        company,
        founds: false,
        now: noon(),
        facts: Hash::default(),
        checks: vec![check],
        drafts: Vec::new(),
        idempotency: None,
        answer: Answer { command, position: 0, sequence: 0, recorded: 0, rejection: None, replayed: false },
    };
    for (event, sequence) in events.iter().zip(seen + 1..) {
        append.drafts.push(draft(id, sequence, event, r#"{"note":"none"}"#));
    }
    append
}

fn draft(id: Uuid, sequence: Sequence, event: &str, payload: &str) -> Draft {
    Draft {
        stream: "truck".into(),
        id,
        sequence,
        event: event.into(),
        version: 1,
        location: None,
        actor: Actor::tool("test"),
        command: CommandId::number(7),
        correlation: Id::number(8),
        causation: None,
        payload: RawValue::from_string(payload.into()).expect("JSON"),
    }
}

pub(crate) fn founding(company: CompanyId) -> Append {
    let payload = r#"{"name":"Small Movers","currency":"CAD","region":"ca-central","plan":{"modules":[]}}"#;
    let mut append = deed(company, company.uuid(), 0, &["founded"]);
    "company".clone_into(&mut append.checks[0].stream);
    "company".clone_into(&mut append.drafts[0].stream);
    append.drafts[0].payload = RawValue::from_string(payload.into()).expect("JSON");
    append.founds = true;
    append
}

fn keyed(mut append: Append, actor: &str, key: &str) -> Append {
    let (actor, key) = (actor.into(), key.into());
    append.idempotency = Some(Idempotency { actor, for_ever: false, refusals: false, key, fingerprint: [7; 32] });
    append
}

/// Appends one alone.
pub(crate) async fn append(ledger: &dyn Ledger, append: Append) -> Result<Appended, AppendError> {
    append_all(ledger, vec![append]).await.expect("no fault").remove(0)
}

/// Appends a batch, as those do who have just read the company's facts and the entries that they have seen.
pub(crate) async fn append_all(
    ledger: &dyn Ledger,
    mut batch: Vec<Append>,
) -> Result<Vec<Result<Appended, AppendError>>, Fault> {
    for Append { company, facts, checks, .. } in &mut batch {
        *facts = ledger.facts(*company).await?.unwrap_or_default();
        for Check { stream, id, seen } in checks {
            if let Some(before) = seen.sequence.checked_sub(1) {
                let last = ledger.read_stream(*company, stream, *id, before, 1).await?;
                seen.hash = last.first().map(Hash::of).unwrap_or_default();
            }
        }
    }
    ledger.append(batch).await
}

/// A ledger here with a company in it.
async fn founded(ground: &Ground) -> (Arc<dyn Audit>, CompanyId) {
    let ledger = ground.ledger().await;
    append(&*ledger, founding(company(1))).await.expect("founded");
    (ledger, company(1))
}

/// All lines of a company, verified. What a killed process had sent to its database may be recorded meanwhile: then they
/// are read again.
async fn lines(ledger: &dyn Audit, company: CompanyId) -> Vec<String> {
    loop {
        let head = ledger.head(company).await.expect("read");
        let mut lines = Vec::new();
        loop {
            let page = ledger.read(company, lines.len() as u64, 1_000).await.expect("read");
            if page.is_empty() {
                break;
            }
            lines.extend(page);
        }
        let audited = ledger.audit(company, head).await.expect("read");
        if ledger.head(company).await.expect("read") == head {
            assert_eq!(verify(&lines, head), Ok(head.unwrap_or_default()));
            assert_eq!(audited, head.map(Ok));
            return lines;
        }
    }
}

async fn head(ledger: &dyn Audit, company: CompanyId) -> Head {
    ledger.head(company).await.expect("read").expect("a company")
}

/// Waits for a condition.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}
