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
