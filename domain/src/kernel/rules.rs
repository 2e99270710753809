//! Where types end. Past this point a module's code and one loaded while running look the same: everything downstream
//! (host, routes, contracts, authorization, subjects) walks the `MODULES` list and sees only [`Rules`].

use std::{any::Any, fmt, marker::PhantomData, sync::Arc};

use serde_json::Value;

use super::{
    Aggregate, Also, Context, FoldKind, LocationId, Message, Rejection, Scope, Unreadable,
    aggregate::{lift, version},
    schema::{Contract, Schemas},
};

/// A family of rules of one line of the business.
pub struct Module {
    /// Its name in snake case.
    pub name: &'static str,
    /// What it is for, in a sentence.
    pub about: &'static str,
    /// Its aggregates, alphabetical.
    pub aggregates: &'static [&'static dyn Rules],
    /// Its triggers, alphabetical.
    pub triggers: &'static [&'static dyn FoldKind],
}

/// The state of some aggregate. Cheap to clone; only the rules that made it can look inside.
#[derive(Clone)]
pub struct State(Arc<dyn Any + Send + Sync>);

impl State {
    /// Wraps a state.
    pub fn new<T: Any + Send + Sync>(state: T) -> Self {
        Self(Arc::new(state))
    }

    /// The state as a `T`, where it is one.
    pub fn get<T: Any>(&self) -> Option<&T> {
        self.0.downcast_ref()
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("State")
    }
}

/// What was decided, as data.
#[derive(Debug)]
pub struct Decided {
    /// What happened, with the version of each event's shape, in order.
    pub events: Vec<(Message, u32)>,
    /// What others must decide for this to stand.
    pub also: Vec<Also>,
    /// The state after the events.
    pub next: State,
}

/// An event as an entry holds it.
#[derive(Clone, Copy, Debug)]
pub struct Recorded<'a> {
    /// Its name.
    pub event: &'a str,
    /// The version of its shape.
    pub version: u32,
    /// Its fields: a JSON object.
    pub payload: &'a str,
}

/// An aggregate's rules with its types erased.
pub trait Rules: Send + Sync {
    /// The name of its streams.
    fn stream(&self) -> &str;
    /// Names, docs and schemas of all its messages.
    fn contract(&self, schemas: &mut Schemas) -> Contract;
    /// The state before the first event.
    fn blank(&self) -> State;
    /// What the command leads to, or why not. A command whose fields do not fit is refused as `malformed`.
    fn decide(&self, state: &State, command: &Message, context: &Context) -> Result<Decided, Rejection>;
    /// Takes one event into the state.
    fn evolve(&self, state: &mut State, event: Recorded<'_>) -> Result<(), Unreadable>;
    /// The state as JSON.
    fn show(&self, state: &State) -> Value;
    /// A state from what [`show`](Self::show) gave.
    fn revive(&self, shown: Value) -> Result<State, Unreadable>;
    /// The branch that the aggregate belongs to.
    fn location(&self, state: &State) -> Option<LocationId>;
    /// Whether somebody who reaches so far may see it and act on it.
    fn is_within(&self, state: &State, scope: &Scope) -> bool;
}

impl fmt::Debug for dyn Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.stream())
    }
}

/// The rules of `A`, for a `MODULE` declaration.
pub const fn aggregate<A: Aggregate>() -> &'static dyn Rules {
    &Typed::<A>(PhantomData)
}

/// Reads an event of `A`, lifting an old shape first.
pub fn read_event<A: Aggregate>(event: Recorded<'_>) -> Result<A::Event, Unreadable> {
    let newest = version(A::LIFTS, event.event);
    if event.version == newest {
        return Message::join(event.event, event.payload);
    }
    let unreadable = |cause: String| Unreadable { name: event.event.into(), cause };
    if event.version > newest {
        return Err(unreadable(format!("version {} is newer than this program knows ({newest})", event.version)));
    }
    let fields = serde_json::from_str(event.payload).map_err(|cause| unreadable(cause.to_string()))?;
    let lifted = lift(A::LIFTS, event.event, event.version, fields);
    Message::join(event.event, &Value::Object(lifted).to_string())
}

struct Typed<A>(PhantomData<fn() -> A>);

impl<A: Aggregate> Typed<A> {
    fn state(state: &State) -> &A {
        state.get().expect("a state goes back only to the rules that made it")
    }
}

impl<A: Aggregate> Rules for Typed<A> {
    fn stream(&self) -> &str {
        A::STREAM
    }

    fn contract(&self, schemas: &mut Schemas) -> Contract {
        schemas.contract::<A>()
    }

    fn blank(&self) -> State {
        State::new(A::default())
    }

    fn decide(&self, state: &State, command: &Message, context: &Context) -> Result<Decided, Rejection> {
        let before = Self::state(state);
        let command = command.read().map_err(|unreadable| Rejection::new("malformed", unreadable.to_string()))?;
        let decision = before.decide(command, context).map_err(|refusal| Rejection::of(&refusal))?;
        if decision.events.is_empty() {
            return Ok(Decided { events: Vec::new(), also: decision.also, next: state.clone() });
        }
        let mut next = before.clone();
        let mut events = Vec::with_capacity(decision.events.len());
        for event in decision.events {
            let message = Message::split(&event);
            let version = version(A::LIFTS, &message.name);
            events.push((message, version));
            next.evolve(event);
        }
        Ok(Decided { events, also: decision.also, next: State::new(next) })
    }

    fn evolve(&self, state: &mut State, event: Recorded<'_>) -> Result<(), Unreadable> {
        let event = read_event::<A>(event)?;
        // A state that nobody else holds is changed in place; a shared one is copied first.
        if let Some(mine) = Arc::get_mut(&mut state.0).and_then(|state| state.downcast_mut::<A>()) {
            mine.evolve(event);
        } else {
            let mut next = Self::state(state).clone();
            next.evolve(event);
            *state = State::new(next);
        }
        Ok(())
    }

    fn show(&self, state: &State) -> Value {
        serde_json::to_value(Self::state(state)).unwrap_or_default()
    }

    fn revive(&self, shown: Value) -> Result<State, Unreadable> {
        let state: A = serde_json::from_value(shown)
            .map_err(|cause| Unreadable { name: A::STREAM.into(), cause: cause.to_string() })?;
        Ok(State::new(state))
    }

    fn location(&self, state: &State) -> Option<LocationId> {
        Self::state(state).location()
    }

    fn is_within(&self, state: &State, scope: &Scope) -> bool {
        Self::state(state).is_within(scope)
    }
}
