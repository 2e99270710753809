//! One truck's trip of one or more days through ordered stops. It owns the order of its steps, who rides along, and what
//! is known of its track.
//!
//! It does not own whether a crew member or a truck is free: that is theirs to say, in the same decision.

mod command;
mod course;
mod crew;
mod event;
mod gps;
mod pauses;
mod refusal;
mod reports;
#[cfg(test)]
pub(super) mod samples;
mod steps;
mod stops;

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    calendar_capacity::Truck,
    kernel::{Aggregate, Context, Decision, Id, LocationId, Minutes, Scope, Window},
};

pub use command::{Command, NewStop};
pub use course::{Course, Life, MoveJobReference, Pause, Paused, PlannedStop, Stage, Stop, StopKind, StopState};
pub use crew::AssignedCrew;
pub use event::Event;
pub use gps::{Chunks, Gps};
pub use refusal::Refusal;
pub use reports::{Issue, IssueKind, LiveStatusUpdate, ReportedStatus};

/// How many stops a journey may have.
pub const STOPS_MAX: usize = 50;

type Outcome = Result<Decision<Event>, Refusal>;

/// One truck's trip of one or more days: its steps, its crew, its track.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TruckJourney {
    /// How far it is.
    #[serde(flatten)]
    course: Course,
    /// The truck that drives it.
    truck: Option<Id<Truck>>,
    /// The branch that it belongs to.
    location: Option<LocationId>,
    /// When truck and crew are needed, yard to yard.
    window: Window,
    /// How many people it should have.
    recommended_crew: u32,
    /// How long it should take, yard to yard.
    estimated_minutes: Option<Minutes>,
    /// Who rides along.
    crew: Vec<AssignedCrew>,
    /// How much later than promised it will be, all delays together.
    delayed_minutes: Minutes,
    /// What is wrong with it and not yet settled.
    issues: BTreeMap<Id<Issue>, Issue>,
    /// What the crew last said.
    status: Option<LiveStatusUpdate>,
    /// What it is tagged with.
    tags: BTreeSet<String>,
    /// What is known of its track.
    gps: Gps,
}

impl Aggregate for TruckJourney {
    const STREAM: &'static str = "truck_journey";
    const BEGINNING: &'static [&'static str] = &["plan"];
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn decide(&self, command: Command, context: &Context) -> Outcome {
        match command {
            plan @ Command::Plan { .. } => self.plan(plan, context),
            Command::AddStop { stop, before } => self.add_stop(stop, before, context),
            Command::ReorderStops { stops } => self.reorder_stops(stops),
            Command::SkipStop { stop, reason, occurred_at } => self.skip_stop(stop, reason, occurred_at, context),
            Command::AssignCrew { members } => self.assign_crew(members, context),
            Command::ReleaseCrew { member } => self.release_crew(member, context),
            Command::Dispatch { occurred_at } => self.dispatch(occurred_at, context),
            Command::Acknowledge { occurred_at } => self.acknowledge(occurred_at, context),
            depart @ Command::Depart { .. } => self.depart(depart, context),
            Command::Arrive { stop, position, occurred_at } => self.arrive(stop, position, occurred_at, context),
            Command::StartWork { stop, occurred_at } => self.start_work(stop, occurred_at, context),
            Command::FinishWork { stop, occurred_at } => self.finish_work(stop, occurred_at, context),
            Command::ReturnToYard { occurred_at } => self.return_to_yard(occurred_at, context),
            Command::Cancel { reason, occurred_at } => self.cancel(reason, occurred_at, context),
            Command::Delay { minutes, reason, occurred_at } => self.delay(minutes, reason, occurred_at, context),
            Command::RaiseIssue { kind, note, occurred_at } => self.raise_issue(kind, note, occurred_at, context),
            Command::ResolveIssue { issue, how, occurred_at } => self.resolve_issue(issue, how, occurred_at, context),
            Command::StartBreak { occurred_at } => self.start_pause(Pause::Break, occurred_at, context),
            Command::EndBreak { occurred_at } => self.end_pause(Pause::Break, occurred_at, context),
            Command::StartOvernight { occurred_at } => self.start_pause(Pause::Overnight, occurred_at, context),
            Command::EndOvernight { occurred_at } => self.end_pause(Pause::Overnight, occurred_at, context),
            report @ Command::ReportStatus { .. } => self.report_status(report, context),
            Command::RecordGps { device, chunk, fixes } => self.record_gps(device, chunk, fixes, context),
            Command::Tag { tag } => self.tag(tag),
            Command::Untag { tag } => self.untag(tag),
            Command::ReassignTruck { truck } => self.reassign_truck(truck, context),
        }
    }

    fn evolve(&mut self, event: Event) {
        self.course.follow(&event);
        match event {
            planned @ Event::Planned { .. } => self.planned(planned),
            Event::CrewAssigned { members } => self.crew_assigned(members),
            Event::CrewReleased { member } => self.crew.retain(|assigned| assigned.member != member),
            Event::TruckReassigned { to, .. } => self.truck = Some(to),
            Event::Delayed { minutes, .. } => self.delayed(minutes),
            raised @ Event::IssueRaised { .. } => self.issue_raised(raised),
            Event::IssueResolved { issue, .. } => drop(self.issues.remove(&issue)),
            reported @ Event::StatusReported { .. } => self.status_reported(reported),
            Event::GpsRecorded { device, chunk, fixes, .. } => self.gps.take(device, chunk, &fixes),
            Event::Tagged { tag } => drop(self.tags.insert(tag)),
            Event::Untagged { tag } => drop(self.tags.remove(&tag)),
            // The course has followed these.
            Event::StopAdded { .. }
            | Event::StopsReordered { .. }
            | Event::StopSkipped { .. }
            | Event::Dispatched { .. }
            | Event::Acknowledged { .. }
            | Event::Departed { .. }
            | Event::Arrived { .. }
            | Event::WorkStarted { .. }
            | Event::WorkFinished { .. }
            | Event::Returned { .. }
            | Event::Cancelled { .. }
            | Event::BreakStarted { .. }
            | Event::BreakEnded { .. }
            | Event::OvernightStarted { .. }
            | Event::OvernightEnded { .. } => {}
        }
    }

    fn location(&self) -> Option<LocationId> {
        self.location
    }

    /// A driver or a mover acts on the journeys that they ride along with, whichever branch they were lent to.
    fn is_within(&self, scope: &Scope) -> bool {
        match scope.participant {
            Some(person) => self.crew.iter().any(|assigned| assigned.member.uuid() == person),
            None => scope.covers(self.location),
        }
    }
}

impl TruckJourney {
    /// Refuses what is asked of a journey that does not exist.
    fn known(&self) -> Result<(), Refusal> {
        if self.course.life == Life::Unplanned { Err(Refusal::NotPlanned) } else { Ok(()) }
    }

    /// Refuses what is asked of a journey that does not exist or has ended.
    fn live(&self) -> Result<(), Refusal> {
        self.known()?;
        let life = self.course.life;
        if life.is_over() { Err(Refusal::Over { life }) } else { Ok(()) }
    }

    /// Refuses a step that is not the journey's next.
    fn be(&self, needed: Life) -> Result<(), Refusal> {
        self.live()?;
        let life = self.course.life;
        if life == needed { Ok(()) } else { Err(Refusal::OutOfOrder { life, needed }) }
    }

    /// Refuses a step while the crew rests.
    fn awake(&self) -> Result<(), Refusal> {
        match self.course.paused {
            Some(Paused { pause, since }) => Err(Refusal::Paused { pause, since }),
            None => Ok(()),
        }
    }

    /// The stop with this id.
    fn stop(&self, stop: Id<Stop>) -> Result<&Stop, Refusal> {
        self.course.stop(stop).ok_or(Refusal::NoSuchStop { stop })
    }
}
