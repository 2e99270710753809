//! Reading views: a page with declared filters and sorts, or one row; now, when they have caught up, or as of then.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Json,
    body::Body,
    extract::{FromRequestParts, State},
    http::{HeaderName, HeaderValue, header, request::Parts},
    response::{IntoResponse, Response},
};
use cnc_domain::ledger::Position;
use cnc_projections::{Health, Page, Query, QueryError};
use serde_json::{Value, json};

use super::{
    app::App,
    extract::{Caller, Parted},
    past::Past,
    query::Asked,
    shape::Shape,
};
use crate::{
    authorize::Grant,
    catalog::{Served, catalog},
    problem::Problem,
};

/// Says which position of the ledger an answer stands at.
pub const POSITION: HeaderName = HeaderName::from_static("cnc-position");
/// Says what is not well with the view of an answer, where something is.
pub const HEALTH: HeaderName = HeaderName::from_static("cnc-view-health");

/// A page of a view.
pub async fn page(
    State(app): State<Arc<App>>,
    Caller(claims): Caller,
    Parted(view): Parted<String>,
    mut asked: Asked,
) -> Result<Response, Problem> {
    let view = catalog().view(&view).ok_or_else(Problem::not_found)?;
    let grant = app.grant(&claims, view.reading(), None).await?;
    let query = query(&app, &grant, view, &mut asked)?;
    let (at_least, as_of) = (asked.number("at_least")?, asked.as_of()?);
    asked.done()?;
    catch_up(&app, &grant, view, at_least).await?;
    let (page, at) = match as_of {
        None => (app.store.query(grant.company(), view.name(), &query).await?, app.now()),
        Some(as_of) => {
            let past = Past::of(&app, &grant, as_of).await?;
            (past.page(&app, &grant, view, &query).await?, past.at)
        }
    };
    let Page { rows, next, position, health } = page;
    let unwell = unwell(health, position)?;
    let rows = Shape::of(&app, &grant, view, at).await?.rows(&app, rows).await?;
    let mut body = json!({ "view": view.name(), "position": position, "rows": rows, "next": next });
    if let Some((_, said)) = &unwell {
        body["health"] = said.clone();
    }
    let mut answer = ([(POSITION, position.to_string())], Json(body)).into_response();
    answer.headers_mut().extend(unwell.map(|(header, _)| (HEALTH, header)));
    Ok(answer)
}

/// One row of a view.
pub async fn row(
    State(app): State<Arc<App>>,
    Caller(claims): Caller,
    Parted((view, key)): Parted<(String, String)>,
    FromStore(from_store): FromStore,
    mut asked: Asked,
) -> Result<Response, Problem> {
    let view = catalog().view(&view).ok_or_else(Problem::not_found)?;
    let grant = app.grant(&claims, view.reading(), None).await?;
    let (at_least, as_of) = (asked.number("at_least")?, asked.as_of()?);
    asked.done()?;
    catch_up(&app, &grant, view, at_least).await?;
    let lately = as_of.is_none() && !from_store;
    let (position, row, at, health) = match as_of {
        None => {
            let bounds = grant.bound(view, Query::default());
            let (company, scope) = (grant.company(), bounds.scope.as_ref());
            let found = if lately {
                app.engine.row(company, view.name(), &key, scope, at_least.unwrap_or(0)).await?
            } else {
                app.store.get(company, view.name(), &key, scope).await?
            };
            (found.position, found.row.filter(|row| grant.sees(view, row)), app.now(), found.health)
        }
        Some(as_of) => {
            let past = Past::of(&app, &grant, as_of).await?;
            (past.position, past.row(&app, &grant, view, &key).await?.map(Arc::new), past.at, Health::default())
        }
    };
    let unwell = unwell(health, position)?;
    let row = row.ok_or_else(Problem::not_found)?;
    let text = Shape::of(&app, &grant, view, at).await?.row(&app, row, lately).await?;
    let said = unwell.as_ref().map_or_else(String::new, |(_, said)| format!(",\"view_health\":{said}"));
    let body = [&*text, ",\"view_position\":", &position.to_string(), &said, "}"].concat();
    let json = HeaderValue::from_static("application/json");
    let mut answer = ([(POSITION, position.into()), (header::CONTENT_TYPE, json)], Body::from(body)).into_response();
    answer.headers_mut().extend(unwell.map(|(header, _)| (HEALTH, header)));
    Ok(answer)
}

/// What is said of a view that is not well, in a header and in a member; `Err` where it must not be shown.
pub(crate) fn unwell(health: Health, position: Position) -> Result<Option<(HeaderValue, Value)>, Problem> {
    if let Some(until) = health.rebuilding_until {
        return Err(Problem::rebuilding(position, until));
    }
    if health.is_well() {
        return Ok(None);
    }
    let stopped = health.stopped_at.map(|at| format!("stopped;position={at}"));
    let skipped =
        Some(health.skipped).filter(|entries| *entries > 0).map(|entries| format!("skipped;entries={entries}"));
    let header = stopped.into_iter().chain(skipped).collect::<Vec<_>>().join(", ");
    let header = HeaderValue::try_from(header).map_err(|cause| Problem::broken("writing a header", cause))?;
    Ok(Some((header, json!({ "stopped_at": health.stopped_at, "skipped": health.skipped }))))
}

/// Whether the caller wants an answer from the store itself.
pub struct FromStore(bool);

impl<S: Send + Sync> FromRequestParts<S> for FromStore {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let values = parts.headers.get_all(header::CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
        let mut directives = values.flat_map(|value| value.split(','));
        Ok(Self(directives.any(|directive| directive.trim().eq_ignore_ascii_case("no-cache"))))
    }
}

/// Takes the declared filters, the sort and the page.
fn query(app: &App, grant: &Grant, view: &Served, asked: &mut Asked) -> Result<Query, Problem> {
    let mut filters = Vec::new();
    for filter in view.document.filters {
        filters.extend(asked.take(filter)?.map(|value| ((*filter).to_owned(), value)));
    }
    let sort = asked.take("sort")?.map(|sort| match sort.strip_prefix('-') {
        Some(member) => (member.to_owned(), true),
        None => (sort, false),
    });
    if let Some((member, _)) = &sort
        && member != "key"
        && !view.document.sorts.contains(&member.as_str())
    {
        let sorts = view.document.sorts.join(", ");
        return Err(Problem::bad_request(
            "bad_query",
            format!("this view sorts by key, {sorts}; with - the other way"),
        ));
    }
    let (cursor, limit) = (asked.take("cursor")?, asked.limit(&app.limits)?);
    Ok(grant.bound(view, Query { filters, sort, cursor, limit, scope: None }))
}

/// Waits until the view has what the caller wants to see. Nobody can have been told a position that the ledger does not
/// have, whichever process recorded it; so the ledger itself is asked, which alone is never behind.
async fn catch_up(app: &App, grant: &Grant, view: &Served, at_least: Option<Position>) -> Result<(), Problem> {
    let Some(at_least) = at_least else { return Ok(()) };
    let (company, view) = (grant.company(), view.name());
    if app.engine.has_reached(company, view, at_least) {
        return Ok(());
    }
    let head = app.host.ledger().head(company).await?.unwrap_or_default().position;
    if at_least > head {
        return Err(Problem::no_such_position(head, at_least));
    }
    let reached = app.engine.wait_for(company, view, at_least, app.limits.at_least).await;
    reached.map(|_| ()).map_err(|position| Problem::behind(position, at_least))
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::UnknownView(_) => Self::not_found(),
            QueryError::Fault(fault) => Self::fault(&fault),
            wrong => Self::bad_request("bad_query", wrong.to_string()),
        }
    }
}
