//! Command & Control: live dispatch. Trucks on their journeys, the shifts of those who watch them, and what calls for
//! attention.

pub mod alert;
pub mod dispatch_session;
pub mod places;
pub mod track;
pub mod triggers;
pub mod truck_journey;

use crate::kernel::{Module, aggregate, fold};

pub use alert::Alert;
pub use dispatch_session::DispatchSession;
pub use truck_journey::TruckJourney;

/// Live dispatch.
pub const MODULE: Module = Module {
    name: "command_control",
    about: "Live dispatch: trucks on their journeys, shifts on the board, and what calls for attention.",
    aggregates: &[aggregate::<Alert>(), aggregate::<DispatchSession>(), aggregate::<TruckJourney>()],
    triggers: &[fold::<triggers::JourneyAlerts>(), fold::<triggers::Understaffed>()],
};
