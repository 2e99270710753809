//! The ledger itself, for auditors and backups: its lines as they are, and its head.

use std::sync::Arc;

use axum::{
    Json,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderName, header},
    response::{IntoResponse, Response},
};
use cnc_domain::{
    kernel::CompanyId,
    ledger::{Fault, Head, Ledger, Position},
};
use futures::{Stream, stream};
use serde_json::json;

use super::{app::App, extract::Caller, query::Asked};
use crate::problem::Problem;

/// The head that an export reaches, as `cnc audit verify --head` takes it.
pub const HEAD: HeaderName = HeaderName::from_static("cnc-head");
/// The media type of lines of JSON.
const NDJSON: &str = "application/x-ndjson";
/// Lines that are read at once.
const CHUNK: usize = 1_000;

/// All lines after `?after=`, up to the head at this moment or `?limit=` lines; resume with the last position received.
pub async fn lines(State(app): State<Arc<App>>, Caller(claims): Caller, mut asked: Asked) -> Result<Response, Problem> {
    let grant = app.grant(&claims, "ledger.read", None).await?;
    let (after, limit) = (asked.number("after")?.unwrap_or(0), asked.number("limit")?);
    asked.done()?;
    let ledger = app.host.ledger().clone();
    let head = ledger.head(grant.company()).await?.ok_or_else(Problem::not_found)?;
    let until = head.position.min(after.saturating_add(limit.unwrap_or(u64::MAX)));
    let body = Body::from_stream(read(ledger, grant.company(), after, until));
    Ok(([(header::CONTENT_TYPE, NDJSON.to_owned()), (HEAD, head.to_string())], body).into_response())
}

/// Lines after one position up to another, each with its newline. A fault cuts the answer off, so that no reader takes
/// it for whole.
fn read(
    ledger: Arc<dyn Ledger>,
    company: CompanyId,
    after: Position,
    until: Position,
) -> impl Stream<Item = Result<Bytes, Fault>> + Send + 'static {
    stream::try_unfold(after, move |after| {
        let ledger = ledger.clone();
        async move {
            let wanted = usize::try_from(until.saturating_sub(after)).unwrap_or(CHUNK).min(CHUNK);
            if wanted == 0 {
                return Ok(None);
            }
            let lines = ledger.read(company, after, wanted).await.inspect_err(|fault| {
                tracing::error!(%company, after, %fault, "an export was cut off");
            })?;
            let next = after + lines.len() as u64;
            if lines.is_empty() {
                return Err(Fault::broken("exporting a ledger", "it ends before its head"));
            }
            let mut text = lines.join("\n");
            text.push('\n');
            Ok(Some((Bytes::from(text), next)))
        }
    })
}

/// The head: the last position and the hash of its line.
pub async fn head(State(app): State<Arc<App>>, Caller(claims): Caller, asked: Asked) -> Result<Response, Problem> {
    let grant = app.grant(&claims, "ledger.read", None).await?;
    asked.done()?;
    let head: Head = app.host.ledger().head(grant.company()).await?.ok_or_else(Problem::not_found)?;
    Ok(Json(json!({ "position": head.position, "hash": head.hash })).into_response())
}
