//! A program that signs in under a name of its own: in which role, and for which branches.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    reach::{OutOfReach, is_seen, may_give},
    tokens::{IssuedToken, NewToken, NotIssued, TOKENS_MAX, TokenId, Tokens},
};
use crate::kernel::{Aggregate, Context, Decision, Lifespan, LocationId, OutOfScope, Scope};

/// What may be asked about a service account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Let a program sign in.
    Register(Registration),
    /// Keep it out for good.
    Retire,
    /// Issue it a token: for the operator's tool, which signs it.
    IssueToken(NewToken),
    /// Take a token back.
    RevokeToken {
        /// Which.
        token: TokenId,
    },
}

/// What happened to a service account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A program may sign in.
    Registered(Registration),
    /// It is kept out for good.
    Retired,
    /// It was issued a token.
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
    /// There is no such service account.
    #[error("no service account has been registered under this id")]
    NotRegistered,
    /// One was registered under this id before, otherwise.
    #[error("a service account has been registered under this id before")]
    AlreadyRegistered,
    /// It was retired.
    #[error("the service account has been retired")]
    Retired,
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
    /// The token would have run out already.
    #[error("a token must run out later than now")]
    TokenRunOut,
    /// As many tokens are good as may be.
    #[error("at most {limit} tokens can be good at a time; revoke some first")]
    TooManyTokens {
        /// How many.
        limit: usize,
    },
}

/// What a service account is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Registration {
    /// What the program is called.
    #[schemars(length(min = 1, max = 100))]
    pub name: String,
    /// One of the roles.
    #[schemars(length(min = 1, max = 40), extend("examples" = ["auditor"]))]
    pub role: String,
    /// The branches that it is bound to; all where there is no list.
    pub locations: Option<BTreeSet<LocationId>>,
}

/// A program that signs in under a name of its own.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ServiceAccount {
    registration: Option<Registration>,
    retired: bool,
    tokens: Tokens,
}

type Outcome = Result<Decision<Event>, Refusal>;

impl Aggregate for ServiceAccount {
    const STREAM: &'static str = "service_account";
    const INTERNAL: &'static [&'static str] = &["issue_token"];
    const BEGINNING: &'static [&'static str] = &["register"];
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn decide(&self, command: Command, context: &Context) -> Outcome {
        match command {
            Command::Register(registration) => self.register(registration, context),
            Command::Retire => self.retire(context),
            Command::IssueToken(token) => self.issue_token(token, context),
            Command::RevokeToken { token } => self.revoke_token(token, context),
        }
    }

    fn evolve(&mut self, event: Event) {
        match event {
            Event::Registered(registration) => self.registration = Some(registration),
            Event::Retired => self.retired = true,
            Event::TokenIssued(token) => self.tokens.put(token),
            Event::TokenRevoked { token } => self.tokens.remove(token),
        }
    }

    fn is_within(&self, scope: &Scope) -> bool {
        is_seen(self.registration.as_ref().and_then(|registration| registration.locations.as_ref()), scope)
    }
}

impl ServiceAccount {
    /// What it is, once it was registered.
    pub fn registration(&self) -> Option<&Registration> {
        self.registration.as_ref()
    }

    /// Whether it is kept out for good.
    pub fn is_retired(&self) -> bool {
        self.retired
    }

    /// The tokens that it was issued.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    fn life(&self) -> Lifespan<'_, Registration> {
        Lifespan::of(self.registration.as_ref(), self.retired)
    }

    /// Refuses to touch what may do more, or in more branches, than the sender.
    fn governed(&self, context: &Context) -> Result<(), Refusal> {
        let Registration { role, locations, .. } = self.life().lasts(Refusal::NotRegistered, Refusal::Retired)?;
        Ok(may_give(role, locations.as_ref(), context)?)
    }

    fn register(&self, registration: Registration, context: &Context) -> Outcome {
        self.life().begin(registration, Refusal::AlreadyRegistered, |registration| {
            may_give(&registration.role, registration.locations.as_ref(), context)?;
            Ok(Event::Registered(registration))
        })
    }

    fn retire(&self, context: &Context) -> Outcome {
        if !self.retired {
            self.governed(context)?;
        }
        self.life().end(Refusal::NotRegistered, Event::Retired)
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
