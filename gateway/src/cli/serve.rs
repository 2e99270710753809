//! `cnc serve`: all roles in one process, or some, until it is told to stop.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use axum::http::HeaderName;
use cnc_commands::relay::RelayOptions;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::{
    address::resolved,
    output::{Failure, Out},
};
use crate::{
    limits::Limits,
    nats::NatsAccess,
    roles::Role,
    run::{Config, System},
};

/// Run the server: API, folds and workers in one process, or split over many
///
/// It needs no other server: without --ledger everything is kept in the data folder. Ctrl-C or SIGTERM stops it; requests
/// that are under way are finished first. Look at http://ADDRESS/docs.
///
/// Over Postgres the same binary splits: any number of processes, each with some --roles, on one --ledger and one --nats,
/// and with the same master.key and token.key. Every process answers /health/live and /health/ready (what it does, and how its
/// parts are) on --listen, and /metrics on --metrics-listen; only those with the role gateway answer anything else. Without
/// --nats they notice each other by the database, which costs more of it.
#[derive(Debug, clap::Args)]
pub struct Serve {
    /// Where to listen; port 0 takes a free one, which is printed
    #[arg(long, env = "CNC_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDRESS:PORT", value_parser = resolved)]
    pub listen: SocketAddr,
    /// Where to answer with metrics (GET /metrics) for Prometheus; nowhere where nothing is said
    ///
    /// They are the operator's: no token is asked for, so that clients must not reach this address.
    #[arg(long, env = "CNC_METRICS_LISTEN", value_name = "ADDRESS:PORT", value_parser = resolved)]
    pub metrics_listen: Option<SocketAddr>,
    /// The header in which a trusted proxy names the client that it forwards for: x-forwarded-for, or its own
    ///
    /// What one address may take is then counted by what the proxy wrote last into it. Name it only where clients reach the
    /// server through the proxy alone: whoever else could write the header would be whoever they like.
    #[arg(long, env = "CNC_CLIENT_ADDRESS_HEADER", value_name = "HEADER")]
    pub client_address_header: Option<HeaderName>,
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
    /// How many brokers of a cluster keep a copy of the stream: 1, 3 or 5
    ///
    /// With 3 copies the stream goes on while one of the brokers is away, with 5 while two are; there must be as many brokers
    /// as copies. One is enough where NATS may be away for a while: nothing is lost, since the ledger is the truth, and what
    /// hears of it only hears later. The relay sees to it, so that all relays must be told the same.
    #[arg(long, env = "CNC_NATS_REPLICAS", default_value = "1", value_name = "N", value_parser = copies, requires = "nats")]
    pub nats_replicas: usize,
    /// How many hours the stream keeps an entry; 0 for ever
    ///
    /// The ledger keeps everything; the stream only what a consumer may have missed. So it is as long as a partner may be
    /// away and still go on from the stream; what is older they read from GET /v1/ledger. The relay sees to it, so that all
    /// relays must be told the same.
    #[arg(long, env = "CNC_NATS_KEEP_HOURS", default_value = "168", value_name = "N",
        value_parser = clap::value_parser!(u32).range(..=HOURS_MAX), requires = "nats")]
    pub nats_keep_hours: u32,
}

/// A hundred years: a broker counts in nanoseconds, and has no room for three hundred.
const HOURS_MAX: i64 = 100 * 365 * 24;

/// A stream has one copy, or so many that most of them are left when one is lost.
fn copies(text: &str) -> Result<usize, &'static str> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        "5" => Ok(5),
        _ => Err("a stream has 1, 3 or 5 copies"),
    }
}

impl Serve {
    /// How the relay keeps the stream.
    fn relay(&self) -> RelayOptions {
        let keep = Duration::from_hours(self.nats_keep_hours.into());
        RelayOptions { replicas: self.nats_replicas, keep, ..RelayOptions::default() }
    }
}

pub async fn run(command: &Serve, config: Config, out: Out) -> Result<(), Failure> {
    let nats = command.nats.as_ref().map(|urls| NatsAccess::new(urls, command.nats_creds.clone()));
    let relay = command.relay();
    let limits = Limits { client_address: command.client_address_header.clone(), ..config.limits };
    let (listen, metrics_listen) = (command.listen, command.metrics_listen);
    let config = Config { listen, metrics_listen, limits, roles: command.roles.clone(), nats, relay, ..config };
    config.roles().map_err(|misfit| Failure::Usage(misfit.into()))?;
    let mut stopped = std::pin::pin!(stopped()?);
    let system = tokio::select! {
        started = System::start(config) => started?,
        () = &mut stopped => return Ok(()),
    };
    let at = format!("http://{}", system.address);
    let metrics = system.metrics_address.map(|address| format!("http://{address}/metrics"));
    let and = metrics.as_ref().map(|metrics| format!(", metrics on {metrics}")).unwrap_or_default();
    out.say(format_args!("listening on {at}{and}"), &json!({ "listening": at, "metrics": metrics }))?;
    stopped.await;
    tracing::info!("stopping");
    system.stop().await;
    Ok(())
}

/// What waits for Ctrl-C or SIGTERM, from now on: one that comes while the server still starts is not lost.
pub fn stopped() -> Result<impl Future<Output = ()>, Failure> {
    let listen = |kind| signal(kind).map_err(Failure::fault);
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        serve: Serve,
    }

    #[test]
    fn the_stream_is_kept_as_the_relay_would_keep_it_where_nothing_is_said() {
        let line = Line::try_parse_from(["cnc"]).expect("parses");
        let (told, usual) = (line.serve.relay(), RelayOptions::default());
        assert_eq!((told.replicas, told.keep, told.lease), (usual.replicas, usual.keep, usual.lease));
    }
}
