//! What happens to a journey.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AssignedCrew, Issue, IssueKind, ReportedStatus, Stop, course::PlannedStop};
use crate::{
    calendar_capacity::Truck,
    command_control::places::{Fixes, Position},
    crew_customer::CrewMember,
    kernel::{Id, LocationId, Minutes, Personal, Timestamp, Window, marker},
};

/// What happens to a journey. `occurred_at` is when, by the crew's device; the entry's own time is when it was recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The journey was put on the plan, and its truck reserved.
    Planned {
        /// The truck that drives it.
        truck: Id<Truck>,
        /// The branch that it belongs to.
        location: LocationId,
        /// When truck and crew are needed, yard to yard.
        window: Window,
        /// Where it goes, in order.
        stops: Vec<PlannedStop>,
        /// How many people it should have.
        recommended_crew: u32,
        /// How long it should take, yard to yard.
        #[serde(default)]
        estimated_minutes: Option<Minutes>,
    },
    /// A stop was added.
    StopAdded {
        /// The stop.
        stop: PlannedStop,
        /// The stop that it comes before; none where it comes last.
        before: Option<Id<Stop>>,
    },
    /// The stops that were ahead were put into another order.
    StopsReordered {
        /// All stops that were ahead, in their new order.
        stops: Vec<Id<Stop>>,
    },
    /// A stop was left out.
    StopSkipped {
        /// Which.
        stop: Id<Stop>,
        /// Why.
        reason: String,
        /// When it was decided.
        occurred_at: Timestamp,
    },
    /// People were assigned, and reserved for the journey's window.
    CrewAssigned {
        /// Who, and who of them drives.
        members: Vec<AssignedCrew>,
    },
    /// One of the crew was let go.
    CrewReleased {
        /// Who.
        member: Id<CrewMember>,
    },
    /// The crew was told to go.
    Dispatched {
        /// When.
        occurred_at: Timestamp,
    },
    /// The crew said that it will go.
    Acknowledged {
        /// When.
        occurred_at: Timestamp,
    },
    /// The truck left for a stop.
    Departed {
        /// Which stop.
        to: Id<Stop>,
        /// Where it left from, as far as known.
        position: Option<Personal<Position>>,
        /// The time of the fix that the position was taken from; none where the crew gave the position.
        fix_at: Option<Timestamp>,
        /// When the crew expects to be there.
        expected_at: Option<Timestamp>,
        /// When it left.
        occurred_at: Timestamp,
    },
    /// The truck reached a stop.
    Arrived {
        /// Which.
        stop: Id<Stop>,
        /// Where the truck stands, where the crew said so.
        position: Option<Personal<Position>>,
        /// When it came there.
        occurred_at: Timestamp,
    },
    /// The work at a stop began.
    WorkStarted {
        /// Which.
        stop: Id<Stop>,
        /// When.
        occurred_at: Timestamp,
    },
    /// The work at a stop was done.
    WorkFinished {
        /// Which.
        stop: Id<Stop>,
        /// When.
        occurred_at: Timestamp,
    },
    /// The truck came back to the yard. Truck and crew were released.
    Returned {
        /// When.
        occurred_at: Timestamp,
    },
    /// The journey was called off. Truck and crew were released.
    Cancelled {
        /// Why.
        reason: String,
        /// When it was decided.
        occurred_at: Timestamp,
    },
    /// It will be later than promised.
    Delayed {
        /// By how much more than was said before.
        minutes: Minutes,
        /// Why.
        reason: String,
        /// When it became known.
        occurred_at: Timestamp,
    },
    /// Something is wrong.
    IssueRaised {
        /// The issue's id.
        issue: Id<Issue>,
        /// What sort of thing.
        kind: IssueKind,
        /// What exactly.
        note: String,
        /// When it was seen.
        occurred_at: Timestamp,
    },
    /// An issue was settled.
    IssueResolved {
        /// Which.
        issue: Id<Issue>,
        /// How.
        how: String,
        /// When.
        occurred_at: Timestamp,
    },
    /// A break of the crew began.
    BreakStarted {
        /// When.
        occurred_at: Timestamp,
    },
    /// The break ended.
    BreakEnded {
        /// When.
        occurred_at: Timestamp,
    },
    /// The crew stopped for the night.
    OvernightStarted {
        /// When.
        occurred_at: Timestamp,
    },
    /// The crew went on after the night.
    OvernightEnded {
        /// When.
        occurred_at: Timestamp,
    },
    /// The crew said how it goes.
    StatusReported {
        /// In a word.
        status: ReportedStatus,
        /// In the crew's words.
        note: Option<String>,
        /// Where the truck was.
        position: Option<Personal<Position>>,
        /// When this was so.
        occurred_at: Timestamp,
    },
    /// A chunk of GPS fixes came in.
    GpsRecorded {
        /// The phone or tracker that recorded them.
        device: Id<marker::Device>,
        /// The chunk's number on that device for this journey.
        chunk: u32,
        /// How many fixes.
        count: u32,
        /// The time of the earliest.
        first_at: Timestamp,
        /// The time of the latest.
        last_at: Timestamp,
        /// The fixes, sealed.
        fixes: Personal<Fixes>,
    },
    /// A tag was put on.
    Tagged {
        /// The tag.
        tag: String,
    },
    /// A tag was taken off.
    Untagged {
        /// The tag.
        tag: String,
    },
    /// Another truck drives from now on.
    TruckReassigned {
        /// The truck that drove.
        from: Id<Truck>,
        /// The truck that drives from now on.
        to: Id<Truck>,
    },
}

impl Event {
    /// When it happened by the crew's clock, where that was said.
    pub fn occurred_at(&self) -> Option<Timestamp> {
        match self {
            Self::StopSkipped { occurred_at, .. }
            | Self::Dispatched { occurred_at }
            | Self::Acknowledged { occurred_at }
            | Self::Departed { occurred_at, .. }
            | Self::Arrived { occurred_at, .. }
            | Self::WorkStarted { occurred_at, .. }
            | Self::WorkFinished { occurred_at, .. }
            | Self::Returned { occurred_at }
            | Self::Cancelled { occurred_at, .. }
            | Self::Delayed { occurred_at, .. }
            | Self::IssueRaised { occurred_at, .. }
            | Self::IssueResolved { occurred_at, .. }
            | Self::BreakStarted { occurred_at }
            | Self::BreakEnded { occurred_at }
            | Self::OvernightStarted { occurred_at }
            | Self::OvernightEnded { occurred_at }
            | Self::StatusReported { occurred_at, .. } => Some(*occurred_at),
            Self::Planned { .. }
            | Self::StopAdded { .. }
            | Self::StopsReordered { .. }
            | Self::CrewAssigned { .. }
            | Self::CrewReleased { .. }
            | Self::GpsRecorded { .. }
            | Self::Tagged { .. }
            | Self::Untagged { .. }
            | Self::TruckReassigned { .. } => None,
        }
    }
}
