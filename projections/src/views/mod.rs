//! One file a view.

pub mod alerts;
pub mod dispatch_board;
pub mod journey_track;
pub mod users;

use cnc_domain::kernel::Timestamp;
use serde_json::Value;

/// The time at a member of a document, where one stands there.
fn time(value: &Value, pointer: &str) -> Option<Timestamp> {
    value.pointer(pointer)?.as_str()?.parse().ok()
}

/// Whole minutes from one time to another, negative where the other is earlier.
fn minutes_between(from: Timestamp, to: Timestamp) -> i64 {
    (to.micros() - from.micros()).div_euclid(60_000_000)
}
