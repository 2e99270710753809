//! The problems that an answer may name: each code, its status, and what it means. The `type` of a problem is the address
//! of its page here.

use axum::http::StatusCode;
use cnc_domain::cloud_control::Halt;
use serde_json::{Value, json};

use crate::catalog::catalog;

/// A kind of problem that the gateway itself names.
#[derive(Debug)]
pub struct Kind {
    /// The stable code.
    pub code: &'static str,
    /// The status that it comes with.
    pub status: StatusCode,
    /// A few words.
    pub title: &'static str,
    /// What it means, and what to do about it.
    pub about: &'static str,
}

const fn kind(code: &'static str, status: StatusCode, title: &'static str, about: &'static str) -> Kind {
    Kind { code, status, title, about }
}

const MALFORMED: &str = "The request is malformed";
const FORBIDDEN: &str = "Not allowed";

/// What is said of something broken, also where a code is missing here.
pub(crate) static FAULT: Kind = kind(
    "fault",
    StatusCode::INTERNAL_SERVER_ERROR,
    "Internal error",
    "Something is broken in the server. Its operator finds the cause in the log under `error`.",
);

/// All of them, alphabetical.
pub static KINDS: &[Kind] = &[
    kind("bad_body", StatusCode::BAD_REQUEST, MALFORMED, "The body breaks off, or is not framed as its headers say."),
    kind(
        "bad_id",
        StatusCode::BAD_REQUEST,
        MALFORMED,
        "An id in the path or in `Cnc-Location` is not a lower-case UUID with hyphens.",
    ),
    kind("bad_path", StatusCode::BAD_REQUEST, MALFORMED, "The path is not readable text, or holds U+0000."),
    kind(
        "bad_query",
        StatusCode::BAD_REQUEST,
        MALFORMED,
        "A parameter after `?` is unknown, repeated, out of range or not text; `detail` says which.",
    ),
    kind(
        "bad_subscription",
        StatusCode::BAD_REQUEST,
        MALFORMED,
        "A subscription over `/v1/live` has no good id, an unknown filter or one that is not text, or is one too many.",
    ),
    kind(
        "busy",
        StatusCode::SERVICE_UNAVAILABLE,
        "Too busy",
        "Too much is asked for at once. Nothing was done: try again after `Retry-After` seconds.",
    ),
    kind(
        "clock_skew",
        StatusCode::SERVICE_UNAVAILABLE,
        "The server's clock is wrong",
        "The clock of the process that was asked differs from its database's by `skew_seconds`, or was set. Nothing was \
         recorded: try again after `Retry-After` seconds, under the same `Idempotency-Key`.",
    ),
    kind(
        "company_moved",
        StatusCode::MISDIRECTED_REQUEST,
        "The company has moved",
        "The company has moved to another installation, and nothing was recorded here. Give the command there, under the \
         same `Idempotency-Key`: what was answered before the move is answered again.",
    ),
    kind(
        "company_not_in_business",
        StatusCode::FORBIDDEN,
        FORBIDDEN,
        "There is no such company, or it is suspended or closed.",
    ),
    kind(
        "encoded_body",
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "The body must not be encoded",
        "The body has a `Content-Encoding`, such as gzip. Send it as it is.",
    ),
    kind(
        "entry_too_large",
        StatusCode::PAYLOAD_TOO_LARGE,
        "The entry is too large",
        "An entry of the command would be larger than is kept, since what is sealed takes more room than what was sent. \
         `bytes` says how large its payload is, and `bytes_max` how large it may be. Nothing was recorded: send it in parts.",
    ),
    kind("fault", FAULT.status, FAULT.title, FAULT.about),
    kind(
        "head_too_large",
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        "The headers are too large",
        "The request has more headers, or longer ones, than are read.",
    ),
    kind(
        "idempotency_key",
        StatusCode::BAD_REQUEST,
        MALFORMED,
        "A command needs an `Idempotency-Key` header of its own, of 1 to 200 visible characters.",
    ),
    kind(
        "idempotency_key_reused",
        StatusCode::UNPROCESSABLE_ENTITY,
        "The key was used before",
        "Another command was sent under this `Idempotency-Key`. Every command needs its own.",
    ),
    kind("if_match", StatusCode::BAD_REQUEST, MALFORMED, "`If-Match` must be one ETag: \"<sequence>\"."),
    kind(
        "malformed",
        StatusCode::UNPROCESSABLE_ENTITY,
        "The fields do not fit",
        "Fields are missing, unknown or not of the form of the command's schema; `errors` names each by its path.",
    ),
    kind(
        "method_not_allowed",
        StatusCode::METHOD_NOT_ALLOWED,
        "Method not allowed",
        "The route is there, but not for this method.",
    ),
    kind("module_off", StatusCode::FORBIDDEN, FORBIDDEN, "The company's plan does not have the module of this action."),
    kind(
        "no_such_position",
        StatusCode::BAD_REQUEST,
        MALFORMED,
        "The company's ledger has not reached the position of `at_least`, so no answer ever named it; `position` says how far \
         the ledger is.",
    ),
    kind(
        "not_a_websocket",
        StatusCode::BAD_REQUEST,
        MALFORMED,
        "This route speaks WebSocket only: send the headers of an upgrade.",
    ),
    kind("not_allowed", StatusCode::FORBIDDEN, FORBIDDEN, "The caller's role may not do this."),
    kind(
        "not_found",
        StatusCode::NOT_FOUND,
        "No such resource",
        "There is nothing here under this name and id, or it is not the caller's; which of the two is not said.",
    ),
    kind("not_json", StatusCode::BAD_REQUEST, MALFORMED, "The body is not JSON in UTF-8."),
    kind(
        "not_ready",
        StatusCode::SERVICE_UNAVAILABLE,
        "Not ready",
        "A part that this process needs does not work; `parts` says how each of them is.",
    ),
    kind(
        "sequence_mismatch",
        StatusCode::PRECONDITION_FAILED,
        "It has changed since",
        "The stream does not stand at the sequence of `If-Match`; `sequence` says where it stands. Read it and decide again.",
    ),
    kind(
        "slow_body",
        StatusCode::REQUEST_TIMEOUT,
        "The body came too slowly",
        "The body did not come in time. Nothing was done: send it again.",
    ),
    kind(
        "target_too_long",
        StatusCode::URI_TOO_LONG,
        "The address is too long",
        "The path and its query have more bytes than are read.",
    ),
    kind(
        "timed_out",
        StatusCode::SERVICE_UNAVAILABLE,
        "It took too long",
        "The answer took too long. The same `Idempotency-Key` tells what became of a command.",
    ),
    kind("too_deep", StatusCode::BAD_REQUEST, MALFORMED, "The body is nested too deeply."),
    kind("too_large", StatusCode::PAYLOAD_TOO_LARGE, "The body is too large", "The body has more bytes than are read."),
    kind(
        "too_many_rows",
        StatusCode::BAD_REQUEST,
        MALFORMED,
        "A subscription would begin with too many rows: ask for fewer by a filter.",
    ),
    kind(
        "unauthenticated",
        StatusCode::UNAUTHORIZED,
        "Token invalid or expired",
        "There is no token, or it is invalid, or it has expired.",
    ),
    kind(
        "unavailable",
        StatusCode::SERVICE_UNAVAILABLE,
        "Temporarily unavailable; retry",
        "Something did not work that soon may: try again after `Retry-After` seconds, under the same `Idempotency-Key`.",
    ),
    kind(
        "unsupported_media_type",
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "The body must be JSON",
        "The body is said to be something else than `application/json`.",
    ),
    kind(
        "view_behind",
        StatusCode::SERVICE_UNAVAILABLE,
        "The view is not there yet",
        "The view has not reached the position of `at_least`; `position` says how far it is. Try again.",
    ),
    kind(
        "view_rebuilding",
        StatusCode::SERVICE_UNAVAILABLE,
        "The view is built anew",
        "What stood there was of another history than the ledger's, which was restored or lost its tail. It is shown again \
         once it reaches `until`; `position` says how far it is. Try again.",
    ),
    kind(
        "wedged",
        StatusCode::SERVICE_UNAVAILABLE,
        "A part stands still",
        "The loop that folds has not gone round for minutes, and will not by itself: the process should be started again.",
    ),
];

/// The title of a rule's refusal.
pub const REJECTED: &str = "Rejected by a business rule";

/// The kind of a code that the gateway itself names.
pub fn of(code: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.code == code)
}

/// What there is to say of a code, each meaning that it has; nothing where no answer ever has it.
pub fn page(code: &str) -> Option<Value> {
    let own = of(code).map(|kind| json!({ "status": kind.status.as_u16(), "title": kind.title, "about": kind.about }));
    let rejected = StatusCode::CONFLICT.as_u16();
    // What a company refuses whichever aggregate is asked.
    let of_all = Halt::ALL.iter().filter(|halt| halt.code() == code);
    let of_all = of_all.map(|halt| json!({ "status": rejected, "title": REJECTED, "about": halt.about() }));
    let refusals = catalog().streams().flat_map(|stream| {
        let refusals = stream.contract.refusals.iter().filter(|refusal| refusal.name == code);
        refusals.map(|refusal| {
            json!({ "status": rejected, "title": REJECTED, "about": refusal.about, "stream": stream.contract.stream,
                "facts": refusal.schema })
        })
    });
    let meanings: Vec<Value> = own.into_iter().chain(of_all).chain(refusals).collect();
    (!meanings.is_empty()).then(|| json!({ "type": format!("/problems/{code}"), "code": code, "meanings": meanings }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_alphabetical_and_named_once() {
        assert!(KINDS.windows(2).all(|pair| pair[0].code < pair[1].code));
    }

    #[test]
    fn every_code_and_every_refusal_has_a_page() {
        let refusals = catalog().streams().flat_map(|stream| &stream.contract.refusals);
        let codes = refusals.map(|refusal| refusal.name.as_str()).chain(KINDS.iter().map(|kind| kind.code));
        for code in codes.chain(Halt::ALL.iter().map(|halt| halt.code())) {
            let page = page(code).unwrap_or_else(|| panic!("{code} has no page"));
            let meanings = page["meanings"].as_array().expect("is a list");
            assert!(
                meanings.iter().all(|meaning| meaning["about"].as_str().is_some_and(|about| !about.is_empty())),
                "{code}"
            );
        }
        assert!(page("no_such_code").is_none());
    }

    #[test]
    fn a_code_that_several_refuse_with_has_all_their_meanings() {
        let page = page("already_resolved").or_else(|| page("removed")).expect("is a code");
        assert!(page["meanings"][0]["stream"].is_string(), "{page}");
        assert_eq!(super::page("module_off").expect("is a code")["meanings"].as_array().map(Vec::len), Some(2));
    }
}
