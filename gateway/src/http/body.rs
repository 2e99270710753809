//! A command's body: bounded in bytes and depth before anything reads it. What its fields mean is the door's to say.

use axum::{
    body::{Body, HttpBody as _},
    http::{HeaderMap, header},
};
use futures::StreamExt as _;
use serde_json::value::RawValue;

use crate::{limits::Limits, problem::Problem};

/// Reads the body as one JSON text. Nothing at all stands for no fields.
pub async fn read(headers: &HeaderMap, body: Body, limits: &Limits) -> Result<Box<RawValue>, Problem> {
    if headers.get(header::CONTENT_TYPE).is_some_and(|kind| !is_json(kind.as_bytes())) {
        return Err(Problem::not_json_type());
    }
    if headers.get_all(header::CONTENT_ENCODING).iter().any(|coding| coding != "identity") {
        return Err(Problem::encoded_body());
    }
    let read = tokio::time::timeout(limits.body, collect(body, limits.body_bytes)).await;
    let bytes = read.map_err(|_| Problem::slow_body(limits.body))??;
    let text = String::from_utf8(bytes).map_err(|_| Problem::bad_request("not_json", "the body is not UTF-8 text"))?;
    parse(text, limits.body_depth)
}

/// All bytes of a body that has no more than `max`.
async fn collect(body: Body, max: usize) -> Result<Vec<u8>, Problem> {
    let said = body.size_hint().lower();
    if said > max as u64 {
        return Err(Problem::too_large(max));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(said).unwrap_or(0));
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let broken = "the body breaks off, or is not framed as its headers say";
        let chunk = chunk.map_err(|_| Problem::bad_request("bad_body", broken))?;
        if bytes.len() + chunk.len() > max {
            return Err(Problem::too_large(max));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn parse(text: String, depth: usize) -> Result<Box<RawValue>, Problem> {
    let text = if text.trim().is_empty() { "{}".to_owned() } else { text };
    if depth_of(&text) > depth {
        return Err(Problem::bad_request("too_deep", format!("the body is nested more than {depth} deep")));
    }
    RawValue::from_string(text).map_err(|cause| {
        Problem::bad_request(
            "not_json",
            format!("the body is not JSON: line {}, column {}", cause.line(), cause.column()),
        )
    })
}

/// How deeply brackets outside of strings are nested.
fn depth_of(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

fn is_json(kind: &[u8]) -> bool {
    let kind = String::from_utf8_lossy(kind).to_ascii_lowercase();
    kind.split(';').next().is_some_and(|kind| kind.trim() == "application/json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_within_strings_do_not_nest() {
        assert_eq!(depth_of(r#"{"a":"[[[[\"[[","b":[1]}"#), 2);
    }

    #[test]
    fn deep_or_broken_bodies_are_refused() {
        let deep = "[".repeat(100_000);
        assert_eq!(parse(deep, 32).expect_err("is deep").code(), "too_deep");
        for text in ["{", "nonsense", "{} {}", "{\"a\":1,}", "\u{feff}{}"] {
            assert_eq!(parse(text.into(), 32).expect_err(text).code(), "not_json", "{text}");
        }
    }

    #[test]
    fn an_empty_body_has_no_fields() {
        assert_eq!(parse(" \n".into(), 32).expect("reads").get(), "{}");
    }

    #[test]
    fn only_json_is_json() {
        assert!(is_json(b"application/json; charset=utf-8") && is_json(b"Application/JSON"));
        assert!(!is_json(b"text/plain") && !is_json(b"application/jsonx"));
    }
}
