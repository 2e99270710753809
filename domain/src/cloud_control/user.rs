//! Somebody who signs in: in which role, and for which branches.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::roles::ROLES;
use crate::kernel::{Actor, Aggregate, Context, Decision, Email, Lifespan, LocationId, Name, Personal};

/// What may be asked about a user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Invite somebody.
    Invite(Invitation),
    /// Take up one's own invitation.
    Accept,
    /// Give them another role, or other branches.
    ChangeRole(Duties),
    /// Keep them out for now.
    Lock {
        /// Why.
        #[schemars(length(min = 1, max = 500))]
        reason: String,
    },
    /// Let them in again.
    Unlock,
    /// Keep them out for good.
    Remove,
}

/// What happened to a user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// They were invited.
    Invited(Invitation),
    /// They took up the invitation.
    Accepted,
    /// They were given another role, or other branches.
    RoleChanged(Duties),
    /// They are kept out for now.
    Locked {
        /// Why.
        reason: String,
    },
    /// They are let in again.
    Unlocked,
    /// They are kept out for good.
    Removed,
}

/// Why not.
#[derive(Clone, Debug, Serialize, JsonSchema, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// Nobody was invited under this id.
    #[error("nobody has been invited under this id")]
    NotInvited,
    /// Somebody was invited under this id before.
    #[error("somebody has been invited under this id before")]
    AlreadyInvited,
    /// They were removed.
    #[error("the user has been removed")]
    Removed,
    /// They are kept out for now.
    #[error("the user is locked: {reason}")]
    Locked {
        /// Why.
        reason: String,
    },
    /// There is no such role.
    #[error("there is no role {role}")]
    UnknownRole {
        /// What was given.
        role: String,
    },
    /// Only the invited person can take up an invitation.
    #[error("only the invited person can take up an invitation")]
    NotYours,
    /// Nobody changes their own role, locks or removes themselves.
    #[error("nobody can do this to themselves")]
    Yourself,
}

/// Who is invited, to do what, and where.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Invitation {
    /// Their name.
    pub name: Personal<Name>,
    /// Their e-mail address.
    pub email: Personal<Email>,
    /// One of the roles.
    #[schemars(length(min = 1, max = 40), extend("examples" = ["dispatcher"]))]
    pub role: String,
    /// The branches that they are bound to; all where there is no list.
    pub locations: Option<BTreeSet<LocationId>>,
}

/// What somebody may do, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Duties {
    /// One of the roles.
    #[schemars(length(min = 1, max = 40), extend("examples" = ["dispatcher"]))]
    pub role: String,
    /// The branches that they are bound to; all where there is no list.
    pub locations: Option<BTreeSet<LocationId>>,
}

/// Somebody who signs in.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct User {
    invitation: Option<Invitation>,
    accepted: bool,
    locked: Option<String>,
    removed: bool,
}

type Outcome = Result<Decision<Event>, Refusal>;

impl Aggregate for User {
    const STREAM: &'static str = "user";
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn decide(&self, command: Command, context: &Context) -> Outcome {
        match command {
            Command::Invite(invitation) => self.invite(invitation),
            Command::Accept => self.accept(context),
            Command::ChangeRole(duties) => self.change_role(duties, context),
            Command::Lock { reason } => self.lock(reason, context),
            Command::Unlock => self.unlock(),
            Command::Remove => self.remove(context),
        }
    }

    fn evolve(&mut self, event: Event) {
        match event {
            Event::Invited(invitation) => self.invitation = Some(invitation),
            Event::Accepted => self.accepted = true,
            Event::RoleChanged(duties) => self.take_duties(duties),
            Event::Locked { reason } => self.locked = Some(reason),
            Event::Unlocked => self.locked = None,
            Event::Removed => self.removed = true,
        }
    }
}

impl User {
    /// What they may do, and where, once they were invited.
    pub fn duties(&self) -> Option<Duties> {
        let Invitation { role, locations, .. } = self.invitation.as_ref()?;
        Some(Duties { role: role.clone(), locations: locations.clone() })
    }

    /// Whether they took up the invitation.
    pub fn has_accepted(&self) -> bool {
        self.accepted
    }

    /// Whether they are kept out for now.
    pub fn is_locked(&self) -> bool {
        self.locked.is_some()
    }

    /// Whether they are kept out for good.
    pub fn is_removed(&self) -> bool {
        self.removed
    }

    fn invite(&self, invitation: Invitation) -> Outcome {
        self.life().begin(invitation, Refusal::AlreadyInvited, |invitation| {
            known_role(&invitation.role)?;
            Ok(Event::Invited(invitation))
        })
    }

    fn life(&self) -> Lifespan<'_, Invitation> {
        Lifespan::of(self.invitation.as_ref(), self.removed)
    }

    fn known(&self) -> Result<&Invitation, Refusal> {
        self.life().lasts(Refusal::NotInvited, Refusal::Removed)
    }

    fn accept(&self, context: &Context) -> Outcome {
        self.known()?;
        if !(is_me(context) || context.actor.is_tool()) {
            return Err(Refusal::NotYours);
        }
        match &self.locked {
            Some(reason) => Err(Refusal::Locked { reason: reason.clone() }),
            None if self.accepted => Ok(Decision::nothing()),
            None => Ok(Event::Accepted.into()),
        }
    }

    fn change_role(&self, duties: Duties, context: &Context) -> Outcome {
        let Invitation { role, locations, .. } = self.known()?;
        let known = *role == duties.role && *locations == duties.locations;
        not_me(context)?;
        known_role(&duties.role)?;
        Ok(Decision::unless(known, Event::RoleChanged(duties)))
    }

    fn take_duties(&mut self, Duties { role, locations }: Duties) {
        if let Some(invitation) = &mut self.invitation {
            (invitation.role, invitation.locations) = (role, locations);
        }
    }

    fn lock(&self, reason: String, context: &Context) -> Outcome {
        self.known()?;
        not_me(context)?;
        Ok(Decision::unless(self.locked.is_some(), Event::Locked { reason }))
    }

    fn unlock(&self) -> Outcome {
        self.known()?;
        Ok(Decision::unless(self.locked.is_none(), Event::Unlocked))
    }

    fn remove(&self, context: &Context) -> Outcome {
        let removed = self.life().end(Refusal::NotInvited, Event::Removed)?;
        not_me(context)?;
        Ok(removed)
    }
}

fn is_me(context: &Context) -> bool {
    matches!(&context.actor, Actor::User { user, .. } if *user == context.me())
}

fn not_me(context: &Context) -> Result<(), Refusal> {
    if is_me(context) { Err(Refusal::Yourself) } else { Ok(()) }
}

fn known_role(role: &str) -> Result<(), Refusal> {
    if ROLES.contains(&role) { Ok(()) } else { Err(Refusal::UnknownRole { role: role.into() }) }
}

#[cfg(test)]
mod tests;
