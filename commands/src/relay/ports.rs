//! What a relay asks of the database and of the broker.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use cnc_domain::{
    kernel::CompanyId,
    ledger::{Fault, Position},
};
use futures::future::BoxFuture;

use super::message::Message;

/// What a relay holds.
pub(super) struct Held {
    pub(super) generation: i64,
    pub(super) companies: BTreeMap<CompanyId, Option<Position>>,
}

/// How the broker's stream was found to have less than what relays know to be in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shortfall {
    /// It is another stream.
    Lost,
    /// Its last messages are gone.
    Behind,
    /// The connection is another: the last that were acknowledged over the one before, and not recorded, may be gone.
    Perhaps,
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
    async fn record(&self, generation: i64, moved: &[(CompanyId, Position)], acknowledged: u64) -> Result<(), Fault>;

    /// Whether relays know of more than this stream has.
    async fn has_less(&self, created: &str, last: u64) -> Result<bool, Fault>;

    /// Compares the broker's stream with what relays know of it. Where it has less, or may since the connection is new, a
    /// new generation begins, in which what it may lack is published again.
    async fn compare(&self, created: &str, last: u64, is_new: bool) -> Result<Option<Shortfall>, Fault>;

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

    /// Makes the stream where it is missing, and says which it is and the place of its last message.
    async fn stream(&self) -> Result<(String, u64), Fault>;
}
