//! The API's description against what is really answered: no answer has a member that its schema lacks.

use std::time::Instant;

use cnc_gateway::{catalog::catalog, openapi::openapi};
use cnc_tests::{
    fixtures,
    mover::{Answered, Mover, answered},
    system::PATIENCE,
};
use serde_json::{Value, json};
use uuid::Uuid;

/// Fails where an answer to `verb` on the path `template` has a member that the description lacks.
#[track_caller]
pub fn is_described(template: &str, verb: &str, answer: Answered) -> Value {
    let document = openapi();
    let status = answer.status.as_str().to_owned();
    let response = resolved(&document, &document["paths"][template][verb]["responses"][&status]);
    let content = response["content"].as_object().unwrap_or_else(|| panic!("{verb} {template} lacks {status}"));
    let schema = &content.values().next().expect("has a media type")["schema"];
    let mut found = Vec::new();
    undescribed(&document, schema, &answer.body, "", &mut found);
    assert!(found.is_empty(), "{verb} {template} {status} has members that its schema lacks: {found:?}");
    answer.body
}

fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    let target = schema["$ref"].as_str().and_then(|reference| document.pointer(reference.strip_prefix('#')?));
    target.unwrap_or(schema)
}

/// Collects the paths of members that a schema lacks. One that names no members takes any.
fn undescribed(document: &Value, schema: &Value, answer: &Value, at: &str, found: &mut Vec<String>) {
    let schema = resolved(document, schema);
    if let Some(choices) = schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array()) {
        let lacks = choices.iter().map(|choice| {
            let mut lacks = Vec::new();
            undescribed(document, choice, answer, at, &mut lacks);
            lacks
        });
        found.extend(lacks.min_by_key(Vec::len).unwrap_or_default());
        return;
    }
    for (place, item) in answer.as_array().into_iter().flatten().enumerate() {
        undescribed(document, &schema["items"], item, &format!("{at}/{place}"), found);
    }
    let Some(members) = schema["properties"].as_object() else { return };
    for (name, value) in answer.as_object().into_iter().flatten() {
        let at = format!("{at}/{name}");
        match members.get(name).or_else(|| schema.get("additionalProperties").filter(|others| others.is_object())) {
            Some(member) => undescribed(document, member, value, &at, found),
            None => found.push(at),
        }
    }
}

/// A mover with something in every view.
async fn eventful() -> Mover {
    let mover = Mover::start().await;
    let (admin, journey) = (mover.token("admin").await, mover.journeys[0]);
    let fixes = json!([{ "at": "2026-01-01T00:00:00.000000Z", "lat_e7": 1, "lon_e7": 2 }]);
    let chunk = json!({ "device": Uuid::now_v7(), "chunk": 0, "fixes": fixes });
    mover.post(&admin, &format!("/v1/truck_journey/{journey}/record_gps"), &chunk).await.good();
    let late = fixtures::late_journey(mover.trucks[0], mover.branches[0].uuid(), fixtures::now(), 1);
    mover.post(&admin, &format!("/v1/truck_journey/{}/plan", Uuid::now_v7()), &late).await.good();
    mover
}

/// The first page of a view that has rows. What triggers lead to comes by itself, with some entry that is yet to come.
async fn first_page(mover: &Mover, view: &str) -> Answered {
    let (mut at_least, begun) = (mover.head().await, Instant::now());
    while begun.elapsed() < PATIENCE {
        let page = mover.get(&mover.token("admin").await, &format!("/v1/views/{view}?at_least={at_least}")).await;
        if page.body["rows"][0].is_object() {
            return page;
        }
        at_least = page.body["position"].as_u64().expect("is a position") + 1;
    }
    panic!("{view} has no rows");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_row_page_or_state_has_a_member_that_its_schema_lacks() {
    let mover = eventful().await;
    let admin = mover.token("admin").await;
    let get = async |path: String| mover.get(&admin, &path).await;
    for view in catalog().views() {
        let view = view.name();
        let template = format!("/v1/views/{view}");
        let page = first_page(&mover, view).await;
        let key = page.body["rows"][0]["key"].as_str().expect("is text").to_owned();
        is_described(&template, "get", page);
        is_described(&format!("{template}/{{key}}"), "get", get(format!("{template}/{key}")).await);
        let past = format!("{template}/{key}?as_of={}", mover.head().await);
        is_described(&format!("{template}/{{key}}"), "get", get(past).await);
    }
    for (stream, id) in [("truck_journey", mover.journeys[0]), ("truck", mover.trucks[0])] {
        is_described(&format!("/v1/{stream}/{{id}}"), "get", get(format!("/v1/{stream}/{id}")).await);
        is_described(&format!("/v1/{stream}/{{id}}/history"), "get", get(format!("/v1/{stream}/{id}/history")).await);
    }
    is_described("/v1/ledger/head", "get", get("/v1/ledger/head".into()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_to_a_command_and_no_problem_has_a_member_that_its_schema_lacks() {
    let mover = Mover::start().await;
    let (admin, journey) = (mover.token("admin").await, mover.journeys[0]);
    let give = async |id: Uuid, command: &str, body: &Value| {
        let answer = mover.post(&admin, &format!("/v1/truck_journey/{id}/{command}"), body).await;
        let status = answer.status.as_u16();
        (status, is_described(&format!("/v1/truck_journey/{{id}}/{command}"), "post", answer))
    };
    assert_eq!(give(journey, "tag", &json!({ "tag": "heavy" })).await.0, 200);
    assert_eq!(give(journey, "tag", &json!({ "no_such_field": 1 })).await.0, 422);
    assert_eq!(give(journey, "depart", &json!({})).await.0, 409);
    let (status, rejected) = give(Uuid::now_v7(), "plan", &mover.plan(0)).await;
    assert_eq!((status, &rejected["by"]), (409, &json!(format!("truck/{}", mover.trucks[0]))), "{rejected}");
    let path = format!("/v1/truck_journey/{journey}/tag");
    let stale = mover.request(reqwest::Method::POST, &path).bearer_auth(&admin).header("idempotency-key", "k");
    let stale = answered(stale.header("if-match", "\"999\"").json(&json!({ "tag": "late" }))).await;
    assert!(is_described("/v1/truck_journey/{id}/tag", "post", stale)["sequence"].is_u64());
    let ahead = format!("/v1/views/alerts?at_least={}", mover.head().await + 1_000);
    assert!(is_described("/v1/views/alerts", "get", mover.get(&admin, &ahead).await)["position"].is_u64());
    is_described("/v1/live", "get", mover.get(&admin, "/v1/live").await);
}
