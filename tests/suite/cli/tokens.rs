//! Whom a company lets in, and by which tokens, as an operator says it.

use cnc_domain::ledger::Entry;
use serde_json::{Value, json};

use super::{Operator, PATIENCE};

#[test]
fn tokens_are_issued_to_those_whom_the_company_knows_listed_and_taken_back() {
    let operator = Operator::new();
    let company = operator.found("Known Movers");
    let user = operator.invite(&company, "admin");
    let register =
        ["service-account", "register", "--company", &company, "--role", "auditor", "--name", "Night export"];
    let account = operator.ok(&register).trim().to_owned();
    for bearer in [["--user", &user], ["--service-account", &account]] {
        let of = |verb: &'static str| [&["token", verb, "--company", &company], &bearer[..]].concat();
        let issued = operator.json(&[&of("issue")[..], &["--hours", "2"]].concat());
        let (id, token) = (issued["id"].as_str().expect("an id"), issued["token"].as_str().expect("a token"));
        assert_eq!(operator.json(&of("list"))["id"], id);
        operator.ok(&[&of("revoke")[..], &[id]].concat());
        assert!(operator.ok(&of("list")).contains("no token"));
        assert_eq!(operator.run(&[&of("revoke")[..], &[id]].concat()).status, 3, "it is taken back already");
        // Who issued which token to whom until when is on the record, and the token itself is not.
        let lines = operator.export(&company);
        let entries = lines.iter().map(|line| Entry::read(line).expect("an entry"));
        let told: Vec<(String, Value)> = entries
            .filter(|entry| entry.event.starts_with("token_") && bearer[1] == entry.id.to_string())
            .map(|entry| (entry.event, serde_json::from_str(entry.payload.get()).expect("JSON")))
            .collect();
        let [(one, first), (two, second)] = told.as_slice() else { panic!("two entries, not {told:?}") };
        assert_eq!((one.as_str(), two.as_str()), ("token_issued", "token_revoked"));
        assert_eq!((&first["token"], &first["expires"]), (&json!(id), &issued["expires"]));
        assert_eq!(second["token"], id);
        assert!(!lines.join("\n").contains(token));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_company_is_reopened_by_its_operator() {
    let operator = Operator::new();
    let company = operator.found("Closed Movers");
    let token = operator.token(&company, "admin");
    let server = operator.serve();
    let url = |path: &str| format!("http://{}/v1/{path}", server.address);
    let client = reqwest::Client::new();
    let close = client.post(url(&format!("company/{company}/close"))).bearer_auth(&token);
    let close = close.header("idempotency-key", "k").json(&json!({ "reason": "a mistake" }));
    assert_eq!(close.send().await.expect("answers").status(), 200);
    let read = async || client.get(url("views/alerts")).bearer_auth(&token).send().await.expect("answers").status();
    assert_eq!(read().await, 403);
    assert!(operator.ok(&["company", "reopen", &company]).contains("is open again"));
    let begun = std::time::Instant::now();
    while read().await != 200 {
        assert!(begun.elapsed() < PATIENCE, "the server does not hear of it");
    }
    assert!(operator.ok(&["company", "reopen", &company]).contains("was not closed"));
}
