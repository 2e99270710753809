//! The one place in this room that asks for the time.

use cnc_domain::kernel::Timestamp;

/// The time now.
pub fn now() -> Timestamp {
    chrono::Utc::now().into()
}
