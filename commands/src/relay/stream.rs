//! The broker's stream: made where there is none, and published to.

use std::{future::IntoFuture as _, sync::atomic::Ordering, time::Duration};

use async_nats::{
    connection::State,
    header::NATS_MESSAGE_ID,
    jetstream::{
        Context, ErrorCode,
        context::{ContextBuilder, GetStreamError, GetStreamErrorKind, PublishError, PublishErrorKind},
        message::PublishMessage,
        publish::PublishAck,
        stream::{
            Config, DiscardPolicy, LastRawMessageErrorKind, RawMessageErrorKind, RetentionPolicy, StorageType, Stream,
        },
    },
};
use async_trait::async_trait;
use cnc_domain::{
    kernel::CompanyId,
    ledger::{Entry, Fault, Hash, Head, subject},
};
use futures::{FutureExt as _, future::BoxFuture};

use super::{
    consumers,
    history::{self, read_message},
    message::Message,
    options::RelayOptions,
    ports::{Acknowledged, Acknowledgement, Broker, DurableConsumer, Published, Unpublished, WINDOW},
    shortfall::{Found, Places},
};

/// For so long the broker drops what it was sent twice. Later repeats are settled by position.
const DUPLICATES: Duration = Duration::from_mins(2);
/// How long an acknowledgement is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a stream that is missing is left to be gone before another is made.
const PARTING: Duration = Duration::from_millis(500);
const DOING: &str = "look after the stream";

/// Makes the stream, or brings its settings up to date: subjects, copies, how long messages are kept. Whatever else an
/// operator has set is left as it is.
pub async fn ensure_stream(context: &Context, options: &RelayOptions) -> Result<Stream, Fault> {
    let stream = match context.get_stream(subject::STREAM).await {
        Ok(stream) => stream,
        Err(missing) if is_missing(&missing) => make(context, options).await?,
        Err(error) => return Err(Fault::passing(DOING, error)),
    };
    let found = &stream.cached_info().config;
    let wanted = wanted(found.clone(), options);
    if *found == wanted {
        return Ok(stream);
    }
    context.update_stream(wanted).await.map_err(|error| Fault::passing(DOING, error))?;
    context.get_stream(subject::STREAM).await.map_err(|error| Fault::passing(DOING, error))
}

/// A broker (seen of 2.9.10) says that a stream is gone before its files are: those of one that is made at once go with
/// them, and it counts messages that it cannot give. So the old one is left a moment to be gone.
async fn make(context: &Context, options: &RelayOptions) -> Result<Stream, Fault> {
    tokio::time::sleep(PARTING).await;
    let made = context.get_or_create_stream(wanted(Config::default(), options)).await;
    made.map_err(|error| Fault::passing(DOING, error))
}

fn is_missing(error: &GetStreamError) -> bool {
    matches!(error.kind(), GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
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

/// A broker's `JetStream`.
pub(super) struct JetStream {
    context: Context,
    /// The same with more patience and more messages on their way.
    publishing: Context,
    options: RelayOptions,
}

impl JetStream {
    pub(super) fn new(context: Context, options: RelayOptions) -> Self {
        // Messages that are given up hold their permits until nobody waits for them any more: there are enough of them.
        let publishing = ContextBuilder::new().timeout(PATIENCE).ack_timeout(PATIENCE).max_ack_inflight(64 * WINDOW);
        Self { publishing: publishing.build(context.client()), context, options }
    }
}

#[async_trait]
impl Broker for JetStream {
    fn connection(&self) -> u64 {
        self.context.client().statistics().connects.load(Ordering::Relaxed)
    }

    fn is_connected(&self) -> bool {
        self.context.client().connection_state() == State::Connected
    }

    fn message_bytes_max(&self) -> usize {
        self.context.client().max_payload()
    }

    async fn send(&self, message: Message, line: String) -> Result<BoxFuture<'static, Acknowledged>, Unpublished> {
        let publish = PublishMessage::build().headers(message.headers).payload(line.into());
        let sent = self.publishing.send_publish(message.subject, publish).await.map_err(unpublished)?;
        let acknowledged =
            |landed: PublishAck| Acknowledgement { sequence: landed.sequence, is_duplicate: landed.duplicate };
        let landing = sent.into_future().map(move |landed| landed.map(acknowledged).map_err(unpublished));
        Ok(landing.boxed())
    }

    async fn stream(&self, tip: u64) -> Result<Found, Fault> {
        let stream = ensure_stream(&self.context, &self.options).await?;
        let info = stream.cached_info();
        let (created, state) = (consumers::created(info), &info.state);
        // Places count from one; an empty stream says that its first is zero.
        let is_there = tip > 0 && (state.first_sequence..=state.last_sequence).contains(&tip);
        let at_tip = if is_there { message_id(&stream, tip).await? } else { None };
        Ok(Found { created, last: state.last_sequence, at_tip })
    }

    async fn last(&self, company: CompanyId) -> Result<Option<Published>, Fault> {
        match self.there().await?.get_last_raw_message_by_subject(&subject::entries_of(company)).await {
            Ok(message) => {
                let head = Entry::read(&String::from_utf8_lossy(&message.payload))
                    .ok()
                    .map(|entry| Head { position: entry.position, hash: Hash::of(&message.payload) });
                Ok(head.and_then(|head| read_message(message.sequence, Some(head), &message.headers)))
            }
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(Fault::passing("ask for a company's last message ($JS.API.STREAM.MSG.GET)", error)),
        }
    }

    async fn published(&self, company: CompanyId) -> Result<Vec<Published>, Fault> {
        history::read(&self.there().await?, company).await
    }

    async fn astray_consumers(&self, places: Places) -> Result<Vec<DurableConsumer>, Fault> {
        consumers::astray(&self.there().await?, places).await
    }

    async fn make_consumer(&self, consumer: &DurableConsumer) -> Result<(), Fault> {
        consumers::make(&self.there().await?, consumer).await
    }
}

impl JetStream {
    /// The stream, without asking for it.
    async fn there(&self) -> Result<Stream<()>, Fault> {
        let stream = self.context.get_stream_no_info(subject::STREAM).await;
        stream.map_err(|error| Fault::passing(DOING, error))
    }
}

/// The id of the message at this place, empty where it was published without; `None` where there is no message.
async fn message_id(stream: &Stream, sequence: u64) -> Result<Option<String>, Fault> {
    match stream.get_raw_message(sequence).await {
        Ok(message) => Ok(Some(message.headers.get(NATS_MESSAGE_ID).map(ToString::to_string).unwrap_or_default())),
        Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
        // Without the right to ask, too, the answer is that none comes.
        Err(error) => Err(Fault::passing("ask for the stream's last message ($JS.API.STREAM.MSG.GET)", error)),
    }
}

fn unpublished(error: PublishError) -> Unpublished {
    Unpublished { is_too_large: error.kind() == PublishErrorKind::MaxPayloadExceeded, cause: error.to_string() }
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
