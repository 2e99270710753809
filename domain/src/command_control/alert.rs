//! A warning that someone should act on, from the moment that its cause is known until it is settled. It owns every
//! warning of every module. Its id follows from its cause, so that who raises it twice raises it once.

use std::{collections::BTreeMap, fmt};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::kernel::{Aggregate, Context, Decision, Id, LocationId, Minutes, Timestamp};

/// An alert can be put off by this much at most.
const SNOOZE_MAX: Minutes = Minutes(7 * 24 * 60);

/// What an alert warns of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum AlertKind {
    /// A crew has not said that it will go, and its journey's window is near.
    NotAcknowledged,
    /// A truck has not left, though its journey's window has begun.
    NotDeparted,
    /// A truck that should be moving sends no fixes.
    NoFix,
    /// A view or a trigger cannot take an entry, and shows or does nothing of it and of what comes after.
    FoldStopped,
}

/// What an alert is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct About {
    /// The kind of aggregate, such as `truck_journey`.
    pub stream: String,
    /// Which one.
    pub id: Uuid,
}

/// How an alert ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
#[serde(rename_all = "snake_case")]
pub enum Settled {
    /// The cause went away.
    CauseGone,
    /// Somebody saw to it.
    Handled,
    /// It was no cause for concern.
    FalseAlarm,
}

/// What an alert may be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Warn. Once for each cause: again, it changes nothing.
    Raise {
        /// What it is about.
        about: About,
        /// The branch that it concerns.
        location: Option<LocationId>,
        /// What it warns of.
        kind: AlertKind,
        /// When harm is done unless somebody acts.
        due: Timestamp,
        /// What it rests on.
        facts: BTreeMap<String, Value>,
    },
    /// Say that you have seen it and see to it.
    Acknowledge,
    /// Put it off.
    Snooze {
        /// Until when: a time to come, within a week.
        until: Timestamp,
    },
    /// Settle it.
    Resolve {
        /// How it ended.
        how: Settled,
        /// In your own words.
        #[serde(default)]
        #[schemars(length(max = 1000))]
        note: Option<String>,
    },
}

/// What happens to an alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// It was raised.
    Raised {
        /// What it is about.
        about: About,
        /// The branch that it concerns.
        location: Option<LocationId>,
        /// What it warns of.
        kind: AlertKind,
        /// When harm is done unless somebody acts.
        due: Timestamp,
        /// What it rests on.
        facts: BTreeMap<String, Value>,
    },
    /// Somebody sees to it.
    Acknowledged,
    /// It was put off.
    Snoozed {
        /// Until when.
        until: Timestamp,
    },
    /// It was settled.
    Resolved {
        /// How it ended.
        how: Settled,
        /// In the settler's own words.
        note: Option<String>,
    },
}

/// Why an alert says no.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// There is no such alert.
    #[error("no such alert was raised")]
    NotRaised,
    /// It is settled already.
    #[error("the alert is settled already")]
    AlreadyResolved,
    /// It can only be put off to a time to come, within a week.
    #[error("an alert can be put off until a time to come, at most until {latest}")]
    NotInReach {
        /// The time that was named.
        until: Timestamp,
        /// The latest time that would be taken.
        latest: Timestamp,
    },
}

/// Where an alert is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum AlertState {
    /// It was not raised.
    #[default]
    Unraised,
    /// Nobody has seen to it.
    Raised,
    /// Somebody sees to it.
    Acknowledged,
    /// It was put off.
    Snoozed,
    /// It is settled.
    Resolved,
}

/// A warning that someone should act on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Alert {
    /// Where it is in its life.
    state: AlertState,
    /// What it is about.
    about: Option<About>,
    /// The branch that it concerns.
    location: Option<LocationId>,
    /// What it warns of.
    kind: Option<AlertKind>,
    /// When harm is done unless somebody acts.
    due: Option<Timestamp>,
    /// Until when it was put off.
    snoozed_until: Option<Timestamp>,
    /// What it rests on.
    facts: BTreeMap<String, Value>,
}

impl Aggregate for Alert {
    const STREAM: &'static str = "alert";
    const INTERNAL: &'static [&'static str] = &["raise"];
    const BEGINNING: &'static [&'static str] = &["raise"];
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn decide(&self, command: Command, context: &Context) -> Result<Decision<Event>, Refusal> {
        match command {
            raise @ Command::Raise { .. } => Ok(self.raise(raise)),
            Command::Acknowledge => self.acknowledge(),
            Command::Snooze { until } => self.snooze(until, context),
            Command::Resolve { how, note } => self.resolve(how, note),
        }
    }

    fn evolve(&mut self, event: Event) {
        match event {
            Event::Raised { about, location, kind, due, facts } => {
                *self = Self::raised(about, location, kind, due, facts);
            }
            Event::Acknowledged => self.state = AlertState::Acknowledged,
            Event::Snoozed { until } => (self.state, self.snoozed_until) = (AlertState::Snoozed, Some(until)),
            Event::Resolved { .. } => self.state = AlertState::Resolved,
        }
    }

    fn location(&self) -> Option<LocationId> {
        self.location
    }
}

impl Alert {
    /// The id of the alert of this kind about this aggregate, for the `nth` time that it has cause for it.
    pub fn id(kind: AlertKind, about: Uuid, nth: u32) -> Id<Self> {
        Id::derived(&[b"alert", kind.to_string().as_bytes(), about.as_bytes(), &nth.to_be_bytes()])
    }

    fn raised(
        about: About,
        location: Option<LocationId>,
        kind: AlertKind,
        due: Timestamp,
        facts: BTreeMap<String, Value>,
    ) -> Self {
        Self {
            state: AlertState::Raised,
            about: Some(about),
            location,
            kind: Some(kind),
            due: Some(due),
            snoozed_until: None,
            facts,
        }
    }

    fn raise(&self, raise: Command) -> Decision<Event> {
        match raise {
            Command::Raise { about, location, kind, due, facts } if self.state == AlertState::Unraised => {
                Event::Raised { about, location, kind, due, facts }.into()
            }
            _ => Decision::nothing(),
        }
    }

    fn acknowledge(&self) -> Result<Decision<Event>, Refusal> {
        self.open()?;
        let known = self.state == AlertState::Acknowledged;
        Ok(Decision::unless(known, Event::Acknowledged))
    }

    fn snooze(&self, until: Timestamp, context: &Context) -> Result<Decision<Event>, Refusal> {
        self.open()?;
        let latest = context.now.plus(SNOOZE_MAX);
        if until <= context.now || until > latest {
            return Err(Refusal::NotInReach { until, latest });
        }
        Ok(Event::Snoozed { until }.into())
    }

    /// Settling what is settled changes nothing: a rule and a person may do so at once.
    fn resolve(&self, how: Settled, note: Option<String>) -> Result<Decision<Event>, Refusal> {
        match self.open() {
            Ok(()) => Ok(Event::Resolved { how, note }.into()),
            Err(Refusal::AlreadyResolved) => Ok(Decision::nothing()),
            Err(refusal) => Err(refusal),
        }
    }

    fn open(&self) -> Result<(), Refusal> {
        match self.state {
            AlertState::Unraised => Err(Refusal::NotRaised),
            AlertState::Resolved => Err(Refusal::AlreadyResolved),
            AlertState::Raised | AlertState::Acknowledged | AlertState::Snoozed => Ok(()),
        }
    }
}

/// The kind as the ledger writes it. Ids follow from it, so it never changes.
impl fmt::Display for AlertKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAcknowledged => "not_acknowledged",
            Self::NotDeparted => "not_departed",
            Self::NoFix => "no_fix",
            Self::FoldStopped => "fold_stopped",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Given, Seconds, given};

    const JOURNEY: Id<()> = Id::number(70);

    fn due() -> Timestamp {
        given::context().now.plus(Minutes(15))
    }
    fn raised() -> Event {
        let about = About { stream: "truck_journey".into(), id: JOURNEY.uuid() };
        let facts = BTreeMap::from([("crew".to_owned(), Value::from(2))]);
        let location = Some(LocationId::number(5));
        Event::Raised { about, location, kind: AlertKind::NotAcknowledged, due: due(), facts }
    }
    fn raise() -> Command {
        let Event::Raised { about, location, kind, due, facts } = raised() else { unreachable!("it is raised") };
        Command::Raise { about, location, kind, due, facts }
    }
    fn resolved() -> Event {
        Event::Resolved { how: Settled::Handled, note: None }
    }
    fn resolve() -> Command {
        Command::Resolve { how: Settled::Handled, note: None }
    }

    #[test]
    fn an_alert_is_raised_once_for_its_cause() {
        Alert::given([]).when(raise()).then([raised()]);
        Alert::given([raised()]).when(raise()).then_nothing();
        Alert::given([raised(), resolved()]).when(raise()).then_nothing();
    }

    #[test]
    fn its_id_follows_from_its_cause() {
        let id = |kind, nth| Alert::id(kind, JOURNEY.uuid(), nth);
        assert_eq!(id(AlertKind::NoFix, 0), id(AlertKind::NoFix, 0));
        assert_ne!(id(AlertKind::NoFix, 0), id(AlertKind::NoFix, 1));
        assert_ne!(id(AlertKind::NoFix, 0), id(AlertKind::NotDeparted, 0));
    }

    #[test]
    fn somebody_sees_to_it_puts_it_off_and_settles_it() {
        let until = given::context().now.plus(Minutes(10));
        Alert::given([raised()]).when(Command::Acknowledge).then([Event::Acknowledged]);
        Alert::given([raised(), Event::Acknowledged]).when(Command::Acknowledge).then_nothing();
        Alert::given([raised()]).when(Command::Snooze { until }).then([Event::Snoozed { until }]);
        Alert::given([raised(), Event::Snoozed { until }]).when(resolve()).then([resolved()]);
    }

    #[test]
    fn settling_it_twice_changes_nothing() {
        Alert::given([raised(), resolved()]).when(resolve()).then_nothing();
    }

    #[test]
    fn what_is_settled_cannot_be_seen_to_or_put_off() {
        let until = due();
        Alert::given([raised(), resolved()]).when(Command::Acknowledge).refused(Refusal::AlreadyResolved);
        Alert::given([raised(), resolved()]).when(Command::Snooze { until }).refused(Refusal::AlreadyResolved);
    }

    #[test]
    fn an_alert_that_was_not_raised_cannot_be_touched() {
        for command in [Command::Acknowledge, Command::Snooze { until: due() }, resolve()] {
            Alert::given([]).when(command).refused(Refusal::NotRaised);
        }
    }

    #[test]
    fn it_can_be_put_off_only_to_a_time_to_come_within_a_week() {
        let now = given::context().now;
        let latest = now.plus(SNOOZE_MAX);
        for until in [now, latest.plus(Seconds(1))] {
            Alert::given([raised()]).when(Command::Snooze { until }).refused(Refusal::NotInReach { until, latest });
        }
    }

    #[test]
    fn it_belongs_to_the_branch_that_it_concerns() {
        let mut alert = Alert::default();
        alert.evolve(raised());
        assert_eq!(alert.location(), Some(LocationId::number(5)));
    }
}
