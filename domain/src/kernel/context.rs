//! All that a decision may know beside its state.

use std::{fmt, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{CommandId, CompanyId, Id, LocationId, Scope, Seconds, ServiceAccountId, Settings, Timestamp, UserId};

/// Who gave a command: exactly one of a user or a service account in a role, a trigger, a deadline that ran out, or a tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub enum Actor {
    /// A person who signed in.
    User {
        /// Who.
        user: UserId,
        /// In which role.
        role: String,
    },
    /// A program that signed in.
    ServiceAccount {
        /// Which.
        service_account: ServiceAccountId,
        /// In which role.
        role: String,
    },
    /// A rule that answered an entry.
    Trigger {
        /// The trigger's name.
        trigger: String,
    },
    /// A rule that waited for something that did not come.
    Deadline {
        /// The trigger that had set it.
        deadline: String,
    },
    /// An operator's tool, such as an import.
    Tool {
        /// The tool's name.
        tool: String,
    },
}

impl Actor {
    /// A tool of this name.
    pub fn tool(name: &str) -> Self {
        Self::Tool { tool: name.into() }
    }

    /// The role of who signed in, which bounds what they may give.
    pub fn role(&self) -> Option<&str> {
        match self {
            Self::User { role, .. } | Self::ServiceAccount { role, .. } => Some(role),
            Self::Trigger { .. } | Self::Deadline { .. } | Self::Tool { .. } => None,
        }
    }

    /// Whether a tool did it: old records brought in by one are not held to the clock, and wake nobody.
    pub fn is_tool(&self) -> bool {
        matches!(self, Self::Tool { .. })
    }
}

/// One text an actor, the same for every command of theirs, whatever their role is that day.
impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User { user, .. } => write!(f, "user:{user}"),
            Self::ServiceAccount { service_account, .. } => write!(f, "service_account:{service_account}"),
            Self::Trigger { trigger } => write!(f, "trigger:{trigger}"),
            Self::Deadline { deadline } => write!(f, "deadline:{deadline}"),
            Self::Tool { tool } => write!(f, "tool:{tool}"),
        }
    }
}

/// What a decision may know beside the state of its aggregate. There is no other clock and no other randomness.
#[derive(Clone, Debug)]
pub struct Context {
    /// Whose ledger it goes to.
    pub company: CompanyId,
    /// The aggregate's own id.
    pub stream_id: uuid::Uuid,
    /// The command being decided.
    pub command: CommandId,
    /// Who gave it.
    pub actor: Actor,
    /// How far the sender may see and act. A trigger, a deadline and a tool reach everything.
    pub scope: Arc<Scope>,
    /// The branch that it was given in, where one was named.
    pub location: Option<LocationId>,
    /// The server's time.
    pub now: Timestamp,
    /// The company's settings.
    pub settings: Arc<Settings>,
}

/// A device's time is too far from the server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfTime {
    /// The latest time that would have been taken.
    pub latest: Timestamp,
    /// The earliest.
    pub earliest: Timestamp,
}

impl Context {
    /// The `nth` new id of this command: a retry gets the same.
    pub fn id<T>(&self, nth: u32) -> Id<T> {
        Id::derived(&[b"new", self.command.uuid().as_bytes(), self.stream_id.as_bytes(), &nth.to_be_bytes()])
    }

    /// The aggregate's own id, typed.
    pub fn me<T>(&self) -> Id<T> {
        Id::new(self.stream_id)
    }

    /// When something happened, as a device says: now where it says nothing, and refused where it is too far ahead of
    /// the server or behind it. A tool that brings in old records is not held to this.
    pub fn occurred(&self, at: Option<Timestamp>) -> Result<Timestamp, OutOfTime> {
        let at = at.unwrap_or(self.now);
        let (earliest, latest) = (
            self.now.minus(Seconds(self.settings.device_time.behind_max_seconds)),
            self.now.plus(Seconds(self.settings.device_time.ahead_max_seconds)),
        );
        if self.actor.is_tool() || (earliest..=latest).contains(&at) {
            Ok(at)
        } else {
            Err(OutOfTime { latest, earliest })
        }
    }
}
