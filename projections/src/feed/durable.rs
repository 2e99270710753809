//! The durable consumer of a role: made where it is missing. The relay makes it anew where it stands ahead of its stream.

use std::time::Duration;

use async_nats::jetstream::{
    Context, ErrorCode,
    consumer::{AckPolicy, DeliverPolicy, Info, PullConsumer, pull},
    stream::ConsumerErrorKind,
};
use cnc_domain::ledger::{Fault, subject};

/// How many messages may be without an answer. Companies that are behind hold many, and must not hold up the others.
const UNANSWERED_MAX: i64 = 250_000;

const DOING: &str = "attending to a consumer";

fn fault(cause: impl std::fmt::Display) -> Fault {
    Fault::passing(DOING, cause)
}

/// The durable of this name. Gives nothing where there is no stream yet.
pub(super) async fn ready(jetstream: &Context, name: &str, ack_wait: Duration) -> Result<Option<PullConsumer>, Fault> {
    if let Some(found) = find(jetstream, name).await? {
        return Ok(Some(found));
    }
    match jetstream.create_consumer_on_stream(config(name, ack_wait), subject::STREAM).await {
        Ok(made) => Ok(Some(made)),
        Err(error) if is_missing(&error.kind()) => Ok(None),
        Err(error) => Err(fault(error)),
    }
}

/// Whether the durable is there and still the same.
pub(super) async fn is_same(jetstream: &Context, name: &str, known: &Info) -> Result<bool, Fault> {
    Ok(find(jetstream, name).await?.is_some_and(|found| found.cached_info().created == known.created))
}

async fn find(jetstream: &Context, name: &str) -> Result<Option<PullConsumer>, Fault> {
    match jetstream.get_consumer_from_stream::<pull::Config, _, _>(name, subject::STREAM).await {
        Ok(consumer) => Ok(Some(consumer)),
        Err(error) if is_missing(&error.kind()) => Ok(None),
        Err(error) => Err(fault(error)),
    }
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

fn is_missing(kind: &ConsumerErrorKind) -> bool {
    let codes = [ErrorCode::CONSUMER_NOT_FOUND, ErrorCode::STREAM_NOT_FOUND];
    matches!(kind, ConsumerErrorKind::JetStream(error) if codes.contains(&error.error_code()))
}
