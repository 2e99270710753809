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
use tracing::field::display;
use uuid::Uuid;

use super::{app::App, extract::OfCompany};
use crate::{
    limits::Limits,
    problem::{Code, Problem},
};

/// Names a request in answers and in the log.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const HEADERS: [(HeaderName, &str); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
];

/// Times, bounds, counts and logs a request. The log has the route's template, the company and the problem's code, never a path, a
/// query, a header or a body. Every answer gets the headers that harden it, where it has none of its own.
pub async fn around(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = request.method().clone();
    let id = Uuid::now_v7();
    let answer = async {
        match excess(&request, &app.limits) {
            Some(problem) => problem.into_response(),
            None => next.run(request).await,
        }
    };
    let answer = AssertUnwindSafe(tokio::time::timeout(app.limits.request, answer)).catch_unwind();
    let mut response = match answer.await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => Problem::timed_out().into_response(),
        Err(_) => Problem::broken("answering a request", "a panic; see the log before this line").into_response(),
    };
    let (status, took) = (response.status().as_u16(), started.elapsed());
    let (route, verb) = (route.as_ref().map_or("unknown", MatchedPath::as_str), verb(&method));
    app.metrics.request(route, verb, status, took);
    let code = response.extensions().get::<Code>().map(|code| code.0.as_str());
    let company = response.extensions().get::<OfCompany>().map(|of| display(of.0));
    let duration_ms = (took.as_secs_f64() * 1e6).round() / 1e3;
    // What went well is counted above; a line for each would say no more than that.
    if status < 400 {
        tracing::debug!(request = %id, method = verb, route, status, code, company, duration_ms, "answered");
    } else {
        tracing::info!(request = %id, method = verb, route, status, code, company, duration_ms, "answered");
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

/// What is wrong with a request that asks for more than its head may.
fn excess(request: &Request, limits: &Limits) -> Option<Problem> {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if target > limits.target_bytes {
        return Some(Problem::target_too_long(limits.target_bytes));
    }
    let headers = request.headers();
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let is_large = headers.len() > limits.headers || bytes > limits.head_bytes;
    is_large.then(|| Problem::head_too_large(limits.headers, limits.head_bytes))
}

/// A method as a label. One that HTTP does not know would let a caller make up labels.
fn verb(method: &Method) -> &'static str {
    ["GET", "HEAD", "POST", "OPTIONS"].into_iter().find(|known| *known == method.as_str()).unwrap_or("other")
}
