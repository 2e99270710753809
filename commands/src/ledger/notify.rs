//! How the back ends of one process say that ledgers have grown.

use std::collections::BTreeMap;

use cnc_domain::{
    kernel::CompanyId,
    ledger::{Append, AppendError, Appended, Grown, Head, Notification, NotificationLog},
};
use tokio::sync::watch;

/// The heads after a batch, of those companies of which it recorded something.
pub(super) fn grown(batch: &[Append], outcomes: &[Result<Appended, AppendError>]) -> BTreeMap<CompanyId, Head> {
    let recorded = batch.iter().zip(outcomes).filter_map(|(append, outcome)| {
        let appended = outcome.as_ref().ok().filter(|appended| appended.answer.recorded > 0)?;
        Some((append.company, appended.head))
    });
    // In the order of the ledger: the last of a company stays.
    recorded.collect()
}

/// Takes note of growth, and wakes who waits for it.
pub(super) fn notice(notifications: &watch::Sender<NotificationLog>, grown: Grown) {
    notifications.send_if_modified(|log| match grown {
        Grown::These(heads) => {
            heads.into_iter().fold(false, |is_new, (company, head)| log.note(company, head) | is_new)
        }
        Grown::Any => {
            log.note_any();
            true
        }
    });
}

/// Waits for more growth than up to a cursor.
pub(super) async fn changed(notifications: &watch::Sender<NotificationLog>, cursor: u64) -> Notification {
    let mut more = notifications.subscribe();
    let found = more.wait_for(|log| log.is_past(cursor)).await;
    // The sender lives as long as it is borrowed here, so that waiting cannot fail.
    found.map_or(Notification { cursor, grown: Grown::Any }, |log| log.since(cursor))
}
