//! Looks after the broker's stream, since a broker may forget what it acknowledged.

use std::{sync::Arc, time::Duration};

use cnc_domain::ledger::{Fault, MESSAGE_BYTES_MAX};
use tokio::sync::{Notify, watch};

use super::{
    ports::{Book, Broker},
    shortfall::{Known, Places, Shortfall},
};

/// How often the stream is looked at.
const LOOK: Duration = Duration::from_secs(10);
/// How long to wait after a failure, and before a stream that seems to be behind is believed to be.
const PAUSE: Duration = Duration::from_millis(500);
/// How often it is asked whether the client has connected again.
const ASK: Duration = Duration::from_millis(50);

/// Looks after the stream: at the start, after each reconnection, when publishing fails, and now and then.
pub(super) struct Guard {
    pub(super) broker: Arc<dyn Broker>,
    pub(super) book: Arc<dyn Book>,
    /// The connection, by number, over which the stream was found to be good.
    pub(super) good: watch::Sender<Option<u64>>,
    /// Publishing failed.
    pub(super) doubt: Arc<Notify>,
    /// Another generation has begun.
    pub(super) begun: Arc<Notify>,
}

impl Guard {
    pub(super) async fn run(&self) {
        let (mut is_down, mut before) = (false, None);
        loop {
            let connection = self.broker.connection();
            let is_new = before != Some(connection);
            if is_new {
                self.compare_limits();
            }
            match self.look(is_new).await {
                Ok(has_begun) => {
                    before = Some(connection);
                    if has_begun {
                        self.begun.notify_one();
                    }
                    if std::mem::take(&mut is_down) {
                        tracing::info!("the stream is there again");
                    }
                    self.good.send_if_modified(|good| good.replace(connection) != Some(connection));
                    self.wait(connection).await;
                }
                Err(fault) => {
                    if !std::mem::replace(&mut is_down, true) {
                        tracing::warn!(%fault, "the stream is out of reach; it is tried again");
                    }
                    self.distrust();
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Looks, and says whether another generation has begun.
    async fn look(&self, is_new: bool) -> Result<bool, Fault> {
        let mut is_believed = false;
        loop {
            let known = self.book.known().await?;
            let found = self.broker.stream(known.tip.sequence).await?;
            let shortfall = known.shortfall(&found).or(is_new.then_some(Shortfall::Perhaps));
            if shortfall == Some(Shortfall::Behind) && !std::mem::replace(&mut is_believed, true) {
                // A leader that was elected just now may not have told all that it has. Nothing is published meanwhile.
                self.distrust();
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            self.mend_consumers(known.places(shortfall)).await?;
            let Some(shortfall) = shortfall else { return Ok(false) };
            if self.book.begin(&known, &found, shortfall).await? {
                tell(&known, shortfall);
                return Ok(true);
            }
        }
    }

    /// Makes consumers anew that stand where the stream lost what they have seen. Whoever reads from one would miss it: so it
    /// is remembered first, and a relay that is killed between deleting one and making it leaves the rest to another.
    async fn mend_consumers(&self, places: Places) -> Result<(), Fault> {
        let astray = self.broker.astray_consumers(places).await?;
        if !astray.is_empty() {
            self.book.remember_consumers(&astray).await?;
        }
        for consumer in self.book.remembered_consumers().await? {
            tracing::warn!(consumer = consumer.name, "a consumer may have seen what its stream lost, and is made anew");
            self.broker.make_consumer(&consumer).await?;
            self.book.forget_consumer(&consumer).await?;
        }
        Ok(())
    }

    /// Looks whether the broker takes every entry that is taken here.
    fn compare_limits(&self) {
        let max = self.broker.message_bytes_max();
        if max > 0 && max < MESSAGE_BYTES_MAX {
            tracing::error!(
                broker = max,
                needed = MESSAGE_BYTES_MAX,
                "the broker's max_payload is smaller than the largest entry with its headers: such an entry holds up its \
                 company until max_payload is raised (deploy/nats/README.md)"
            );
        }
    }

    fn distrust(&self) {
        self.good.send_if_modified(|good| good.take().is_some());
    }

    async fn wait(&self, connection_before: u64) {
        let reconnected = async {
            while self.broker.connection() == connection_before {
                tokio::time::sleep(ASK).await;
            }
        };
        tokio::select! {
            biased;
            () = tokio::time::sleep(LOOK) => {}
            () = self.doubt.notified() => {}
            () = reconnected => {}
        }
    }
}

fn tell(known: &Known, shortfall: Shortfall) {
    if known.is_new() {
        tracing::info!("publishing to a new stream");
    } else if shortfall != Shortfall::Perhaps {
        tracing::warn!(?shortfall, "the stream has less than was published: publishing it again");
    }
}
