//! HTTP: the connections, what is around every request, and the routes.

pub(crate) mod app;
mod body;
mod commands;
pub(crate) mod extract;
mod gzip;
mod layers;
mod ledger;
mod past;
mod progress;
pub(crate) mod query;
mod readiness;
mod routes;
mod serve;
mod service;
pub(crate) mod shape;
pub(crate) mod shares;
mod shown;
mod state;
pub(crate) mod views;
pub(crate) mod waiting;

pub use app::App;
pub use serve::{listen, serve, serve_metrics};
