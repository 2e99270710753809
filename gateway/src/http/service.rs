//! What machines and newcomers ask: health, metrics, the API's description, and a page that renders it.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
    time::Duration,
};

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use cnc_domain::ledger::Hash;
use serde_json::{Value, json};

use super::{app::App, extract::Parted, gzip::Fixed};
use crate::{
    metrics::{FoldFigures, OPENMETRICS},
    problem::Problem,
    problems,
};

const DOCS: &str = include_str!("docs.html");

/// The process answers, and the loop that folds goes round: no wait in it is longer than seconds, so that one that stands
/// still will not go on by itself.
pub async fn live(State(app): State<Arc<App>>) -> Result<Json<Value>, Problem> {
    let beat = app.engine.heartbeat();
    let silent =
        beat.and_then(|beat| u64::try_from(app.now().micros() - beat.micros()).ok()).map(Duration::from_micros);
    match silent.filter(|silent| *silent > app.limits.standstill) {
        Some(silent) => Err(Problem::wedged(silent)),
        None => Ok(Json(json!({ "status": "alive" }))),
    }
}

/// The description of the API.
pub async fn openapi(headers: HeaderMap) -> Response {
    OPENAPI.answer(&headers)
}

/// A page that renders the description. It brings everything along and may load nothing but the description.
pub async fn docs(headers: HeaderMap) -> Response {
    let policy = HeaderValue::from_str(&POLICY).unwrap_or(HeaderValue::from_static("default-src 'none'"));
    let mut response = PAGE.answer(&headers);
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

/// Makes what never changes, so that nobody waits for it later.
pub fn prepare() {
    LazyLock::force(&OPENAPI);
    LazyLock::force(&PAGE);
}

static OPENAPI: LazyLock<Fixed> =
    LazyLock::new(|| Fixed::new("application/json", crate::openapi::openapi().to_string()));

static PAGE: LazyLock<Fixed> = LazyLock::new(|| Fixed::new("text/html; charset=utf-8", DOCS.to_owned()));

static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |tag: &str| {
        let text = between(DOCS, &format!("<{tag}>"), &format!("</{tag}>"));
        format!("'sha256-{}'", BASE64.encode(Hash::of(text).0))
    };
    let (script, style) = (hash("script"), hash("style"));
    format!(
        "default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'"
    )
});

/// What a problem's code means: the page that its `type` names.
pub async fn problem(Parted(code): Parted<String>) -> Result<Json<Value>, Problem> {
    problems::page(&code).map(Json).ok_or_else(Problem::not_found)
}

fn between<'a>(text: &'a str, open: &str, close: &str) -> &'a str {
    let rest = text.split_once(open).map_or("", |(_, rest)| rest);
    rest.split_once(close).map_or("", |(inside, _)| inside)
}

/// All metrics: of the whole installation, without a company or anything personal.
pub async fn metrics(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let mut folds: BTreeMap<String, FoldFigures> = BTreeMap::new();
    for status in app.engine.status().await? {
        folds.entry(status.fold.clone()).or_default().add(&status);
    }
    for (fold, figures) in folds {
        app.metrics.fold(&fold, &figures);
    }
    app.metrics.folds_hold(app.engine.held_bytes());
    let (batches, commands) = app.host.appended();
    app.metrics.appends(batches, commands);
    for (pool, open, idle) in app.store.pools().into_iter().chain(app.parts.pools()) {
        app.metrics.pool(pool, open, idle);
    }
    app.metrics.waiting(app.waiting.taken());
    app.metrics.parts(&app.parts);
    let text = app.metrics.text().map_err(|cause| Problem::broken("writing metrics", cause))?;
    Ok(([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response())
}
