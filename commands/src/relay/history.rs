//! What the stream holds of a company, read by headers alone.

use std::time::Duration;

use async_nats::{
    HeaderMap,
    header::NATS_MESSAGE_ID,
    jetstream::{
        consumer::{AckPolicy, pull},
        stream::Stream,
    },
};
use cnc_domain::{
    kernel::CompanyId,
    ledger::{Fault, Head, subject},
};
use futures::TryStreamExt as _;
use uuid::Uuid;

use super::ports::Published;

/// How many messages are asked for at once.
const BATCH: usize = 1_000;
/// How long the broker keeps a consumer that is not asked any more.
const KEPT: Duration = Duration::from_secs(30);

fn fault(cause: impl std::fmt::Display) -> Fault {
    Fault::passing("look through a company's messages ($JS.API.CONSUMER.CREATE and MSG.NEXT)", cause)
}

/// All messages of a company, in their order, that say which entries they are.
pub(super) async fn read(stream: &Stream<()>, company: CompanyId) -> Result<Vec<Published>, Fault> {
    let config = pull::Config {
        name: Some(format!("relay_{}", Uuid::now_v7())),
        filter_subject: subject::entries_of(company),
        ack_policy: AckPolicy::None,
        headers_only: true,
        inactive_threshold: KEPT,
        ..pull::Config::default()
    };
    let consumer = stream.create_consumer(config).await.map_err(fault)?;
    let mut left = consumer.cached_info().num_pending;
    let mut published = Vec::new();
    while left > 0 {
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(BATCH);
        let mut messages = consumer.fetch().max_messages(count).expires(KEPT / 3).messages().await.map_err(fault)?;
        let before = left;
        while let Some(message) = messages.try_next().await.map_err(fault)? {
            left -= 1;
            let sequence = message.info().map_err(fault)?.stream_sequence;
            published.extend(read_message(sequence, None, message.headers.as_ref().unwrap_or(&HeaderMap::new())));
        }
        if left == before {
            return Err(fault("the broker sends no more of them"));
        }
    }
    // It would be gone by itself.
    let _ = stream.delete_consumer(&consumer.cached_info().name).await;
    Ok(published)
}

/// A message by its place and headers. Which entry it is says `head`, or its id; `None` where that says nothing.
pub(super) fn read_message(sequence: u64, head: Option<Head>, headers: &HeaderMap) -> Option<Published> {
    let id = || headers.get(NATS_MESSAGE_ID).and_then(|id| subject::read_message_id(id.as_str()));
    let head = head.or_else(|| id().map(|(_, head)| head))?;
    let fork_after = headers.get(subject::FORK_AFTER_HEADER).and_then(|after| after.as_str().parse().ok());
    Some(Published { sequence, head, fork_after })
}
