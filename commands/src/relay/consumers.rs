//! The stream's durable consumers, which go by its places: where it lost messages, they stand where others come to be.
//!
//! A broker (seen of 2.9.10; from 2.14 on it looks to it when it starts) leaves such a consumer as it is. It would pass over
//! what comes in the places that it has seen. Worse, it would deliver again what stands now in the place of a message
//! that was not answered, whatever its filter says: another company's entry, to a partner.

use std::time::Duration;

use async_nats::jetstream::{
    ErrorCode,
    consumer::{Config, DeliverPolicy, Info},
    stream::{ConsumerErrorKind, Info as StreamInfo, Stream},
};
use cnc_domain::ledger::Fault;
use futures::TryStreamExt as _;

use super::{ports::DurableConsumer, shortfall::Places};

/// How long a leader that was elected just now may take to know all that it has.
const ELECTION: Duration = Duration::from_millis(500);

/// The durables that have seen what the stream does not hold, or may not, where that is doubtful; each as it is to be made
/// anew. They begin again where both they and the stream are sure: what is repeated is settled by position. Nothing may be
/// published meanwhile.
pub(super) async fn astray(stream: &Stream<()>, places: Places) -> Result<Vec<DurableConsumer>, Fault> {
    let astray = look(stream, places).await?;
    if places.are_doubtful || astray.is_empty() {
        return Ok(astray);
    }
    tokio::time::sleep(ELECTION).await;
    look(stream, places).await
}

async fn look(stream: &Stream<()>, places: Places) -> Result<Vec<DurableConsumer>, Fault> {
    let durables: Vec<Info> = stream.consumers().try_collect().await.map_err(fault)?;
    // Asked for after the consumers, so that the stream has all that they have seen.
    let info = stream.get_info().await.map_err(fault)?;
    let astray = durables.into_iter().filter_map(|durable| anew(durable, places, &info));
    astray
        .map(|(name, config)| {
            let config = serde_json::to_string(&config).map_err(fault)?;
            Ok(DurableConsumer { name, stream: created(&info), config })
        })
        .collect()
}

/// Which stream it is.
pub(super) fn created(stream: &StreamInfo) -> String {
    stream.created.unix_timestamp_nanos().to_string()
}

fn anew(durable: Info, Places { intact, are_doubtful }: Places, stream: &StreamInfo) -> Option<(String, Config)> {
    let floor = durable.ack_floor.stream_sequence;
    let has_seen = durable.delivered.stream_sequence.max(floor);
    // One that began with what was new has another source, and believes no message: doubts do not matter to it.
    let goes_by_stream = durable.config.deliver_policy != DeliverPolicy::New;
    let sound = if are_doubtful && goes_by_stream { intact } else { stream.state.last_sequence };
    let is_older = durable.created < stream.created;
    durable.config.durable_name.as_ref().filter(|_| is_older || has_seen > sound)?;
    let mut config = durable.config;
    if goes_by_stream {
        let sure = if is_older { 0 } else { floor.min(intact) };
        config.deliver_policy = DeliverPolicy::ByStartSequence { start_sequence: sure + 1 };
    }
    Some((durable.name, config))
}

/// Makes one in place of that of its name, where there is one.
pub(super) async fn make(stream: &Stream<()>, consumer: &DurableConsumer) -> Result<(), Fault> {
    let mut config: Config = serde_json::from_str(&consumer.config).map_err(|cause| Fault::broken(MAKING, cause))?;
    let making = |cause: &dyn std::fmt::Display| Fault::passing(MAKING, cause);
    let info = stream.get_info().await.map_err(|error| making(&error))?;
    if created(&info) != consumer.stream && config.deliver_policy != DeliverPolicy::New {
        config.deliver_policy = DeliverPolicy::All;
    }
    match stream.delete_consumer(&consumer.name).await {
        Ok(_) => {}
        Err(error) if is_missing(&error.kind()) => {}
        Err(error) => return Err(making(&error)),
    }
    stream.create_consumer(config).await.map(|_| ()).map_err(|error| making(&error))
}

fn is_missing(kind: &ConsumerErrorKind) -> bool {
    matches!(kind, ConsumerErrorKind::JetStream(error) if error.error_code() == ErrorCode::CONSUMER_NOT_FOUND)
}

const MAKING: &str = "make a consumer anew ($JS.API.CONSUMER.DELETE and CREATE)";

fn fault(cause: impl std::fmt::Display) -> Fault {
    Fault::passing("look after the stream's consumers ($JS.API.CONSUMER.LIST)", cause)
}
