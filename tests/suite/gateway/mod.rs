//! The gateway from outside, over HTTP and WebSocket, on a whole system.

mod access;
mod branches;
mod describing;
mod failing;
mod holding;
mod hostile;
pub mod live;
mod reading;
mod refusing;
mod tokens;
mod unwritable;
mod writing;

use cnc_tests::{mover::Mover, system::Running};

use crate::ledger::Ground;

/// A mover served from this back end.
async fn mover(ground: Ground) -> Mover {
    match ground {
        Ground::Sqlite(_) => Mover::start().await,
        Ground::Postgres(url) => Mover::on(Running::postgres(&url).await.expect("starts")).await,
    }
}
