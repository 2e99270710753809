//! What is around every request: its id, a bound on its time, a net under panics, a count, a line in the log, and headers
//! that tell a browser to trust nothing.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Instant};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, Method, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures::FutureExt;
use uuid::Uuid;

use super::App;
use crate::problem::Problem;

/// Names a request in answers and in the log.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const HEADERS: [(HeaderName, &str); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
];

/// Times, bounds, counts and logs a request. The log has the route's template, never its query or body. Every answer gets
/// the headers that harden it, where it has none of its own.
pub async fn around(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = request.method().clone();
    let id = Uuid::now_v7();
    let answer = AssertUnwindSafe(tokio::time::timeout(app.limits.request, next.run(request))).catch_unwind();
    let mut response = match answer.await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => Problem::timed_out().into_response(),
        Err(_) => Problem::broken("answering a request", "a panic; see the log before this line").into_response(),
    };
    let (status, took) = (response.status().as_u16(), started.elapsed());
    let (route, verb) = (route.as_ref().map_or("unknown", MatchedPath::as_str), verb(&method));
    app.metrics.request(route, verb, status, took);
    // What went well is counted above; a line for each would say no more than that.
    if status < 400 {
        tracing::debug!(request = %id, route, method = verb, status, took_ms = took.as_millis(), "answered");
    } else {
        tracing::info!(request = %id, route, method = verb, status, took_ms = took.as_millis(), "answered");
    }
    let headers = response.headers_mut();
    headers.reserve(HEADERS.len() + 1);
    headers.extend(
        HeaderValue::from_str(id.as_hyphenated().encode_lower(&mut Uuid::encode_buffer()))
            .ok()
            .map(|id| (REQUEST_ID, id)),
    );
    for (name, value) in HEADERS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

/// A method as a label. One that HTTP does not know would let a caller make up labels.
fn verb(method: &Method) -> &'static str {
    ["GET", "HEAD", "POST", "OPTIONS"].into_iter().find(|known| *known == method.as_str()).unwrap_or("other")
}
