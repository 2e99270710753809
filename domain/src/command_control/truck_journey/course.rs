//! How far a journey is: its life, its stops, and whether it stands still. Folds keep a [`Course`] too, so that what a
//! board shows and what a rule decides come from the same code.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Event;
use crate::{
    command_control::places::Position,
    kernel::{Address, Id, Personal, Timestamp, Window, marker},
};

/// Which sold job a stop works for.
pub type MoveJobReference = Id<marker::Job>;

/// Where a journey is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Life {
    /// Nothing is known of it.
    #[default]
    Unplanned,
    /// It stands on the plan; its crew has not been told.
    Planned,
    /// Its crew has been told.
    Dispatched,
    /// Its crew has said that it will go.
    Acknowledged,
    /// It is under way, between the yard and the yard.
    Departed,
    /// It is over: the truck is back.
    Returned,
    /// It is over: it never took place.
    Cancelled,
}

/// What a stop is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum StopKind {
    /// A yard of the company.
    Yard,
    /// Goods are loaded at a customer's.
    Load,
    /// Goods are unloaded at a customer's.
    Unload,
    /// Goods go into or come out of storage.
    Storage,
    /// Anything else: fuel, a scale, a ferry.
    Other,
}

/// Where a stop is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum StopState {
    /// The truck has not left for it.
    #[default]
    Ahead,
    /// The truck is on its way there.
    EnRoute,
    /// The truck is there.
    Arrived,
    /// The crew works there.
    Working,
    /// The work there is done.
    Done,
    /// It was left out.
    Skipped,
}

/// What the board says a truck is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Stage {
    /// Its crew has not been told.
    #[default]
    Planned,
    /// Its crew has been told.
    Dispatched,
    /// Its crew has said that it will go.
    Acknowledged,
    /// Driving to where goods are loaded.
    EnRouteToLoad,
    /// Where goods are loaded.
    Loading,
    /// Driving with goods on board.
    InTransit,
    /// Where goods are unloaded.
    Unloading,
    /// Driving to some other stop, with nothing on board.
    EnRoute,
    /// At some other stop, or done at one and not yet gone to the next.
    AtStop,
    /// All stops are done: driving back.
    Returning,
    /// Back in the yard.
    Returned,
    /// It never took place.
    Cancelled,
}

/// Why a journey stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Pause {
    /// The crew has a break.
    Break,
    /// The crew stays overnight.
    Overnight,
}

/// A pause that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Paused {
    /// Why.
    pub pause: Pause,
    /// Since when.
    pub since: Timestamp,
}

/// A stop as it was planned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct PlannedStop {
    /// Its id.
    pub stop: Id<Stop>,
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

/// A stop of a journey.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Stop {
    /// As it was planned.
    #[serde(flatten)]
    pub plan: PlannedStop,
    /// How far it is.
    pub state: StopState,
    /// When the truck left for it.
    pub en_route_at: Option<Timestamp>,
    /// When the truck came there.
    pub arrived_at: Option<Timestamp>,
    /// When work there began.
    pub work_started_at: Option<Timestamp>,
    /// When it was done or skipped.
    pub ended_at: Option<Timestamp>,
}

/// How far a journey is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Course {
    /// Where it is in its life.
    pub life: Life,
    /// Its stops, in the order in which they are driven to.
    pub stops: Vec<Stop>,
    /// The pause that has not ended.
    pub paused: Option<Paused>,
    /// When it first left the yard.
    pub departed_at: Option<Timestamp>,
    /// When it came back, or was cancelled.
    pub ended_at: Option<Timestamp>,
}

impl Stop {
    fn ahead(plan: PlannedStop) -> Self {
        Self {
            plan,
            state: StopState::Ahead,
            en_route_at: None,
            arrived_at: None,
            work_started_at: None,
            ended_at: None,
        }
    }
}

impl StopState {
    /// Whether the truck has nothing more to do there.
    pub fn is_over(self) -> bool {
        self >= Self::Done
    }
}

impl Life {
    /// Whether the journey has ended, one way or the other.
    pub fn is_over(self) -> bool {
        self >= Self::Returned
    }
}

impl Stage {
    /// Whether the truck should be driving.
    pub fn is_driving(self) -> bool {
        matches!(self, Self::EnRouteToLoad | Self::InTransit | Self::EnRoute | Self::Returning)
    }
}

impl Course {
    /// Takes an event into account. False for one that does not move a journey, and changes nothing.
    pub fn follow(&mut self, event: &Event) -> bool {
        match event {
            Event::Planned { stops, .. } => self.plan(stops),
            Event::StopAdded { stop, before } => self.add(stop, *before),
            Event::StopsReordered { stops } => self.reorder(stops),
            Event::StopSkipped { stop, occurred_at, .. } => self.end(*stop, StopState::Skipped, *occurred_at),
            Event::Dispatched { .. } => self.life = Life::Dispatched,
            Event::Acknowledged { .. } => self.life = Life::Acknowledged,
            Event::Departed { to, occurred_at, .. } => self.depart(*to, *occurred_at),
            Event::Arrived { stop, occurred_at, .. } => self.arrive(*stop, *occurred_at),
            Event::WorkStarted { stop, occurred_at } => self.start_work(*stop, *occurred_at),
            Event::WorkFinished { stop, occurred_at } => self.end(*stop, StopState::Done, *occurred_at),
            Event::Returned { occurred_at } => self.over(Life::Returned, *occurred_at),
            Event::Cancelled { occurred_at, .. } => self.over(Life::Cancelled, *occurred_at),
            Event::BreakStarted { occurred_at } => self.pause(Pause::Break, *occurred_at),
            Event::OvernightStarted { occurred_at } => self.pause(Pause::Overnight, *occurred_at),
            Event::BreakEnded { .. } | Event::OvernightEnded { .. } => self.paused = None,
            Event::CrewAssigned { .. }
            | Event::CrewReleased { .. }
            | Event::Delayed { .. }
            | Event::IssueRaised { .. }
            | Event::IssueResolved { .. }
            | Event::StatusReported { .. }
            | Event::GpsRecorded { .. }
            | Event::Tagged { .. }
            | Event::Untagged { .. }
            | Event::TruckReassigned { .. } => return false,
        }
        true
    }

    /// Whether an event can change a course at all.
    pub fn follows(event: &Event) -> bool {
        Self::default().follow(event)
    }

    /// The stop with this id.
    pub fn stop(&self, stop: Id<Stop>) -> Option<&Stop> {
        self.stops.iter().find(|known| known.plan.stop == stop)
    }

    /// The stop that the truck is on its way to or at.
    pub fn current(&self) -> Option<&Stop> {
        let current = |stop: &&Stop| stop.state != StopState::Ahead && !stop.state.is_over();
        self.stops.iter().find(current)
    }

    /// The next stop to drive to.
    pub fn next(&self) -> Option<&Stop> {
        self.stops.iter().find(|stop| stop.state == StopState::Ahead)
    }

    /// The stop where goods came, or are coming, on board.
    pub fn loaded_at(&self) -> Option<&Stop> {
        self.stops
            .iter()
            .find(|stop| matches!(stop.plan.kind, StopKind::Load | StopKind::Storage) && stop.work_started_at.is_some())
    }

    /// What the board says of it.
    pub fn stage(&self) -> Stage {
        match self.life {
            Life::Unplanned | Life::Planned => Stage::Planned,
            Life::Dispatched => Stage::Dispatched,
            Life::Acknowledged => Stage::Acknowledged,
            Life::Returned => Stage::Returned,
            Life::Cancelled => Stage::Cancelled,
            Life::Departed => match (self.current(), self.next()) {
                (Some(stop), _) if stop.state == StopState::EnRoute => self.driving_to(stop.plan.kind),
                (Some(stop), _) => Self::at(stop.plan.kind),
                (None, Some(_)) => Stage::AtStop,
                (None, None) => Stage::Returning,
            },
        }
    }

    /// Whether the truck should be moving now, so that silence is a sign of trouble.
    pub fn is_moving(&self) -> bool {
        self.paused.is_none() && self.stage().is_driving()
    }

    fn driving_to(&self, kind: StopKind) -> Stage {
        match kind {
            StopKind::Load => Stage::EnRouteToLoad,
            StopKind::Unload => Stage::InTransit,
            StopKind::Storage | StopKind::Yard | StopKind::Other if self.loaded_at().is_some() => Stage::InTransit,
            StopKind::Storage | StopKind::Yard | StopKind::Other => Stage::EnRoute,
        }
    }

    fn at(kind: StopKind) -> Stage {
        match kind {
            StopKind::Load => Stage::Loading,
            StopKind::Unload => Stage::Unloading,
            StopKind::Storage | StopKind::Yard | StopKind::Other => Stage::AtStop,
        }
    }

    fn plan(&mut self, stops: &[PlannedStop]) {
        self.life = Life::Planned;
        self.stops = stops.iter().cloned().map(Stop::ahead).collect();
    }

    fn add(&mut self, stop: &PlannedStop, before: Option<Id<Stop>>) {
        let place = self.stops.iter().position(|known| Some(known.plan.stop) == before);
        self.stops.insert(place.unwrap_or(self.stops.len()), Stop::ahead(stop.clone()));
    }

    /// Puts the stops ahead into this order, behind all others.
    fn reorder(&mut self, order: &[Id<Stop>]) {
        let place = |stop: &Stop| match stop.state {
            StopState::Ahead => order.iter().position(|id| *id == stop.plan.stop).map_or(usize::MAX, |place| place + 1),
            _ => 0,
        };
        self.stops.sort_by_key(place);
    }

    fn depart(&mut self, to: Id<Stop>, at: Timestamp) {
        self.life = Life::Departed;
        self.departed_at.get_or_insert(at);
        self.change(to, |stop| (stop.state, stop.en_route_at) = (StopState::EnRoute, Some(at)));
    }

    fn arrive(&mut self, stop: Id<Stop>, at: Timestamp) {
        self.change(stop, |stop| (stop.state, stop.arrived_at) = (StopState::Arrived, Some(at)));
    }

    fn start_work(&mut self, stop: Id<Stop>, at: Timestamp) {
        self.change(stop, |stop| (stop.state, stop.work_started_at) = (StopState::Working, Some(at)));
    }

    fn end(&mut self, stop: Id<Stop>, state: StopState, at: Timestamp) {
        self.change(stop, |stop| (stop.state, stop.ended_at) = (state, Some(at)));
    }

    fn pause(&mut self, pause: Pause, since: Timestamp) {
        self.paused = Some(Paused { pause, since });
    }

    fn over(&mut self, life: Life, at: Timestamp) {
        (self.life, self.paused, self.ended_at) = (life, None, Some(at));
    }

    fn change(&mut self, stop: Id<Stop>, change: impl FnOnce(&mut Stop)) {
        if let Some(stop) = self.stops.iter_mut().find(|known| known.plan.stop == stop) {
            change(stop);
        }
    }
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unplanned => "not planned",
            Self::Planned => "planned",
            Self::Dispatched => "dispatched",
            Self::Acknowledged => "acknowledged",
            Self::Departed => "departed",
            Self::Returned => "returned",
            Self::Cancelled => "cancelled",
        })
    }
}
impl fmt::Display for StopState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ahead => "ahead",
            Self::EnRoute => "en route",
            Self::Arrived => "arrived",
            Self::Working => "being worked at",
            Self::Done => "done",
            Self::Skipped => "skipped",
        })
    }
}
impl fmt::Display for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Break => "on a break",
            Self::Overnight => "staying overnight",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::*;
    use super::*;

    fn course(events: impl IntoIterator<Item = Event>) -> Course {
        let mut course = Course::default();
        events.into_iter().for_each(|event| _ = course.follow(&event));
        course
    }

    #[test]
    fn the_boards_stage_follows_from_life_and_stops() {
        let arrived = |stop| worked_at(stop).into_iter().take(1);
        let stages = [
            (course([planned()]), Stage::Planned, false),
            (course(dispatched()), Stage::Dispatched, false),
            (course(acknowledged()), Stage::Acknowledged, false),
            (course(departed()), Stage::EnRouteToLoad, true),
            (course(departed().chain(arrived(LOAD))), Stage::Loading, false),
            (course(loaded()), Stage::AtStop, false),
            (course(loaded().chain([left_for(UNLOAD)])), Stage::InTransit, true),
            (course(loaded().chain([left_for(UNLOAD)]).chain(arrived(UNLOAD))), Stage::Unloading, false),
            (course(unloaded()), Stage::Returning, true),
            (course(returned()), Stage::Returned, false),
        ];
        for (course, stage, moving) in stages {
            assert_eq!((course.stage(), course.is_moving()), (stage, moving));
        }
    }

    #[test]
    fn a_way_to_the_yard_is_in_transit_only_with_goods_on_board() {
        let added = |before| Event::StopAdded { stop: planned_stop(YARD, StopKind::Yard), before };
        let empty = acknowledged().chain([added(Some(LOAD)), left_for(YARD)]);
        assert_eq!(course(empty).stage(), Stage::EnRoute);
        let full = loaded().chain([added(Some(UNLOAD)), left_for(YARD)]);
        assert_eq!(course(full).stage(), Stage::InTransit);
    }

    #[test]
    fn a_crew_that_rests_is_not_moving() {
        let resting = course(departed().chain([Event::BreakStarted { occurred_at: NOON }]));
        assert_eq!((resting.stage(), resting.is_moving()), (Stage::EnRouteToLoad, false));
        let ended = course(
            departed().chain([Event::BreakStarted { occurred_at: NOON }, Event::BreakEnded { occurred_at: NOON }]),
        );
        assert!(ended.is_moving());
    }

    #[test]
    fn a_stop_remembers_when_it_was_reached_worked_at_and_done() {
        let course = course(loaded());
        let stop = course.stop(LOAD).expect("it is planned");
        assert_eq!([stop.en_route_at, stop.arrived_at, stop.work_started_at, stop.ended_at], [Some(NOON); 4]);
        assert_eq!(course.next().map(|stop| stop.plan.stop), Some(UNLOAD));
        assert_eq!(course.departed_at, Some(NOON));
    }
}
