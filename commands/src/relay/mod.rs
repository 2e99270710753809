//! The relay: publishes every company's entries to `JetStream`, in order, verbatim, at least once.
//!
//! The ledger is the truth and the stream a feed of it. `published`, in the ledger's database, moves only after the
//! broker's acknowledgement, and a little later at that; so whatever dies, some entries are published twice and none is
//! left out. The broker drops most repeats by their message id, consumers the rest by position. After a failure within a
//! company's window its later entries may stand in the stream before an earlier one: consumers go by position.
//!
//! What is remembered to be published is remembered with its hash, and compared with the ledger and with what stands last in
//! the stream: when a relay begins with a company, when it reads on, and each second. Where they have parted, since the
//! database was restored or a standby without the tail took over, it publishes from the last entry that both have, and
//! tells consumers to forget what they had after it.
//!
//! Any number of relays share the companies. Each holds its fair share by lease, judged by the database's clock. Two that
//! both think they hold a company publish it twice, which is as harmless as above.

mod consumers;
mod fork;
mod guard;
mod history;
mod lease;
#[cfg(feature = "simulation")]
pub mod memory;
mod message;
mod options;
mod ports;
mod pump;
mod share;
mod shortfall;
mod store;
mod stream;

use std::sync::{Arc, Mutex};

use async_nats::jetstream::Context;
use cnc_domain::ledger::Feed;
use tokio::sync::{Notify, mpsc, watch};

use self::{
    guard::Guard,
    lease::{Leases, Progress},
    ports::{Book, Broker},
    pump::Pump,
    store::Store,
    stream::JetStream,
};
pub use self::{
    options::{RelayMetrics, RelayOptions},
    stream::ensure_stream,
};
use crate::ledger::PostgresLedger;

/// Publishes entries to `JetStream`.
pub struct Relay {
    ledger: Arc<dyn Feed>,
    book: Arc<dyn Book>,
    broker: Arc<dyn Broker>,
    options: RelayOptions,
    metrics: Arc<RelayMetrics>,
}

impl Relay {
    /// A relay between this ledger, which must be migrated, and the broker of this context. A process may run several.
    pub fn new(ledger: PostgresLedger, context: Context, options: RelayOptions) -> Self {
        let book = Arc::new(Store::new(ledger.pool().clone()));
        let broker = Arc::new(JetStream::new(context, options.clone()));
        Self::over(Arc::new(ledger), book, broker, options)
    }

    fn over(ledger: Arc<dyn Feed>, book: Arc<dyn Book>, broker: Arc<dyn Broker>, options: RelayOptions) -> Self {
        Self { ledger, book, broker, options, metrics: Arc::default() }
    }

    /// What it has done.
    pub fn metrics(&self) -> Arc<RelayMetrics> {
        self.metrics.clone()
    }

    /// Works until `stop` says so, through any outage of broker and database. Dropping the future instead is as killing
    /// the process: others take its companies over when its leases have run out.
    pub async fn run(&self, stop: watch::Receiver<bool>) {
        let (doubt, begun) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let progress = Arc::new(Mutex::new(Progress::default()));
        let (good, is_good) = watch::channel(None);
        let (news, heard) = mpsc::channel(1_024);
        let guard = Guard {
            broker: self.broker.clone(),
            book: self.book.clone(),
            good,
            doubt: doubt.clone(),
            begun: begun.clone(),
        };
        let leases = Leases {
            ledger: self.ledger.clone(),
            book: self.book.clone(),
            broker: self.broker.clone(),
            options: self.options.clone(),
            metrics: self.metrics.clone(),
            progress: progress.clone(),
            begun,
            news,
        };
        let (ledger, book, broker) = (self.ledger.clone(), self.book.clone(), self.broker.clone());
        let mut pump = Pump::new(ledger, book, broker, self.metrics.clone(), progress, is_good, doubt);
        tokio::select! {
            biased;
            () = pump.run(heard, stop) => {}
            () = leases.run() => {}
            () = guard.run() => {}
        }
        // Without the database, the next relay publishes some entries again, and waits for the leases to run out.
        if let Err(fault) = leases.record().await {
            tracing::warn!(%fault, "a relay stops without recording how far it was");
        }
        if let Err(fault) = self.book.leave().await {
            tracing::warn!(%fault, "a relay stops and its leases have to run out");
        }
    }
}
