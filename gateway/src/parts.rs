//! The parts of a running process, for whoever says how they are.

use std::sync::Arc;

use async_nats::{Client, connection::State};
use cnc_commands::{ledger::PostgresLedger, relay::RelayMetrics};
use cnc_domain::ledger::MESSAGE_BYTES_MAX;
use cnc_projections::JetStreamFeed;

use crate::roles::{Role, Roles};

/// The parts of a running process, as far as it has them.
#[derive(Clone, Default)]
pub struct Parts {
    /// What it does.
    pub roles: Roles,
    /// Its connection to NATS.
    pub nats: Option<Client>,
    /// What hurries its folds along.
    pub feed: Option<Arc<JetStreamFeed>>,
    /// Its ledger, where that is in Postgres.
    pub ledger: Option<Arc<PostgresLedger>>,
    /// What its relay has done.
    pub relay: Option<Arc<RelayMetrics>>,
}

impl Parts {
    /// Whether NATS can be reached; `None` where this process has none.
    pub fn nats_is_connected(&self) -> Option<bool> {
        self.nats.as_ref().map(|nats| nats.connection_state() == State::Connected)
    }

    /// How large a message the broker takes, where it takes less than the largest entry with its headers.
    pub(crate) fn nats_takes_only(&self) -> Option<usize> {
        // 0 where it has not said yet.
        self.nats.as_ref().map(Client::max_payload).filter(|bytes| (1..MESSAGE_BYTES_MAX).contains(bytes))
    }

    /// Whether this process answers people and programs.
    pub(crate) fn serves(&self) -> bool {
        self.roles.has(Role::Gateway)
    }

    /// The pools of its ledger: of each its name, how many connections are open, and how many of those nobody uses.
    pub fn pools(&self) -> impl Iterator<Item = (&'static str, usize, usize)> {
        self.ledger.iter().flat_map(|ledger| ledger.pools())
    }
}
