//! Reading one aggregate: its state now or then, and the entries that made it.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use cnc_commands::{HostError, Shown};
use serde_json::{json, value::RawValue};
use uuid::Uuid;

use super::{
    app::App,
    extract::{Caller, Parted, etag, id},
    query::Asked,
};
use crate::{
    authorize::Grant,
    catalog::{Stream, catalog},
    problem::Problem,
    restricted::{withheld, withhold},
    tokens::Claims,
};

/// The state of an aggregate, now or as of a position or a time.
pub async fn state(
    State(app): State<Arc<App>>,
    Caller(claims): Caller,
    Parted((stream, target)): Parted<(String, String)>,
    mut asked: Asked,
) -> Result<Response, Problem> {
    let stream = catalog().stream(&stream).ok_or_else(Problem::not_found)?;
    let (grant, now) = find(&app, &claims, stream, &target).await?;
    let as_of = asked.as_of()?;
    asked.done()?;
    let target = id(&target)?;
    let mut shown = match as_of {
        None => now,
        Some(as_of) => {
            let then = app.host.state(grant.company(), &stream.contract.stream, target, Some(as_of)).await?;
            then.ok_or_else(Problem::not_found)?
        }
    };
    if let Some(members) = grant.withheld(stream) {
        withhold(&mut shown.state, members);
    }
    app.open(&grant, &mut shown.state).await?;
    let Shown { state, sequence, position, location, .. } = shown;
    let body = json!({ "stream": stream.contract.stream, "id": target, "sequence": sequence, "position": position,
        "location": location, "state": state });
    Ok(([(header::ETAG, etag(sequence))], Json(body)).into_response())
}

/// The entries of an aggregate as they stand in the ledger, sealed fields and all, a page at a time; without restricted
/// members for who may not see them.
pub async fn history(
    State(app): State<Arc<App>>,
    Caller(claims): Caller,
    Parted((stream, target)): Parted<(String, String)>,
    mut asked: Asked,
) -> Result<Response, Problem> {
    let stream = catalog().stream(&stream).ok_or_else(Problem::not_found)?;
    let (grant, shown) = find(&app, &claims, stream, &target).await?;
    let (after, limit) = (asked.number("after")?.unwrap_or(0), asked.limit(&app.limits)?);
    asked.done()?;
    let name = &stream.contract.stream;
    let lines = app.host.ledger().read_stream(grant.company(), name, id(&target)?, after, limit).await?;
    let last = after + lines.len() as u64;
    let lines: Vec<String> = match grant.withheld(stream) {
        Some(members) => lines.into_iter().map(|line| withheld(line, members)).collect::<Result<_, _>>()?,
        None => lines,
    };
    let entries: Result<Vec<Box<RawValue>>, _> = lines.into_iter().map(RawValue::from_string).collect();
    let entries = entries.map_err(|cause| Problem::broken("reading a stream", cause))?;
    let next = (!entries.is_empty() && last < shown.sequence).then_some(last);
    Ok(Json(History { entries, next }).into_response())
}

/// A page of entries.
#[derive(serde::Serialize)]
struct History {
    entries: Vec<Box<RawValue>>,
    /// What to send as `after` for the next page; absent at the end.
    next: Option<u64>,
}

/// The aggregate as it is now, where the caller may see it.
async fn find(app: &App, claims: &Claims, stream: &Stream, target: &str) -> Result<(Grant, Shown), Problem> {
    let grant = app.grant(claims, &stream.reading(), None).await?;
    let target: Uuid = id(target)?;
    let shown = match app.host.state(grant.company(), &stream.contract.stream, target, None).await {
        Ok(shown) => shown,
        Err(HostError::NotFound) => None,
        Err(other) => return Err(other.into()),
    };
    let shown = shown.filter(|shown| grant.reaches(shown)).ok_or_else(Problem::not_found)?;
    Ok((grant, shown))
}
