//! What an answer says when the answer is no: RFC 9457 problem details. Which status belongs to which code stands in
//! [`problems`]. A rule's refusal keeps its code and facts; a fault shows an id and nothing else, and its cause
//! goes to the log.

use std::{fmt::Display, time::Duration};

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use cnc_commands::{ClockSkew, FormError, HostError};
use cnc_domain::{
    kernel::Rejection,
    ledger::{Fault, PAYLOAD_BYTES_MAX},
};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::problems;

/// The media type of a problem.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// Why a request was not done.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    code: String,
    title: &'static str,
    detail: String,
    members: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A problem of a kind that has a page.
    fn new(code: &str, detail: impl Into<String>) -> Self {
        let kind = problems::of(code);
        debug_assert!(kind.is_some(), "the problem {code} has no page");
        let problems::Kind { code, status, title, .. } = *kind.unwrap_or(&problems::FAULT);
        Self { status, code: code.into(), title, detail: detail.into(), members: Map::new(), headers: Vec::new() }
    }

    fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.members.insert(member.into(), value.into());
        self
    }

    fn header(mut self, name: HeaderName, value: &str) -> Self {
        self.headers.extend(HeaderValue::from_str(value).ok().map(|value| (name, value)));
        self
    }

    /// The stable code: what a program should look at.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// The sentence for a person.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The status code.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// 401: no token, or one that is not (or no longer) good.
    pub fn unauthenticated(why: &str) -> Self {
        let challenge =
            if why == NO_TOKEN { "Bearer realm=\"cnc\"" } else { "Bearer realm=\"cnc\", error=\"invalid_token\"" };
        Self::new("unauthenticated", why).header(header::WWW_AUTHENTICATE, challenge)
    }

    /// 403: known, but not allowed.
    pub fn forbidden(code: &str, why: impl Into<String>) -> Self {
        Self::new(code, why)
    }

    /// 404: it is not there, or not yours, and which of the two is not said.
    pub fn not_found() -> Self {
        Self::new("not_found", "there is nothing here under this name and id")
    }

    /// 405.
    pub fn method_not_allowed() -> Self {
        Self::new("method_not_allowed", "this route has no such method")
    }

    /// 400: the request itself is malformed.
    pub fn bad_request(code: &str, why: impl Into<String>) -> Self {
        Self::new(code, why)
    }

    /// 413: the body is larger than is read.
    pub fn too_large(limit: usize) -> Self {
        Self::new("too_large", format!("a body may have at most {limit} bytes"))
    }

    /// 413: an entry of the command would be larger than is kept.
    pub fn entry_too_large(bytes: usize) -> Self {
        let why = format!(
            "sealed as it is recorded, an entry of this would have {bytes} bytes; at most {PAYLOAD_BYTES_MAX} are kept. Nothing \
             was recorded: send it in parts"
        );
        Self::new("entry_too_large", why).with("bytes", bytes).with("bytes_max", PAYLOAD_BYTES_MAX)
    }

    /// 415: the body is said to be something else than JSON.
    pub fn not_json_type() -> Self {
        Self::new("unsupported_media_type", "send application/json")
    }

    /// 415: the body is said to be compressed or otherwise encoded.
    pub fn encoded_body() -> Self {
        Self::new("encoded_body", "send the body as it is, without Content-Encoding")
            .header(header::ACCEPT_ENCODING, "identity")
    }

    /// 408: the body takes too long to come.
    pub fn slow_body(limit: Duration) -> Self {
        Self::new("slow_body", format!("a body has {} s to come", limit.as_secs()))
    }

    /// 414: the path and the query are longer than is read.
    pub fn target_too_long(limit: usize) -> Self {
        Self::new("target_too_long", format!("a path with its query may have at most {limit} bytes"))
    }

    /// 431: there are more or longer headers than are read.
    pub fn head_too_large(count: usize, bytes: usize) -> Self {
        Self::new("head_too_large", format!("a request may have at most {count} headers of {bytes} bytes together"))
    }

    /// 422: fields that do not fit, each with its path.
    pub fn form(errors: &[FormError]) -> Self {
        let errors: Vec<Value> =
            errors.iter().map(|error| json!({ "path": error.path, "wrong": error.wrong })).collect();
        let why = "some fields are not what this command takes";
        Self::new("malformed", why).with("errors", errors)
    }

    /// 409: the rule said no.
    pub fn rejected(rejection: &Rejection) -> Self {
        let problem = Self {
            status: StatusCode::CONFLICT,
            code: rejection.code.clone(),
            title: problems::REJECTED,
            detail: rejection.message.clone(),
            members: Map::new(),
            headers: Vec::new(),
        }
        .with("facts", rejection.facts.clone());
        match &rejection.by {
            Some(by) => problem.with("by", by.clone()),
            None => problem,
        }
    }

    /// 412: the stream has moved on from the sequence of `If-Match`.
    pub fn sequence_mismatch(sequence: u64) -> Self {
        let why = format!("the stream stands at {sequence}");
        Self::new("sequence_mismatch", why).with("sequence", sequence).header(header::ETAG, &format!("\"{sequence}\""))
    }

    /// 421: the company has moved to another database.
    pub fn departed() -> Self {
        Self::new("company_moved", "the company has moved to another installation; nothing was recorded here")
    }

    /// 422: an idempotency key under which something else was sent before.
    pub fn key_reused() -> Self {
        let why = "this Idempotency-Key was used for another command; every command needs its own";
        Self::new("idempotency_key_reused", why)
    }

    /// 400: the company's ledger does not have this position.
    pub fn no_such_position(head: u64, at_least: u64) -> Self {
        let why = format!("the ledger stands at {head} and has no position {at_least}");
        Self::new("no_such_position", why).with("position", head)
    }

    /// 503: a view is not there yet.
    pub fn behind(position: u64, at_least: u64) -> Self {
        let why = format!("the view stands at {position} and has not reached {at_least}");
        Self::new("view_behind", why).with("position", position).header(header::RETRY_AFTER, "1")
    }

    /// 503: a view is built anew, and what there is of it must not be taken for the whole.
    pub fn rebuilding(position: u64, until: u64) -> Self {
        let why = format!("the view is built anew: it stands at {position} and is shown from {until} on");
        Self::new("view_rebuilding", why)
            .with("position", position)
            .with("until", until)
            .header(header::RETRY_AFTER, "1")
    }

    /// 503: nothing is recorded by a clock that is wrong.
    pub fn clock_skew(skew: &ClockSkew) -> Self {
        let why = format!("nothing was recorded, since the server's clock is not believed: {skew}");
        Self::new("clock_skew", why).with("skew_seconds", skew.seconds()).header(header::RETRY_AFTER, "5")
    }

    /// 503: too much to do; nothing was done.
    pub fn busy(why: &str) -> Self {
        Self::new("busy", why).header(header::RETRY_AFTER, "1")
    }

    /// 503: it took longer than a request may take.
    pub fn timed_out() -> Self {
        let why = "the answer took too long; the same Idempotency-Key tells what became of a command";
        Self::new("timed_out", why).header(header::RETRY_AFTER, "1")
    }

    /// 500 or 503: the system failed. The caller gets an id; the log gets the cause.
    pub fn fault(fault: &Fault) -> Self {
        Self::hidden(fault.doing, &fault.cause, fault.passing)
    }

    /// 503: a part that the process needs does not work. `parts` has how each of them is.
    pub fn not_ready(why: String, parts: Value) -> Self {
        Self::new("not_ready", why).with("parts", parts).header(header::RETRY_AFTER, "1")
    }

    /// 503: a part of the process stands still.
    pub fn wedged(silent: std::time::Duration) -> Self {
        tracing::error!(?silent, "the loop that folds stands still: start this process again");
        Self::new("wedged", "a part of this process stands still; it should be started again")
    }

    /// 500: a panic or something else that should not be.
    pub fn broken(doing: &'static str, cause: impl Display) -> Self {
        Self::hidden(doing, &cause, false)
    }

    fn hidden(doing: &'static str, cause: &dyn Display, passing: bool) -> Self {
        let error = Uuid::now_v7().to_string();
        tracing::error!(%error, doing, %cause, passing, "fault");
        let problem = if passing {
            Self::new("unavailable", "something did not work that soon may").header(header::RETRY_AFTER, "1")
        } else {
            Self::new("fault", "something is broken here; it is logged")
        };
        problem.with("error", error)
    }

    /// The problem as JSON.
    pub fn body(&self) -> Value {
        let mut body = Map::new();
        body.insert("type".into(), format!("/problems/{}", self.code).into());
        body.insert("title".into(), self.title.into());
        body.insert("status".into(), self.status.as_u16().into());
        body.insert("detail".into(), self.detail.clone().into());
        body.insert("code".into(), self.code.clone().into());
        body.extend(self.members.clone());
        Value::Object(body)
    }
}

/// The code of the problem that an answer is, for the log.
#[derive(Clone)]
pub(crate) struct Code(pub String);

/// What is said where there is no token at all.
pub const NO_TOKEN: &str = "send a token: Authorization: Bearer …";

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        Self::fault(&fault)
    }
}

impl From<HostError> for Problem {
    fn from(error: HostError) -> Self {
        match error {
            HostError::NoCompany | HostError::UnknownStream | HostError::UnknownCommand | HostError::NotFound => {
                Self::not_found()
            }
            HostError::Form(errors) => Self::form(&errors),
            HostError::KeyReused => Self::key_reused(),
            HostError::SequenceMismatch { sequence } => Self::sequence_mismatch(sequence),
            HostError::TooLarge { bytes } => Self::entry_too_large(bytes),
            HostError::Departed => Self::departed(),
            HostError::ClockSkew(skew) => Self::clock_skew(&skew),
            HostError::Busy => Self::busy("others changed the same at the same time; nothing was recorded"),
            HostError::Fault(fault) => Self::fault(&fault),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body().to_string()));
        *response.status_mut() = self.status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        response.headers_mut().extend(self.headers);
        response.extensions_mut().insert(Code(self.code));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_shows_an_id_and_not_its_cause() {
        let text = Problem::fault(&Fault::broken("reading", "SELECT secret FROM t")).body().to_string();
        assert!(!text.contains("SELECT") && text.contains("\"error\":"), "{text}");
    }

    #[test]
    fn a_rejection_keeps_its_code_and_facts() {
        let mut rejection = Rejection::new("no_crew", "nobody is assigned");
        rejection.facts = json!({ "needed": 2 });
        let body = Problem::rejected(&rejection).body();
        assert_eq!((&body["code"], &body["facts"]["needed"]), (&json!("no_crew"), &json!(2)));
        assert_eq!((&body["type"], &body["status"]), (&json!("/problems/no_crew"), &json!(409)));
    }

    #[test]
    fn an_entry_that_is_too_large_is_the_callers_and_says_how_large_it_may_be() {
        let problem = Problem::from(HostError::TooLarge { bytes: 2 << 20 });
        assert_eq!(problem.status(), StatusCode::PAYLOAD_TOO_LARGE);
        let body = problem.body();
        assert_eq!((&body["code"], &body["bytes_max"]), (&json!("entry_too_large"), &json!(PAYLOAD_BYTES_MAX)));
    }

    #[test]
    fn a_missing_token_is_answered_with_a_challenge() {
        let response = Problem::unauthenticated(NO_TOKEN).into_response();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert!(response.headers().contains_key(header::WWW_AUTHENTICATE));
    }
}
