//! `cnc serve`: all roles in one process, until it is told to stop.

use std::net::SocketAddr;

use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::output::{Failure, Out};
use crate::run::{Config, System};

/// Run the server: API, folds and workers in one process
///
/// It needs no other server: without --ledger everything is kept in the data folder. Ctrl-C or SIGTERM stops it; requests
/// that are under way are finished first. Look at http://ADDRESS/docs.
#[derive(Debug, clap::Args)]
pub struct Serve {
    /// Where to listen; port 0 takes a free one, which is printed
    #[arg(long, env = "CNC_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,
}

pub async fn run(command: &Serve, config: Config, out: Out) -> Result<(), Failure> {
    let system = System::start(Config { listen: command.listen, ..config }).await?;
    let address = system.address;
    out.say(format_args!("listening on http://{address}"), &json!({ "listening": format!("http://{address}") }))?;
    until_stopped().await?;
    tracing::info!("stopping");
    system.stop().await;
    Ok(())
}

/// Waits for Ctrl-C or SIGTERM.
pub async fn until_stopped() -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::fault)?;
    tokio::select! {
        done = tokio::signal::ctrl_c() => done.map_err(Failure::fault),
        _ = terminate.recv() => Ok(()),
    }
}
