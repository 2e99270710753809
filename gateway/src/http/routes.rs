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
    let known = if is_gateway { api().merge(about()) } else { Router::new() };
    let around = from_fn_with_state(app.clone(), layers::around);
    let authenticate = from_fn_with_state(app.clone(), extract::authenticate);
    known
        .route("/health/live", get(service::live))
        .route("/health/ready", get(readiness::ready))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        // As one layer: each of its own would be copied and put in a box for every request.
        .layer((around, authenticate, from_fn(gzip::compress)))
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

fn api() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/{stream}/{id}/history", get(state::history))
        .route("/v1/{stream}/{id}/{command}", post(commands::give))
        .route("/v1/{stream}/{id}", get(state::state))
        .route("/v1/views/{view}", get(views::page))
        .route("/v1/views/{view}/{key}", get(views::row))
        // Made while it is read, and so compressed.
        .route("/v1/ledger", get(ledger::lines).layer(CompressionLayer::new()))
        .route("/v1/ledger/head", get(ledger::head))
        .route("/v1/live", get(live::open))
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
