//! The routes. Only generic ones are written by hand: streams, commands and views are looked up in the catalog.

use std::sync::Arc;

use axum::{
    Router,
    middleware::{from_fn, from_fn_with_state},
    routing::{get, post},
};
use tower_http::compression::CompressionLayer;

use super::{app::App, commands, extract, gzip, layers, ledger, readiness, service, state, views};
use crate::{live, problem::Problem, roles::Role};

/// All routes: the API where that is a role of the process, and how the process is in any case. Everything under `/v1` needs a
/// token, and says 401 without one before anything else, also of what is not there.
pub fn router(app: Arc<App>) -> Router {
    let is_gateway = app.parts.roles.has(Role::Gateway);
    let known = if is_gateway { Router::new().nest("/v1", api(&app)).merge(about()) } else { Router::new() };
    known
        .route("/health/live", get(service::live))
        .route("/health/ready", get(readiness::ready))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(app.clone(), layers::around))
        .with_state(app)
}

/// What only the operator reads, on an address of its own.
pub fn metrics_router(app: Arc<App>) -> Router {
    Router::new()
        .route("/metrics", get(service::metrics))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn_with_state(app.clone(), layers::around))
        .with_state(app)
}

fn api(app: &Arc<App>) -> Router<Arc<App>> {
    Router::new()
        .route("/{stream}/{id}/history", get(state::history))
        .route("/{stream}/{id}/{command}", post(commands::give))
        .route("/{stream}/{id}", get(state::state))
        .route("/views/{view}", get(views::page))
        .route("/views/{view}/{key}", get(views::row))
        // Made while it is read, and so compressed.
        .route("/ledger", get(ledger::lines).layer(CompressionLayer::new()))
        .route("/ledger/head", get(ledger::head))
        .route("/live", get(live::open))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        // As one layer: each of its own would be copied and put in a box for every request.
        .layer((from_fn_with_state(app.clone(), extract::authenticate), from_fn(gzip::compress)))
}

async fn not_found() -> Problem {
    Problem::not_found()
}

async fn method_not_allowed() -> Problem {
    Problem::method_not_allowed()
}

fn about() -> Router<Arc<App>> {
    service::prepare();
    Router::new()
        .route("/openapi.json", get(service::openapi))
        .route("/docs", get(service::docs))
        .route("/problems/{code}", get(service::problem))
}
