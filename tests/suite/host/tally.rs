//! An aggregate for tests: it adds up, and it asks others to.

use cnc_domain::kernel::{
    Aggregate, Also, Context, Decision, Id, LocationId, Module, Name, Personal, Rejection, aggregate,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What may be asked of a tally.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    Add {
        by: i64,
        most: Option<i64>,
    },
    /// Adds to others, in order, and to itself.
    Spread {
        to: Vec<Id<Tally>>,
        by: i64,
        most: Option<i64>,
        forgiving: bool,
    },
    Refuse(Rejection),
    /// Nothing where there is nothing.
    Clear,
    Open {
        location: LocationId,
    },
    Call {
        name: Personal<Name>,
    },
    Circle,
    /// Notes down what the company has set.
    Note,
    Hidden,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    Added { by: i64 },
    Refused { by: Option<String>, code: String },
    Cleared,
    Opened { location: LocationId },
    Called { name: Personal<Name> },
    Noted { silence_max_minutes: u32 },
}

#[derive(Serialize, JsonSchema, thiserror::Error, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    #[error("{total} is too much")]
    TooMuch { total: i64 },
}

#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct Tally {
    total: i64,
    refused: Vec<String>,
    location: Option<LocationId>,
    name: Option<Personal<Name>>,
}

impl Tally {
    /// What it comes to.
    pub fn total(&self) -> i64 {
        self.total
    }
}

impl Aggregate for Tally {
    const STREAM: &'static str = "tally";
    const INTERNAL: &'static [&'static str] = &["hidden"];
    const BEGINNING: &'static [&'static str] = &["add", "call", "circle", "clear", "note", "open", "refuse", "spread"];
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn decide(&self, command: Command, context: &Context) -> Result<Decision<Event>, Refusal> {
        match command {
            Command::Add { by, most } if most.is_some_and(|most| self.total + by > most) => {
                Err(Refusal::TooMuch { total: self.total + by })
            }
            Command::Add { by, .. } => Ok(Event::Added { by }.into()),
            Command::Spread { to, by, most, forgiving } => {
                Ok(Decision::from(Event::Added { by }).also(to.into_iter().map(|id| {
                    let also = Also::to::<Self>(id, Command::Add { by, most });
                    if forgiving { also.or(Command::Refuse) } else { also }
                })))
            }
            Command::Refuse(rejection) => Ok(Event::Refused { by: rejection.by, code: rejection.code }.into()),
            Command::Clear if self.total == 0 => Ok(Decision::nothing()),
            Command::Clear => Ok(Event::Cleared.into()),
            Command::Open { location } => Ok(Event::Opened { location }.into()),
            Command::Call { name } => Ok(Event::Called { name }.into()),
            Command::Circle => {
                Ok(Decision::from(Event::Added { by: 1 }).also([Also::to::<Self>(context.me(), Command::Circle)]))
            }
            Command::Note => {
                Ok(Event::Noted { silence_max_minutes: context.settings.board.silence_max_minutes }.into())
            }
            Command::Hidden => Ok(Decision::nothing()),
        }
    }

    fn evolve(&mut self, event: Event) {
        match event {
            Event::Added { by } => self.total += by,
            Event::Refused { by, code } => self.refused.push(format!("{code} by {}", by.unwrap_or_default())),
            Event::Cleared => self.total = 0,
            Event::Opened { location } => self.location = Some(location),
            Event::Called { name } => self.name = Some(name),
            Event::Noted { .. } => {}
        }
    }

    fn location(&self) -> Option<LocationId> {
        self.location
    }
}

pub static TALLIES: Module =
    Module { name: "tallies", about: "For tests.", aggregates: &[aggregate::<Tally>()], triggers: &[] };
