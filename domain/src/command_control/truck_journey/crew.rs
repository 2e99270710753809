//! Who rides along, and in which truck. Whether they are free is theirs to say: each is asked in the same decision.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Event, Outcome, Refusal, TruckJourney};
use crate::{
    calendar_capacity::{Truck, truck},
    crew_customer::{CrewMember, crew_member},
    kernel::{Also, Context, Decision, Id},
};

/// How many people a journey may have.
pub const CREW_MAX: usize = 20;

/// One of a journey's crew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct AssignedCrew {
    /// Who.
    pub member: Id<CrewMember>,
    /// Whether they drive, for which they need a valid licence.
    #[serde(default)]
    pub driver: bool,
}

impl TruckJourney {
    pub(super) fn assign_crew(&self, members: Vec<AssignedCrew>, context: &Context) -> Outcome {
        self.live()?;
        if members.is_empty() {
            return Err(Refusal::NobodyNamed);
        }
        for (nth, AssignedCrew { member, .. }) in members.iter().enumerate() {
            if members[..nth].iter().any(|other| other.member == *member) {
                return Err(Refusal::NamedTwice { member: *member });
            }
        }
        let news: Vec<AssignedCrew> = members.into_iter().filter(|member| !self.crew.contains(member)).collect();
        if news.is_empty() {
            return Ok(Decision::nothing());
        }
        let added = news.iter().filter(|new| !self.crew.iter().any(|known| known.member == new.member)).count();
        if self.crew.len() + added > CREW_MAX {
            return Err(Refusal::TooManyCrew { limit: CREW_MAX });
        }
        let reserve: Vec<Also> = news.iter().map(|member| self.reserve_member(*member, context)).collect();
        Ok(Decision::from(Event::CrewAssigned { members: news }).also(reserve))
    }

    pub(super) fn release_crew(&self, member: Id<CrewMember>, context: &Context) -> Outcome {
        self.live()?;
        if !self.crew.iter().any(|assigned| assigned.member == member) {
            return Err(Refusal::NotAssigned { member });
        }
        Ok(Decision::from(Event::CrewReleased { member }).also([release_member(member, context)]))
    }

    pub(super) fn reassign_truck(&self, to: Id<Truck>, context: &Context) -> Outcome {
        self.live()?;
        match self.truck {
            Some(from) if from != to => Ok(Decision::from(Event::TruckReassigned { from, to })
                .also([release_truck(from, context), reserve_truck(to, self.window, context)])),
            _ => Ok(Decision::nothing()),
        }
    }

    /// Lets go of the truck and everyone in it.
    pub(super) fn release_all(&self, context: &Context) -> Vec<Also> {
        let truck = self.truck.map(|truck| release_truck(truck, context));
        truck.into_iter().chain(self.crew.iter().map(|assigned| release_member(assigned.member, context))).collect()
    }

    pub(super) fn crew_assigned(&mut self, members: Vec<AssignedCrew>) {
        self.crew.retain(|known| !members.iter().any(|new| new.member == known.member));
        self.crew.extend(members);
    }

    fn reserve_member(&self, AssignedCrew { member, driver }: AssignedCrew, context: &Context) -> Also {
        let command = crew_member::Command::Reserve { journey: context.me(), window: self.window, driving: driver };
        Also::to(member, command)
    }
}

/// Reserves a truck for this journey.
pub(super) fn reserve_truck(truck: Id<Truck>, window: crate::kernel::Window, context: &Context) -> Also {
    Also::to(truck, truck::Command::Reserve { journey: context.me(), window })
}

fn release_truck(truck: Id<Truck>, context: &Context) -> Also {
    Also::to(truck, truck::Command::Release { journey: context.me() })
}

fn release_member(member: Id<CrewMember>, context: &Context) -> Also {
    Also::to(member, crew_member::Command::Release { journey: context.me() })
}

#[cfg(test)]
mod tests {
    use super::super::{Command, Life, samples::*};
    use super::*;
    use crate::kernel::{Given, given};

    fn journey() -> Id<TruckJourney> {
        given::context().me()
    }
    fn reserve(AssignedCrew { member, driver }: AssignedCrew) -> Also {
        let command = crew_member::Command::Reserve { journey: journey(), window: window(), driving: driver };
        Also::to(member, command)
    }
    fn release(member: Id<CrewMember>) -> Also {
        Also::to(member, crew_member::Command::Release { journey: journey() })
    }
    fn assign(members: impl IntoIterator<Item = AssignedCrew>) -> Command {
        Command::AssignCrew { members: members.into_iter().collect() }
    }

    #[test]
    fn each_member_is_asked_to_be_reserved_for_the_window() {
        TruckJourney::given([planned()])
            .when(assign([driver(), mover()]))
            .then([crewed()])
            .also([reserve(driver()), reserve(mover())]);
    }

    #[test]
    fn who_is_assigned_already_is_not_asked_again() {
        TruckJourney::given([planned(), crewed()]).when(assign([driver(), mover()])).then_nothing().also([]);
        TruckJourney::given([planned(), Event::CrewAssigned { members: vec![driver()] }])
            .when(assign([driver(), mover()]))
            .then([Event::CrewAssigned { members: vec![mover()] }])
            .also([reserve(mover())]);
    }

    #[test]
    fn a_mover_who_is_to_drive_is_asked_for_a_licence() {
        let driving = AssignedCrew { member: BOB, driver: true };
        TruckJourney::given([planned(), crewed()])
            .when(assign([driving]))
            .then([Event::CrewAssigned { members: vec![driving] }])
            .also([reserve(driving)]);
    }

    #[test]
    fn somebody_must_be_named_each_once_and_not_too_many() {
        TruckJourney::given([planned()]).when(assign([])).refused(Refusal::NobodyNamed);
        TruckJourney::given([planned()])
            .when(assign([driver(), AssignedCrew { member: ANN, driver: false }]))
            .refused(Refusal::NamedTwice { member: ANN });
        let many = (0..=CREW_MAX as u128).map(|nth| AssignedCrew { member: Id::number(1000 + nth), driver: false });
        TruckJourney::given([planned()]).when(assign(many)).refused(Refusal::TooManyCrew { limit: CREW_MAX });
    }

    #[test]
    fn who_is_let_go_is_released() {
        TruckJourney::given([planned(), crewed()])
            .when(Command::ReleaseCrew { member: BOB })
            .then([Event::CrewReleased { member: BOB }])
            .also([release(BOB)]);
        TruckJourney::given([planned()])
            .when(Command::ReleaseCrew { member: BOB })
            .refused(Refusal::NotAssigned { member: BOB });
    }

    #[test]
    fn another_truck_is_reserved_and_the_first_released() {
        let to = OTHER_TRUCK;
        TruckJourney::given([planned()])
            .when(Command::ReassignTruck { truck: to })
            .then([Event::TruckReassigned { from: TRUCK, to }])
            .also([
                Also::to(TRUCK, truck::Command::Release { journey: journey() }),
                Also::to(to, truck::Command::Reserve { journey: journey(), window: window() }),
            ]);
        TruckJourney::given([planned()]).when(Command::ReassignTruck { truck: TRUCK }).then_nothing().also([]);
    }

    #[test]
    fn coming_back_and_calling_off_release_the_truck_and_everyone_in_it() {
        let all = || [Also::to(TRUCK, truck::Command::Release { journey: journey() }), release(ANN), release(BOB)];
        TruckJourney::given(unloaded())
            .at(NOON)
            .when(Command::ReturnToYard { occurred_at: None })
            .then([Event::Returned { occurred_at: NOON }])
            .also(all());
        TruckJourney::given(departed())
            .at(NOON)
            .when(Command::Cancel { reason: "The customer called".into(), occurred_at: None })
            .then([Event::Cancelled { reason: "The customer called".into(), occurred_at: NOON }])
            .also(all());
    }

    #[test]
    fn a_journey_that_is_over_or_unknown_changes_neither_crew_nor_truck() {
        let commands = || {
            [assign([driver()]), Command::ReleaseCrew { member: ANN }, Command::ReassignTruck { truck: OTHER_TRUCK }]
        };
        for command in commands() {
            TruckJourney::given(returned()).when(command).refused(Refusal::Over { life: Life::Returned });
        }
        for command in commands() {
            TruckJourney::given([]).when(command).refused(Refusal::NotPlanned);
        }
    }
}
