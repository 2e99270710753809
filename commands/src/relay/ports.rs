//! What a relay asks of the database and of the broker.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use cnc_domain::{
    kernel::CompanyId,
    ledger::{Fault, Head, Position},
};
use futures::future::BoxFuture;

use super::{
    message::Message,
    shortfall::{Found, Known, Places, Shortfall, Tip},
};

/// How many messages of all companies may be on their way.
pub(super) const WINDOW: usize = 512;

/// What a relay holds, and of each company the last entry that is recorded to be published with all before it.
pub(super) struct Held {
    pub(super) generation: i64,
    pub(super) companies: BTreeMap<CompanyId, Option<Head>>,
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

    /// Records how far companies were published; nothing where another generation has begun. Whoever holds a company, it
    /// is as true as it was said to be. What is no entry of the company's ledger is not recorded: says of which that was so.
    async fn record(&self, generation: i64, moved: &[(CompanyId, Head)], tip: Tip) -> Result<Vec<CompanyId>, Fault>;

    /// Of these companies those whose ledger does not have this entry.
    async fn astray(&self, published: &[(CompanyId, Head)]) -> Result<Vec<CompanyId>, Fault>;

    /// What relays know of the stream.
    async fn known(&self) -> Result<Known, Fault>;

    /// Begins a generation, in which what the stream that was `found` may lack is published again. Says `false`, and does
    /// nothing, where `known` is not what relays know any more: the stream has to be looked at again.
    async fn begin(&self, known: &Known, found: &Found, shortfall: Shortfall) -> Result<bool, Fault>;

    /// Of these companies those that have more after the position that each is at, and up to so many lines of each.
    async fn behind(&self, asked: &[(CompanyId, Position, usize)], limit: usize) -> Result<Vec<Behind>, Fault>;

    /// Remembers consumers that are about to be made anew, so that another relay makes them where this one is killed.
    async fn remember_consumers(&self, consumers: &[DurableConsumer]) -> Result<(), Fault>;

    /// All that are remembered.
    async fn remembered_consumers(&self) -> Result<Vec<DurableConsumer>, Fault>;

    /// Forgets one that is made.
    async fn forget_consumer(&self, consumer: &DurableConsumer) -> Result<(), Fault>;
}

/// Why a message was not published, or is not known to be.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub(super) struct Unpublished {
    pub(super) cause: String,
    /// The broker will never take it: it is too large.
    pub(super) is_too_large: bool,
}

/// The broker's word that it has a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acknowledgement {
    /// Its place in the stream.
    pub(super) sequence: u64,
    /// Another with the same id is there, which this one is taken for.
    pub(super) is_duplicate: bool,
}

/// What comes of a message that was sent.
pub(super) type Acknowledged = Result<Acknowledgement, Unpublished>;

/// A message in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Published {
    /// Its place there.
    pub(super) sequence: u64,
    /// Which entry it is.
    pub(super) head: Head,
    /// Where it tells consumers to forget what they had after a position: that.
    pub(super) fork_after: Option<Position>,
}

/// A durable consumer as it is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DurableConsumer {
    pub(super) name: String,
    /// Which stream it was to be made on: another has other places.
    pub(super) stream: String,
    /// Its configuration, as the broker takes it.
    pub(super) config: String,
}

/// The broker.
#[async_trait]
pub(super) trait Broker: Send + Sync {
    /// The number of the connection: each time it connects it is another.
    fn connection(&self) -> u64;

    /// Whether there is a connection now.
    fn is_connected(&self) -> bool;

    /// The largest message that it takes over this connection, headers included; 0 where it does not say.
    fn message_bytes_max(&self) -> usize;

    /// Sends a line, and gives what waits for its acknowledgement.
    async fn send(&self, message: Message, line: String) -> Result<BoxFuture<'static, Acknowledged>, Unpublished>;

    /// Makes the stream where it is missing, and shows it: also which message stands at `tip`.
    async fn stream(&self, tip: u64) -> Result<Found, Fault>;

    /// The last message of a company.
    async fn last(&self, company: CompanyId) -> Result<Option<Published>, Fault>;

    /// All messages of a company that the stream keeps, in their order.
    async fn published(&self, company: CompanyId) -> Result<Vec<Published>, Fault>;

    /// The stream's consumers that stand where it lost what they have seen, each as it is to be made anew.
    async fn astray_consumers(&self, places: Places) -> Result<Vec<DurableConsumer>, Fault>;

    /// Makes a consumer, in place of the one of its name.
    async fn make_consumer(&self, consumer: &DurableConsumer) -> Result<(), Fault>;
}
