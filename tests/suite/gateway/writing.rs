//! Giving commands: once, in order, and with answers that say what happened.

use cnc_domain::{
    kernel::Timestamp,
    ledger::{Append, Idempotency},
};
use cnc_tests::{
    fixtures,
    mover::{Mover, answered},
    system::{Running, Shape},
};
use reqwest::Method;
use serde_json::{Value, json};

use super::mover;
use crate::ledger::{Ground, company, founding, on_both, within};

on_both!(
    the_same_key_gives_the_same_answer_and_another_body_is_refused,
    a_phone_that_was_refused_for_the_order_tries_again_under_the_same_key,
    if_match_takes_the_etag_and_refuses_an_old_one,
    a_rules_refusal_is_409_with_its_code_and_facts,
    answers_of_years_ago_are_forgotten_after_a_start,
);

async fn the_same_key_gives_the_same_answer_and_another_body_is_refused(ground: Ground) {
    let mover = mover(ground).await;
    let admin = mover.token("admin").await;
    let path = format!("/v1/location/{}/rename", mover.branches[0]);
    let give = |name: &'static str| {
        let request = mover.request(Method::POST, &path).bearer_auth(&admin).header("idempotency-key", "one");
        answered(request.json(&json!({ "name": name })))
    };
    let first = give("North").await;
    assert!(!first.headers.contains_key("idempotent-replayed"));
    let first = first.good();
    let head = mover.head().await;
    assert_eq!(first["recorded"], 1);
    let again = give("North").await;
    assert_eq!(again.headers["idempotent-replayed"], "true");
    assert_eq!(again.good(), first);
    // A device that read its command and wrote it anew.
    let rewritten = mover.request(Method::POST, &path).bearer_auth(&admin).header("idempotency-key", "one");
    let rewritten = rewritten.header("content-type", "application/json").body(" {\"n\\u0061me\" :\n\"No\\u0072th\"} ");
    assert_eq!(answered(rewritten).await.good(), first);
    give("South").await.problem(422, "idempotency_key_reused");
    assert_eq!(mover.head().await, head);
}

/// A phone that was offline sends what it kept, in whatever order it gets through, each under the key that it was given.
async fn a_phone_that_was_refused_for_the_order_tries_again_under_the_same_key(ground: Ground) {
    let mover = mover(ground).await;
    let (admin, dispatcher) = (mover.token("admin").await, mover.token("dispatcher").await);
    let [journey, driver, stop] = [(); 3].map(|()| uuid::Uuid::now_v7());
    let mut plan = fixtures::journey(mover.trucks[0], mover.branches[0].uuid(), 10..12);
    plan["stops"][0]["stop"] = json!(stop);
    let hire = json!({ "name": "Ada", "phone": "+1 902 555 0100", "roles": ["driver"],
        "home_location": mover.branches[0], "hourly_rate": 3_000, "employment_class": "provincial", "duty": "general",
        "province": "CA-NS", "licence": { "class": "heavy", "expires": "9999-12-31T00:00:00Z" } });
    let crew = json!({ "members": [{ "member": driver, "driver": true }] });
    mover.post(&admin, &format!("/v1/crew_member/{driver}/hire"), &hire).await.good();
    for (step, body) in [("plan", plan), ("assign_crew", crew), ("dispatch", json!({})), ("acknowledge", json!({}))] {
        mover.post(&dispatcher, &format!("/v1/truck_journey/{journey}/{step}"), &body).await.good();
    }
    let place = json!({ "lat_e7": 446_000_000, "lon_e7": -635_000_000 });
    let send = |step: &'static str, key: &'static str, body: Value| {
        let request = mover.request(Method::POST, &format!("/v1/truck_journey/{journey}/{step}"));
        answered(request.bearer_auth(&dispatcher).header("idempotency-key", key).json(&body))
    };
    let arrive = || send("arrive", "phone-2", json!({ "stop": stop, "position": place }));
    let depart = || send("depart", "phone-1", json!({ "to": stop, "position": place }));
    let early = arrive().await;
    assert_eq!((early.status.as_u16(), early.headers.contains_key("idempotent-replayed")), (409, false));
    let departed = depart().await.good();
    let arrived = arrive().await;
    assert!(!arrived.headers.contains_key("idempotent-replayed"));
    let arrived = arrived.good();
    for (again, first) in [(depart().await, departed), (arrive().await, arrived)] {
        assert_eq!(again.headers["idempotent-replayed"], "true");
        assert_eq!(again.good(), first);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_required_and_bounded() {
    let mover = Mover::start().await;
    let admin = mover.token("admin").await;
    let path = format!("/v1/location/{}/rename", mover.branches[0]);
    let bare = || mover.request(Method::POST, &path).bearer_auth(&admin).json(&json!({ "name": "x" }));
    answered(bare()).await.problem(400, "idempotency_key");
    answered(bare().header("idempotency-key", "k".repeat(201))).await.problem(400, "idempotency_key");
    answered(bare().header("idempotency-key", "k".repeat(200))).await.good();
}

async fn if_match_takes_the_etag_and_refuses_an_old_one(ground: Ground) {
    let mover = mover(ground).await;
    let admin = mover.token("admin").await;
    let path = format!("/v1/location/{}", mover.branches[0]);
    let etag = mover.get(&admin, &path).await.headers["etag"].clone();
    let rename = |key: &'static str, tag: reqwest::header::HeaderValue, name: &'static str| {
        let request = mover.request(Method::POST, &format!("{path}/rename")).bearer_auth(&admin);
        answered(request.header("idempotency-key", key).header("if-match", tag).json(&json!({ "name": name })))
    };
    let done = rename("a", etag.clone(), "North").await;
    assert_eq!(done.headers["etag"], "\"2\"");
    done.good();
    let head = mover.head().await;
    assert_eq!(rename("b", etag, "South").await.problem(412, "sequence_mismatch")["sequence"], 2);
    rename("c", "2".parse().expect("is a value"), "South").await.problem(400, "if_match");
    assert_eq!(mover.head().await, head);
}

async fn a_rules_refusal_is_409_with_its_code_and_facts(ground: Ground) {
    let mover = mover(ground).await;
    let dispatcher = mover.token("dispatcher").await;
    let path = format!("/v1/truck_journey/{}", mover.journeys[0]);
    let refused = mover.post(&dispatcher, &format!("{path}/depart"), &json!({})).await;
    assert_eq!(refused.status, 409, "{}", refused.body);
    assert!(refused.body["facts"].is_object() && refused.body["detail"].is_string());
    assert_eq!(refused.body["type"], format!("/problems/{}", refused.body["code"].as_str().expect("has a code")));
    // Another journey wants the same truck at the same time: its owner says no, and says who it is.
    let other = format!("/v1/truck_journey/{}/plan", uuid::Uuid::now_v7());
    let refused = mover.post(&dispatcher, &other, &mover.plan(0)).await;
    assert_eq!(refused.status, 409, "{}", refused.body);
    assert_eq!(refused.body["by"].as_str().map(|by| by.contains("truck")), Some(true), "{}", refused.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_that_do_not_fit_are_named() {
    let mover = Mover::start().await;
    let mut plan = mover.plan(0);
    plan["recommended_crew"] = json!("two");
    plan["colour"] = json!("red");
    plan["stops"][0]["address"] = json!("   ");
    let path = format!("/v1/truck_journey/{}/plan", uuid::Uuid::now_v7());
    let refused = mover.post(&mover.token("dispatcher").await, &path, &plan).await.problem(422, "malformed");
    let errors = refused["errors"].as_array().expect("is a list").clone();
    for field in ["recommended_crew", "colour", "address"] {
        assert!(
            errors.iter().any(|error| error["path"].as_str().is_some_and(|path| path.contains(field))),
            "{errors:?}"
        );
    }
}

async fn answers_of_years_ago_are_forgotten_after_a_start(ground: Ground) {
    let ledger = match &ground {
        Ground::Sqlite(_) => None,
        Ground::Postgres(url) => Some(url.clone()),
    };
    let shape = Shape { ledger: ledger.clone(), ..Shape::default() };
    let running = Running::shaped(shape).await.expect("starts");
    // A refused founding records nothing but its answer.
    let refused = |key: &str, for_ever| Append {
        now: Timestamp::from_seconds(1_600_000_000),
        drafts: Vec::new(),
        idempotency: Some(Idempotency {
            actor: "user:1".into(),
            for_ever,
            refusals: true,
            key: key.into(),
            fingerprint: [7; 32],
        }),
        ..founding(company(1))
    };
    let batch = vec![refused("a person's", false), refused("a tool's", true)];
    running.system.rooms.ledger.append(batch).await.expect("no fault");
    let running = running.restart(ledger).await.expect("starts again");
    let knows = async |key| {
        let answered = running.system.rooms.ledger.answered(company(1), "user:1", key).await;
        answered.expect("is read").is_some()
    };
    within("the answer is forgotten", async { while knows("a person's").await {} }).await;
    assert!(knows("a tool's").await);
    running.stop().await;
}
