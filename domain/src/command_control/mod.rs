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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::schema::Schemas;

    #[test]
    fn places_are_sent_in_clear_and_recorded_sealed() {
        let contract = crate::kernel::aggregate::<TruckJourney>().contract(&mut Schemas::default());
        let schema = |messages: &[crate::kernel::schema::MessageContract], name: &str| {
            messages.iter().find(|message| message.name == name).expect("is known").schema.clone()
        };
        let sent = schema(&contract.commands, "record_gps")["properties"]["fixes"].clone();
        assert_eq!((sent["type"].as_str(), sent["x-personal"].as_str()), (Some("array"), Some("fixes")));
        assert_eq!(sent["maxItems"], 500);
        let recorded = schema(&contract.events, "gps_recorded")["properties"]["fixes"].clone();
        assert!(recorded["properties"]["sealed"].is_object() && recorded["properties"]["part"].is_object());
        let stop = schema(&contract.commands, "plan")["properties"]["stops"]["items"].clone();
        assert!(stop["properties"]["address"].to_string().contains("x-personal"), "{stop}");
    }
}
