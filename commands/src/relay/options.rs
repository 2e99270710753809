//! How a relay works, and what it has done.

use std::{sync::atomic::AtomicU64, time::Duration};

/// How a relay works.
#[derive(Clone, Debug)]
pub struct RelayOptions {
    /// How many brokers keep a copy of the stream.
    pub replicas: usize,
    /// How long messages are kept in the stream; zero for ever. What is older is read from the ledger.
    pub keep: Duration,
    /// How long a relay that says nothing keeps its companies, by the database's clock. Renewed once a second.
    pub lease: Duration,
}

impl Default for RelayOptions {
    fn default() -> Self {
        Self { replicas: 1, keep: Duration::from_hours(7 * 24), lease: Duration::from_secs(10) }
    }
}

/// What a relay has done, to be exported.
#[derive(Debug, Default)]
pub struct RelayMetrics {
    /// Entries that the broker has acknowledged, counted once each time that they were published.
    pub published: AtomicU64,
    /// Entries of the companies held that it has not acknowledged yet, once a second.
    pub lag: AtomicU64,
    /// Companies held.
    pub companies: AtomicU64,
    /// Failures to publish, each of which is tried again.
    pub failed: AtomicU64,
    /// How often a ledger was found to have parted from what was published of it, and was published from there on.
    pub forks: AtomicU64,
}
