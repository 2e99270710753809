//! `cnc folds`: a fold that an entry stops, and what an operator does about it.

use serde_json::Value;

use super::{Operator, audit::tamper, bring_in, file, import::day, text, until};

/// The events of a company's journey, one of which is made so that no fold can read it. Gives its position, and the SQL
/// that makes it whole again.
fn poisoned(operator: &Operator) -> (String, u64, String) {
    let company = operator.found("Poisoned Movers");
    let csv = file(operator, "day.csv", day(1, 3).as_bytes());
    operator.ok(&bring_in(text(&csv), &company));
    let database = rusqlite::Connection::open(operator.data().join("ledger.db")).expect("opens");
    let departed = "SELECT position, payload FROM events WHERE event = 'departed' ORDER BY position LIMIT 1";
    let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, u64>(0)?, row.get::<_, String>(1)?));
    let (position, payload) = database.query_row(departed, [], row).expect("a departure");
    drop(database);
    tamper(operator, &format!("UPDATE events SET payload = '{{}}' WHERE position = {position}"));
    (company, position, format!("UPDATE events SET payload = '{payload}' WHERE position = {position}"))
}

/// How all folds stand.
fn status(operator: &Operator) -> Vec<Value> {
    operator.ok(&["folds", "status", "--json"]).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn stopped(operator: &Operator, fold: &str) -> bool {
    status(operator).iter().any(|found| found["fold"] == fold && !found["poison"].is_null())
}

#[test]
fn an_operator_skips_the_entry_that_stops_a_fold_or_mends_it_and_lets_the_fold_try_again() {
    let operator = Operator::new();
    let (company, position, mend) = poisoned(&operator);
    let server = operator.serve();
    until("two folds that are stopped", || stopped(&operator, "dispatch_board") && stopped(&operator, "journey_track"));
    let shown = operator.ok(&["folds", "status"]);
    assert!(shown.contains(&format!("{position}: ")), "{shown}");

    // Beside the running server, on the record; the others stay where they are.
    let skip = ["folds", "skip", "dispatch_board", "--company", &company, "--by", "ann"];
    let skipped = operator.json(&skip);
    assert_eq!((&skipped["fold"], &skipped["position"]), (&"dispatch_board".into(), &position.into()), "{skipped}");
    until("a board that goes on", || {
        status(&operator).iter().any(|found| found["fold"] == "dispatch_board" && found["lag"] == 0)
    });
    assert_eq!(operator.run(&skip).status, 3, "nothing is left to skip");
    assert!(stopped(&operator, "journey_track"));
    drop(server);

    tamper(&operator, &mend);
    operator.ok(&["audit", "verify", "--company", &company]);
    assert_eq!(operator.json(&["folds", "retry", "journey_track"])["retried"], 1);
    assert!(operator.json(&["folds", "retry"])["retried"].as_u64() >= Some(1));
    let server = operator.serve();
    until("folds that are whole", || {
        status(&operator).iter().all(|found| found["lag"] == 0 && found["poison"].is_null())
    });
    drop(server);
    operator.ok(&["folds", "verify"]);
}

#[test]
fn a_fold_is_built_anew_beside_a_server_and_what_it_replaced_is_dropped() {
    for operator in [Operator::new(), Operator::postgres()] {
        let company = operator.found("Renewed Movers");
        let csv = file(&operator, "day.csv", day(1, 3).as_bytes());
        operator.ok(&bring_in(text(&csv), &company));
        let _server = operator.serve();
        until("a board", || {
            let status = status(&operator);
            !status.is_empty() && status.iter().all(|found| found["lag"] == 0)
        });
        let built = operator.json(&["folds", "rebuild", "dispatch_board", "--company", &company]);
        assert_eq!(built["stopped"], Value::Null, "{built}");
        let pruned = operator.json(&["folds", "prune"]);
        assert_eq!((&pruned["builds"], &pruned["kept"]), (&1.into(), &0.into()), "{pruned}");
        assert!(pruned["documents"].as_u64() >= Some(1), "{pruned}");
        assert!(operator.ok(&["folds", "prune"]).contains("dropped 0 builds"));
        operator.ok(&["folds", "verify"]);
    }
}

#[test]
fn a_fold_that_is_not_there_cannot_be_looked_after() {
    let operator = Operator::new();
    let company = operator.found("Small Movers");
    for arguments in [
        &["folds", "rebuild", "no_such_fold"][..],
        &["folds", "retry", "no_such_fold"],
        &["folds", "skip", "no_such_fold", "--company", &company, "--by", "ann"],
        &["folds", "skip", "dispatch_board", "--company", &company, "--by", "ann"],
    ] {
        let came = operator.run(arguments);
        assert_eq!(came.status, 3, "{arguments:?}: {}", came.err);
    }
    assert_eq!(operator.json(&["folds", "retry"])["retried"], 0);
    assert_eq!(operator.json(&["folds", "prune"])["builds"], 0);
}
