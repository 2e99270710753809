//! Tests of rules as sentences: `TruckJourney::given([planned()]).when(Command::Depart { … }).refused(Refusal::NoCrew)`.
//!
//! What happened and the state after it are compared as texts that were read back, and the state is replayed: each test
//! of a rule tests its serialization too.

use std::sync::Arc;

use serde_json::Value;
use uuid::Uuid;

use super::{
    Actor, Aggregate, Also, CommandId, CompanyId, Context, Id, Lift, LocationId, Message, Recorded, Rejection, Rules,
    Scope, Settings, State, Timestamp, UserId, aggregate, rules,
};

/// Starts a test's sentence.
pub trait Given: Aggregate {
    /// These events have happened.
    fn given(events: impl IntoIterator<Item = Self::Event>) -> Scene<Self>;
}

impl<A: Aggregate> Given for A {
    fn given(events: impl IntoIterator<Item = Self::Event>) -> Scene<Self> {
        let events = events.into_iter().map(|event| Message::split(&event)).collect();
        Scene { events, context: context(), aggregate: std::marker::PhantomData }
    }
}

/// A context for tests: noon on a summer's day, a dispatcher, default settings.
pub fn context() -> Context {
    Context {
        company: CompanyId::number(1),
        stream_id: Id::<()>::number(2).uuid(),
        command: CommandId::number(3),
        actor: Actor::User { user: UserId::number(4), role: "dispatcher".into() },
        scope: Arc::default(),
        location: Some(LocationId::number(5)),
        now: "2026-07-01T12:00:00Z".parse().expect("a time"),
        settings: Arc::new(Settings::default()),
    }
}

/// What has happened, before the command.
pub struct Scene<A> {
    events: Vec<Message>,
    context: Context,
    aggregate: std::marker::PhantomData<A>,
}

/// What the command led to.
pub struct Outcome {
    rules: &'static dyn Rules,
    lifts: &'static [Lift],
    before: State,
    result: Result<rules::Decided, Rejection>,
}

impl<A: Aggregate> Scene<A> {
    /// The server's time.
    #[must_use]
    pub fn at(mut self, now: Timestamp) -> Self {
        self.context.now = now;
        self
    }

    /// Who gives the command.
    #[must_use]
    pub fn by(mut self, actor: Actor) -> Self {
        self.context.actor = actor;
        self
    }

    /// Who gives the command is bound to these branches.
    #[must_use]
    pub fn within(mut self, locations: impl IntoIterator<Item = LocationId>) -> Self {
        self.context.scope = Arc::new(Scope::within(locations));
        self
    }

    /// The aggregate's own id.
    #[must_use]
    pub fn of(mut self, id: impl Into<Uuid>) -> Self {
        self.context.stream_id = id.into();
        self
    }

    /// Other settings of the company.
    #[must_use]
    pub fn with(mut self, settings: Settings) -> Self {
        self.context.settings = Arc::new(settings);
        self
    }

    /// The command.
    pub fn when(self, command: A::Command) -> Outcome {
        let rules = rules::aggregate::<A>();
        let mut before = rules.blank();
        for event in &self.events {
            evolve(rules, A::LIFTS, &mut before, event);
        }
        let result = rules.decide(&before, &Message::split(&command), &self.context);
        Outcome { rules, lifts: A::LIFTS, before, result }
    }
}

impl<T> From<Id<T>> for Uuid {
    fn from(id: Id<T>) -> Self {
        id.uuid()
    }
}

impl Outcome {
    /// Exactly this happened.
    #[allow(clippy::return_self_not_must_use, reason = "a sentence may end here")]
    #[track_caller]
    pub fn then<E: serde::Serialize>(self, events: impl IntoIterator<Item = E>) -> Self {
        let expected: Vec<Message> = events.into_iter().map(|event| Message::split(&event)).collect();
        let decided = self.decided();
        let found: Vec<&Message> = decided.events.iter().map(|(event, _)| event).collect();
        assert_eq!(found, expected.iter().collect::<Vec<_>>());
        let mut replayed = self.before.clone();
        for event in &expected {
            evolve(self.rules, self.lifts, &mut replayed, event);
        }
        let shown = self.rules.show(&decided.next);
        assert_eq!(self.rules.show(&replayed), shown, "a replay gives another state than the decision");
        let revived = self.rules.revive(shown.clone()).expect("a state can be read back");
        assert_eq!(self.rules.show(&revived), shown, "the state does not survive being written");
        self
    }

    /// Nothing happened: it was so already.
    #[allow(clippy::return_self_not_must_use, reason = "a sentence may end here")]
    #[track_caller]
    pub fn then_nothing(self) -> Self {
        self.then(Vec::<Value>::new())
    }

    /// It carries exactly these commands.
    #[allow(clippy::return_self_not_must_use, reason = "a sentence may end here")]
    #[track_caller]
    pub fn also(self, commands: impl IntoIterator<Item = Also>) -> Self {
        assert_eq!(self.decided().also, commands.into_iter().collect::<Vec<_>>());
        self
    }

    /// It was refused, with this reason and these facts.
    #[track_caller]
    pub fn refused(self, refusal: impl serde::Serialize + std::fmt::Display) {
        match self.result {
            Ok(decided) => panic!("expected {refusal}, got {:?}", decided.events),
            Err(rejection) => assert_eq!(rejection, Rejection::of(&refusal)),
        }
    }

    #[track_caller]
    fn decided(&self) -> &rules::Decided {
        match &self.result {
            Ok(decided) => decided,
            Err(rejection) => panic!("refused: {rejection} {}", rejection.facts),
        }
    }
}

fn evolve(rules: &dyn Rules, lifts: &[Lift], state: &mut State, event: &Message) {
    let version = aggregate::version(lifts, &event.name);
    let recorded = Recorded { event: &event.name, version, payload: event.fields.get() };
    rules.evolve(state, recorded).expect("a given event can be read");
}
