//! Somebody who signs in: in which role, and for which branches.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    reach::{OutOfReach, is_seen, may_give},
    tokens::{IssuedToken, NewToken, NotIssued, TOKENS_MAX, TokenId, Tokens},
};
use crate::crew_customer::{CrewMember, crew_member};
use crate::kernel::{
    Actor, Aggregate, Also, Context, Decision, Email, Id, Lifespan, LocationId, Name, OutOfScope, Personal, Scope,
};

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
    /// Issue them a token: for the operator's tool, which signs it.
    IssueToken(NewToken),
    /// Take a token back.
    RevokeToken {
        /// Which.
        token: TokenId,
    },
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
    /// They were issued a token.
    TokenIssued(IssuedToken),
    /// A token was taken back.
    TokenRevoked {
        /// Which.
        token: TokenId,
    },
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
    /// The role may do more than the sender's own.
    #[error("the role {role} may do more than yours, {yours}")]
    AboveYourRole {
        /// The role that is above.
        role: String,
        /// The sender's.
        yours: String,
    },
    /// It concerns more branches than those that the sender is bound to.
    #[error("this concerns more branches than those that you are bound to")]
    OutsideYourBranches {
        /// The branches that the sender is bound to.
        yours: BTreeSet<LocationId>,
    },
    /// Only the invited person can take up an invitation.
    #[error("only the invited person can take up an invitation")]
    NotYours,
    /// The token would have run out already.
    #[error("a token must run out later than now")]
    TokenRunOut,
    /// As many tokens are good as may be.
    #[error("at most {limit} tokens can be good at a time; revoke some first")]
    TooManyTokens {
        /// How many.
        limit: usize,
    },
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
    /// Who they are in the field, where they work there: a driver or a mover sees and does what concerns the journeys that
    /// this crew member rides along with.
    #[serde(default)]
    pub crew_member: Option<Id<CrewMember>>,
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
    /// Who they are in the field, where they work there.
    #[serde(default)]
    pub crew_member: Option<Id<CrewMember>>,
}

/// Somebody who signs in.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct User {
    invitation: Option<Invitation>,
    accepted: bool,
    locked: Option<String>,
    removed: bool,
    #[serde(default)]
    tokens: Tokens,
}

type Outcome = Result<Decision<Event>, Refusal>;

impl Aggregate for User {
    const STREAM: &'static str = "user";
    const INTERNAL: &'static [&'static str] = &["issue_token"];
    const BEGINNING: &'static [&'static str] = &["invite"];
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn decide(&self, command: Command, context: &Context) -> Outcome {
        match command {
            Command::Invite(invitation) => self.invite(invitation, context),
            Command::Accept => self.accept(context),
            Command::ChangeRole(duties) => self.change_role(duties, context),
            Command::Lock { reason } => self.lock(reason, context),
            Command::Unlock => self.unlock(context),
            Command::Remove => self.remove(context),
            Command::IssueToken(token) => self.issue_token(token, context),
            Command::RevokeToken { token } => self.revoke_token(token, context),
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
            Event::TokenIssued(token) => self.tokens.put(token),
            Event::TokenRevoked { token } => self.tokens.remove(token),
        }
    }

    fn is_within(&self, scope: &Scope) -> bool {
        is_seen(self.invitation.as_ref().and_then(|invitation| invitation.locations.as_ref()), scope)
    }
}

impl User {
    /// What they may do, and where, once they were invited.
    pub fn duties(&self) -> Option<Duties> {
        self.invitation.as_ref().map(Invitation::duties)
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

    /// The tokens that they were issued.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    fn invite(&self, invitation: Invitation, context: &Context) -> Outcome {
        let links = links(None, invitation.crew_member, context);
        let invited = self.life().begin(invitation, Refusal::AlreadyInvited, |invitation| {
            may_give(&invitation.role, invitation.locations.as_ref(), context)?;
            Ok(Event::Invited(invitation))
        })?;
        Ok(carrying(invited, links))
    }

    fn life(&self) -> Lifespan<'_, Invitation> {
        Lifespan::of(self.invitation.as_ref(), self.removed)
    }

    fn known(&self) -> Result<&Invitation, Refusal> {
        self.life().lasts(Refusal::NotInvited, Refusal::Removed)
    }

    /// Refuses to touch whoever may do more, or in more branches, than the sender.
    fn governed(&self, context: &Context) -> Result<&Invitation, Refusal> {
        let invitation = self.known()?;
        may_give(&invitation.role, invitation.locations.as_ref(), context)?;
        Ok(invitation)
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
        let before = self.governed(context)?.duties();
        not_me(context)?;
        may_give(&duties.role, duties.locations.as_ref(), context)?;
        let links = links(before.crew_member, duties.crew_member, context);
        Ok(carrying(Decision::unless(before == duties, Event::RoleChanged(duties)), links))
    }

    fn take_duties(&mut self, Duties { role, locations, crew_member }: Duties) {
        if let Some(invitation) = &mut self.invitation {
            (invitation.role, invitation.locations, invitation.crew_member) = (role, locations, crew_member);
        }
    }

    fn lock(&self, reason: String, context: &Context) -> Outcome {
        self.governed(context)?;
        not_me(context)?;
        Ok(Decision::unless(self.locked.is_some(), Event::Locked { reason }))
    }

    fn unlock(&self, context: &Context) -> Outcome {
        self.governed(context)?;
        Ok(Decision::unless(self.locked.is_none(), Event::Unlocked))
    }

    fn remove(&self, context: &Context) -> Outcome {
        let removed = self.life().end(Refusal::NotInvited, Event::Removed)?;
        not_me(context)?;
        if self.removed {
            return Ok(removed);
        }
        let crew_member = self.governed(context)?.crew_member;
        Ok(carrying(removed, links(crew_member, None, context)))
    }

    fn issue_token(&self, new: NewToken, context: &Context) -> Outcome {
        self.governed(context)?;
        Ok(self.tokens.issue(new, context)?.map_or_else(Decision::nothing, |token| Event::TokenIssued(token).into()))
    }

    fn revoke_token(&self, token: TokenId, context: &Context) -> Outcome {
        self.governed(context)?;
        Ok(Decision::unless(self.tokens.get(token).is_none(), Event::TokenRevoked { token }))
    }
}

impl Invitation {
    fn duties(&self) -> Duties {
        let Self { role, locations, crew_member, .. } = self.clone();
        Duties { role, locations, crew_member }
    }
}

/// What crew members must be told where somebody is one no more, or is one from now on: that is theirs to decide, too.
fn links(before: Option<Id<CrewMember>>, after: Option<Id<CrewMember>>, context: &Context) -> Vec<Also> {
    let user = context.me();
    if before == after {
        return Vec::new();
    }
    let unlink = before.map(|member| Also::to(member, crew_member::Command::UnlinkUser { user }));
    unlink.into_iter().chain(after.map(|member| Also::to(member, crew_member::Command::LinkUser { user }))).collect()
}

/// Carries commands only where something happened.
fn carrying(decision: Decision<Event>, commands: Vec<Also>) -> Decision<Event> {
    if decision.events.is_empty() { decision } else { decision.also(commands) }
}

fn is_me(context: &Context) -> bool {
    matches!(&context.actor, Actor::User { user, .. } if *user == context.me())
}

fn not_me(context: &Context) -> Result<(), Refusal> {
    if is_me(context) { Err(Refusal::Yourself) } else { Ok(()) }
}

impl From<OutOfReach> for Refusal {
    fn from(out: OutOfReach) -> Self {
        match out {
            OutOfReach::UnknownRole(role) => Self::UnknownRole { role },
            OutOfReach::Role { role, yours } => Self::AboveYourRole { role, yours },
            OutOfReach::Branches(OutOfScope { yours }) => Self::OutsideYourBranches { yours },
        }
    }
}

impl From<NotIssued> for Refusal {
    fn from(not_issued: NotIssued) -> Self {
        match not_issued {
            NotIssued::RunOut => Self::TokenRunOut,
            NotIssued::TooMany => Self::TooManyTokens { limit: TOKENS_MAX },
        }
    }
}

#[cfg(test)]
mod tests;
