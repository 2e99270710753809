//! `cnc folds`: a fold that an entry stops, and what an operator does about it.

use reqwest::header::HeaderMap;
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

/// What a server answers whoever holds this token.
fn get(address: &str, path: &str, token: &str) -> (HeaderMap, String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let request = reqwest::Client::new().get(format!("http://{address}{path}")).bearer_auth(token);
        let answer = request.send().await.expect("answers");
        (answer.headers().clone(), answer.text().await.expect("is text"))
    })
}

/// The same as JSON, with what it says of the view's health.
fn view(address: &str, path: &str, token: &str) -> (Option<String>, Value) {
    let (headers, text) = get(address, path, token);
    let health = headers.get("cnc-view-health").map(|health| health.to_str().expect("is text").to_owned());
    (health, serde_json::from_str(&text).unwrap_or_else(|_| panic!("is JSON: {text}")))
}

#[test]
fn a_stopped_or_skipped_fold_is_said_wherever_somebody_relies_on_it() {
    let operator = Operator::new();
    let (company, position, _) = poisoned(&operator);
    let server = operator.serve();
    let token = operator.token(&company, "admin");
    let ask = |path: &str| view(&server.address, path, token.trim());
    let warned = |state: &str| {
        let (health, alerts) = ask("/v1/views/alerts?kind=fold_stopped");
        assert_eq!(health, None, "of the alerts nothing is wrong");
        let rows = alerts["rows"].as_array().expect("has rows").clone();
        rows.iter().map(|row| &row["doc"]).any(|alert| {
            let facts = &alert["facts"];
            facts["fold"] == "dispatch_board" && facts["position"] == position && alert["state"] == state
        })
    };
    until("an alert", || warned("raised"));
    let (health, board) = ask("/v1/views/dispatch_board");
    assert_eq!(health, Some(format!("stopped;position={position}")));
    assert_eq!((&board["health"]["stopped_at"], &board["health"]["skipped"]), (&position.into(), &0.into()), "{board}");
    let (_, ready) = ask("/health/ready");
    assert_eq!(ready["status"], "ready");
    let folds = || ask("/health/ready").1["parts"]["folds"].as_str().unwrap_or_default().to_owned();
    assert!(folds().contains("dispatch_board is stopped for 1 company"), "{}", folds());

    operator.ok(&["folds", "skip", "dispatch_board", "--company", &company, "--by", "ann"]);
    until("a board that goes on", || {
        status(&operator).iter().any(|found| found["fold"] == "dispatch_board" && found["lag"] == 0)
    });
    assert_eq!(ask("/v1/views/dispatch_board").0.as_deref(), Some("skipped;entries=1"));
    until("a readiness that says so", || folds().contains("dispatch_board lacks skipped entries for 1 company"));
    until("an alert that is settled", || warned("resolved"));
    assert!(operator.ok(&["folds", "status"]).contains("1 entries are skipped"));
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
