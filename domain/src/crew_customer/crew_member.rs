//! One worker: what they may do, and which journeys hold them. They alone decide whether they are free and may drive;
//! journeys only ask.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    calendar_capacity::{Reservation, Reservations, Taken},
    command_control::TruckJourney,
    kernel::{
        Aggregate, Cents, Context, Decision, Id, Lifespan, LocationId, Name, Personal, Phone, Province, Timestamp,
        UserId, Window,
    },
};

/// What a crew member may be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Take somebody on.
    Hire(Hire),
    /// Record a skill that they have proved.
    Certify {
        /// Which skill, such as `piano` or `crating`.
        #[schemars(length(min = 1, max = 60), regex(pattern = "^[a-z0-9_]+$"))]
        skill: String,
        /// Until when, where it runs out.
        expires: Option<Timestamp>,
    },
    /// Record the driving licence that they hold now, in place of the one before.
    RecordLicence {
        /// The licence.
        licence: Licence,
    },
    /// Take them off all new work for now.
    Suspend {
        /// Why.
        #[schemars(length(min = 1, max = 500))]
        reason: String,
    },
    /// End a suspension.
    Reinstate,
    /// Record that they no longer work for the company.
    Leave,
    /// Hold them for a journey, or move the journey's hold to another window.
    Reserve {
        /// Which journey.
        journey: Id<TruckJourney>,
        /// For how long.
        window: Window,
        /// Whether they are to drive.
        driving: bool,
    },
    /// Let go of them. Nothing where the journey does not hold them.
    Release {
        /// Which journey.
        journey: Id<TruckJourney>,
    },
    /// Let a user act as them: one at a time.
    LinkUser {
        /// Who.
        user: UserId,
    },
    /// Let the user act as them no more. Nothing where another does.
    UnlinkUser {
        /// Who.
        user: UserId,
    },
}

/// What happened to a crew member.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// They were taken on.
    Hired(Hire),
    /// They proved a skill.
    Certified {
        /// Which.
        skill: String,
        /// Until when, where it runs out.
        expires: Option<Timestamp>,
    },
    /// They showed the driving licence that they hold now.
    LicenceRecorded {
        /// The licence.
        licence: Licence,
    },
    /// They were taken off all new work.
    Suspended {
        /// Why.
        reason: String,
    },
    /// Their suspension ended.
    Reinstated,
    /// They no longer work for the company.
    Left,
    /// A journey holds them; where the journey held them before, for this window instead.
    Reserved {
        /// Which journey.
        journey: Id<TruckJourney>,
        /// For how long.
        window: Window,
        /// Whether they are to drive.
        driving: bool,
    },
    /// A journey let go of them.
    Released {
        /// Which journey.
        journey: Id<TruckJourney>,
    },
    /// A user acts as them.
    UserLinked {
        /// Who.
        user: UserId,
    },
    /// The user acts as them no more.
    UserUnlinked {
        /// Who.
        user: UserId,
    },
    /// Reservations that ended before this time were forgotten, so that the state stays small.
    ReservationsLapsed {
        /// Before which time.
        before: Timestamp,
    },
}

/// Why a crew member says no.
#[derive(Clone, Debug, Serialize, JsonSchema, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// There is no such crew member yet.
    #[error("nobody has been hired under this id")]
    NotHired,
    /// Somebody else, or the same with other terms, was hired under this id.
    #[error("somebody has been hired under this id before")]
    AlreadyHired,
    /// A rate below nothing.
    #[error("an hourly rate cannot be negative")]
    NegativeRate,
    /// They are off all new work.
    #[error("the crew member is suspended: {reason}")]
    Suspended {
        /// Why.
        reason: String,
    },
    /// They no longer work for the company.
    #[error("the crew member has left")]
    Left,
    /// A window ends before it starts.
    #[error("the window ends before it starts")]
    WindowBackwards {
        /// The window.
        window: Window,
    },
    /// Another journey holds them.
    #[error("the crew member is reserved for another journey from {} to {}", window.start, window.end)]
    CrewMemberReserved {
        /// Which journey.
        journey: Id<TruckJourney>,
        /// For how long.
        window: Window,
    },
    /// Another user acts as them.
    #[error("another user acts as the crew member")]
    OtherUserLinked {
        /// Who.
        user: UserId,
    },
    /// They are to drive, and hold no licence for a truck that is good until the window's end.
    #[error("the crew member holds no licence to drive a truck until {}", window.end)]
    NoValidLicence {
        /// The licence that they hold.
        licence: Option<Licence>,
        /// When they are to drive.
        window: Window,
    },
}

/// Who is taken on, and on what terms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Hire {
    /// Their name.
    pub name: Personal<Name>,
    /// Their telephone number.
    pub phone: Personal<Phone>,
    /// What they work as.
    #[schemars(length(min = 1, max = 10))]
    pub roles: Vec<CrewRole>,
    /// The branch that they belong to.
    pub home_location: LocationId,
    /// What they are paid for an hour.
    #[schemars(extend("x-restricted" = true))]
    pub hourly_rate: Cents,
    /// Whose labour law they work under.
    pub employment_class: EmploymentClass,
    /// What kind of driving they do, which decides where overtime begins.
    pub duty: Duty,
    /// Where they work.
    pub province: Province,
    /// Their driving licence, where they hold one.
    pub licence: Option<Licence>,
}

/// What a crew member works as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum CrewRole {
    /// Drives the truck.
    Driver,
    /// Carries and packs.
    Mover,
    /// Leads the crew.
    Lead,
    /// Packs and unpacks.
    Packer,
}

/// Whose labour law somebody works under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum EmploymentClass {
    /// The province's: moves within it.
    Provincial,
    /// The federation's: moves across its borders.
    Federal,
}

/// What kind of driving somebody does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Duty {
    /// None in particular.
    General,
    /// In and around a city.
    CityDriver,
    /// For-hire local cartage, as Ontario calls it.
    LocalCartage,
    /// Long distances.
    HighwayDriver,
}

/// A driving licence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Licence {
    /// What it allows.
    pub class: LicenceClass,
    /// The first moment at which it is no longer good.
    pub expires: Timestamp,
}

/// What a driving licence allows; the provinces have names of their own for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum LicenceClass {
    /// Driving only beside somebody (class 7, Ontario G1): no truck of a company.
    Learner,
    /// Trucks of two axles up to 11,000 kg (class 5, Ontario G): the usual moving truck.
    Light,
    /// Heavier straight trucks (class 3, Ontario D).
    Heavy,
    /// Tractors with heavy trailers (class 1, Ontario A).
    Combination,
}

/// One worker: who they are, what they may do, and which journeys hold them.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct CrewMember {
    terms: Option<Hire>,
    skills: BTreeMap<String, Option<Timestamp>>,
    suspended: Option<String>,
    left: bool,
    /// The user who acts as them.
    #[serde(default)]
    user: Option<UserId>,
    reservations: Reservations,
}

type Outcome = Result<Decision<Event>, Refusal>;

impl Aggregate for CrewMember {
    const STREAM: &'static str = "crew_member";
    const INTERNAL: &'static [&'static str] = &["link_user", "release", "reserve", "unlink_user"];
    const BEGINNING: &'static [&'static str] = &["hire"];
    const LENDING: &'static [&'static str] = &["release", "reserve"];
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn decide(&self, command: Command, context: &Context) -> Outcome {
        match command {
            Command::Hire(terms) => self.hire(terms),
            Command::Certify { skill, expires } => self.certify(skill, expires),
            Command::RecordLicence { licence } => self.record_licence(licence),
            Command::Suspend { reason } => self.suspend(reason),
            Command::Reinstate => self.reinstate(),
            Command::Leave => self.leave(),
            Command::Reserve { journey, window, driving } => {
                self.reserve(Reservation { journey, window, driving }, context)
            }
            Command::Release { journey } => Ok(self.reservations.release(journey, Event::Released { journey })),
            Command::LinkUser { user } => self.link_user(user),
            Command::UnlinkUser { user } => Ok(Decision::unless(self.user != Some(user), Event::UserUnlinked { user })),
        }
    }

    fn evolve(&mut self, event: Event) {
        match event {
            Event::Hired(terms) => self.terms = Some(terms),
            Event::Certified { skill, expires } => drop(self.skills.insert(skill, expires)),
            Event::LicenceRecorded { licence } => self.take_licence(licence),
            Event::Suspended { reason } => self.suspended = Some(reason),
            Event::Reinstated => self.suspended = None,
            Event::Left => self.left = true,
            Event::Reserved { journey, window, driving } => {
                self.reservations.put(Reservation { journey, window, driving });
            }
            Event::Released { journey } => self.reservations.remove(journey),
            Event::UserLinked { user } => self.user = Some(user),
            Event::UserUnlinked { .. } => self.user = None,
            Event::ReservationsLapsed { before } => self.reservations.lapse(before),
        }
    }

    fn location(&self) -> Option<LocationId> {
        self.terms.as_ref().map(|terms| terms.home_location)
    }
}

impl CrewMember {
    fn hire(&self, terms: Hire) -> Outcome {
        self.employment().begin(terms, Refusal::AlreadyHired, |terms| {
            if terms.hourly_rate.0 < 0 { Err(Refusal::NegativeRate) } else { Ok(Event::Hired(terms)) }
        })
    }

    fn employment(&self) -> Lifespan<'_, Hire> {
        Lifespan::of(self.terms.as_ref(), self.left)
    }

    /// The terms of somebody who still works here.
    fn employed(&self) -> Result<&Hire, Refusal> {
        self.employment().lasts(Refusal::NotHired, Refusal::Left)
    }

    fn certify(&self, skill: String, expires: Option<Timestamp>) -> Outcome {
        self.employed()?;
        let known = self.skills.get(&skill) == Some(&expires);
        Ok(Decision::unless(known, Event::Certified { skill, expires }))
    }

    fn record_licence(&self, licence: Licence) -> Outcome {
        let known = self.employed()?.licence.as_ref() == Some(&licence);
        Ok(Decision::unless(known, Event::LicenceRecorded { licence }))
    }

    fn take_licence(&mut self, licence: Licence) {
        if let Some(terms) = &mut self.terms {
            terms.licence = Some(licence);
        }
    }

    fn suspend(&self, reason: String) -> Outcome {
        self.employed()?;
        Ok(Decision::unless(self.suspended.is_some(), Event::Suspended { reason }))
    }

    fn reinstate(&self) -> Outcome {
        self.employed()?;
        Ok(Decision::unless(self.suspended.is_none(), Event::Reinstated))
    }

    fn leave(&self) -> Outcome {
        self.employment().end(Refusal::NotHired, Event::Left)
    }

    fn reserve(&self, wish: Reservation, context: &Context) -> Outcome {
        let terms = self.employed()?;
        if let Some(reason) = &self.suspended {
            return Err(Refusal::Suspended { reason: reason.clone() });
        }
        let Reservation { journey, window, driving } = wish;
        let Some(free) = self.reservations.weigh(&wish, context.now)? else { return Ok(Decision::nothing()) };
        if driving && !terms.licence.as_ref().is_some_and(|licence| licence.is_good_for(window)) {
            return Err(Refusal::NoValidLicence { licence: terms.licence.clone(), window });
        }
        Ok(free.decide(|before| Event::ReservationsLapsed { before }, Event::Reserved { journey, window, driving }))
    }
}

impl CrewMember {
    fn link_user(&self, user: UserId) -> Outcome {
        self.employed()?;
        match self.user {
            Some(other) if other != user => Err(Refusal::OtherUserLinked { user: other }),
            linked => Ok(Decision::unless(linked.is_some(), Event::UserLinked { user })),
        }
    }
}

impl From<Taken> for Refusal {
    fn from(taken: Taken) -> Self {
        match taken {
            Taken::Backwards(window) => Self::WindowBackwards { window },
            Taken::By(Reservation { journey, window, .. }) => Self::CrewMemberReserved { journey, window },
        }
    }
}

impl Licence {
    /// Whether its holder may drive a truck for the whole of a window.
    fn is_good_for(&self, window: Window) -> bool {
        self.class > LicenceClass::Learner && self.expires >= window.end
    }
}

#[cfg(test)]
mod tests;
