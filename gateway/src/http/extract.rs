//! What a handler is given: the caller whose token was checked, and the parts of a path, with our own answers where they
//! do not fit.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{FromRequestParts, Path, RawPathParams, Request, State},
    http::{HeaderMap, HeaderValue, header, request::Parts},
    middleware::Next,
    response::Response,
};
use cnc_domain::kernel::CompanyId;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::{
    app::App,
    shares::{Address, Asker},
};
use crate::{
    problem::{NO_TOKEN, Problem},
    tokens::Claims,
};

/// The subprotocol of `/v1/live`; a browser, which cannot set headers, sends it and its token as the second one.
pub const SUBPROTOCOL: &str = "cnc.bearer";

/// The bearer of a good token. What they may do is asked of [`App::grant`].
#[derive(Clone, Debug)]
pub struct Caller(pub Arc<Claims>);

/// Checks the token of every request under `/v1`, before anything else is said of it; then lets it in when there is a place for
/// one more of its company, address and user.
pub async fn authenticate(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Result<Response, Problem> {
    let path = request.uri().path();
    if path != "/v1" && !path.starts_with("/v1/") {
        return Ok(next.run(request).await);
    }
    let token = bearer(request.headers()).or_else(|| offered(request.headers()));
    let token = token.ok_or_else(|| Problem::unauthenticated(NO_TOKEN))?;
    let claims = app.tokens.check(token, app.now());
    let claims = claims.ok_or_else(|| Problem::unauthenticated("the token is invalid or has expired"))?;
    // Only a test's request comes by no connection.
    let address = request.extensions().get().copied().unwrap_or_else(|| Address::from(IpAddr::from([0; 16])));
    let asker = Asker::of(&claims, address);
    let company = OfCompany(claims.company);
    request.extensions_mut().insert(asker);
    request.extensions_mut().insert(Caller(claims));
    let place = app.requests.take(asker).await;
    let mut response = app.waiting.answer(asker.person, next.run(request).await);
    drop(place);
    response.extensions_mut().insert(company);
    Ok(response)
}

/// Of which company an answer is, for the log.
#[derive(Clone, Copy)]
pub struct OfCompany(pub CompanyId);

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The token that a browser offers as the second subprotocol.
fn offered(headers: &HeaderMap) -> Option<&str> {
    let mut offered = headers.get(header::SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?.split(',').map(str::trim);
    offered.find(|protocol| *protocol == SUBPROTOCOL)?;
    offered.next()
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get().cloned().ok_or_else(|| Problem::unauthenticated(NO_TOKEN))
    }
}

/// The parts of a path.
pub struct Parted<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Parted<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let wrong = |why| Problem::bad_request("bad_path", why);
        let unreadable = "the path is not readable";
        let raw = RawPathParams::from_request_parts(parts, state).await.map_err(|_| wrong(unreadable))?;
        // Nothing that is kept has it, and Postgres takes it for no text at all.
        if raw.iter().any(|(_, part)| part.contains('\0')) {
            return Err(wrong("the path holds U+0000"));
        }
        let path = Path::<T>::from_request_parts(parts, state).await;
        path.map(|Path(path)| Self(path)).map_err(|_| wrong(unreadable))
    }
}

/// An id of a path: one spelling only.
pub fn id(text: &str) -> Result<Uuid, Problem> {
    let id = Uuid::try_parse(text).ok().filter(|id| id.as_hyphenated().to_string() == text);
    id.ok_or_else(|| Problem::bad_request("bad_id", "an id is a lower-case UUID with hyphens"))
}

/// A sequence as an entity tag.
pub fn etag(sequence: u64) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{sequence}\"")).unwrap_or(HeaderValue::from_static("\"0\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_in_a_header_or_as_the_second_subprotocol() {
        let mut headers = HeaderMap::new();
        assert_eq!(bearer(&headers).or_else(|| offered(&headers)), None);
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("cnc.bearer, abc"));
        assert_eq!(offered(&headers), Some("abc"));
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("bearer def"));
        assert_eq!(bearer(&headers), Some("def"));
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Basic def"));
        assert_eq!(bearer(&headers), None);
    }

    #[test]
    fn an_id_has_one_spelling() {
        assert!(id("01920000-0000-7000-8000-000000000001").is_ok());
        for text in ["", "1", "01920000000070008000000000000001", "0192ABCD-0000-7000-8000-000000000001", "{x}"] {
            assert!(id(text).is_err(), "{text}");
        }
    }
}
