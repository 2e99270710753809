//! The rules of live dispatch that act by themselves.

mod journey_alerts;
mod understaffed;
mod watch;

pub use journey_alerts::JourneyAlerts;
pub use understaffed::{Staffing, TAG as UNDERSTAFFED_TAG, Understaffed};
pub use watch::Watch;
