//! What is refused before anything looks at its meaning: each time as a problem that says why.

use cnc_tests::mover::{Mover, answered};
use reqwest::Method;
use uuid::Uuid;

use super::holding::{heard, says};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_under_v1_says_what_is_there_to_who_has_no_token() {
    let mover = Mover::start().await;
    let token = mover.token("admin").await;
    let id = mover.journeys[0];
    for (method, path, status, code) in [
        (Method::GET, "/v1/nothing".to_owned(), 404, "not_found"),
        (Method::GET, "/v1".into(), 404, "not_found"),
        (Method::GET, "/v1/".into(), 404, "not_found"),
        (Method::GET, format!("/v1/nothing/{id}/history/more"), 404, "not_found"),
        (Method::DELETE, "/v1/ledger".into(), 405, "method_not_allowed"),
        (Method::PUT, format!("/v1/truck_journey/{id}"), 405, "method_not_allowed"),
        (Method::GET, format!("/v1/truck_journey/{id}/depart"), 405, "method_not_allowed"),
    ] {
        let bare = answered(mover.request(method.clone(), &path)).await;
        assert_eq!(bare.status, 401, "{path}");
        bare.problem(401, "unauthenticated");
        answered(mover.request(method, &path).bearer_auth(&token)).await.problem(status, code);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_encoded_or_broken_is_the_callers_fault() {
    let mover = Mover::start().await;
    let token = mover.token("dispatcher").await;
    let path = format!("/v1/truck_journey/{}/tag", mover.journeys[0]);
    let request = mover.request(Method::POST, &path).bearer_auth(&token).header("idempotency-key", "k");
    let encoded = answered(request.header("content-encoding", "gzip").body("{\"tag\":\"late\"}")).await;
    assert_eq!(encoded.headers["accept-encoding"], "identity");
    encoded.problem(415, "encoded_body");
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\nauthorization: Bearer {token}\r\nidempotency-key: k\r\n\
         transfer-encoding: chunked\r\n\r\n"
    );
    for body in ["zz\r\n{}\r\n0\r\n\r\n", "2\r\n{}}}}\r\n0\r\n\r\n", "-1\r\n{}\r\n0\r\n\r\n"] {
        let answer = heard(says(&mover, &format!("{head}{body}")).await).await;
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("\"code\":\"bad_body\""), "{body:?}: {answer}");
    }
    let answer = heard(says(&mover, &format!("{head}e\r\n{{\"tag\":\"late\"}}\r\n0\r\n\r\n")).await).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_too_much_is_refused_with_a_problem() {
    let mover = Mover::start().await;
    let long = "x".repeat(9 << 10);
    answered(mover.request(Method::GET, &format!("/{long}"))).await.problem(414, "target_too_long");
    answered(mover.request(Method::GET, &format!("/health/live?{long}"))).await.problem(414, "target_too_long");
    let large = ["a", "b", "c"]
        .iter()
        .fold(mover.request(Method::GET, "/health/live"), |request, name| request.header(format!("x-{name}"), &long));
    answered(large).await.problem(431, "head_too_large");
    let many = (0..150).fold(mover.request(Method::GET, "/health/live"), |request, nth| {
        request.header(format!("x-{nth}"), Uuid::now_v7().to_string())
    });
    answered(many).await.problem(431, "head_too_large");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_changes_is_sent_once() {
    let mover = Mover::start().await;
    for path in ["/openapi.json", "/docs"] {
        let first = answered(mover.request(Method::GET, path)).await;
        let tag = first.headers["etag"].clone();
        assert_eq!(first.headers["vary"], "accept-encoding", "{path}");
        let again = mover.request(Method::GET, path).header("if-none-match", tag);
        assert_eq!(answered(again).await.status, 304, "{path}");
        let small = mover.request(Method::GET, path).header("accept-encoding", "gzip").send().await.expect("answers");
        assert_eq!(small.headers()["content-encoding"], "gzip", "{path}");
        let size = small.bytes().await.expect("reads").len();
        assert!(size > 500 && size < first.body.to_string().len() / 2, "{path}: {size}");
    }
}
