//! A dispatcher's shift on the board of a branch.
//!
//! Its id follows from user and branch, so that one stream holds all their shifts there, one after the other: there
//! cannot be two open ones, and no other aggregate need be asked.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::TruckJourney;
use crate::kernel::{Actor, Aggregate, Context, Decision, Id, LocationId, UserId};

/// How many journeys can be pinned.
pub const PINNED_MAX: usize = 100;

/// What a session may be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Begin your shift. Where the id is not that of your sessions in this branch, the refusal names the right one.
    Open {
        /// The branch whose board you watch.
        location: LocationId,
    },
    /// Keep a journey in sight.
    PinJourney {
        /// Which.
        journey: Id<TruckJourney>,
    },
    /// Hand the board over to a colleague.
    HandOver {
        /// To whom.
        to: UserId,
        /// What they must know.
        #[schemars(length(min = 1, max = 4000))]
        note: String,
    },
    /// End the shift.
    Close,
}

/// What happens to a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A shift began.
    Opened {
        /// Whose.
        user: UserId,
        /// The branch whose board they watch.
        location: LocationId,
    },
    /// A journey is kept in sight.
    JourneyPinned {
        /// Which.
        journey: Id<TruckJourney>,
    },
    /// The board was handed over.
    HandedOver {
        /// To whom.
        to: UserId,
        /// What they must know.
        note: String,
    },
    /// The shift ended.
    Closed,
}

/// Why a session says no.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// Only a person has shifts.
    #[error("only a person has shifts")]
    NotAPerson,
    /// Your sessions in this branch have another id.
    #[error("your sessions in this branch have the id {session}")]
    OtherSession {
        /// The id.
        session: Id<DispatchSession>,
    },
    /// The session is open already.
    #[error("the session is already open")]
    AlreadyOpen,
    /// The session is not open.
    #[error("the session is not open")]
    NotOpen,
    /// It is somebody else's shift.
    #[error("it is somebody else's shift")]
    NotYours {
        /// Whose.
        user: UserId,
    },
    /// The board cannot be handed to its holder.
    #[error("name somebody else to hand over to")]
    ToYourself,
    /// Too many journeys are pinned.
    #[error("at most {limit} journeys can be pinned")]
    TooManyPinned {
        /// How many.
        limit: usize,
    },
}

/// A dispatcher's shifts on the board of a branch, of which one at most is open.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DispatchSession {
    /// Whose they are.
    user: Option<UserId>,
    /// The branch.
    location: Option<LocationId>,
    /// Whether one is open.
    open: bool,
    /// The journeys that are kept in sight.
    pinned: BTreeSet<Id<TruckJourney>>,
    /// To whom the board was handed over in this shift.
    handed_to: Option<UserId>,
}

type Outcome = Result<Decision<Event>, Refusal>;

impl Aggregate for DispatchSession {
    const STREAM: &'static str = "dispatch_session";
    const BEGINNING: &'static [&'static str] = &["open"];
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn decide(&self, command: Command, context: &Context) -> Outcome {
        match command {
            Command::Open { location } => self.open(location, context),
            Command::PinJourney { journey } => self.pin_journey(journey, context),
            Command::HandOver { to, note } => self.hand_over(to, note, context),
            Command::Close => self.close(),
        }
    }

    fn evolve(&mut self, event: Event) {
        match event {
            Event::Opened { user, location } => self.opened(user, location),
            Event::JourneyPinned { journey } => drop(self.pinned.insert(journey)),
            Event::HandedOver { to, .. } => self.handed_to = Some(to),
            Event::Closed => self.closed(),
        }
    }

    fn location(&self) -> Option<LocationId> {
        self.location
    }
}

impl DispatchSession {
    /// The id of a user's sessions in a branch.
    pub fn id(user: UserId, location: LocationId) -> Id<Self> {
        Id::derived(&[b"dispatch_session", user.uuid().as_bytes(), location.uuid().as_bytes()])
    }

    fn open(&self, location: LocationId, context: &Context) -> Outcome {
        let Actor::User { user, .. } = context.actor else { return Err(Refusal::NotAPerson) };
        let session = Self::id(user, location);
        if context.me() != session {
            return Err(Refusal::OtherSession { session });
        }
        if self.open { Err(Refusal::AlreadyOpen) } else { Ok(Event::Opened { user, location }.into()) }
    }

    fn pin_journey(&self, journey: Id<TruckJourney>, context: &Context) -> Outcome {
        self.mine(context)?;
        if self.pinned.contains(&journey) {
            return Ok(Decision::nothing());
        }
        if self.pinned.len() >= PINNED_MAX {
            return Err(Refusal::TooManyPinned { limit: PINNED_MAX });
        }
        Ok(Event::JourneyPinned { journey }.into())
    }

    fn hand_over(&self, to: UserId, note: String, context: &Context) -> Outcome {
        self.mine(context)?;
        if self.user == Some(to) {
            return Err(Refusal::ToYourself);
        }
        Ok(Event::HandedOver { to, note }.into())
    }

    /// Whoever may, may close: a shift that was forgotten must not stay open.
    fn close(&self) -> Outcome {
        if self.open { Ok(Event::Closed.into()) } else { Err(Refusal::NotOpen) }
    }

    /// Refuses what is asked of a closed session, or by somebody else.
    fn mine(&self, context: &Context) -> Result<(), Refusal> {
        match (&context.actor, self.user) {
            _ if !self.open => Err(Refusal::NotOpen),
            (Actor::User { user, .. }, Some(mine)) if *user == mine => Ok(()),
            (_, Some(user)) => Err(Refusal::NotYours { user }),
            (_, None) => Err(Refusal::NotOpen),
        }
    }

    fn opened(&mut self, user: UserId, location: LocationId) {
        *self = Self { user: Some(user), location: Some(location), open: true, ..Self::default() };
    }

    fn closed(&mut self) {
        self.open = false;
        self.pinned.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Given;

    const ANN: UserId = UserId::number(4);
    const BOB: UserId = UserId::number(6);
    const NORTH: LocationId = LocationId::number(5);
    const JOURNEY: Id<TruckJourney> = Id::number(70);

    fn opened() -> Event {
        Event::Opened { user: ANN, location: NORTH }
    }
    fn by(user: UserId) -> Actor {
        Actor::User { user, role: "dispatcher".into() }
    }
    fn open() -> Command {
        Command::Open { location: NORTH }
    }
    fn pin() -> Command {
        Command::PinJourney { journey: JOURNEY }
    }
    fn hand_over(to: UserId) -> Command {
        Command::HandOver { to, note: "Truck 7 waits for a dock".into() }
    }

    #[test]
    fn a_dispatcher_opens_a_session_of_their_own_in_a_branch() {
        let session = DispatchSession::id(ANN, NORTH);
        DispatchSession::given([]).of(session).by(by(ANN)).when(open()).then([opened()]);
        DispatchSession::given([opened(), Event::Closed]).of(session).by(by(ANN)).when(open()).then([opened()]);
    }

    #[test]
    fn a_user_has_one_open_session_in_a_branch() {
        let session = DispatchSession::id(ANN, NORTH);
        DispatchSession::given([opened()]).of(session).by(by(ANN)).when(open()).refused(Refusal::AlreadyOpen);
        DispatchSession::given([]).by(by(ANN)).when(open()).refused(Refusal::OtherSession { session });
    }

    #[test]
    fn only_a_person_has_shifts() {
        DispatchSession::given([]).by(Actor::tool("import")).when(open()).refused(Refusal::NotAPerson);
    }

    #[test]
    fn a_journey_is_pinned_once() {
        DispatchSession::given([opened()]).by(by(ANN)).when(pin()).then([Event::JourneyPinned { journey: JOURNEY }]);
        DispatchSession::given([opened(), Event::JourneyPinned { journey: JOURNEY }])
            .by(by(ANN))
            .when(pin())
            .then_nothing();
        let all = (0..PINNED_MAX as u128).map(|nth| Event::JourneyPinned { journey: Id::number(1000 + nth) });
        DispatchSession::given([opened()].into_iter().chain(all))
            .by(by(ANN))
            .when(pin())
            .refused(Refusal::TooManyPinned { limit: PINNED_MAX });
    }

    #[test]
    fn the_board_is_handed_to_a_colleague() {
        DispatchSession::given([opened()])
            .by(by(ANN))
            .when(hand_over(BOB))
            .then([Event::HandedOver { to: BOB, note: "Truck 7 waits for a dock".into() }]);
        DispatchSession::given([opened()]).by(by(ANN)).when(hand_over(ANN)).refused(Refusal::ToYourself);
    }

    #[test]
    fn a_session_is_its_users_own() {
        for command in [pin(), hand_over(BOB)] {
            DispatchSession::given([opened()]).by(by(BOB)).when(command).refused(Refusal::NotYours { user: ANN });
        }
    }

    #[test]
    fn a_manager_can_close_a_session_that_was_forgotten() {
        DispatchSession::given([opened()]).by(by(BOB)).when(Command::Close).then([Event::Closed]);
    }

    #[test]
    fn a_closed_session_takes_nothing_but_opening() {
        for command in [pin(), hand_over(BOB), Command::Close] {
            DispatchSession::given([opened(), Event::Closed]).by(by(ANN)).when(command).refused(Refusal::NotOpen);
        }
    }
}
