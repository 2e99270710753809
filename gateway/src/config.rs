//! What an operator may say of how a system is run.

use std::{fmt, net::SocketAddr, path::PathBuf};

use cnc_commands::{ClockLimits, KeyPlace, relay::RelayOptions};

use crate::{
    limits::Limits,
    nats::NatsAccess,
    roles::{Role, Roles},
    tokens,
};

/// What a system is started with. What it prints is no password.
#[derive(Clone)]
pub struct Config {
    /// The data folder: keys, and without `ledger` also the ledger and its views.
    pub data: PathBuf,
    /// The Postgres database that holds the ledger and its views; `SQLite` in the data folder where there is none.
    pub ledger: Option<String>,
    /// Where the master key lies; in the data folder where nothing is said.
    pub master_key_file: Option<PathBuf>,
    /// Where the key that signs tokens lies; in the data folder where nothing is said.
    pub token_key_file: Option<PathBuf>,
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where to answer with metrics, for the operator; nowhere where nothing is said.
    pub metrics_listen: Option<SocketAddr>,
    /// What a caller may ask for at most.
    pub limits: Limits,
    /// What this process does; the usual where nothing is said.
    pub roles: Option<Vec<Role>>,
    /// The NATS that connects this process with others.
    pub nats: Option<NatsAccess>,
    /// How the relay keeps the stream.
    pub relay: RelayOptions,
    /// How far this process's clock is believed.
    pub clock: ClockLimits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: "./cnc-data".into(),
            ledger: None,
            master_key_file: None,
            token_key_file: None,
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            metrics_listen: None,
            limits: Limits::default(),
            roles: None,
            nats: None,
            relay: RelayOptions::default(),
            clock: ClockLimits::default(),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("data", &self.data)
            // The address may hold a password.
            .field("ledger", &self.ledger.as_ref().map(|_| "Postgres"))
            .field("master_key_file", &self.master_key_file)
            .field("token_key_file", &self.token_key_file)
            .field("listen", &self.listen)
            .field("metrics_listen", &self.metrics_listen)
            .field("limits", &self.limits)
            .field("roles", &self.roles)
            .field("nats", &self.nats)
            .field("relay", &self.relay)
            .field("clock", &self.clock)
            .finish()
    }
}

impl Config {
    /// Where the master key lies.
    pub fn master_key_path(&self) -> PathBuf {
        self.master_key_file.clone().unwrap_or_else(|| self.data.join("master.key"))
    }

    /// Where the wrapped keys lie.
    pub(crate) fn key_place(&self) -> KeyPlace<'_> {
        self.ledger.as_deref().map_or(KeyPlace::Sqlite(&self.data), KeyPlace::Postgres)
    }

    /// Where the key that signs tokens lies.
    pub fn token_key_path(&self) -> PathBuf {
        self.token_key_file.clone().unwrap_or_else(|| self.data.join(tokens::KEY_FILE))
    }

    /// The roles that are named, or the usual ones. `Err` says what does not go together, and what to do.
    pub fn roles(&self) -> Result<Roles, &'static str> {
        Roles::of(self.roles.as_deref(), self.ledger.is_some(), self.nats.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_of_it_is_no_password() {
        let config = Config {
            ledger: Some("postgres://ann:hidden@localhost/cnc".into()),
            nats: Some(NatsAccess::new("nats://ann:s3cret@localhost", None)),
            ..Config::default()
        };
        let printed = format!("{config:?}");
        assert!(!printed.contains("s3cret") && !printed.contains("hidden"), "{printed}");
    }
}
