//! What a journey may be asked.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{AssignedCrew, Issue, IssueKind, MoveJobReference, ReportedStatus, Stop, StopKind, course::PlannedStop};
use crate::{
    calendar_capacity::Truck,
    command_control::places::{Fixes, Position},
    crew_customer::CrewMember,
    kernel::{Address, Context, Id, LocationId, Minutes, Personal, Timestamp, Window, marker},
};

/// What a journey may be asked.
///
/// Where a command has `occurred_at`, that is when it happened by the device's clock; left out, it is now. It may be 5
/// minutes ahead of the server and 72 hours behind it (settings of the company).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Put the journey on the plan. Reserves the truck for the window.
    Plan {
        /// The truck that drives it.
        truck: Id<Truck>,
        /// The branch that it belongs to.
        location: LocationId,
        /// When truck and crew are needed, yard to yard.
        window: Window,
        /// Where it goes, in order: at most 50 stops.
        #[serde(default)]
        #[schemars(length(max = 50))]
        stops: Vec<NewStop>,
        /// How many people it should have.
        #[schemars(range(max = 20))]
        recommended_crew: u32,
        /// How long it should take, yard to yard.
        #[serde(default)]
        estimated_minutes: Option<Minutes>,
    },
    /// Add a stop, at the end or before one that is still ahead.
    AddStop {
        /// The stop.
        stop: NewStop,
        /// The stop that it comes before; left out, it comes last.
        #[serde(default)]
        before: Option<Id<Stop>>,
    },
    /// Put the stops that are still ahead into another order.
    ReorderStops {
        /// All stops that are ahead, in their new order.
        #[schemars(length(max = 50))]
        stops: Vec<Id<Stop>>,
    },
    /// Leave a stop out: one that is ahead, on the way, or reached with no work begun.
    SkipStop {
        /// Which.
        stop: Id<Stop>,
        /// Why.
        #[schemars(length(min = 1, max = 500))]
        reason: String,
        /// When it was decided.
        #[serde(default)]
        occurred_at: Option<Timestamp>,
    },
    /// Assign people. Reserves each of them for the journey's window.
    AssignCrew {
        /// Who comes along, and who of them drives.
        #[schemars(length(min = 1, max = 20))]
        members: Vec<AssignedCrew>,
    },
    /// Let one of the crew go. Releases them from the journey's window.
    ReleaseCrew {
        /// Who.
        member: Id<CrewMember>,
    },
    /// Tell the crew to go.
    Dispatch {
        /// When they were told.
        #[serde(default)]
        occurred_at: Option<Timestamp>,
    },
    /// Say that the crew will go.
    Acknowledge {
        /// When it was said.
        #[serde(default)]
        occurred_at: Option<Timestamp>,
    },
    /// Leave the yard, or a stop whose work is done, for the next stop. Without a position the journey's newest fix
    /// within 15 minutes before it (or else the first after it) is taken.
    Depart {
        /// Where to: the next stop that is ahead. Left out, that one.
        #[serde(default)]
        to: Option<Id<Stop>>,
        /// Where the truck left from.
        #[serde(default)]
        position: Option<Personal<Position>>,
        /// When the crew expects to be there.
        #[serde(default)]
        expected_at: Option<Timestamp>,
        /// When it left.
        #[serde(default)]
        occurred_at: Option<Timestamp>,
    },
    /// Reach the stop that the truck is on its way to.
    Arrive {
        /// Which.
        stop: Id<Stop>,
        /// Where the truck stands.
        #[serde(default)]
        position: Option<Personal<Position>>,
        /// When it came there.
        #[serde(default)]
        occurred_at: Option<Timestamp>,
    },
    /// Begin the work at a stop that was reached.
    StartWork {
        /// Which.
        stop: Id<Stop>,
        /// When it began.
        #[serde(default)]
        occurred_at: Option<Timestamp>,
    },
    /// Finish the work at a stop.
    FinishWork {
        /// Which.
        stop: Id<Stop>,
        /// When it was done.
        #[serde(default)]
        occurred_at: Option<Timestamp>,
    },
    /// Come back to the yard when all stops are done or skipped. Releases truck and crew.
    ReturnToYard {
        /// When the truck came back.
        #[serde(default)]
        occurred_at: Option<Timestamp>,
    },
    /// Call the journey off, as long as nothing was loaded. Releases truck and crew.
    Cancel {
        /// Why.
        #[schemars(length(min = 1, max = 500))]
        reason: String,
        /// When it was decided.
        #[serde(default)]
        occurred_at: Option<Timestamp>,
    },
    /// Say that it will be later than promised.
    Delay {
        /// By how much more than was said before.
        #[schemars(range(min = 1, max = 10_080))]
        minutes: Minutes,
        /// Why.
        #[schemars(length(min = 1, max = 500))]
        reason: String,
        /// When it became known.
        #[serde(default)]
        occurred_at: Option<Timestamp>,
    },
    /// Say that something is wrong.
    RaiseIssue {
        /// What sort of thing.
        kind: IssueKind,
        /// What exactly.
        #[schemars(length(min = 1, max = 1000))]
        note: String,
        /// When it was seen.
        #[serde(default)]
        occurred_at: Option<Timestamp>,
    },
    /// Say that an issue is settled.
    ResolveIssue {
        /// Which.
        issue: Id<Issue>,
        /// How.
        #[schemars(length(min = 1, max = 1000))]
        how: String,
        /// When.
        #[serde(default)]
        occurred_at: Option<Timestamp>,
    },
    /// Begin a break of the crew.
    StartBreak {
        /// When it began.
        #[serde(default)]
        occurred_at: Option<Timestamp>,
    },
    /// End the break.
    EndBreak {
        /// When it ended.
        #[serde(default)]
        occurred_at: Option<Timestamp>,
    },
    /// Stop for the night on a journey of several days.
    StartOvernight {
        /// When.
        #[serde(default)]
        occurred_at: Option<Timestamp>,
    },
    /// Go on after the night.
    EndOvernight {
        /// When.
        #[serde(default)]
        occurred_at: Option<Timestamp>,
    },
    /// Say how it goes.
    ReportStatus {
        /// In a word.
        status: ReportedStatus,
        /// In the crew's words.
        #[serde(default)]
        #[schemars(length(max = 1000))]
        note: Option<String>,
        /// Where the truck is.
        #[serde(default)]
        position: Option<Personal<Position>>,
        /// When this was so.
        #[serde(default)]
        occurred_at: Option<Timestamp>,
    },
    /// Bring in a chunk of GPS fixes. Chunks may come late, twice and in any order; the same one again adds nothing.
    RecordGps {
        /// The phone or tracker that recorded them.
        device: Id<marker::Device>,
        /// The chunk's number on that device for this journey: 0, 1, 2 …
        chunk: u32,
        /// The fixes, 1 to 500.
        fixes: Personal<Fixes>,
    },
    /// Put a tag on the journey.
    Tag {
        /// The tag: lower-case letters, digits, `_` and `-`.
        #[schemars(length(min = 1, max = 40), regex(pattern = "^[a-z0-9][a-z0-9_-]*$"))]
        tag: String,
    },
    /// Take a tag off.
    Untag {
        /// The tag.
        #[schemars(length(min = 1, max = 40))]
        tag: String,
    },
    /// Drive with another truck. Releases the one and reserves the other.
    ReassignTruck {
        /// The truck that drives from now on.
        truck: Id<Truck>,
    },
}

/// A stop as it is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct NewStop {
    /// Its id, where the asker has one already; else one is made.
    #[serde(default)]
    pub stop: Option<Id<Stop>>,
    /// What it is for.
    pub kind: StopKind,
    /// The job that it works for.
    #[serde(default)]
    pub job: Option<MoveJobReference>,
    /// Where it is, as a postal address.
    #[serde(default)]
    pub address: Option<Personal<Address>>,
    /// Where it is on the map.
    #[serde(default)]
    pub position: Option<Personal<Position>>,
    /// When the truck is promised there.
    #[serde(default)]
    pub window: Option<Window>,
}

impl NewStop {
    /// The stop with an id: its own, or the `nth` new one of the command.
    pub(super) fn named(self, context: &Context, nth: u32) -> PlannedStop {
        let Self { stop, kind, job, address, position, window } = self;
        PlannedStop { stop: stop.unwrap_or_else(|| context.id(nth)), kind, job, address, position, window }
    }
}
