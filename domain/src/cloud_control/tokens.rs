//! The tokens that somebody was issued: who may act by a token is on the record, and so is that one was taken back. The
//! tokens themselves are signed outside the ledger and never enter it.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kernel::{Context, Id, LocationId, Timestamp};

/// How many tokens of one bearer are good at a time.
pub const TOKENS_MAX: usize = 100;

/// Names a token, which is no aggregate: what is known of it its bearer knows.
pub enum Token {}

/// A token's id: its `jti`.
pub type TokenId = Id<Token>;

/// A token that is to be issued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct NewToken {
    /// Its id.
    pub token: TokenId,
    /// The branches that it is narrowed down to; none of its bearer's are left out where there is no list.
    #[serde(default)]
    pub locations: Option<BTreeSet<LocationId>>,
    /// The first moment at which it is no longer good.
    pub expires: Timestamp,
}

/// A token that was issued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct IssuedToken {
    /// Its id.
    pub token: TokenId,
    /// The branches that it is narrowed down to; none of its bearer's are left out where there is no list.
    pub locations: Option<BTreeSet<LocationId>>,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// The first moment at which it is no longer good.
    pub expires: Timestamp,
}

/// The tokens of one bearer that are good, as far as is known without a clock: those that have run out are forgotten when
/// another is issued.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct Tokens(BTreeMap<TokenId, IssuedToken>);

/// Why a token cannot be issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotIssued {
    /// It would have run out already.
    RunOut,
    /// As many are good as may be.
    TooMany,
}

impl Tokens {
    /// The token as it is issued; nothing where it was before.
    pub fn issue(&self, new: NewToken, context: &Context) -> Result<Option<IssuedToken>, NotIssued> {
        let NewToken { token, locations, expires } = new;
        if self.0.contains_key(&token) {
            return Ok(None);
        }
        if expires <= context.now {
            return Err(NotIssued::RunOut);
        }
        if self.0.values().filter(|known| known.expires > context.now).count() >= TOKENS_MAX {
            return Err(NotIssued::TooMany);
        }
        Ok(Some(IssuedToken { token, locations, issued_at: context.now, expires }))
    }

    /// Takes in a token that was issued.
    pub fn put(&mut self, issued: IssuedToken) {
        self.0.retain(|_, known| known.expires > issued.issued_at);
        self.0.insert(issued.token, issued);
    }

    /// Takes a token away.
    pub fn remove(&mut self, token: TokenId) {
        self.0.remove(&token);
    }

    /// What is known of a token that was issued and not revoked.
    pub fn get(&self, token: TokenId) -> Option<&IssuedToken> {
        self.0.get(&token)
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &IssuedToken> {
        self.0.values()
    }
}
