//! Nobody gives, or takes away, more than they hold: neither a role above theirs nor a branch that is not theirs. The same
//! for everything that acts under a role.

use std::collections::BTreeSet;

use super::roles::{self, ROLES};
use crate::kernel::{Context, LocationId, OutOfScope, Scope};

/// Why somebody may not be given, or deprived of, a role in some branches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutOfReach {
    /// There is no such role.
    UnknownRole(String),
    /// The role may do more than the sender's.
    Role {
        /// The role that is above.
        role: String,
        /// The sender's.
        yours: String,
    },
    /// It concerns branches that the sender is not bound to.
    Branches(OutOfScope),
}

/// Whether the sender may give this role in these branches, in all where there is no list. A tool is the operator's, who
/// holds everything.
pub fn may_give(role: &str, locations: Option<&BTreeSet<LocationId>>, context: &Context) -> Result<(), OutOfReach> {
    if !ROLES.contains(&role) {
        return Err(OutOfReach::UnknownRole(role.into()));
    }
    if let Some(yours) = context.actor.role()
        && !roles::is_at_least(yours, role)
    {
        return Err(OutOfReach::Role { role: role.into(), yours: yours.into() });
    }
    context.scope.spans(locations).map_err(OutOfReach::Branches)
}

/// Whether who is bound to these branches is seen by somebody who reaches so far: in each of their branches, and who is
/// bound to none in all.
pub fn is_seen(bound: Option<&BTreeSet<LocationId>>, scope: &Scope) -> bool {
    match (&scope.locations, bound) {
        (Some(seen), Some(bound)) => !seen.is_disjoint(bound),
        _ => true,
    }
}
