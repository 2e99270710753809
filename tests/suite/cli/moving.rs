//! `cnc company move`: under load, and killed where it hurts.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::{Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use cnc_domain::{
    kernel::{Also, Id, Message},
    ledger::{Entry, Head, Parcel},
};
use cnc_tests::{
    fixtures,
    mover::Mover,
    postgres::cluster,
    system::{PATIENCE, Running, Shape},
};
use reqwest::Client;
use serde_json::{Value, json, value::RawValue};
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::task::JoinSet;
use uuid::Uuid;

/// A company in one database, and another database to move it to.
struct Place {
    mover: Mover,
    from: String,
    to: String,
}

impl Place {
    async fn new() -> Self {
        let (from, to) = (cluster().database().await, cluster().database().await);
        Self { mover: Mover::on(Running::postgres(&from).await.expect("starts")).await, from, to }
    }

    /// A server on the other database.
    async fn target(&self) -> Running {
        let shape = Shape { ledger: Some(self.to.clone()), ..Shape::default() };
        self.mover.running.beside(shape).await.expect("starts")
    }

    fn cnc(&self, ledger: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cnc_under_test"));
        command.args(arguments).args(["--ledger", ledger]).arg("--data").arg(self.mover.running.data());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn moving(&self) -> Command {
        let company = self.mover.company.to_string();
        self.cnc(&self.from, &["company", "move", "--company", &company, "--to", &self.to, "--json"])
    }

    /// Moves, and returns what is said of it.
    async fn moved(&self) -> Value {
        let mut command = self.moving();
        let output = tokio::task::spawn_blocking(move || command.output().expect("cnc runs")).await.expect("runs");
        serde_json::from_str(&good(&output)).expect("is JSON")
    }

    async fn export(&self, ledger: &str) -> Vec<String> {
        let mut command = self.cnc(ledger, &["audit", "export", "--company", &self.mover.company.to_string()]);
        let output = tokio::task::spawn_blocking(move || command.output().expect("cnc runs")).await.expect("runs");
        good(&output).lines().map(str::to_owned).collect()
    }
}

/// A journey whose window has passed, the nth before now: a trigger warns of it at once.
pub fn plan(mover: &Mover, nth: usize) -> Value {
    fixtures::late_journey(mover.trucks[1], mover.branches[1].uuid(), fixtures::now(), nth)
}

#[track_caller]
fn good(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("is text")
}

/// Gives commands one after the other, each under its key, where the company is, until told to stop.
#[derive(Clone)]
pub struct Writer {
    pub client: Client,
    pub token: String,
    pub urls: [String; 2],
    /// How many were given at the second place.
    pub there: Arc<AtomicU64>,
    pub stop: Arc<AtomicBool>,
}

/// A command that was acknowledged: where, under which key, and as which answer.
pub struct Acknowledged {
    pub path: String,
    pub body: Value,
    pub key: String,
    pub answer: Value,
}

impl Writer {
    pub async fn write(self, journey: Uuid, plans: Vec<Value>) -> Vec<Acknowledged> {
        let (mut done, mut plans, mut at) = (Vec::new(), plans.into_iter(), 0);
        while !self.stop.load(Ordering::Relaxed) {
            // Now and then there is something for a trigger to do.
            let plan = if done.len() % 5 == 4 { plans.next() } else { None };
            let (path, body) = if let Some(plan) = plan {
                (format!("/v1/truck_journey/{}/plan", Uuid::now_v7()), plan)
            } else {
                let report = json!({ "status": "in_traffic", "note": Uuid::now_v7().to_string() });
                (format!("/v1/truck_journey/{journey}/report_status"), report)
            };
            let key = Uuid::now_v7().to_string();
            let answer = self.give(&path, &body, &key, &mut at).await;
            self.there.fetch_add(u64::from(at == 1), Ordering::Relaxed);
            done.push(Acknowledged { path, body, key, answer });
        }
        done
    }

    pub async fn give(&self, path: &str, body: &Value, key: &str, at: &mut usize) -> Value {
        loop {
            let request = self.client.post(format!("{}{path}", self.urls[*at])).bearer_auth(&self.token);
            let response = request.header("idempotency-key", key).json(body).send().await.expect("answers");
            let status = response.status().as_u16();
            let answer: Value = response.json().await.expect("is JSON");
            match status {
                200 => return answer,
                // Moved away: from now on where it went, where it may not have arrived yet.
                421 if *at == 0 => *at = 1,
                403 | 404 | 503 if *at == 1 => tokio::time::sleep(Duration::from_millis(2)).await,
                _ => panic!("{status} {answer}"),
            }
        }
    }
}

impl Place {
    /// Records that a key was destroyed.
    async fn destroy_a_key(&self) {
        let tombstone = "INSERT INTO cnc_keys.destroyed_keys (company, id, subject, destroyed_at, destroyed_by)
                         SELECT company, '\\x0102'::bytea || substr(company, 3), company, 7, 'user:7' FROM cnc_keys.companies";
        PgConnection::connect(&self.from).await.expect("connects").execute(tombstone).await.expect("is recorded");
    }

    /// Both ledgers verify, and so do the views and the record of destroyed keys where the company went.
    async fn verifies(&self) {
        for ledger in [&self.from, &self.to] {
            let verify = ["audit", "verify", "--company", &self.mover.company.to_string()];
            good(&self.cnc(ledger, &verify).output().expect("cnc runs"));
        }
        good(&self.cnc(&self.to, &["folds", "verify"]).output().expect("cnc runs"));
        let by = "SELECT destroyed_by FROM cnc_keys.destroyed_keys";
        let mut target = PgConnection::connect(&self.to).await.expect("connects");
        let by: Vec<String> = sqlx::query_scalar(by).fetch_all(&mut target).await.expect("reads");
        assert_eq!(by, ["user:7"], "who was erased stays erased");
    }
}

/// How often a trigger has warned of each thing about each late journey, and the late journeys that it has not warned of.
pub fn warned(lines: &[String]) -> (BTreeMap<String, usize>, BTreeSet<String>) {
    let (mut warnings, mut late) = (BTreeMap::new(), BTreeSet::new());
    for entry in lines.iter().map(|line| Entry::read(line).expect("an entry")) {
        let payload: Value = serde_json::from_str(entry.payload.get()).expect("is JSON");
        if entry.event == "planned" && payload["recommended_crew"] == 0 {
            late.insert(entry.id.to_string());
        }
        if (entry.stream.as_str(), entry.event.as_str()) == ("alert", "raised") {
            *warnings.entry(format!("{} {}", payload["about"], payload["kind"])).or_default() += 1;
        }
    }
    late.retain(|journey| !warnings.keys().any(|warning: &String| warning.contains(journey)));
    (warnings, late)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_company_moves_while_it_works_and_everything_is_there_once() {
    let place = Place::new().await;
    let target = place.target().await;
    let writer = Writer {
        client: Client::new(),
        token: place.mover.token("admin").await,
        urls: [place.mover.running.url(""), target.url("")],
        there: Arc::default(),
        stop: Arc::default(),
    };
    let mut writers = JoinSet::new();
    for nth in 0..2 {
        let plans = (0..60).map(|turn| plan(&place.mover, 2 * turn + nth)).collect();
        writers.spawn(writer.clone().write(place.mover.journeys[usize::from(nth == 1)], plans));
    }
    let begun = std::time::Instant::now();
    while place.mover.head().await < 150 {
        assert!(begun.elapsed() < PATIENCE, "nothing is written");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    place.destroy_a_key().await;
    let moved = place.moved().await;
    while writer.there.load(Ordering::Relaxed) < 100 {
        assert!(begun.elapsed() < PATIENCE, "nothing is written where it went");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    writer.stop.store(true, Ordering::Relaxed);
    let mut acknowledged = Vec::new();
    while let Some(done) = writers.join_next().await {
        acknowledged.extend(done.expect("a writer does not fail"));
    }
    // Each key is answered as before, wherever it was used, and nothing is recorded again.
    let reports = acknowledged.iter().filter(|done| done.path.ends_with("report_status")).count();
    for Acknowledged { path, body, key, answer } in &acknowledged {
        assert_eq!(&writer.give(path, body, key, &mut 1).await, answer);
    }
    let status = place.mover.post(&writer.token, &acknowledged[0].path, &acknowledged[0].body).await;
    status.problem(421, "company_moved");
    let (old, mut new) = (place.export(&place.from).await, place.export(&place.to).await);
    assert_eq!(moved["entries"], old.len());
    assert_eq!(old, new[..old.len()], "both are equal, byte for byte, up to the move");
    while !warned(&new).1.is_empty() {
        assert!(begun.elapsed() < PATIENCE, "a trigger does nothing: {:?}", warned(&new));
        new = place.export(&place.to).await;
    }
    let warnings = warned(&new).0;
    assert!(warnings.values().all(|count| *count == 1), "a trigger acts once: {warnings:?}");
    let entries = new.iter().map(|line| Entry::read(line).expect("an entry"));
    let reported = entries.filter(|entry| entry.event == "status_reported").count();
    assert_eq!(reported, reports);
    place.verifies().await;
    assert_eq!(place.moved().await["was_moved"], true);
    let other = cluster().database().await;
    let elsewhere = ["company", "move", "--company", &place.mover.company.to_string(), "--to", &other];
    let refused = place.cnc(&place.from, &elsewhere).output().expect("cnc runs");
    assert_eq!(refused.status.code(), Some(2), "{}", String::from_utf8_lossy(&refused.stderr));
    drop_old(&place).await;
    let list = good(&place.cnc(&place.from, &["company", "list", "--json"]).output().expect("cnc runs"));
    assert_eq!(list, "");
}

/// A trigger's command and a deadline that stay in the outbox of the old copy, which nothing can be recorded in.
async fn what_is_left_behind_is_given_nobody(place: &Place) {
    let company = place.mover.company;
    let parcel = Parcel {
        company,
        command: Id::number(7),
        fold: "understaffed".into(),
        deadline: true,
        correlation: Id::number(8),
        causation: Uuid::now_v7(),
        caused_at: Head::default(),
        also: Also {
            stream: "truck_journey".into(),
            id: place.mover.journeys[0],
            command: Message { name: "tag".into(), fields: RawValue::from_string("{}".into()).expect("JSON") },
            instead: None,
        },
    };
    let text = serde_json::to_string(&parcel).expect("JSON");
    let mut old = PgConnection::connect(&place.from).await.expect("connects");
    for sql in [
        "INSERT INTO cnc.outbox (company, command, parcel, due_at) VALUES ($1, $2, $3::json, 0)",
        "INSERT INTO cnc.deadlines (company, fold, key, due_at, parcel) VALUES ($1, $2::text, 'k', 0, $3::json)",
    ] {
        let insert = sqlx::query(sql).bind(company.uuid()).bind(parcel.command.uuid()).bind(&text);
        insert.execute(&mut old).await.expect("inserts");
    }
    let outbox = place.mover.running.system.rooms.store.outbox();
    assert!(outbox.waiting(fixtures::now(), 10).await.expect("reads").is_empty());
    assert_eq!(outbox.ring(fixtures::now()).await.expect("reads"), (0, None));
}

/// Drops the old copy, as an operator does with `psql`; not where the company is live.
async fn drop_old(place: &Place) {
    what_is_left_behind_is_given_nobody(place).await;
    let company = format!("'{}'", place.mover.company);
    let sql = include_str!("../../../deploy/postgres/drop_moved_company.sql").replace(":'company'", &company);
    let mut live = PgConnection::connect(&place.to).await.expect("connects");
    let refused = live.execute(sql.as_str()).await.expect_err("it lives there");
    assert!(refused.to_string().contains("has moved away"), "{refused}");
    let mut old = PgConnection::connect(&place.from).await.expect("connects");
    old.execute(sql.as_str()).await.expect("is dropped");
    let changed = old.execute("DELETE FROM cnc.events").await.expect_err("entries are not changed");
    assert!(changed.to_string().contains("never changed"), "{changed}");
    for table in ["cnc.events", "cnc.heads", "cnc.commands", "cnc.folds", "cnc_views.folds", "cnc_keys.subjects"] {
        let left: i64 =
            sqlx::query_scalar(&format!("SELECT count(*) FROM {table}")).fetch_one(&mut old).await.expect("reads");
        assert_eq!(left, 0, "{table}");
    }
}

/// Whether somebody waits to write this table. A process that starts may wait for other locks, which says nothing.
async fn waits(database: &mut PgConnection, table: &str) -> bool {
    let sql = "SELECT EXISTS (SELECT FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database
                              WHERE d.datname = current_database() AND l.relation = $1::text::regclass
                                AND NOT l.granted)";
    sqlx::query_scalar(sql).bind(table).fetch_one(database).await.expect("answers")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_move_that_is_killed_anywhere_is_finished_by_the_same_command() {
    let place = Place::new().await;
    let token = place.mover.token("admin").await;
    let planned = Uuid::now_v7();
    place.mover.post(&token, &format!("/v1/truck_journey/{planned}/plan"), &plan(&place.mover, 0)).await.good();
    let path = format!("/v1/truck_journey/{}/report_status", place.mover.journeys[0]);
    let report = |note: &str| json!({ "status": "in_traffic", "note": note });
    // The tables are there.
    good(&place.cnc(&place.to, &["migrate"]).output().expect("cnc runs"));
    // Where the tables are written that a move comes to, one after the other: entries, answers, what triggers have to
    // do, the head. The mark comes after the second.
    for (table, marked) in
        [("cnc.events", false), ("cnc.commands", false), ("cnc.trigger_starts", true), ("cnc.heads", true)]
    {
        // A transaction sees who waits as it first saw it, so that another connection looks.
        let mut looking = PgConnection::connect(&place.to).await.expect("connects");
        let mut holding = PgConnection::connect(&place.to).await.expect("connects");
        holding.execute(format!("BEGIN; LOCK TABLE {table} IN SHARE MODE").as_str()).await.expect("locks");
        let mut moving = place.moving().spawn().expect("cnc starts");
        let begun = std::time::Instant::now();
        while !waits(&mut looking, table).await {
            let ended = moving.try_wait().expect("can be asked");
            assert!(ended.is_none() && begun.elapsed() < PATIENCE, "{table}: it did not come so far: {ended:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        moving.kill().expect("can be killed");
        moving.wait().expect("ends");
        holding.execute("ROLLBACK").await.expect("lets go");
        let answer = place.mover.post(&token, &path, &report(table)).await;
        if marked {
            answer.problem(421, "company_moved");
        } else {
            answer.good();
        }
        let list = good(&place.cnc(&place.to, &["company", "list", "--json"]).output().expect("cnc runs"));
        assert_eq!(list, "", "{table}: half a copy is no company");
    }
    let moved = place.moved().await;
    assert_eq!(moved["was_moved"], false);
    let (old, mut new) = (place.export(&place.from).await, place.export(&place.to).await);
    assert_eq!(old, new);
    let target = place.target().await;
    let begun = std::time::Instant::now();
    while !warned(&new).1.is_empty() {
        assert!(begun.elapsed() < PATIENCE, "a trigger does nothing: {:?}", warned(&new));
        new = place.export(&place.to).await;
    }
    let request = Client::new().post(target.url(&path)).bearer_auth(&token).header("idempotency-key", "after");
    assert!(request.json(&report("after")).send().await.expect("answers").status().is_success());
    assert!(warned(&new).0.values().all(|count| *count == 1), "{:?}", warned(&new));
    assert!(new.iter().any(|line| line.contains("cnc.events")) && !new.iter().any(|line| line.contains("cnc.heads")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_company_that_is_there_moves_and_only_between_postgres_databases() {
    let place = Place::new().await;
    let company = place.mover.company.to_string();
    let status = |ledger: &str, arguments: &[&str]| {
        let output = place.cnc(ledger, &[&["company", "move"], arguments].concat()).output().expect("cnc runs");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let unknown = Uuid::now_v7().to_string();
    assert_eq!(status(&place.from, &["--company", &unknown, "--to", &place.to]).0, Some(3));
    assert_eq!(status(&place.from, &["--company", &company, "--to", &place.from]).0, Some(2), "it is there already");
    let (code, said) = status(&place.from, &["--company", &company, "--to", "./folder"]);
    assert!(code == Some(2) && said.contains("Postgres"), "{said}");
}
