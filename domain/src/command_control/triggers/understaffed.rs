//! Fewer crew than recommended, after any change of a journey's crew: the journey is tagged `understaffed`. Enough
//! again: the tag is taken off.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    command_control::{
        TruckJourney,
        truck_journey::{Command, Event},
    },
    crew_customer::CrewMember,
    kernel::{Actor, Docs, Document, Fold, Folded, Id, On, Outbox, Shelf},
    ledger::Entry,
};

/// The tag of a journey with fewer crew than recommended.
pub const TAG: &str = "understaffed";

/// Tags journeys that have fewer crew than recommended.
#[derive(Default)]
pub struct Understaffed {
    staffings: Docs<Staffing>,
    outbox: Outbox,
}

/// How a live journey is staffed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Staffing {
    /// How many people it should have.
    recommended: u32,
    /// Who is assigned.
    crew: BTreeSet<Id<CrewMember>>,
    /// Whether it is tagged, or will be by what this rule asked for last.
    tagged: bool,
}

impl Document for Staffing {
    const NAME: &'static str = "journey_staffing";
}

impl Fold for Understaffed {
    const NAME: &'static str = "understaffed";
    type Reads = (TruckJourney,);

    fn shelves(&mut self) -> Vec<&mut dyn Shelf> {
        vec![&mut self.staffings]
    }

    fn outbox(&mut self) -> Option<&mut Outbox> {
        Some(&mut self.outbox)
    }
}

impl On<TruckJourney> for Understaffed {
    fn on(&mut self, journey: Id<TruckJourney>, event: &Event, entry: &Entry) -> Folded {
        match event {
            Event::Planned { recommended_crew, .. } => {
                self.staffings.put(journey, Staffing { recommended: *recommended_crew, ..Staffing::default() })
            }
            Event::CrewAssigned { members } => self.change(journey, entry, |staffing| {
                staffing.crew.extend(members.iter().map(|assigned| assigned.member));
            }),
            Event::CrewReleased { member } => self.change(journey, entry, |staffing| {
                staffing.crew.remove(member);
            }),
            Event::Tagged { tag } if tag == TAG => self.is_tagged(journey, entry, true),
            Event::Untagged { tag } if tag == TAG => self.is_tagged(journey, entry, false),
            Event::Returned { .. } | Event::Cancelled { .. } => self.staffings.remove(journey),
            _ => Ok(()),
        }
    }
}

impl Understaffed {
    /// After a change of the crew, sees to it that the tag is right.
    fn change(&mut self, journey: Id<TruckJourney>, entry: &Entry, change: impl FnOnce(&mut Staffing)) -> Folded {
        let outbox = &mut self.outbox;
        self.staffings.edit(journey, |staffing| {
            change(staffing);
            staffing.settle(journey, entry, outbox);
        })
    }

    /// The tag is on or off. Where this rule's own command came late, after the crew had changed back, it is righted;
    /// what a person tags or untags is left until the crew changes.
    fn is_tagged(&mut self, journey: Id<TruckJourney>, entry: &Entry, tagged: bool) -> Folded {
        let outbox = &mut self.outbox;
        self.staffings.edit(journey, |staffing| {
            staffing.tagged = tagged;
            if matches!(entry.actor, Actor::Trigger { .. }) {
                staffing.settle(journey, entry, outbox);
            }
        })
    }
}

impl Staffing {
    fn settle(&mut self, journey: Id<TruckJourney>, entry: &Entry, outbox: &mut Outbox) {
        let short = self.crew.len() < self.recommended as usize;
        if short == self.tagged {
            return;
        }
        self.tagged = short;
        let tag = TAG.to_owned();
        outbox.send(entry, journey, if short { Command::Tag { tag } } else { Command::Untag { tag } });
    }
}
