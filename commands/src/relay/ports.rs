//! What a relay asks of the database and of the broker.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use cnc_domain::{
    kernel::CompanyId,
    ledger::{Fault, Position},
};
use futures::future::BoxFuture;

use super::{
    consumers::Places,
    message::Message,
    shortfall::{Found, Known, Shortfall, Tip},
};

/// What a relay holds.
pub(super) struct Held {
    pub(super) generation: i64,
    pub(super) companies: BTreeMap<CompanyId, Option<Position>>,
}

/// Companies that have more to send, and some of it.
#[derive(Debug)]
pub(super) struct Behind {
    pub(super) company: CompanyId,
    pub(super) head: Position,
    pub(super) lines: Vec<String>,
}

/// What relays keep beside the ledgers: who lives, who holds which company, and how far each was published. As one relay
/// sees it.
#[async_trait]
pub(super) trait Book: Send + Sync {
    /// Lives on for a while, takes or gives back companies until it has its fair share, and says what it holds.
    async fn renew(&self, lease: Duration) -> Result<Held, Fault>;

    /// Gives everything back: what a relay holds that does not live is free.
    async fn leave(&self) -> Result<(), Fault>;

    /// Records how far companies were published, all or nothing; nothing where another generation has begun. Whoever
    /// holds a company, it is as true as it was said to be.
    async fn record(&self, generation: i64, moved: &[(CompanyId, Position)], tip: Tip) -> Result<(), Fault>;

    /// What relays know of the stream.
    async fn known(&self) -> Result<Known, Fault>;

    /// Begins a generation, in which what the stream that was `found` may lack is published again. Says `false`, and does
    /// nothing, where `known` is not what relays know any more: the stream has to be looked at again.
    async fn begin(&self, known: &Known, found: &Found, shortfall: Shortfall) -> Result<bool, Fault>;

    /// Of these companies those that have more after the position that each is at, and up to so many lines of each.
    async fn behind(&self, asked: &[(CompanyId, Position, usize)], limit: usize) -> Result<Vec<Behind>, Fault>;
}

/// Why a message was not published, or is not known to be.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub(super) struct Unpublished {
    pub(super) cause: String,
    /// The broker will never take it: it is too large.
    pub(super) is_too_large: bool,
}

/// The broker's word that it has a message: its place in the stream.
pub(super) type Acknowledged = Result<u64, Unpublished>;

/// The broker.
#[async_trait]
pub(super) trait Broker: Send + Sync {
    /// The number of the connection: each time it connects it is another.
    fn connection(&self) -> u64;

    /// Whether there is a connection now.
    fn is_connected(&self) -> bool;

    /// Sends a line, and gives what waits for its acknowledgement.
    async fn send(&self, message: Message, line: String) -> Result<BoxFuture<'static, Acknowledged>, Unpublished>;

    /// Makes the stream where it is missing, and shows it: also which message stands at `tip`.
    async fn stream(&self, tip: u64) -> Result<Found, Fault>;

    /// Makes the stream's consumers anew that stand where it lost what they have seen, before that place is another's.
    async fn mend_consumers(&self, places: Places) -> Result<(), Fault>;
}
