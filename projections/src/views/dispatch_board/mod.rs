//! The dispatch board: a card for every live journey. A journey that has returned or was cancelled leaves it.

mod present;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use cnc_domain::{
    calendar_capacity::{Truck, truck},
    command_control::{
        Alert, TruckJourney,
        alert::{self, AlertKind, AlertState},
        places::{Mark, Position},
        truck_journey::{AssignedCrew, Course, Event, Issue, LiveStatusUpdate, Stage},
    },
    crew_customer::{CrewMember, crew_member},
    kernel::{
        Docs, Document, Fold, Folded, Id, LocationId, Minutes, Name, On, Personal, Shelf, Stop, Timestamp, Window, fold,
    },
    ledger::Entry,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::View;

/// The view.
pub const VIEW: View = View {
    kind: fold::<DispatchBoard>(),
    about: "A card for every live journey: stage, crew, times against the plan, last position, tags, alerts.",
    present: Some(present::present),
    describe: present::describe,
};

/// Keeps the cards, and what they show of others.
#[derive(Default)]
pub struct DispatchBoard {
    cards: Docs<Card>,
    names: Docs<BoardName>,
    trucks: Docs<BoardTruck>,
    alerts: Docs<BoardAlert>,
}

/// A live journey as the board shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Card {
    /// The branch that it belongs to.
    location: LocationId,
    /// What it is doing.
    stage: Stage,
    /// Since when.
    stage_since: Timestamp,
    /// The truck that drives it.
    truck: TruckOnBoard,
    /// When truck and crew are needed, yard to yard.
    window: Window,
    /// Its stops and how far it is.
    course: Course,
    /// Who rides along.
    crew: Vec<CrewOnBoard>,
    /// How many people it should have.
    recommended_crew: u32,
    /// How long it should take, yard to yard.
    estimated_minutes: Option<Minutes>,
    /// When the crew expects to be at the stop that it drives to.
    expected_at: Option<Timestamp>,
    /// How much later than promised it will be, all delays together.
    delayed_minutes: Minutes,
    /// What is wrong with it and not yet settled.
    issues: BTreeMap<Id<Issue>, Issue>,
    /// What the crew last said.
    status: Option<LiveStatusUpdate>,
    /// Where the truck last was, as far as known.
    last_position: Option<Mark>,
    /// The time of its newest fix.
    last_fix_at: Option<Timestamp>,
    /// What it is tagged with.
    tags: BTreeSet<String>,
    /// What calls for attention, by alert.
    alerts: BTreeMap<Id<Alert>, AlertOnBoard>,
}

/// A truck on a card.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
struct TruckOnBoard {
    /// Which.
    id: Id<Truck>,
    /// Its licence plate.
    plate: Option<String>,
}

/// One of the crew on a card.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
struct CrewOnBoard {
    /// Who.
    member: Id<CrewMember>,
    /// Their name.
    name: Option<Personal<Name>>,
    /// Whether they drive.
    driver: bool,
}

/// An open alert on a card.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
struct AlertOnBoard {
    /// What it warns of.
    kind: AlertKind,
    /// Whether somebody sees to it.
    state: AlertState,
    /// When harm is done unless somebody acts.
    due: Timestamp,
    /// Until when it is put off.
    snoozed_until: Option<Timestamp>,
}

/// A crew member's name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct BoardName {
    /// The name.
    name: Personal<Name>,
}

/// A truck's plate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct BoardTruck {
    /// The plate.
    plate: String,
}

/// Which journey an open alert is about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct BoardAlert {
    /// The journey.
    journey: Id<TruckJourney>,
}

impl Document for Card {
    const NAME: &'static str = "dispatch_board";
    const FILTERS: &'static [&'static str] = &["stage", "location", "tags", "truck.id"];
    const SORTS: &'static [&'static str] = &["window.start", "stage_since"];

    fn location(&self) -> Option<LocationId> {
        Some(self.location)
    }
}
impl Document for BoardName {
    const NAME: &'static str = "board_name";
}
impl Document for BoardTruck {
    const NAME: &'static str = "board_truck";
}
impl Document for BoardAlert {
    const NAME: &'static str = "board_alert";
}

impl Fold for DispatchBoard {
    const NAME: &'static str = "dispatch_board";
    type Reads = (TruckJourney, CrewMember, Truck, Alert);

    fn shelves(&mut self) -> Vec<&mut dyn Shelf> {
        vec![&mut self.cards, &mut self.names, &mut self.trucks, &mut self.alerts]
    }
}

impl On<TruckJourney> for DispatchBoard {
    fn on(&mut self, journey: Id<TruckJourney>, event: &Event, entry: &Entry) -> Folded {
        match event {
            Event::Planned { .. } => self.planned(journey, event, entry),
            Event::Returned { .. } | Event::Cancelled { .. } => self.cards.remove(journey),
            Event::CrewAssigned { members } => self.crew_assigned(journey, members),
            Event::TruckReassigned { to, .. } => {
                let truck = self.truck(*to)?;
                self.cards.edit(journey, |card| card.truck = truck)
            }
            _ => self.cards.edit(journey, |card| card.take(event, entry)),
        }
    }
}

impl On<CrewMember> for DispatchBoard {
    fn on(&mut self, member: Id<CrewMember>, event: &crew_member::Event, _: &Entry) -> Folded {
        match event {
            crew_member::Event::Hired(hire) => self.names.put(member, BoardName { name: hire.name.clone() }),
            _ => Ok(()),
        }
    }
}

impl On<Truck> for DispatchBoard {
    fn on(&mut self, truck: Id<Truck>, event: &truck::Event, _: &Entry) -> Folded {
        match event {
            truck::Event::Commissioned(truck::Particulars { plate, .. }) => {
                self.trucks.put(truck, BoardTruck { plate: plate.clone() })
            }
            _ => Ok(()),
        }
    }
}

impl On<Alert> for DispatchBoard {
    fn on(&mut self, alert: Id<Alert>, event: &alert::Event, _: &Entry) -> Folded {
        if let alert::Event::Raised { about, kind, due, .. } = event {
            if about.stream != "truck_journey" {
                return Ok(());
            }
            let journey = Id::new(about.id);
            let shown = AlertOnBoard { kind: *kind, state: AlertState::Raised, due: *due, snoozed_until: None };
            self.alerts.put(alert, BoardAlert { journey })?;
            return self.cards.edit(journey, |card| card.alerts.insert(alert, shown));
        }
        let Some(BoardAlert { journey }) = self.alerts.get(alert)?.cloned() else { return Ok(()) };
        let state = match event {
            alert::Event::Resolved { .. } => {
                self.alerts.remove(alert)?;
                return self.cards.edit(journey, |card| card.alerts.remove(&alert));
            }
            alert::Event::Snoozed { until } => (AlertState::Snoozed, Some(*until)),
            alert::Event::Acknowledged | alert::Event::Raised { .. } => (AlertState::Acknowledged, None),
        };
        self.cards.edit(journey, |card| {
            if let Some(shown) = card.alerts.get_mut(&alert) {
                (shown.state, shown.snoozed_until) = state;
            }
        })
    }
}

impl DispatchBoard {
    fn planned(&mut self, journey: Id<TruckJourney>, event: &Event, entry: &Entry) -> Folded {
        let Event::Planned { truck, location, window, recommended_crew, estimated_minutes, .. } = event else {
            return Ok(());
        };
        let mut course = Course::default();
        course.follow(event);
        let card = Card {
            location: *location,
            stage: course.stage(),
            stage_since: entry.at,
            truck: self.truck(*truck)?,
            window: *window,
            course,
            crew: Vec::new(),
            recommended_crew: *recommended_crew,
            estimated_minutes: *estimated_minutes,
            expected_at: None,
            delayed_minutes: Minutes(0),
            issues: BTreeMap::new(),
            status: None,
            last_position: None,
            last_fix_at: None,
            tags: BTreeSet::new(),
            alerts: BTreeMap::new(),
        };
        self.cards.put(journey, card)
    }

    fn crew_assigned(&mut self, journey: Id<TruckJourney>, members: &[AssignedCrew]) -> Folded {
        // All are asked for before the fold stops, so that one load brings them all.
        let names: Vec<_> =
            members.iter().map(|assigned| self.names.get(assigned.member).map(Option::<&BoardName>::cloned)).collect();
        self.cards.edit(journey, |_| ())?;
        let names: Vec<_> = names.into_iter().collect::<Result<_, Stop>>()?;
        self.cards.edit(journey, |card| {
            for (assigned, name) in members.iter().zip(names) {
                let shown =
                    CrewOnBoard { member: assigned.member, name: name.map(|name| name.name), driver: assigned.driver };
                card.crew.retain(|known| known.member != assigned.member);
                card.crew.push(shown);
            }
        })
    }

    fn truck(&mut self, id: Id<Truck>) -> Result<TruckOnBoard, Stop> {
        let plate = self.trucks.get(id)?.map(|truck| truck.plate.clone());
        Ok(TruckOnBoard { id, plate })
    }
}

impl Card {
    /// Takes an event that concerns this card alone.
    fn take(&mut self, event: &Event, entry: &Entry) {
        let at = event.occurred_at().unwrap_or(entry.at);
        self.follow(event, at);
        match event {
            Event::CrewReleased { member } => self.crew.retain(|known| known.member != *member),
            Event::Departed { position, expected_at, .. } => {
                self.expected_at = *expected_at;
                self.seen_at(position.as_ref(), at);
            }
            Event::Arrived { position, .. } => {
                self.expected_at = None;
                self.seen_at(position.as_ref(), at);
            }
            Event::Delayed { minutes, .. } => {
                self.delayed_minutes = Minutes(self.delayed_minutes.0.saturating_add(minutes.0));
            }
            Event::IssueRaised { issue, kind, note, occurred_at } => {
                self.issues.insert(*issue, Issue { kind: *kind, note: note.clone(), occurred_at: *occurred_at });
            }
            Event::IssueResolved { issue, .. } => drop(self.issues.remove(issue)),
            Event::StatusReported { status, note, position, occurred_at } => {
                let (note, position) = (note.clone(), position.clone());
                self.seen_at(position.as_ref(), at);
                self.status = Some(LiveStatusUpdate { status: *status, note, position, occurred_at: *occurred_at });
            }
            Event::GpsRecorded { last_at, fixes, .. } => {
                self.last_fix_at = self.last_fix_at.max(Some(*last_at));
                if let Some(mark) = fixes.part().and_then(|part| part.marks.last()) {
                    self.seen_at(Some(&mark.position), mark.at);
                }
            }
            Event::Tagged { tag } => drop(self.tags.insert(tag.clone())),
            Event::Untagged { tag } => drop(self.tags.remove(tag)),
            _ => {}
        }
    }

    fn follow(&mut self, event: &Event, at: Timestamp) {
        self.course.follow(event);
        let stage = self.course.stage();
        if stage != self.stage {
            (self.stage, self.stage_since) = (stage, at);
        }
    }

    /// Chunks come late: a position counts where it is newer.
    fn seen_at(&mut self, position: Option<&Personal<Position>>, at: Timestamp) {
        let newer = self.last_position.as_ref().is_none_or(|last| last.at <= at);
        if let Some(position) = position.filter(|_| newer) {
            self.last_position = Some(Mark { at, position: position.clone() });
        }
    }
}
