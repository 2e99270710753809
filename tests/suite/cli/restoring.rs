//! A ledger that was put back to an older state, beside views that have seen more.

use std::path::PathBuf;

use cnc_domain::ledger::Entry;
use serde_json::Value;
use sqlx::{Connection as _, Executor as _, PgConnection};

use super::{Operator, Server, bring_in, file, import::day, text, until};

/// How all folds stand.
fn status(operator: &Operator) -> Vec<Value> {
    operator.ok(&["folds", "status", "--json"]).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Waits until all live folds are as far as the ledger, and of it.
fn settled(operator: &Operator) {
    until("folds that are as far as the ledger", || {
        let status = status(operator);
        let live: Vec<_> = status.iter().filter(|fold| fold["standing"] == "live").collect();
        let stands = |fold: &&Value| {
            fold["position"] == fold["head"] && fold["forked"] == false && fold["rebuilding_until"].is_null()
        };
        !live.is_empty() && live.iter().all(stands)
    });
}

fn import(operator: &Operator, company: &str, vehicles: usize) {
    let csv = file(operator, "day.csv", day(vehicles, 3).as_bytes());
    operator.ok(&bring_in(text(&csv), company));
}

/// How many builds were found to be of another history.
fn forked(operator: &Operator) -> usize {
    status(operator).iter().filter(|fold| fold["standing"] == "forked").count()
}

/// A company with a day, and what the ledger was then; and a server that has folded more of it since.
fn ahead(operator: &Operator) -> (String, Kept, Server) {
    let company = operator.found("Restored Movers");
    import(operator, &company, 1);
    let kept = Kept::of(operator);
    let server = operator.serve();
    import(operator, &company, 2);
    settled(operator);
    (company, kept, server)
}

/// A copy of a ledger.
enum Kept {
    File(PathBuf),
    Tables(String),
}

const KEEP: &str =
    "CREATE SCHEMA kept; CREATE TABLE kept.events AS TABLE cnc.events; CREATE TABLE kept.heads AS TABLE cnc.heads;
    CREATE TABLE kept.commands AS TABLE cnc.commands";
const PUT_BACK: &str = "BEGIN; ALTER TABLE cnc.events DISABLE TRIGGER events_are_not_changed; DELETE FROM cnc.events;
    DELETE FROM cnc.heads; DELETE FROM cnc.commands; INSERT INTO cnc.events SELECT * FROM kept.events;
    INSERT INTO cnc.heads SELECT * FROM kept.heads; INSERT INTO cnc.commands SELECT * FROM kept.commands;
    ALTER TABLE cnc.events ENABLE ALWAYS TRIGGER events_are_not_changed; COMMIT";

impl Kept {
    fn of(operator: &Operator) -> Self {
        match &operator.ledger {
            None => {
                let kept = operator.data().join("kept.db");
                let ledger = rusqlite::Connection::open(operator.data().join("ledger.db")).expect("opens");
                ledger.execute("VACUUM INTO ?", [text(&kept)]).expect("copies");
                Self::File(kept)
            }
            Some(url) => {
                run(url, KEEP);
                Self::Tables(url.clone())
            }
        }
    }

    /// Puts the copy back, while nobody uses the ledger.
    fn swap(&self, operator: &Operator) {
        match self {
            Self::File(kept) => {
                for file in ["ledger.db-wal", "ledger.db-shm"] {
                    drop(std::fs::remove_file(operator.data().join(file)));
                }
                std::fs::copy(kept, operator.data().join("ledger.db")).expect("copies");
            }
            Self::Tables(url) => run(url, PUT_BACK),
        }
    }

    /// Puts the copy back under those who use the ledger.
    fn restore(&self, operator: &Operator) {
        let Self::File(kept) = self else { return self.swap(operator) };
        let mut ledger = rusqlite::Connection::open(operator.data().join("ledger.db")).expect("opens");
        ledger.busy_timeout(std::time::Duration::from_secs(20)).expect("waits");
        ledger.execute("ATTACH ? AS kept", [text(kept)]).expect("attaches");
        let tx = ledger.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).expect("begins");
        let list = |sql: &str| -> Vec<String> {
            let mut select = tx.prepare(sql).expect("reads");
            let found = select.query_map([], |row| row.get(0)).expect("reads");
            found.collect::<Result<_, _>>().expect("reads")
        };
        let guards = list("SELECT sql FROM main.sqlite_schema WHERE type = 'trigger'");
        for guard in list("SELECT name FROM main.sqlite_schema WHERE type = 'trigger'") {
            tx.execute_batch(&format!("DROP TRIGGER main.\"{guard}\"")).expect("drops");
        }
        for table in list("SELECT name FROM main.sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'") {
            tx.execute_batch(&format!("DELETE FROM main.\"{table}\"")).expect("empties");
        }
        for table in list("SELECT name FROM kept.sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'") {
            let put = format!("INSERT INTO main.\"{table}\" SELECT * FROM kept.\"{table}\"");
            tx.execute_batch(&put).expect("puts back");
        }
        for guard in guards {
            tx.execute_batch(&guard).expect("makes");
        }
        tx.commit().expect("restores");
    }
}

/// Runs SQL in a Postgres database.
fn run(url: &str, sql: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut connection = PgConnection::connect(url).await.expect("connects");
        connection.execute(sql).await.expect("runs");
    });
}

/// The company's last position.
fn head(operator: &Operator, company: &str) -> u64 {
    let lines = operator.export(company);
    lines.last().map_or(0, |line| Entry::read(line).expect("an entry").position)
}

#[test]
fn views_that_are_ahead_of_a_ledger_that_was_put_back_are_of_it_after_the_next_start() {
    for operator in [Operator::new(), Operator::postgres()] {
        let (company, kept, server) = ahead(&operator);
        let before = head(&operator, &company);
        server.kill();
        kept.swap(&operator);
        assert!(head(&operator, &company) < before);
        let verified = operator.run(&["folds", "verify"]);
        assert_eq!(verified.status, 1, "{}", verified.err);
        let said = [verified.out, verified.err].concat();
        assert!(said.contains("which the ledger does not have") && !said.contains("may pass"), "{said}");
        assert!(operator.ok(&["folds", "status"]).contains("of another history"));

        let server = operator.serve();
        settled(&operator);
        operator.ok(&["folds", "verify"]);
        assert!(forked(&operator) >= 3, "all views were built anew");
        import(&operator, &company, 3);
        settled(&operator);
        operator.ok(&["folds", "verify"]);
        drop(server);
    }
}

#[test]
fn views_that_are_ahead_of_a_ledger_that_is_put_back_under_a_running_server_are_of_it_in_a_moment() {
    for operator in [Operator::new(), Operator::postgres()] {
        let (_, kept, server) = ahead(&operator);
        kept.restore(&operator);
        until("views that were built anew", || forked(&operator) >= 3);
        settled(&operator);
        operator.ok(&["folds", "verify"]);
        drop(server);
    }
}
