//! What an entry *is*: its bytes, the link from each to the one before, `verify`, and the ports through which the
//! other rooms meet a ledger. Nothing here knows how or where entries are kept.

mod entry;
mod form;
mod notification;
mod port;
pub mod subject;
mod verify;
mod weather;

pub use entry::{
    Draft, Entry, Hash, Head, MESSAGE_BYTES_MAX, Malformed, PAYLOAD_BYTES_MAX, Position, Sequence, StreamHead,
    is_company_fact,
};
pub use form::check_form;
pub use notification::{Grown, Notification, NotificationLog, announced, announcements};
pub use port::{
    Answer, Answered, Append, AppendError, Appended, Check, Due, Fault, Feed, Idempotency, Ledger, LedgerTime, Outbox,
    Parcel, Replied, Writable,
};
pub use verify::{Break, Verifier, Wrong, verify};
pub use weather::Weather;
