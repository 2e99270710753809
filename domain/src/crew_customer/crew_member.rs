//! Someone of the crew and what it is reserved for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    command_control::TruckJourney,
    kernel::{Aggregate, Context, Decision, Id, Window},
};

/// What it may be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Reserve it for a journey.
    Reserve {
        /// For which.
        journey: Id<TruckJourney>,
        /// From when until when.
        window: Window,
        /// Whether they drive.
        driving: bool,
    },
    /// Let it go from a journey.
    Release {
        /// From which.
        journey: Id<TruckJourney>,
    },
}

/// What happens to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// It was reserved for a journey.
    Reserved {
        /// For which.
        journey: Id<TruckJourney>,
        /// From when until when.
        window: Window,
    },
    /// It was let go.
    Released {
        /// From which.
        journey: Id<TruckJourney>,
    },
}

/// Why it says no.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// It is reserved for an overlapping window.
    #[error("it is reserved for another journey then")]
    Reserved {
        /// For which.
        journey: Id<TruckJourney>,
    },
}

/// Someone of the crew.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CrewMember {
    /// What it is reserved for.
    reserved: Vec<(Id<TruckJourney>, Window)>,
}

impl Aggregate for CrewMember {
    const STREAM: &'static str = "crew_member";
    const INTERNAL: &'static [&'static str] = &["release", "reserve"];
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn decide(&self, command: Command, _: &Context) -> Result<Decision<Event>, Refusal> {
        match command {
            Command::Reserve { journey, window, .. } => {
                match self.reserved.iter().find(|(_, other)| other.overlaps(window)) {
                    Some((journey, _)) => Err(Refusal::Reserved { journey: *journey }),
                    None => Ok(Event::Reserved { journey, window }.into()),
                }
            }
            Command::Release { journey } => Ok(Event::Released { journey }.into()),
        }
    }

    fn evolve(&mut self, event: Event) {
        match event {
            Event::Reserved { journey, window } => self.reserved.push((journey, window)),
            Event::Released { journey } => self.reserved.retain(|(other, _)| *other != journey),
        }
    }
}
