//! The connection to NATS: kept for ever, and made anew whenever it is lost.

use std::{fmt, path::PathBuf, time::Duration};

use async_nats::{Client, ConnectOptions, Event, ServerAddr};
use cnc_domain::ledger::Fault;

/// How long to wait before the first attempts to connect again, and at most.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_LONGEST: Duration = Duration::from_secs(2);
/// How long an answer may take.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

const DOING: &str = "connecting to NATS";

/// Where NATS is, and how to be let in. What it prints is neither.
#[derive(Clone)]
pub struct NatsAccess {
    urls: String,
    credentials: Option<PathBuf>,
}

impl NatsAccess {
    /// Addresses of one cluster, separated by commas, with a user and a password in them where they are needed; or a file
    /// of credentials.
    pub fn new(urls: impl Into<String>, credentials: Option<PathBuf>) -> Self {
        Self { urls: urls.into(), credentials }
    }
}

impl fmt::Debug for NatsAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NatsAccess")
    }
}

/// Connects under this name, or goes on trying to for as long as the client lives: only what can never work is a fault.
pub(crate) async fn connect(access: &NatsAccess, name: &str) -> Result<Client, Fault> {
    let addresses = access.urls.split(',').map(|url| url.trim().parse::<ServerAddr>());
    // The address may hold a password, so that it is not repeated.
    let addresses = addresses
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| Fault::broken(DOING, "--nats takes nats://HOST:PORT, or several with commas between"))?;
    let options = ConnectOptions::new()
        .name(name)
        .retry_on_initial_connect()
        // A broker that says nothing any more is one that is away, after two pings without an answer.
        .ping_interval(ANSWERS_WITHIN)
        .connection_timeout(ANSWERS_WITHIN)
        .request_timeout(Some(ANSWERS_WITHIN))
        .max_reconnects(None)
        .reconnect_delay_callback(|attempts| {
            let doubled = u32::try_from(attempts.min(6)).unwrap_or(6);
            (RETRY_FIRST * 2_u32.pow(doubled)).min(RETRY_LONGEST)
        })
        .event_callback(|event| async move { log(&event) });
    let options = match &access.credentials {
        Some(file) => options
            .credentials_file(file)
            .await
            .map_err(|error| Fault::broken(DOING, format!("{}: {error}", file.display())))?,
        None => sign_in(options, &addresses),
    };
    options.connect(addresses).await.map_err(|error| Fault::broken(DOING, error))
}

/// Takes user and password from the first address that has them: the client itself passes over them. Answers come to
/// `_INBOX_<user>`, so that no user need have the right to hear what another was answered.
pub(crate) fn sign_in(options: ConnectOptions, addresses: &[ServerAddr]) -> ConnectOptions {
    let named = addresses.iter().find_map(|address| Some((address.username()?, address.password()?)));
    let Some((user, password)) = named else { return options };
    let options = options.user_and_password(user.to_owned(), password.to_owned());
    let is_plain = user.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    if is_plain { options.custom_inbox_prefix(format!("_INBOX_{user}")) } else { options }
}

fn log(event: &Event) {
    match event {
        Event::Connected => tracing::info!("connected to NATS"),
        Event::Disconnected => tracing::warn!("NATS is away; folds go on by the ledger alone"),
        Event::SlowConsumer(_) => tracing::warn!("NATS is faster than its messages are taken; some are lost"),
        other => tracing::debug!(%other, "NATS"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wrong_address_is_refused_without_repeating_it() {
        let access = NatsAccess::new("nats://ann:s3cret@[broken", None);
        let fault = connect(&access, "test").await.expect_err("is no address");
        assert!(!fault.to_string().contains("s3cret") && fault.to_string().contains("--nats"), "{fault}");
    }
}
