//! Giving a command: `POST /v1/{stream}/{id}/{command}`.

use std::sync::Arc;

use axum::{
    Extension, Json,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use cnc_commands::Request;
use cnc_domain::{
    kernel::{CommandId, LocationId, Message},
    ledger::{Answer, Sequence},
};
use serde_json::json;
use uuid::Uuid;

use super::{
    app::App,
    body,
    extract::{Caller, Parted, etag, id},
    query::Asked,
    shares::Asker,
};
use crate::{catalog::catalog, problem::Problem};

/// Names the key under which a command is done once, however often it is sent.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Says that an answer was given before, under the same key.
const IDEMPOTENT_REPLAYED: &str = "idempotent-replayed";
/// Names the branch that a command is given in.
const LOCATION: &str = "cnc-location";
/// The longest idempotency key.
const KEY_MAX: usize = 200;

/// Gives a command and answers with what became of it.
pub(crate) async fn give(
    State(app): State<Arc<App>>,
    Caller(claims): Caller,
    Parted((stream, target, command)): Parted<(String, String, String)>,
    asked: Asked,
    Extension(asker): Extension<Asker>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let known = catalog().stream(&stream).ok_or_else(Problem::not_found)?;
    known.command(&command).ok_or_else(Problem::not_found)?;
    let given_in = location(&headers)?;
    let grant = app.grant(&claims, &known.action(&command), given_in).await?;
    asked.done()?;
    let _room = app.waiting.body(asker.person, &body, app.limits.body_bytes)?;
    let request = Request {
        company: grant.company(),
        id: id(&target)?,
        command_id: CommandId::new(Uuid::now_v7()),
        actor: grant.actor(),
        location: given_in.or_else(|| grant.only_location()),
        correlation: None,
        causation: None,
        idempotency_key: Some(key(&headers)?),
        if_match: if_match(&headers)?,
        internal_allowed: false,
        scope: grant.scope(),
        command: Message { name: command, fields: body::read(&headers, body, &app.limits).await? },
        stream,
    };
    answered(app.host.execute(request).await?)
}

fn answered(answer: Answer) -> Result<Response, Problem> {
    if let Some(rejection) = &answer.rejection {
        return Err(Problem::rejected(rejection));
    }
    let Answer { command, position, sequence, recorded, replayed, .. } = answer;
    let body = json!({ "command": command, "position": position, "sequence": sequence, "recorded": recorded });
    let mut response = ([(header::ETAG, etag(sequence))], Json(body)).into_response();
    if replayed {
        response.headers_mut().insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

fn key(headers: &HeaderMap) -> Result<String, Problem> {
    let wrong = |why| Problem::bad_request("idempotency_key", why);
    let key = headers.get(IDEMPOTENCY_KEY).ok_or_else(|| {
        wrong("send an Idempotency-Key, one for each command: the same key again gives the same answer again")
    })?;
    let key = key.to_str().map_err(|_| wrong("an Idempotency-Key has printable ASCII only"))?.trim();
    if key.is_empty() || key.len() > KEY_MAX {
        return Err(wrong("an Idempotency-Key has 1 to 200 characters"));
    }
    Ok(key.to_owned())
}

fn if_match(headers: &HeaderMap) -> Result<Option<Sequence>, Problem> {
    let Some(tag) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let tag = tag.to_str().unwrap_or_default();
    let digits = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
    let digits = digits.filter(|digits| digits.len() <= 16 && digits.bytes().all(|byte| byte.is_ascii_digit()));
    let sequence = digits.and_then(|digits| digits.parse().ok());
    sequence.map(Some).ok_or_else(|| Problem::bad_request("if_match", "If-Match is one ETag: \"<sequence>\""))
}

fn location(headers: &HeaderMap) -> Result<Option<LocationId>, Problem> {
    let Some(text) = headers.get(LOCATION) else { return Ok(None) };
    Ok(Some(LocationId::new(id(text.to_str().unwrap_or_default())?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).expect("is a header's value"));
        headers
    }

    #[test]
    fn a_command_needs_a_key_of_bounded_length() {
        assert!(key(&HeaderMap::new()).is_err());
        assert!(key(&headers(IDEMPOTENCY_KEY, " ")).is_err());
        assert!(key(&headers(IDEMPOTENCY_KEY, &"k".repeat(201))).is_err());
        assert_eq!(key(&headers(IDEMPOTENCY_KEY, "k-1")).expect("is a key"), "k-1");
    }

    #[test]
    fn if_match_is_one_strong_tag() {
        assert_eq!(if_match(&headers("if-match", "\"7\"")).expect("is a tag"), Some(7));
        for tag in ["7", "*", "W/\"7\"", "\"7\", \"8\"", "\"-1\"", "\"\"", "\"99999999999999999999\""] {
            assert!(if_match(&headers("if-match", tag)).is_err(), "{tag}");
        }
    }
}
