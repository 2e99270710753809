//! The trait that every aggregate implements, and the lifts of its old events.

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::{Context, Decision, LocationId, Scope};

/// Three enums and two functions: what may be asked, what happened, why it was refused; deciding and evolving.
///
/// Both functions are pure: everything that they may know is an argument.
pub trait Aggregate: Default + Clone + Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static {
    /// Its name in entries, routes, subjects and schemas, in snake case.
    const STREAM: &'static str;
    /// Old event shapes, oldest first. An event's version is 1 plus the lifts that name it.
    const LIFTS: &'static [Lift] = &[];
    /// Commands (in snake case) that have no public route: only other decisions, triggers, deadlines and tools give them.
    const INTERNAL: &'static [&'static str] = &[];
    /// Commands that begin it. Any other is answered, where it does not exist, as if it belonged to branches of others.
    const BEGINNING: &'static [&'static str];
    /// Commands that the work of other branches may carry: what is lent between them is asked for by these.
    const LENDING: &'static [&'static str] = &[];

    /// What it may be asked.
    type Command: Serialize + DeserializeOwned + JsonSchema;
    /// What happened to it.
    type Event: Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static;
    /// Why it said no: the variant is the code, its fields are the facts.
    type Refusal: Serialize + std::fmt::Display + JsonSchema;

    /// What the command leads to, or why not.
    fn decide(&self, command: Self::Command, context: &Context) -> Result<Decision<Self::Event>, Self::Refusal>;

    /// The state after the event.
    fn evolve(&mut self, event: Self::Event);

    /// The branch that it belongs to, where it has one. Its entries carry it, and who is bound to other branches learns
    /// nothing of it.
    fn location(&self) -> Option<LocationId> {
        None
    }

    /// Whether somebody who reaches so far may see it and act on it.
    fn is_within(&self, scope: &Scope) -> bool {
        scope.covers(self.location())
    }
}

/// How an event of an old shape becomes one of the next.
#[derive(Clone, Copy)]
pub struct Lift {
    /// The event's name.
    pub event: &'static str,
    /// From the old fields to the new.
    pub apply: fn(Map<String, Value>) -> Map<String, Value>,
}

/// The version that `event` is recorded at now.
pub fn version(lifts: &[Lift], event: &str) -> u32 {
    1 + u32::try_from(lifts.iter().filter(|lift| lift.event == event).count()).unwrap_or(u32::MAX - 1)
}

/// Lifts fields that were recorded at `version` to the newest shape.
pub fn lift(lifts: &[Lift], event: &str, version: u32, fields: Map<String, Value>) -> Map<String, Value> {
    let newer = lifts.iter().filter(|lift| lift.event == event).skip(version.saturating_sub(1) as usize);
    newer.fold(fields, |fields, lift| (lift.apply)(fields))
}
