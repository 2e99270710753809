//! What a decision is: events, and commands that it carries for other aggregates of the company.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{Aggregate, Id, Message};

/// The events that one command leaves behind, and the commands that it carries. No events is a decision too: "it was so
/// already".
#[derive(Debug)]
pub struct Decision<E> {
    /// What happened, in order.
    pub events: Vec<E>,
    /// What others must decide for this to stand.
    pub also: Vec<Also>,
}

impl<E> Decision<E> {
    /// Nothing to record.
    pub fn nothing() -> Self {
        Self { events: Vec::new(), also: Vec::new() }
    }

    /// This event, unless it is so already.
    pub fn unless(already: bool, event: E) -> Self {
        if already { Self::nothing() } else { event.into() }
    }

    /// Carries these commands too. Their owners decide them; a refusal there refuses the whole, unless the carried
    /// command says what is to be done [`instead`](Also::or).
    #[must_use]
    pub fn also(mut self, commands: impl IntoIterator<Item = Also>) -> Self {
        self.also.extend(commands);
        self
    }
}

impl<E> From<E> for Decision<E> {
    fn from(event: E) -> Self {
        Self { events: vec![event], also: Vec::new() }
    }
}
impl<E> From<Vec<E>> for Decision<E> {
    fn from(events: Vec<E>) -> Self {
        Self { events, also: Vec::new() }
    }
}

/// A command for another aggregate of the same company, decided and recorded with the one that carries it, or not at all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Also {
    /// The kind of aggregate.
    pub stream: String,
    /// Which one.
    pub id: Uuid,
    /// What it is asked.
    pub command: Message,
    /// The asker's own command that is given where this one is refused; its fields are the rejection.
    pub instead: Option<String>,
}

impl Also {
    /// `command` for the aggregate `id`. Only a command that fits compiles.
    pub fn to<A: Aggregate>(id: Id<A>, command: A::Command) -> Self {
        Self { stream: A::STREAM.into(), id: id.uuid(), command: Message::split(&command), instead: None }
    }

    /// Where this is refused, the asker is given its own command `instead`, a variant around the rejection, and the rest
    /// stands.
    #[must_use]
    pub fn or<C: Serialize>(mut self, instead: fn(Rejection) -> C) -> Self {
        self.instead = Some(Message::split(&instead(Rejection::new("", ""))).name);
        self
    }
}

/// The rule said no. A stable code, a sentence, and the facts that it rests on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Rejection {
    /// The refusal's name in snake case, such as `crew_member_reserved`.
    pub code: String,
    /// What to tell a person.
    pub message: String,
    /// The refusal's fields.
    #[serde(default)]
    pub facts: Value,
    /// Which aggregate refused, where it was not the one that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

impl Rejection {
    /// A rejection without facts.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), facts: Value::Object(serde_json::Map::new()), by: None }
    }

    /// A refusal as data: the variant is the code, its fields are the facts.
    pub fn of(refusal: &(impl Serialize + std::fmt::Display)) -> Self {
        let Message { name, fields } = Message::split(refusal);
        let facts = serde_json::from_str(fields.get()).unwrap_or_default();
        Self { code: name, message: refusal.to_string(), facts, by: None }
    }
}
