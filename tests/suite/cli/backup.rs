//! The drill of a backup: taken under load, verified without a server, restored elsewhere, and everything agrees.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use cnc_domain::ledger::{Entry, Head};
use cnc_tests::{
    mover::Mover,
    postgres::cluster,
    system::{PATIENCE, Running},
};
use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _, PgConnection};
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::{
    Came, Operator,
    moving::{Acknowledged, Writer, plan, warned},
    text, until,
};

/// An installation that works, and where its backup is to be.
struct Source {
    mover: Mover,
    ledger: Option<String>,
    backups: TempDir,
}

impl Source {
    async fn start(postgres: bool) -> Self {
        let ledger = if postgres { Some(cluster().database().await) } else { None };
        let running = match &ledger {
            Some(url) => Running::postgres(url).await,
            None => Running::sqlite().await,
        };
        let backups = tempfile::tempdir().expect("a folder");
        Self { mover: Mover::on(running.expect("starts")).await, ledger, backups }
    }

    /// Runs a command beside it, and reads its answer.
    async fn json(&self, arguments: &[&str]) -> Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cnc_under_test"));
        command.args(arguments).arg("--json").arg("--data").arg(self.mover.running.data());
        if let Some(url) = &self.ledger {
            command.arg("--ledger").arg(url);
        }
        let done = tokio::task::spawn_blocking(move || command.output().expect("cnc runs")).await;
        let Output { status, stdout, stderr } = done.expect("runs");
        assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
        serde_json::from_slice(&stdout).expect("is JSON")
    }

    async fn backup(&self) -> (PathBuf, Value) {
        let to = self.backups.path().join("backup");
        let manifest = self.json(&["backup", "--to", text(&to)]).await;
        (to, manifest)
    }

    async fn lines(&self) -> Vec<String> {
        let ledger = &self.mover.running.system.rooms.ledger;
        let mut lines = Vec::new();
        loop {
            let page = ledger.read(self.mover.company, lines.len() as u64, 1_000).await.expect("reads");
            if page.is_empty() {
                return lines;
            }
            lines.extend(page);
        }
    }
}

/// Gives commands from two sides, with a backup in the middle. Returns it, its manifest, and what was acknowledged to whom.
async fn backup_under_load(source: &Source) -> (PathBuf, Value, Vec<Acknowledged>, String) {
    let url = source.mover.running.url("");
    let writer = Writer {
        client: reqwest::Client::new(),
        token: source.mover.token("admin").await,
        urls: [url.clone(), url],
        there: Arc::default(),
        stop: Arc::new(AtomicBool::new(false)),
    };
    let mut writers = JoinSet::new();
    for nth in 0..2 {
        let plans = (0..60).map(|turn| plan(&source.mover, 2 * turn + nth)).collect();
        writers.spawn(writer.clone().write(source.mover.journeys[nth], plans));
    }
    let grows_to = async |position| {
        while source.mover.head().await < position {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, grows_to(150)).await.expect("something is written");
    let (folder, manifest) = source.backup().await;
    let after = source.mover.head().await + 50;
    tokio::time::timeout(PATIENCE, grows_to(after)).await.expect("the writers go on");
    writer.stop.store(true, Ordering::Relaxed);
    let mut acknowledged = Vec::new();
    while let Some(done) = writers.join_next().await {
        acknowledged.extend(done.expect("a writer does not fail"));
    }
    (folder, manifest, acknowledged, writer.token)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_backup_of_sqlite_under_load_is_restored_elsewhere() {
    drill(false, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_backup_of_postgres_under_load_is_restored_elsewhere() {
    drill(true, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_backup_is_restored_into_the_other_back_end() {
    drill(false, true).await;
    drill(true, false).await;
}

async fn drill(from_postgres: bool, to_postgres: bool) {
    let source = Source::start(from_postgres).await;
    let (folder, manifest, acknowledged, token) = backup_under_load(&source).await;
    let company = source.mover.company.to_string();
    assert_eq!(manifest["companies"][0]["company"], json!(company));
    let head: Head = manifest["companies"][0]["head"].as_str().expect("a head").parse().expect("a head");
    let lines = source.lines().await;
    let saved = usize::try_from(head.position).expect("is small");
    assert!(saved < lines.len(), "it was written to meanwhile");

    let target = if to_postgres { Operator::on(&cluster().database().await) } else { Operator::new() };
    let keys = source.mover.running.data().to_owned();
    let restored = tokio::task::spawn_blocking(move || {
        let verified = target.json(&["audit", "verify", text(&folder)]);
        assert_eq!((&verified["verified"], &verified["companies"]), (&json!(true), &manifest["companies"]));
        target.ok(&["restore", text(&folder)]);
        let listed = target.json(&["company", "list"]);
        assert_eq!(listed["head"], json!(head.to_string()));
        assert_eq!(target.export(&company), lines[..saved], "every entry, byte for byte");
        target.ok(&["audit", "verify", "--company", &company, "--head", &head.to_string()]);
        assert_eq!(target.run(&["restore", text(&folder)]).status, 2, "it is not empty any more");

        // Without the keys' own key nothing starts.
        let came = target.run(&["serve", "--listen", "127.0.0.1:0"]);
        assert!(came.status == 4 && came.err.contains("master.key is missing"), "{}", came.err);
        for name in ["master.key", "token.key"] {
            fs::copy(keys.join(name), target.data().join(name)).expect("copies");
        }
        target
    });
    let target = restored.await.expect("is restored");
    answers_and_acts_once(target, &token, &acknowledged, head.position, source.mover.company.to_string()).await;
}

/// Keys that were used before the backup are answered as they were; triggers act once; views are what the ledger says.
async fn answers_and_acts_once(
    target: Operator,
    token: &str,
    acknowledged: &[Acknowledged],
    saved: u64,
    company: String,
) {
    let server = target.serve();
    let url = format!("http://{}", server.address);
    let again = Writer {
        client: reqwest::Client::new(),
        token: token.to_owned(),
        urls: [url.clone(), url],
        there: Arc::default(),
        stop: Arc::default(),
    };
    let known = acknowledged.iter().filter(|done| done.answer["position"].as_u64().is_some_and(|at| at <= saved));
    let mut answered = 0;
    for Acknowledged { path, body, key, answer } in known {
        assert_eq!(&again.give(path, body, key, &mut 0).await, answer);
        answered += 1;
    }
    assert!(answered > 0, "something was acknowledged before the backup");
    let checked = tokio::task::spawn_blocking(move || {
        until("triggers that have warned of every late journey", || warned(&target.export(&company)).1.is_empty());
        let lines = target.export(&company);
        let warnings = warned(&lines).0;
        assert!(!warnings.is_empty() && warnings.values().all(|count| *count == 1), "once each: {warnings:?}");
        let reports = |line: &&String| Entry::read(line).expect("an entry").event == "status_reported";
        let saved = usize::try_from(saved).expect("is small");
        assert_eq!(
            lines.iter().skip(saved).filter(reports).count(),
            0,
            "nothing that was acknowledged is recorded again"
        );
        until("folds that are not behind", || {
            let status = target.ok(&["folds", "status", "--json"]);
            let folds: Vec<Value> = status.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
            !folds.is_empty() && folds.iter().all(|fold| fold["lag"] == 0)
        });
        server.stop();
        target.ok(&["audit", "verify", "--company", &company]);
        let came = target.run(&["folds", "verify"]);
        assert_eq!(came.status, 0, "{}\n{}", came.out, came.err);
        assert!(came.out.contains("dispatch_board") && came.out.contains("no difference"), "{}", came.out);
    });
    checked.await.expect("agrees");
}

/// A small installation with a backup, in a folder beside its data.
fn small() -> (Operator, PathBuf, String) {
    let operator = Operator::new();
    let company = operator.found("Saved Movers");
    let backup = operator.data().join("backup");
    operator.ok(&["backup", "--to", text(&backup)]);
    (operator, backup, company)
}

type Damage = fn(&mut Vec<u8>);

fn edit(path: &Path, edit: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).expect("reads");
    edit(&mut bytes);
    fs::write(path, bytes).expect("writes");
}

#[test]
fn a_damaged_backup_is_found_out_and_nothing_of_it_is_restored() {
    let (operator, backup, company) = small();
    let ledger = format!("ledgers/{company}.ndjson");
    let whole = |name: &str| fs::read(backup.join(name)).expect("reads");
    let flip: Damage = |bytes| bytes[40] ^= 1;
    let cut: Damage = |bytes| bytes.truncate(bytes.len() / 2);
    let cut_line: Damage = |bytes| {
        let last = bytes[..bytes.len() - 1].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        bytes.truncate(last);
    };
    for (name, damage) in [
        (ledger.as_str(), flip),
        (&ledger, cut),
        (&ledger, cut_line),
        ("keys.ndjson", flip),
        ("keys.ndjson", cut_line),
        ("answers.ndjson", |bytes| bytes.extend(b"{}\n")),
        ("triggers.ndjson", cut_line),
    ] {
        let kept = whole(name);
        edit(&backup.join(name), damage);
        let came = operator.run(&["audit", "verify", text(&backup)]);
        assert!(came.status == 1 && came.err.contains("not verified"), "{name}: {}{}", came.out, came.err);
        let empty = Operator::new();
        let Came { status, err, .. } = empty.run(&["restore", text(&backup)]);
        assert_eq!(status, 1, "{name}: {err}");
        assert_eq!(empty.ok(&["company", "list", "--json"]), "", "{name}: nothing is restored");
        fs::write(backup.join(name), kept).expect("writes");
        empty.ok(&["restore", text(&backup)]);
    }
    fs::remove_file(backup.join("keys.ndjson")).expect("is removed");
    assert_eq!(operator.run(&["audit", "verify", text(&backup)]).status, 1);
    fs::remove_file(backup.join("manifest.json")).expect("is removed");
    let came = operator.run(&["audit", "verify", text(&backup)]);
    assert!(came.status == 3 && came.err.contains("no backup"), "{}", came.err);
}

#[test]
fn a_backup_overwrites_nothing_and_holds_the_master_key_only_where_that_is_asked_for() {
    let (operator, backup, company) = small();
    let came = operator.run(&["backup", "--to", text(&backup)]);
    assert!(came.status == 2 && came.err.contains("is there already"), "{}", came.err);
    assert!(!backup.join("master.key").exists());
    let with = operator.data().join("with-keys");
    operator.ok(&["backup", "--to", text(&with), "--with-key-files"]);
    let target = Operator::new();
    target.ok(&["restore", text(&with)]);
    target.token(&company, "dispatcher");
    target.serve().stop();
    assert_eq!(operator.run(&["restore", text(&with)]).status, 2, "it is not empty");
}

#[test]
fn a_restore_that_ended_between_keys_and_ledger_is_done_again() {
    let (operator, backup, _) = small();
    let target = Operator::new();
    fs::copy(operator.data().join("keys.db"), target.data().join("keys.db")).expect("copies");
    target.ok(&["restore", text(&backup)]);
    let other = Operator::new();
    other.found("Other Movers");
    let strange = Operator::new();
    fs::copy(other.data().join("keys.db"), strange.data().join("keys.db")).expect("copies");
    assert_eq!(strange.run(&["restore", text(&backup)]).status, 2, "keys of others are never mixed with it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_into_postgres_that_is_killed_leaves_nothing_and_is_begun_again() {
    let (_operator, backup, company) = small();
    let url = cluster().database().await;
    let target = Operator::on(&url);
    // The tables are there, and nothing in them.
    assert_eq!(target.run(&["migrate"]).status, 0);
    let mut holding = PgConnection::connect(&url).await.expect("connects");
    holding.execute("BEGIN; LOCK TABLE cnc.events IN SHARE MODE").await.expect("locks");
    let mut looking = PgConnection::connect(&url).await.expect("connects");
    let mut restoring = target.command(&["restore", text(&backup)]).spawn().expect("cnc starts");
    let waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'cnc.events'::regclass AND NOT granted)";
    let begun = std::time::Instant::now();
    loop {
        let waits: bool = sqlx::query_scalar(waits).fetch_one(&mut looking).await.expect("answers");
        if waits {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "it did not come so far: {:?}", restoring.try_wait());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    restoring.kill().expect("can be killed");
    restoring.wait().expect("ends");
    holding.execute("ROLLBACK").await.expect("lets go");
    assert_eq!(target.ok(&["company", "list", "--json"]), "");
    target.ok(&["restore", text(&backup)]);
    assert_eq!(target.json(&["company", "list"])["company"], json!(company));
}
