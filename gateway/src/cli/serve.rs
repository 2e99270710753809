//! `cnc serve`: all roles in one process, or some, until it is told to stop.

use std::{net::SocketAddr, path::PathBuf};

use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::output::{Failure, Out};
use crate::{
    nats::NatsAccess,
    roles::{Role, Roles},
    run::{Config, System},
};

/// Run the server: API, folds and workers in one process, or split over many
///
/// It needs no other server: without --ledger everything is kept in the data folder. Ctrl-C or SIGTERM stops it; requests
/// that are under way are finished first. Look at http://ADDRESS/docs.
///
/// Over Postgres the same binary splits: any number of processes, each with some --roles, on one --ledger and one --nats,
/// and with the same master.key and token.key. Every process answers /health/live, /health/ready (what it does, and what
/// is connected) and /metrics (with a token) on --listen; only those with the role gateway answer anything else. Without
/// --nats they notice each other by the database, which costs more of it.
#[derive(Debug, clap::Args)]
pub struct Serve {
    /// Where to listen; port 0 takes a free one, which is printed
    #[arg(long, env = "CNC_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,
    /// What this process does; all where nothing is said, the relay only with --nats
    #[arg(long, env = "CNC_ROLES", value_delimiter = ',', value_name = "ROLE,…")]
    pub roles: Option<Vec<Role>>,
    /// The NATS 2.9 or newer, with JetStream, that connects the processes: nats://USER:PASSWORD@HOST:4222, or several
    /// addresses of one cluster with commas between
    #[arg(long, env = "CNC_NATS", value_name = "URL,…", hide_env_values = true)]
    pub nats: Option<String>,
    /// A file of NATS credentials, instead of a user in the URL
    #[arg(long, env = "CNC_NATS_CREDS", value_name = "FILE", requires = "nats")]
    pub nats_creds: Option<PathBuf>,
}

pub async fn run(command: &Serve, config: Config, out: Out) -> Result<(), Failure> {
    let nats = command.nats.as_ref().map(|urls| NatsAccess::new(urls, command.nats_creds.clone()));
    let config = Config { listen: command.listen, roles: command.roles.clone(), nats, ..config };
    Roles::of(&config).map_err(|misfit| Failure::Usage(misfit.into()))?;
    let system = System::start(config).await?;
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
