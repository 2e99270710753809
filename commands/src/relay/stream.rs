//! The broker's stream: made where there is none, and looked after, since a broker may forget what it acknowledged.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_nats::jetstream::{
    Context,
    stream::{Config, DiscardPolicy, RetentionPolicy, StorageType, Stream},
};
use cnc_domain::ledger::{Fault, subject};
use tokio::sync::{Notify, watch};

use super::{
    RelayOptions,
    store::{Shortfall, Store},
};

/// For so long the broker drops what it was sent twice. Later repeats are settled by position.
const DUPLICATES: Duration = Duration::from_mins(2);
/// How often the stream is looked at.
const LOOK: Duration = Duration::from_secs(10);
/// How long to wait after a failure, and before a stream that seems to be behind is believed to be.
const PAUSE: Duration = Duration::from_millis(500);
/// How often it is asked whether the client has connected again.
const ASK: Duration = Duration::from_millis(50);
const DOING: &str = "look after the stream";

/// Makes the stream, or brings its settings up to date: subjects, copies, how long messages are kept. Whatever else an
/// operator has set is left as it is.
pub async fn ensure_stream(context: &Context, options: &RelayOptions) -> Result<Stream, Fault> {
    let stream = context.get_or_create_stream(wanted(Config::default(), options)).await;
    let stream = stream.map_err(|error| Fault::passing(DOING, error))?;
    let found = &stream.cached_info().config;
    let wanted = wanted(found.clone(), options);
    if *found == wanted {
        return Ok(stream);
    }
    context.update_stream(wanted).await.map_err(|error| Fault::passing(DOING, error))?;
    context.get_stream(subject::STREAM).await.map_err(|error| Fault::passing(DOING, error))
}

fn wanted(config: Config, options: &RelayOptions) -> Config {
    // A broker keeps message ids no longer than messages.
    let duplicate_window = if options.keep.is_zero() { DUPLICATES } else { DUPLICATES.min(options.keep) };
    Config {
        name: subject::STREAM.into(),
        subjects: vec![subject::ALL_ENTRIES.into()],
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        discard: DiscardPolicy::Old,
        max_age: options.keep,
        num_replicas: options.replicas,
        duplicate_window,
        ..config
    }
}

/// Looks after the stream: at the start, after each reconnection, when publishing fails, and now and then.
pub(super) struct Guard {
    pub(super) context: Context,
    pub(super) options: RelayOptions,
    pub(super) store: Store,
    /// The connection, by number, over which the stream was found to be good.
    pub(super) good: watch::Sender<Option<u64>>,
    /// Publishing failed.
    pub(super) doubt: Arc<Notify>,
    /// Another generation has begun.
    pub(super) begun: Arc<Notify>,
}

impl Guard {
    pub(super) async fn run(&self) {
        let mut is_down = false;
        loop {
            let connection = connection(&self.context);
            match self.look().await {
                Ok(shortfall) => {
                    if let Some(shortfall) = shortfall {
                        tracing::warn!(?shortfall, "the stream has less than was published: publishing it again");
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

    async fn look(&self) -> Result<Option<Shortfall>, Fault> {
        let (created, last) = self.found().await?;
        if !self.store.has_less(&created, last).await? {
            return self.store.compare(&created, last).await;
        }
        // A leader that was elected just now may not have told all that it has.
        tokio::time::sleep(PAUSE).await;
        let (created, last) = self.found().await?;
        self.store.compare(&created, last).await
    }

    async fn found(&self) -> Result<(String, u64), Fault> {
        let stream = ensure_stream(&self.context, &self.options).await?;
        let info = stream.cached_info();
        Ok((info.created.unix_timestamp_nanos().to_string(), info.state.last_sequence))
    }

    async fn wait(&self, connection_before: u64) {
        let reconnected = async {
            while connection(&self.context) == connection_before {
                tokio::time::sleep(ASK).await;
            }
        };
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = self.doubt.notified() => {}
            () = reconnected => {}
        }
    }
}

/// The number of the client's connection: each time it connects it is another.
pub(super) fn connection(context: &Context) -> u64 {
    context.client().statistics().connects.load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_operator_has_set_is_left() {
        let found = Config { max_bytes: 1 << 30, num_replicas: 1, ..Config::default() };
        let wanted = wanted(found, &RelayOptions { replicas: 3, ..RelayOptions::default() });
        assert_eq!((wanted.max_bytes, wanted.num_replicas), (1 << 30, 3));
    }

    #[test]
    fn ids_are_kept_no_longer_than_messages() {
        let keep = |keep| wanted(Config::default(), &RelayOptions { keep, ..RelayOptions::default() }).duplicate_window;
        assert_eq!(keep(Duration::from_secs(30)), Duration::from_secs(30));
        assert_eq!(keep(Duration::from_hours(24)), DUPLICATES);
        assert_eq!(keep(Duration::ZERO), DUPLICATES);
    }
}
