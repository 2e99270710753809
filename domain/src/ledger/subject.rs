//! What entries and changes of views are called on NATS. Relay, feed, gateway and integrations meet in these names, and
//! `schemas/asyncapi.json` documents them.

use super::{Entry, Head};
use crate::kernel::CompanyId;

/// The `JetStream` stream that carries entries.
pub const STREAM: &str = "CNC";
/// All entries of all companies: what the stream takes.
pub const ALL_ENTRIES: &str = "cnc.events.>";
/// All changes of all views, on core NATS: whoever misses some reads the view.
pub const ALL_CHANGES: &str = "cnc.views.>";
/// The header with the entry's hash, in hexadecimal digits.
pub const HASH_HEADER: &str = "Cnc-Hash";
/// The header of a message which says that the ledger was put back to an earlier entry, since its database was: whoever
/// keeps a copy forgets what came after this position, and then takes the message's own entry as any other.
pub const FORK_AFTER_HEADER: &str = "Cnc-Fork-After";

/// Where an entry is published: `cnc.events.<company>.<stream>.<event>`.
pub fn of_entry(entry: &Entry) -> String {
    of_entry_named(&entry.company.to_string(), &entry.stream, &entry.event)
}

/// The same, by names.
pub fn of_entry_named(company: &str, stream: &str, event: &str) -> String {
    format!("cnc.events.{company}.{stream}.{event}")
}

/// All entries of a company.
pub fn entries_of(company: CompanyId) -> String {
    format!("cnc.events.{company}.>")
}

/// Where changes of a view are published: `cnc.views.<company>.<view>`.
pub fn of_changes(company: CompanyId, view: &str) -> String {
    of_changes_named(&company.to_string(), view)
}

/// The same, by names.
pub fn of_changes_named(company: &str, view: &str) -> String {
    format!("cnc.views.{company}.{view}")
}

/// The id under which an entry's message is published: `<company>:<position>:<hash>`. A broker drops what was published
/// under the same id before, and never an entry that stands in the place of one that is gone.
pub fn message_id(company: CompanyId, head: Head) -> String {
    format!("{company}:{head}")
}

/// The company, position and hash that a message's id names, whatever follows them; `None` where it names none.
pub fn read_message_id(id: &str) -> Option<(CompanyId, Head)> {
    let mut parts = id.splitn(4, ':');
    let (company, position, hash) = (parts.next()?, parts.next()?, parts.next()?);
    let head = Head { position: position.parse().ok()?, hash: hash.parse().ok()? };
    Some((company.parse().ok()?, head))
}
