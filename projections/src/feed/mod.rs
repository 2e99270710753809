//! The feed over NATS: `JetStream` says that there is more and mostly also what; the ledger stays the truth.
//!
//! Whatever `JetStream` repeats, loses or delivers out of order is settled by position, and what does not fit is read from
//! the ledger. So a broker that is away or that forgets costs time, never an entry.

mod changes;
mod durable;
mod heard;
mod jetstream;
mod lines;
mod waiting;

pub use changes::{hear_changes, tell_changes};
pub use jetstream::{FeedOptions, JetStreamFeed};
