//! The stream's durable consumers, which go by its places: where it lost messages, they stand where others come to be.
//!
//! A broker (seen of 2.9.10; from 2.14 on it looks to it when it starts) leaves such a consumer as it is. It would pass over
//! what comes in the places that it has seen. Worse, it would deliver again what stands now in the place of a message
//! that was not answered, whatever its filter says: another company's entry, to a partner.

use async_nats::jetstream::{
    ErrorCode,
    consumer::{Config, DeliverPolicy, Info},
    stream::{ConsumerErrorKind, Info as StreamInfo, Stream},
};
use cnc_domain::ledger::Fault;
use futures::TryStreamExt as _;

use super::guard::PAUSE;

/// What is known of the stream's places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Places {
    /// Up to here each holds what it always held.
    pub(super) intact: u64,
    /// Whether those after may have come to hold something else.
    pub(super) are_doubtful: bool,
}

/// Makes durables anew that have seen what the stream does not hold, or may not, where that is doubtful. They begin again
/// where both they and the stream are sure: what is repeated is settled by position. Nothing may be published meanwhile.
///
/// A relay that is killed between deleting one and making it leaves none: its operator has to add it again.
pub(super) async fn mend(stream: &Stream<()>, places: Places) -> Result<(), Fault> {
    let mut astray = astray(stream, places).await?;
    if !places.are_doubtful && !astray.is_empty() {
        // A leader that was elected just now may not have told all that it has.
        tokio::time::sleep(PAUSE).await;
        astray = self::astray(stream, places).await?;
    }
    for (name, config) in astray {
        tracing::warn!(consumer = name, "a consumer may have seen what its stream lost, and is made anew");
        make_anew(stream, &name, &config).await;
    }
    Ok(())
}

/// The durables that have seen too much, and each as it is to be made.
async fn astray(stream: &Stream<()>, places: Places) -> Result<Vec<(String, Config)>, Fault> {
    let durables: Vec<Info> = stream.consumers().try_collect().await.map_err(fault)?;
    // Asked for after the consumers, so that the stream has all that they have seen.
    let info = stream.get_info().await.map_err(fault)?;
    Ok(durables.into_iter().filter_map(|durable| anew(durable, places, &info)).collect())
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

/// Does not give up: a consumer that was deleted and not made would be missed by whoever reads from it.
async fn make_anew(stream: &Stream<()>, name: &str, config: &Config) {
    while let Err(error) = try_to_make_anew(stream, name, config).await {
        tracing::warn!(consumer = name, %error, "a consumer is not made anew yet ($JS.API.CONSUMER.DELETE and CREATE)");
        tokio::time::sleep(PAUSE).await;
    }
}

async fn try_to_make_anew(stream: &Stream<()>, name: &str, config: &Config) -> Result<(), async_nats::Error> {
    match stream.delete_consumer(name).await {
        Ok(_) => {}
        Err(error) if is_missing(&error.kind()) => {}
        Err(error) => return Err(error.into()),
    }
    stream.create_consumer(config.clone()).await?;
    Ok(())
}

fn is_missing(kind: &ConsumerErrorKind) -> bool {
    matches!(kind, ConsumerErrorKind::JetStream(error) if error.error_code() == ErrorCode::CONSUMER_NOT_FOUND)
}

fn fault(cause: impl std::fmt::Display) -> Fault {
    Fault::passing("look after the stream's consumers ($JS.API.CONSUMER.LIST)", cause)
}
