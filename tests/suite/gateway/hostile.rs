//! Bodies and requests made to break things: each gets a clear 4xx, and nothing is recorded.

use cnc_tests::mover::{Mover, answered};
use reqwest::Method;
use uuid::Uuid;

use super::mover;
use crate::ledger::{Ground, on_both};

on_both!(
    hostile_bodies_are_refused_and_leave_nothing_behind,
    hostile_paths_and_queries_are_refused,
    the_character_that_no_text_has_is_refused_wherever_it_is_asked_for,
);

async fn hostile_bodies_are_refused_and_leave_nothing_behind(ground: Ground) {
    let mover = mover(ground).await;
    let dispatcher = mover.token("dispatcher").await;
    let good = mover.plan(0).to_string();
    let deep = |count: usize| format!("{}{}", "[".repeat(count), "]".repeat(count));
    let with = |member: &str| format!("{{{member},{}", &good[1..]);
    let crew = |value: &str| good.replace("\"recommended_crew\":2", &format!("\"recommended_crew\":{value}"));
    let bodies = [
        "nonsense".to_owned(),
        "{".into(),
        "[]".into(),
        "null".into(),
        "\"text\"".into(),
        "{}{}".into(),
        format!("{good} trailing"),
        "\u{feff}{}".into(),
        deep(100_000),
        with(&format!("\"deep\":{}", deep(40))),
        with(&format!("\"truck\":{}", deep(20))),
        with("\"truck\":\"0192\""),
        with("\"unknown\":1"),
        with("\"\\u0000\":1"),
        with("\"__proto__\":{}"),
        crew("2.0"),
        crew("2e0"),
        crew("-1"),
        crew("-0"),
        crew("99999999999999999999999999"),
        crew("9007199254740993"),
        crew("1e400"),
        crew("NaN"),
        crew("true"),
        crew("\"2\""),
        crew("null"),
        crew("{}"),
        good.replace("Planted", "Plan\\u0000ted"),
        good.replace("Planted", "Plan\\ud800ted"),
        good.replace("\"load\"", "\"teleport\""),
        good.replace("\"kind\":\"load\"", "\"kind\":\"load\",\"kind\":\"load\""),
        good.replace("Planted", &"x".repeat(100_000)),
        good.replace("Planted", &"x".repeat(300 * 1024)),
    ];
    let before = mover.head().await;
    for body in bodies {
        let path = format!("/v1/truck_journey/{}/plan", Uuid::now_v7());
        let request = mover.request(Method::POST, &path).bearer_auth(&dispatcher);
        let request = request.header("idempotency-key", Uuid::now_v7().to_string());
        let shown: String = body.chars().take(120).collect();
        let answer = answered(request.header("content-type", "application/json").body(body)).await;
        let status = answer.status.as_u16();
        assert!([400, 413, 422].contains(&status), "{shown}: {status} {}", answer.body);
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{shown}");
        let text = answer.body.to_string();
        assert!(!text.contains("Planted") && !text.to_lowercase().contains("select "), "{shown}: {text}");
        assert_eq!(mover.head().await, before, "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_not_text_or_not_json_are_refused() {
    let mover = Mover::start().await;
    let dispatcher = mover.token("dispatcher").await;
    let path = format!("/v1/truck_journey/{}/plan", Uuid::now_v7());
    let request = |kind: &'static str, body: Vec<u8>| {
        let request = mover.request(Method::POST, &path).bearer_auth(&dispatcher);
        answered(request.header("idempotency-key", Uuid::now_v7().to_string()).header("content-type", kind).body(body))
    };
    request("application/json", vec![b'{', 0xff, 0xfe, b'}']).await.problem(400, "not_json");
    request("text/plain", b"{}".to_vec()).await.problem(415, "unsupported_media_type");
    request("application/x-www-form-urlencoded", b"a=b".to_vec()).await.problem(415, "unsupported_media_type");
    request("application/json", vec![b' '; 256 * 1024 + 1]).await.problem(413, "too_large");
}

async fn hostile_paths_and_queries_are_refused(ground: Ground) {
    let mover = mover(ground).await;
    let admin = mover.token("admin").await;
    let id = mover.journeys[0];
    for path in [
        format!("/v1/truck_journey/{}", id.to_string().to_uppercase()),
        format!("/v1/truck_journey/{}", id.simple()),
        "/v1/truck_journey/..%2f..%2fetc%2fpasswd".into(),
        "/v1/truck_journey/%00".into(),
        "/v1/truck_journey/%ff".into(),
        format!("/v1/truck_journey/{id}?as_of=-1"),
        format!("/v1/truck_journey/{id}?as_of=99999999999999999999"),
        format!("/v1/truck_journey/{id}?colour=red"),
        "/v1/views/dispatch_board?cursor=%00".into(),
        "/v1/views/dispatch_board?stage='%20or%201=1--%20&x=1".into(),
        "/v1/views/dispatch_board?sort=doc;drop%20table".into(),
        "/v1/views/dispatch_board/%ff".into(),
        "/v1/views/'%20or%20'1'='1".into(),
        "/v1/ledger?after=-1".into(),
        "/v1/ledger?after=1e3".into(),
        format!("/v1/truck_journey/{id}/history?limit=1000000"),
    ] {
        let answer = mover.get(&admin, &path).await;
        assert!(answer.status.is_client_error(), "{path}: {} {}", answer.status, answer.body);
        assert!(answer.body["code"].is_string(), "{path}: {}", answer.body);
    }
    let answer = mover.get(&admin, "/v1/views/dispatch_board?stage='%20or%201=1--").await;
    assert!(answer.status.is_client_error() || answer.body["rows"] == serde_json::json!([]), "{}", answer.body);
    mover.get(&admin, "/v1/views/dispatch_board/'%20or%20'1'='1").await.problem(404, "not_found");
}

/// Postgres takes U+0000 for no text at all, and says so as a fault of whoever asks it.
async fn the_character_that_no_text_has_is_refused_wherever_it_is_asked_for(ground: Ground) {
    let mover = mover(ground).await;
    let admin = mover.token("admin").await;
    for key in ["%00", "a%00b", "%00?as_of=1"] {
        mover.get(&admin, &format!("/v1/views/dispatch_board/{key}")).await.problem(400, "bad_path");
    }
    for query in ["stage=%00", "stage=a%00b", "location=%00", "sort=%00", "cursor=%00", "%00=1"] {
        mover.get(&admin, &format!("/v1/views/dispatch_board?{query}")).await.problem(400, "bad_query");
    }
    mover.get(&admin, "/v1/views/dispatch_board/%2500").await.problem(404, "not_found");
}
