//! The routes. Only generic ones are written by hand: streams, commands and views are looked up in the catalog.

mod app;
mod body;
mod commands;
mod extract;
mod layers;
mod ledger;
pub(crate) mod matching;
mod past;
mod query;
mod readiness;
mod serve;
mod service;
pub(crate) mod shape;
mod shown;
mod state;
pub(crate) mod views;

use std::sync::Arc;

use axum::{
    Router,
    middleware::from_fn_with_state,
    routing::{get, post},
};
use tower_http::compression::CompressionLayer;

pub use app::App;
pub(crate) use extract::{Caller, SUBPROTOCOL};
pub(crate) use query::NUMBER_MAX;
pub use serve::serve;

use crate::{live, problem::Problem, roles::Role};

/// All routes: the API where that is a role of the process, and how the process is in any case. Everything under `/v1` and
/// `/metrics` needs a token, and says 401 without one before anything else.
pub fn router(app: Arc<App>) -> Router {
    let is_gateway = app.parts.roles.has(Role::Gateway);
    let (api, about) = if is_gateway { (api(), about()) } else { (Router::new(), Router::new()) };
    let known = api
        .route("/metrics", get(service::metrics))
        .route_layer(from_fn_with_state(app.clone(), extract::authenticate));
    known
        .merge(about)
        .route("/health/live", get(service::live))
        .route("/health/ready", get(readiness::ready))
        .fallback(|| async { Problem::not_found() })
        .method_not_allowed_fallback(|| async { Problem::method_not_allowed() })
        // As one layer: each of its own would be copied and put in a box for every request.
        .layer((from_fn_with_state(app.clone(), layers::around), CompressionLayer::new()))
        .with_state(app)
}

fn api() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/{stream}/{id}/history", get(state::history))
        .route("/v1/{stream}/{id}/{command}", post(commands::give))
        .route("/v1/{stream}/{id}", get(state::state))
        .route("/v1/views/{view}", get(views::page))
        .route("/v1/views/{view}/{key}", get(views::row))
        .route("/v1/ledger", get(ledger::lines))
        .route("/v1/ledger/head", get(ledger::head))
        .route("/v1/live", get(live::open))
}

fn about() -> Router<Arc<App>> {
    Router::new()
        .route("/openapi.json", get(service::openapi))
        .route("/docs", get(service::docs))
        .route("/problems/{code}", get(service::problem))
}
