//! A truck: what it is, when it cannot be used, and which journeys hold it. It decides alone whether it is free; journeys
//! only ask.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Reservation, Reservations, Taken};
use crate::{
    command_control::TruckJourney,
    kernel::{Aggregate, Cents, Context, Decision, Id, Lifespan, LocationId, TenthsCuft, Timestamp, Window},
};

/// What a truck may be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Put a truck into the fleet.
    Commission(Particulars),
    /// Say that it cannot be used for a time, in place of what was said before. Journeys that hold it keep it: what is to
    /// become of them is for a dispatcher to say.
    OutOfService(Outage),
    /// Say that it can be used again from now on.
    BackInService,
    /// Take it out of the fleet for good.
    Retire {
        /// Why.
        #[schemars(length(min = 1, max = 500))]
        reason: String,
    },
    /// Hold it for a journey, or move the journey's hold to another window.
    Reserve {
        /// Which journey.
        journey: Id<TruckJourney>,
        /// For how long.
        window: Window,
    },
    /// Let go of it. Nothing where the journey does not hold it.
    Release {
        /// Which journey.
        journey: Id<TruckJourney>,
    },
}

/// What happened to a truck.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// It was put into the fleet.
    Commissioned(Particulars),
    /// It cannot be used for a time.
    TakenOutOfService(Outage),
    /// It can be used again.
    ReturnedToService,
    /// It was taken out of the fleet for good.
    Retired {
        /// Why.
        reason: String,
    },
    /// A journey holds it; where the journey held it before, for this window instead.
    Reserved {
        /// Which journey.
        journey: Id<TruckJourney>,
        /// For how long.
        window: Window,
    },
    /// A journey let go of it.
    Released {
        /// Which journey.
        journey: Id<TruckJourney>,
    },
    /// Reservations that ended before this time were forgotten, so that a truck's state stays small.
    ReservationsLapsed {
        /// Before which time.
        before: Timestamp,
    },
}

/// Why a truck says no.
#[derive(Clone, Debug, Serialize, JsonSchema, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// There is no such truck yet.
    #[error("the truck has not been commissioned")]
    NotCommissioned,
    /// It is in the fleet already, with other particulars.
    #[error("the truck has been commissioned before")]
    AlreadyCommissioned,
    /// It was taken out of the fleet.
    #[error("the truck is retired")]
    Retired,
    /// A quantity makes no sense.
    #[error("{field} must be more than zero")]
    NotPositive {
        /// Which.
        field: String,
    },
    /// A cost below nothing.
    #[error("what an hour costs cannot be negative")]
    NegativeCost,
    /// A window ends before it starts.
    #[error("the window ends before it starts")]
    WindowBackwards {
        /// The window.
        window: Window,
    },
    /// Another journey holds it.
    #[error("the truck is reserved for another journey from {} to {}", window.start, window.end)]
    TruckReserved {
        /// By which journey.
        journey: Id<TruckJourney>,
        /// For how long.
        window: Window,
    },
    /// It cannot be used then.
    #[error("the truck is out of service from {from} to {to}")]
    TruckOutOfService {
        /// From when.
        from: Timestamp,
        /// To when.
        to: Timestamp,
        /// Why.
        reason: String,
    },
}

/// What a truck is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Particulars {
    /// Its licence plate.
    #[schemars(length(min = 1, max = 20))]
    pub plate: String,
    /// The length of its box in feet.
    #[schemars(range(min = 1, max = 80))]
    pub size_ft: u32,
    /// What its box holds, in tenths of a cubic foot.
    pub volume_cuft: TenthsCuft,
    /// The branch that it belongs to.
    pub home_location: LocationId,
    /// What an hour of it costs the company.
    #[schemars(extend("x-restricted" = true))]
    pub cost_per_hour: Cents,
}

/// A time in which a truck cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Outage {
    /// From when.
    pub from: Timestamp,
    /// To when.
    pub to: Timestamp,
    /// Why.
    #[schemars(length(min = 1, max = 500))]
    pub reason: String,
}

/// A truck: what it is, when it cannot be used, and which journeys hold it.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Truck {
    particulars: Option<Particulars>,
    outage: Option<Outage>,
    retired: bool,
    reservations: Reservations,
}

type Outcome = Result<Decision<Event>, Refusal>;

impl Aggregate for Truck {
    const STREAM: &'static str = "truck";
    const INTERNAL: &'static [&'static str] = &["release", "reserve"];
    const BEGINNING: &'static [&'static str] = &["commission"];
    const LENDING: &'static [&'static str] = &["release", "reserve"];
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn decide(&self, command: Command, context: &Context) -> Outcome {
        match command {
            Command::Commission(particulars) => self.commission(particulars),
            Command::OutOfService(outage) => self.out_of_service(outage),
            Command::BackInService => self.back_in_service(),
            Command::Retire { reason } => self.retire(reason),
            Command::Reserve { journey, window } => self.reserve(journey, window, context),
            Command::Release { journey } => Ok(self.reservations.release(journey, Event::Released { journey })),
        }
    }

    fn evolve(&mut self, event: Event) {
        match event {
            Event::Commissioned(particulars) => self.particulars = Some(particulars),
            Event::TakenOutOfService(outage) => self.outage = Some(outage),
            Event::ReturnedToService => self.outage = None,
            Event::Retired { .. } => self.retired = true,
            Event::Reserved { journey, window } => {
                self.reservations.put(Reservation { journey, window, driving: false });
            }
            Event::Released { journey } => self.reservations.remove(journey),
            Event::ReservationsLapsed { before } => self.reservations.lapse(before),
        }
    }

    fn location(&self) -> Option<LocationId> {
        self.particulars.as_ref().map(|particulars| particulars.home_location)
    }
}

impl Truck {
    fn commission(&self, particulars: Particulars) -> Outcome {
        self.life().begin(particulars, Refusal::AlreadyCommissioned, |particulars| {
            let quantities = [("size_ft", particulars.size_ft), ("volume_cuft", particulars.volume_cuft.0)];
            if let Some((field, _)) = quantities.into_iter().find(|(_, quantity)| *quantity == 0) {
                return Err(Refusal::NotPositive { field: field.into() });
            }
            if particulars.cost_per_hour.0 < 0 {
                return Err(Refusal::NegativeCost);
            }
            Ok(Event::Commissioned(particulars))
        })
    }

    fn life(&self) -> Lifespan<'_, Particulars> {
        Lifespan::of(self.particulars.as_ref(), self.retired)
    }

    fn in_the_fleet(&self) -> Result<(), Refusal> {
        self.life().lasts(Refusal::NotCommissioned, Refusal::Retired).map(drop)
    }

    fn out_of_service(&self, outage: Outage) -> Outcome {
        self.in_the_fleet()?;
        let window = Window { start: outage.from, end: outage.to };
        if !window.is_forward() {
            return Err(Refusal::WindowBackwards { window });
        }
        if self.outage.as_ref() == Some(&outage) {
            return Ok(Decision::nothing());
        }
        Ok(Event::TakenOutOfService(outage).into())
    }

    fn back_in_service(&self) -> Outcome {
        self.in_the_fleet()?;
        Ok(Decision::unless(self.outage.is_none(), Event::ReturnedToService))
    }

    fn retire(&self, reason: String) -> Outcome {
        self.life().end(Refusal::NotCommissioned, Event::Retired { reason })
    }

    fn reserve(&self, journey: Id<TruckJourney>, window: Window, context: &Context) -> Outcome {
        self.in_the_fleet()?;
        let wish = Reservation { journey, window, driving: false };
        let Some(free) = self.reservations.weigh(&wish, context.now)? else { return Ok(Decision::nothing()) };
        if let Some(Outage { from, to, reason }) = &self.outage
            && window.overlaps(Window { start: *from, end: *to })
        {
            return Err(Refusal::TruckOutOfService { from: *from, to: *to, reason: reason.clone() });
        }
        Ok(free.decide(|before| Event::ReservationsLapsed { before }, Event::Reserved { journey, window }))
    }
}

impl From<Taken> for Refusal {
    fn from(taken: Taken) -> Self {
        match taken {
            Taken::Backwards(window) => Self::WindowBackwards { window },
            Taken::By(Reservation { journey, window, .. }) => Self::TruckReserved { journey, window },
        }
    }
}

#[cfg(test)]
mod tests;
