//! The durable consumer of a role: made where it is missing, and made anew where it stands ahead of its stream.

use std::time::Duration;

use async_nats::jetstream::{
    Context, ErrorCode,
    consumer::{AckPolicy, DeliverPolicy, Info, PullConsumer, pull},
    context::GetStreamErrorKind,
    stream::ConsumerErrorKind,
};
use cnc_domain::ledger::{Fault, subject};

/// How many messages may be without an answer. Companies that are behind hold many, and must not hold up the others.
const UNANSWERED_MAX: i64 = 250_000;

const DOING: &str = "attending to a consumer";

fn fault(cause: impl std::fmt::Display) -> Fault {
    Fault::passing(DOING, cause)
}

/// The durable of this name, fit to be read from. Gives nothing where there is no stream yet.
pub(super) async fn ready(jetstream: &Context, name: &str, ack_wait: Duration) -> Result<Option<PullConsumer>, Fault> {
    let found = find(jetstream, name).await?;
    // Asked for after the consumer, so that the stream has all that the consumer has seen.
    let stream = match jetstream.get_stream(subject::STREAM).await {
        Ok(stream) => stream,
        Err(error) if is_no_stream(&error.kind()) => return Ok(None),
        Err(error) => return Err(fault(error)),
    };
    if let Some(found) = found {
        let info = stream.cached_info();
        if !is_stray(found.cached_info(), info.state.last_sequence) && found.cached_info().created >= info.created {
            return Ok(Some(found));
        }
        tracing::warn!(consumer = name, "a consumer stands ahead of its stream and is made anew");
        match stream.delete_consumer(name).await {
            Ok(_) => {}
            Err(error) if is_not_found(&error.kind()) => {}
            Err(error) => return Err(fault(error)),
        }
    }
    stream.create_consumer(config(name, ack_wait)).await.map(Some).map_err(fault)
}

/// The consumer as it is now, where it still is the same and fit to be read from.
pub(super) async fn is_fit(jetstream: &Context, name: &str, known: &Info) -> Result<bool, Fault> {
    let Some(found) = find(jetstream, name).await? else { return Ok(false) };
    let stream = jetstream.get_stream(subject::STREAM).await.map_err(fault)?;
    let info = stream.cached_info();
    let same = found.cached_info().created == known.created && known.created >= info.created;
    Ok(same && !is_stray(found.cached_info(), info.state.last_sequence))
}

async fn find(jetstream: &Context, name: &str) -> Result<Option<PullConsumer>, Fault> {
    match jetstream.get_consumer_from_stream::<pull::Config, _, _>(name, subject::STREAM).await {
        Ok(consumer) => Ok(Some(consumer)),
        Err(error) if is_not_found(&error.kind()) => Ok(None),
        Err(error) => Err(fault(error)),
    }
}

/// Whether a consumer has seen what its stream does not hold, since the stream lost its tail. Nothing would be delivered
/// to it until the stream has grown past where it stands.
fn is_stray(consumer: &Info, last: u64) -> bool {
    consumer.delivered.stream_sequence.max(consumer.ack_floor.stream_sequence) > last
}

fn config(name: &str, ack_wait: Duration) -> pull::Config {
    pull::Config {
        durable_name: Some(name.into()),
        // What is older stands in the ledger, with which folds are compared at once.
        deliver_policy: DeliverPolicy::New,
        ack_policy: AckPolicy::Explicit,
        ack_wait,
        max_deliver: -1,
        max_ack_pending: UNANSWERED_MAX,
        filter_subject: subject::ALL_ENTRIES.into(),
        ..pull::Config::default()
    }
}

fn is_no_stream(kind: &GetStreamErrorKind) -> bool {
    matches!(kind, GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

fn is_not_found(kind: &ConsumerErrorKind) -> bool {
    let codes = [ErrorCode::CONSUMER_NOT_FOUND, ErrorCode::STREAM_NOT_FOUND];
    matches!(kind, ConsumerErrorKind::JetStream(error) if codes.contains(&error.error_code()))
}
