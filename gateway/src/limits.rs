//! How much of anything one caller may ask for. Everything that comes from outside is bounded here.

use std::time::Duration;

/// The bounds of requests and sockets.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The largest body of a command; 500 GPS fixes take about 60 KiB.
    pub body_bytes: usize,
    /// How deeply a body may be nested.
    pub body_depth: usize,
    /// How long a request may take until its answer starts.
    pub request: Duration,
    /// How long `?at_least=` waits.
    pub at_least: Duration,
    /// Rows or entries of a page where the caller does not say.
    pub page: usize,
    /// The largest page.
    pub page_max: usize,
    /// How long a client may take to send the head of a request.
    pub head: Duration,
    /// Connections at once; who comes when there are as many waits.
    pub connections: usize,
    /// Sockets at once.
    pub sockets: usize,
    /// Sockets of one company at once.
    pub sockets_each: usize,
    /// Subscriptions of one socket.
    pub subscriptions: usize,
    /// Rows of one subscription's snapshot; a view with more needs a filter.
    pub snapshot_rows: usize,
    /// Messages that wait for a slow client before it is dropped.
    pub socket_queue: usize,
    /// How often a socket is pinged, its rights are looked at again and its views are compared with the store.
    pub heartbeat: Duration,
    /// How long the loop that folds may stand still before the process counts as wedged.
    pub standstill: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 256 * 1024,
            body_depth: 32,
            request: Duration::from_secs(30),
            at_least: Duration::from_secs(5),
            page: 100,
            page_max: cnc_projections::LIMIT_MAX,
            head: Duration::from_secs(15),
            connections: 8_192,
            sockets: 4_096,
            sockets_each: 2_048,
            subscriptions: 16,
            snapshot_rows: 10_000,
            socket_queue: 256,
            heartbeat: Duration::from_secs(15),
            standstill: Duration::from_mins(2),
        }
    }
}
