//! What a server logs of what it was asked.

use cnc_tests::{fixtures, mover::answered};
use reqwest::Client;
use serde_json::Value;
use uuid::Uuid;

use super::Operator;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_in_the_log_with_what_refused_it_and_without_what_was_sent() {
    let operator = Operator::new();
    let company = operator.found("Talking Movers");
    let token = operator.token(&company, "admin");
    let server = operator.serve();
    let branch = Uuid::now_v7();
    let request = Client::new().post(format!("http://{}/v1/location/{branch}/open", server.address));
    let mut opening = fixtures::branch("Planted Name");
    opening["timezone"] = "Nowhere".into();
    let request = request.bearer_auth(&token).header("idempotency-key", "k").json(&opening);
    let refused = answered(request).await;
    assert_eq!(refused.status, 409, "{}", refused.body);
    server.says(&["rejected by a business rule"]);
    let log = server.log();
    let line = log.lines().find(|line| line.contains("rejected by a business rule")).expect("is there");
    let said: Value = serde_json::from_str(line).expect("JSON");
    let fields = &said["fields"];
    assert_eq!(fields["code"], refused.body["code"]);
    assert_eq!((fields["company"].as_str(), fields["stream"].as_str()), (Some(company.as_str()), Some("location")));
    assert_eq!((fields["id"].as_str(), fields["command"].as_str()), (Some(&*branch.to_string()), Some("open")));
    assert!(fields["command_id"].as_str().is_some_and(|id| id.parse::<Uuid>().is_ok()), "{line}");
    assert!(!log.contains("Planted Name"), "{log}");
}
