//! Looks after the broker's stream, since a broker may forget what it acknowledged.

use std::{sync::Arc, time::Duration};

use cnc_domain::ledger::Fault;
use tokio::sync::{Notify, watch};

use super::ports::{Book, Broker, Shortfall};

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
            let is_new = before.is_some_and(|before| before != connection);
            match self.look(is_new).await {
                Ok(shortfall) => {
                    before = Some(connection);
                    if let Some(shortfall) = shortfall {
                        if shortfall != Shortfall::Perhaps {
                            tracing::warn!(?shortfall, "the stream has less than was published: publishing it again");
                        }
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
                    self.good.send_if_modified(|good| good.take().is_some());
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn look(&self, is_new: bool) -> Result<Option<Shortfall>, Fault> {
        let (created, last) = self.broker.stream().await?;
        if !self.book.has_less(&created, last).await? {
            return self.book.compare(&created, last, is_new).await;
        }
        // A leader that was elected just now may not have told all that it has.
        tokio::time::sleep(PAUSE).await;
        let (created, last) = self.broker.stream().await?;
        self.book.compare(&created, last, is_new).await
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
