//! A branch of a company: where its yard is, and what time and law hold there.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kernel::{Aggregate, Context, Decision, LatE7, Lifespan, LocationId, LonE7, OutOfScope, Province};

/// What a branch may be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Open it.
    Open(Opening),
    /// Give it another name.
    Rename {
        /// The name.
        #[schemars(length(min = 1, max = 200))]
        name: String,
    },
    /// Close it for good.
    Close {
        /// Why.
        #[schemars(length(min = 1, max = 500))]
        reason: String,
    },
}

/// What happened to a branch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// It was opened.
    Opened {
        /// Its own id, so that its entries belong to it.
        location: LocationId,
        /// Its name.
        name: String,
        /// Where it is, for tax and labour law.
        province: Province,
        /// The IANA name of its time zone.
        timezone: String,
        /// Where its trucks stand at night.
        yard: Yard,
    },
    /// It was given another name.
    Renamed {
        /// The name.
        name: String,
    },
    /// It was closed for good.
    Closed {
        /// Why.
        reason: String,
    },
}

/// Why a branch says no.
#[derive(Clone, Debug, Serialize, JsonSchema, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// There is no such branch yet.
    #[error("the location has not been opened")]
    NotOpened,
    /// It was opened before, otherwise.
    #[error("the location has been opened before")]
    AlreadyOpened,
    /// It is closed.
    #[error("the location is closed")]
    Closed,
    /// Branches are opened and closed for the whole company, and the sender is bound to some.
    #[error("branches are opened and closed for the whole company, and you are bound to some")]
    OutsideYourBranches {
        /// The branches that the sender is bound to.
        yours: BTreeSet<LocationId>,
    },
    /// The time zone does not have the form of one.
    #[error("{timezone} is not the name of a time zone, such as America/Toronto")]
    UnknownTimezone {
        /// What was given.
        timezone: String,
    },
}

/// What a branch is opened with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Opening {
    /// Its name.
    #[schemars(length(min = 1, max = 200))]
    pub name: String,
    /// Where it is, for tax and labour law.
    pub province: Province,
    /// The IANA name of its time zone, such as `America/Toronto`.
    #[schemars(length(min = 3, max = 60), extend("examples" = ["America/Toronto"]))]
    pub timezone: String,
    /// Where its trucks stand at night.
    pub yard: Yard,
}

/// The place of a yard. A company's own yard is no personal data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Yard {
    /// Latitude in 1e-7 degrees.
    pub lat_e7: LatE7,
    /// Longitude in 1e-7 degrees.
    pub lon_e7: LonE7,
}

/// A branch of a company.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Location {
    /// Its own id.
    id: Option<LocationId>,
    opening: Option<Opening>,
    closed: bool,
}

type Outcome = Result<Decision<Event>, Refusal>;

impl Aggregate for Location {
    const STREAM: &'static str = "location";
    const BEGINNING: &'static [&'static str] = &["open"];
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn decide(&self, command: Command, context: &Context) -> Outcome {
        match command {
            Command::Open(opening) => self.open(opening, context),
            Command::Rename { name } => self.rename(name),
            Command::Close { reason } => self.close(reason, context),
        }
    }

    fn evolve(&mut self, event: Event) {
        match event {
            Event::Opened { location, name, province, timezone, yard } => {
                self.id = Some(location);
                self.opening = Some(Opening { name, province, timezone, yard });
            }
            Event::Renamed { name } => self.take_name(name),
            Event::Closed { .. } => self.closed = true,
        }
    }

    fn location(&self) -> Option<LocationId> {
        self.id
    }
}

impl Location {
    fn life(&self) -> Lifespan<'_, Opening> {
        Lifespan::of(self.opening.as_ref(), self.closed)
    }

    fn open(&self, opening: Opening, context: &Context) -> Outcome {
        context.scope.spans_company()?;
        self.life().begin(opening, Refusal::AlreadyOpened, |Opening { name, province, timezone, yard }| {
            if is_timezone(&timezone) {
                Ok(Event::Opened { location: context.me(), name, province, timezone, yard })
            } else {
                Err(Refusal::UnknownTimezone { timezone })
            }
        })
    }

    fn rename(&self, name: String) -> Outcome {
        let opening = self.life().lasts(Refusal::NotOpened, Refusal::Closed)?;
        Ok(Decision::unless(opening.name == name, Event::Renamed { name }))
    }

    fn take_name(&mut self, name: String) {
        if let Some(opening) = &mut self.opening {
            opening.name = name;
        }
    }

    fn close(&self, reason: String, context: &Context) -> Outcome {
        context.scope.spans_company()?;
        self.life().end(Refusal::NotOpened, Event::Closed { reason })
    }
}

impl From<OutOfScope> for Refusal {
    fn from(OutOfScope { yours }: OutOfScope) -> Self {
        Self::OutsideYourBranches { yours }
    }
}

/// The form of an IANA name. Which names there are changes with the years, and is not for a rule to know.
fn is_timezone(name: &str) -> bool {
    let part = |part: &str| {
        part.starts_with(|letter: char| letter.is_ascii_uppercase())
            && part.chars().all(|letter| letter.is_ascii_alphanumeric() || "_+-".contains(letter))
    };
    name == "UTC" || (name.contains('/') && name.split('/').all(part))
}

#[cfg(test)]
mod tests;
