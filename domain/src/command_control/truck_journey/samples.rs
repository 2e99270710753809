//! A journey in its stages, for the tests of its rules: from the yard to one load and one unload.

use super::{AssignedCrew, Event, NewStop, PlannedStop, Stop, StopKind};
use crate::{
    calendar_capacity::Truck,
    command_control::places::{Fixes, FixesPart, Mark, Position},
    crew_customer::CrewMember,
    kernel::{Address, Id, LocationId, Minutes, Nothing, Personal, Timestamp, Window, given},
};

pub const NOON: Timestamp = Timestamp::from_seconds(1_782_907_200);
pub const TRUCK: Id<Truck> = Id::number(20);
pub const OTHER_TRUCK: Id<Truck> = Id::number(21);
pub const ANN: Id<CrewMember> = Id::number(31);
pub const BOB: Id<CrewMember> = Id::number(32);
pub const LOAD: Id<Stop> = Id::number(41);
pub const UNLOAD: Id<Stop> = Id::number(42);
pub const YARD: Id<Stop> = Id::number(43);
pub const NORTH: LocationId = LocationId::number(5);

pub fn window() -> Window {
    Window { start: NOON.plus(Minutes(60)), end: NOON.plus(Minutes(540)) }
}

pub fn new_stop(stop: Id<Stop>, kind: StopKind) -> NewStop {
    let address = Personal::<Address>::sample(given::context().stream_id, "c3RyZWV0", Nothing);
    let job = Some(Id::number(50));
    NewStop { stop: Some(stop), kind, job, address: Some(address), position: None, window: Some(window()) }
}

pub fn planned_stop(stop: Id<Stop>, kind: StopKind) -> PlannedStop {
    new_stop(stop, kind).named(&given::context(), 0)
}

pub fn planned() -> Event {
    Event::Planned {
        truck: TRUCK,
        location: NORTH,
        window: window(),
        stops: vec![planned_stop(LOAD, StopKind::Load), planned_stop(UNLOAD, StopKind::Unload)],
        recommended_crew: 2,
        estimated_minutes: Some(Minutes(420)),
    }
}

pub fn driver() -> AssignedCrew {
    AssignedCrew { member: ANN, driver: true }
}
pub fn mover() -> AssignedCrew {
    AssignedCrew { member: BOB, driver: false }
}

pub fn crewed() -> Event {
    Event::CrewAssigned { members: vec![driver(), mover()] }
}

/// Planned, crewed and dispatched.
pub fn dispatched() -> impl Iterator<Item = Event> {
    [planned(), crewed(), Event::Dispatched { occurred_at: NOON }].into_iter()
}

/// Ready to leave.
pub fn acknowledged() -> impl Iterator<Item = Event> {
    dispatched().chain([Event::Acknowledged { occurred_at: NOON }])
}

/// The truck left for a stop.
pub fn left_for(to: Id<Stop>) -> Event {
    Event::Departed { to, position: None, fix_at: None, expected_at: None, occurred_at: NOON }
}

/// On the way to where it loads.
pub fn departed() -> impl Iterator<Item = Event> {
    acknowledged().chain([left_for(LOAD)])
}

/// There, and at work.
pub fn worked_at(stop: Id<Stop>) -> [Event; 3] {
    [
        Event::Arrived { stop, position: None, occurred_at: NOON },
        Event::WorkStarted { stop, occurred_at: NOON },
        Event::WorkFinished { stop, occurred_at: NOON },
    ]
}

/// Loaded, and not yet gone on.
pub fn loaded() -> impl Iterator<Item = Event> {
    departed().chain(worked_at(LOAD))
}

/// All stops are done.
pub fn unloaded() -> impl Iterator<Item = Event> {
    loaded().chain([left_for(UNLOAD)]).chain(worked_at(UNLOAD))
}

/// Back in the yard.
pub fn returned() -> impl Iterator<Item = Event> {
    unloaded().chain([Event::Returned { occurred_at: NOON }])
}

pub fn position(tag: &str) -> Personal<Position> {
    Personal::sample(given::context().stream_id, tag, Nothing)
}

/// A chunk with a mark at each of these times.
pub fn fixes(times: &[Timestamp]) -> Personal<Fixes> {
    let marks: Vec<Mark> = times.iter().map(|at| Mark { at: *at, position: position(&at.to_string()) }).collect();
    let part = FixesPart {
        count: u32::try_from(times.len()).expect("few"),
        first_at: times.iter().copied().min().unwrap_or_default(),
        last_at: times.iter().copied().max().unwrap_or_default(),
        marks,
    };
    Personal::sample(given::context().stream_id, "Zml4ZXM", part)
}

/// The chunk came in.
pub fn recorded(chunk: u32, times: &[Timestamp]) -> Event {
    let fixes = fixes(times);
    let part = fixes.part().expect("fixes have a part").clone();
    Event::GpsRecorded {
        device: Id::number(60),
        chunk,
        count: part.count,
        first_at: part.first_at,
        last_at: part.last_at,
        fixes,
    }
}
