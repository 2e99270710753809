//! What is said over a socket.

use std::collections::BTreeMap;

use cnc_domain::ledger::Position;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::problem::Problem;

/// What a client asks.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ask {
    /// To be told of a view.
    Subscribe(Subscribe),
    /// To be told no more.
    Unsubscribe(Unsubscribe),
    /// For a sign of life.
    Ping(Value),
}

/// Which rows of which view, under which name, and from where on.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Subscribe {
    pub id: String,
    pub view: String,
    #[serde(default)]
    pub filters: BTreeMap<String, String>,
    #[serde(default)]
    pub after: Option<Position>,
}

/// Which subscription.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Unsubscribe {
    pub id: String,
}

/// Why the server closes a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    pub code: u16,
    pub reason: &'static str,
}

impl End {
    pub const GOING: Self = Self { code: 1001, reason: "the server stops" };
    pub const TOO_BIG: Self = Self { code: 1009, reason: "message too big" };
    pub const CROWDED: Self = Self { code: 1013, reason: "too much waits to be read; try again later" };
    pub const MALFORMED: Self = Self { code: 4400, reason: "not a message" };
    pub const EXPIRED: Self = Self { code: 4401, reason: "token invalid or expired" };
    pub const FORBIDDEN: Self = Self { code: 4403, reason: "not allowed any more" };
    pub const SLOW: Self = Self { code: 4408, reason: "too slow" };
    pub const SILENT: Self = Self { code: 4408, reason: "no sign of life" };
}

/// A part of a view as it is.
pub(super) fn snapshot(
    id: &str,
    view: &str,
    position: Position,
    (rows, more): (Vec<Value>, bool),
    unwell: Option<Value>,
) -> String {
    let mut told = json!({ "snapshot": { "id": id, "view": view, "position": position, "rows": rows, "more": more } });
    if let Some(unwell) = unwell {
        told["snapshot"]["health"] = unwell;
    }
    told.to_string()
}

/// What changed after `previous` and up to `position`.
pub(super) fn change(
    id: &str,
    view: &str,
    (previous, position): (Position, Position),
    rows: Vec<Value>,
    removed: Vec<String>,
) -> String {
    json!({ "change": { "id": id, "view": view, "position": position, "previous": previous, "rows": rows,
        "removed": removed } })
    .to_string()
}

/// It is not known any more what changed.
pub(super) fn requery(id: &str) -> String {
    json!({ "requery": { "id": id } }).to_string()
}

/// Something cannot be done.
pub(super) fn error(id: &str, problem: &Problem) -> String {
    json!({ "error": { "id": id, "code": problem.code(), "detail": problem.detail() } }).to_string()
}

/// The answer to a ping.
pub(super) fn pong(ping: &Value) -> String {
    json!({ "pong": ping }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_names_itself_and_a_view() {
        let ask: Ask = serde_json::from_str(r#"{"subscribe":{"id":"a","view":"alerts"}}"#).expect("reads");
        let Ask::Subscribe(ask) = ask else { panic!("is a subscription") };
        assert_eq!((ask.view.as_str(), ask.after, ask.filters.len()), ("alerts", None, 0));
    }

    #[test]
    fn unknown_members_and_messages_are_refused() {
        for text in [
            r#"{"subscribe":{"id":"a","view":"alerts","colour":1}}"#,
            r#"{"subscribe":{"id":"a","view":"alerts","after":-1}}"#,
            r#"{"subscribe":{"id":"a","view":"alerts","filters":{"n":1}}}"#,
            r#"{"shout":{}}"#,
            "[]",
            "nonsense",
        ] {
            assert!(serde_json::from_str::<Ask>(text).is_err(), "{text}");
        }
    }
}
