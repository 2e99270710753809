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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        command_control::truck_journey::{AssignedCrew, samples::*},
        kernel::{Message, Story, fold},
    };

    const JOURNEY: Id<TruckJourney> = Id::number(70);

    fn tag() -> Command {
        Command::Tag { tag: TAG.into() }
    }
    fn untag() -> Command {
        Command::Untag { tag: TAG.into() }
    }
    fn tagged() -> Event {
        Event::Tagged { tag: TAG.into() }
    }
    fn assigned(member: AssignedCrew) -> Event {
        Event::CrewAssigned { members: vec![member] }
    }
    fn released() -> Event {
        Event::CrewReleased { member: BOB }
    }
    fn rule() -> Actor {
        Actor::Trigger { trigger: Understaffed::NAME.into() }
    }
    fn told(events: impl IntoIterator<Item = Event>) -> Story {
        events.into_iter().fold(Story::default(), |story, event| story.tell(JOURNEY, event))
    }

    /// The journey was asked exactly this, and folding entry by entry gives the same documents as at once.
    #[track_caller]
    fn asks(story: &Story, expected: impl IntoIterator<Item = Command>) {
        let found: Vec<Message> = story.commands::<Understaffed>().into_iter().map(|(_, _, command)| command).collect();
        assert_eq!(found, expected.into_iter().map(|command| Message::split(&command)).collect::<Vec<_>>());
        let kind = fold::<Understaffed>();
        assert_eq!(story.by_entry(kind), story.at_once(kind));
    }

    #[test]
    fn fewer_crew_than_recommended_is_tagged_and_enough_again_untagged() {
        asks(&told([planned()]), []);
        asks(&told([planned(), crewed()]), []);
        asks(&told([planned(), assigned(driver())]), [tag()]);
        asks(&told([planned(), assigned(driver()), assigned(mover())]), [tag(), untag()]);
        asks(&told([planned(), crewed(), released()]), [tag()]);
    }

    #[test]
    fn it_is_asked_once_as_long_as_nothing_changes() {
        let again = [planned(), crewed(), released(), tagged(), Event::CrewReleased { member: ANN }];
        asks(&told(again), [tag()]);
    }

    #[test]
    fn a_tag_of_its_own_that_comes_late_is_taken_off() {
        let story = told([planned(), assigned(driver()), assigned(mover())]).by(rule()).tell(JOURNEY, tagged());
        asks(&story, [tag(), untag(), untag()]);
    }

    #[test]
    fn what_a_person_tags_stands_until_the_crew_changes() {
        asks(&told([planned(), crewed(), tagged()]), []);
        asks(&told([planned(), crewed(), tagged(), released()]), []);
        asks(&told([planned(), crewed(), tagged(), released(), assigned(mover())]), [untag()]);
    }

    #[test]
    fn a_journey_that_is_over_is_left_alone() {
        let cancelled = Event::Cancelled { reason: "Called off".into(), occurred_at: NOON };
        asks(&told([planned(), crewed(), cancelled, released()]), []);
        asks(&told(returned().chain([released()])), []);
    }

    #[test]
    fn tags_are_right_for_old_records_too() {
        let story =
            Story::default().by(Actor::tool("import")).tell(JOURNEY, planned()).tell(JOURNEY, assigned(driver()));
        asks(&story, [tag()]);
    }
}
