//! Hearing what a database notifies of.

use std::time::Duration;

use sqlx::{
    Error, Executor as _, Result,
    postgres::{PgConnectOptions, PgListener, PgNotification, PgPoolOptions},
};
use tokio::time::timeout;

use crate::{options::CONNECT_WITHIN, options::silent, session::SETTLE_WITHIN};

/// A connection on which nothing was heard for so long is asked whether it lives.
const QUIET: Duration = Duration::from_secs(5);

/// A connection that listens on one channel.
pub struct Listener(PgListener);

impl Listener {
    /// Connects, and listens from then on.
    pub async fn connect(options: &PgConnectOptions, channel: &str) -> Result<Self> {
        let options = PgPoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_lazy_with(options.clone());
        let listening = async {
            let mut listener = PgListener::connect_with(&options).await?;
            listener.listen(channel).await?;
            Ok(Self(listener))
        };
        timeout(CONNECT_WITHIN, listening).await.unwrap_or_else(|_| Err(silent()))
    }

    /// Waits for the next notification. Where the connection was lost, or nobody answers on it, some may have been missed:
    /// connect again.
    pub async fn next(&mut self) -> Result<PgNotification> {
        loop {
            match timeout(QUIET, self.0.try_recv()).await {
                Ok(told) => return told?.ok_or(Error::PoolClosed),
                Err(_) => match timeout(SETTLE_WITHIN, self.0.execute("SELECT 1")).await {
                    Ok(answered) => answered.map(|_| ())?,
                    Err(_) => return Err(silent()),
                },
            }
        }
    }
}
