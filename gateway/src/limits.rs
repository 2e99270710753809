//! How much of anything one caller may ask for. Everything that comes from outside is bounded here.

use std::time::Duration;

use axum::http::HeaderName;

/// The largest number that a question may hold: 2^53, up to which JSON's readers agree.
pub const NUMBER_MAX: u64 = 1 << 53;

/// The bounds of requests and sockets.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The header in which a trusted proxy names the client that it forwards for, which is then whose share is counted; where
    /// there is none, whoever connects is the client.
    pub client_address: Option<HeaderName>,
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
    /// The longest target of a request: path and query.
    pub target_bytes: usize,
    /// The largest head of a request, all of its headers together.
    pub head_bytes: usize,
    /// How many headers it may have.
    pub headers: usize,
    /// How long a client may take to send the head of a request.
    pub head: Duration,
    /// How long a client may take to send the body of a request.
    pub body: Duration,
    /// How long a client may take to receive the next piece of what it is sent; who takes longer is cut.
    pub stall: Duration,
    /// How long a connection may do nothing.
    pub idle: Duration,
    /// Connections at once; who comes when there are as many waits.
    pub connections: usize,
    /// Connections of one address at once; who comes with one more is turned away.
    pub connections_per_address: usize,
    /// Requests of one HTTP/2 connection at once.
    pub streams: u32,
    /// Requests under a token that are worked on at once; who comes when there are as many waits.
    pub requests: usize,
    /// Such requests of one company at once.
    pub requests_per_company: usize,
    /// Such requests of one address at once.
    pub requests_per_address: usize,
    /// Such requests of one user at once.
    pub requests_per_user: usize,
    /// Bytes of answers and messages that wait until their readers take them.
    pub waiting_bytes: usize,
    /// Such bytes of one user.
    pub waiting_bytes_per_user: usize,
    /// Sockets at once.
    pub sockets: usize,
    /// Sockets of one company at once.
    pub sockets_each: usize,
    /// Sockets of one address at once.
    pub sockets_per_address: usize,
    /// Sockets of one user at once.
    pub sockets_per_user: usize,
    /// Subscriptions of one socket.
    pub subscriptions: usize,
    /// Rows of one subscription's snapshot; a view with more needs a filter.
    pub snapshot_rows: usize,
    /// Messages that wait for a slow client before it is dropped.
    pub socket_queue: usize,
    /// Bytes of such messages.
    pub socket_bytes: usize,
    /// How often a socket is pinged, its rights are looked at again and its views are compared with the store.
    pub heartbeat: Duration,
    /// How long the loop that folds may stand still before the process counts as wedged.
    pub standstill: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            client_address: None,
            body_bytes: 256 * 1024,
            body_depth: 32,
            request: Duration::from_secs(30),
            at_least: Duration::from_secs(5),
            page: 100,
            page_max: cnc_projections::LIMIT_MAX,
            target_bytes: 8 << 10,
            head_bytes: 24 << 10,
            headers: 100,
            head: Duration::from_secs(15),
            body: Duration::from_secs(15),
            stall: Duration::from_secs(15),
            idle: Duration::from_mins(2),
            connections: 8_192,
            connections_per_address: 512,
            streams: 32,
            requests: 2_048,
            requests_per_company: 1_024,
            requests_per_address: 512,
            requests_per_user: 128,
            waiting_bytes: 256 << 20,
            waiting_bytes_per_user: 32 << 20,
            sockets: 4_096,
            sockets_each: 2_048,
            sockets_per_address: 1_024,
            sockets_per_user: 64,
            subscriptions: 16,
            snapshot_rows: 10_000,
            socket_queue: 256,
            socket_bytes: 4 << 20,
            heartbeat: Duration::from_secs(15),
            standstill: Duration::from_mins(2),
        }
    }
}
