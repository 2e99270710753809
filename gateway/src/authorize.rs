//! One question, asked for every route and every subscription: may this person, in this role, do this, in this company
//! and branch, now? The answer is no unless something here says yes.

use std::collections::BTreeSet;

use cnc_commands::Standing;
use cnc_domain::{
    cloud_control::{Halt, User, roles},
    kernel::{Actor, CompanyId, LocationId, Timestamp, UserId},
    module_of,
};
use serde::Deserialize;
use serde_json::Value;

use crate::{catalog::catalog, problem::Problem, tokens::Claims};

/// Who asks: what the token says, and what the company's ledger says of that user now.
#[derive(Clone, Debug)]
pub struct Who<'a> {
    /// The token's claims.
    pub claims: &'a Claims,
    /// The user as the company knows them.
    pub account: Account,
}

/// A user as the company knows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Account {
    /// The company has no such user: the token was issued by the operator's tool.
    Unlisted,
    /// A user of the company.
    Listed {
        /// Their role now; a token that names another is out of date.
        role: String,
        /// Their branches now; all where there is none.
        locations: Option<BTreeSet<LocationId>>,
        /// Whether they took up their invitation. Until then that is all that they may do.
        accepted: bool,
    },
    /// A user who may not come in.
    Shut {
        /// Why not, for the answer.
        why: &'static str,
    },
}

/// What was allowed. Whatever reads on somebody's behalf asks for one, and there is no other way to get one.
#[derive(Clone, Debug)]
pub struct Grant {
    user: UserId,
    company: CompanyId,
    role: String,
    scope: Option<BTreeSet<LocationId>>,
}

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The token is invalid or has expired.
    Token(&'static str),
    /// The company is not in business here.
    Company(&'static str),
    /// The role may not.
    Role,
    /// The company does not have the module.
    Module,
    /// It is in a branch of others: that it exists is not said.
    Elsewhere,
}

/// The one action of a user who has not come in yet.
const ACCEPT: &str = "user.accept";

/// The one action that ends a suspension.
const REINSTATE: &str = "company.reinstate";

/// Decides whether `who` may do `action` (`truck_journey.depart`, `truck_journey.read`, `view.dispatch_board`,
/// `ledger.read`, `live`) in `company`, in the branch where one is known, now.
pub fn authorize(
    who: &Who<'_>,
    action: &str,
    company: Option<&Standing>,
    location: Option<LocationId>,
    now: Timestamp,
) -> Result<Grant, Denied> {
    let claims = who.claims;
    if now >= claims.expires() {
        return Err(Denied::Token("the token has expired"));
    }
    let company = in_business(company, action)?;
    let scope = match &who.account {
        Account::Unlisted => claims.locations.clone(),
        Account::Listed { role, .. } if *role != claims.role => {
            return Err(Denied::Token("the user's role has changed since this token was issued"));
        }
        Account::Listed { accepted: false, .. } if action != ACCEPT => {
            return Err(Denied::Token("the user has not taken up the invitation yet"));
        }
        Account::Listed { locations, .. } => narrower(claims.locations.as_ref(), locations.as_ref()),
        Account::Shut { why } => return Err(Denied::Token(why)),
    };
    if !roles::may(&claims.role, action) {
        return Err(Denied::Role);
    }
    if !is_on(company, action) {
        return Err(Denied::Module);
    }
    let grant = Grant { user: claims.sub, company: claims.company, role: claims.role.clone(), scope };
    // Lines of all branches stand in one ledger, so only who may see all branches may read it.
    let whole_company = action.starts_with("ledger.");
    if !grant.covers(location) || (whole_company && grant.scope.is_some()) {
        return Err(if whole_company { Denied::Role } else { Denied::Elsewhere });
    }
    Ok(grant)
}

fn in_business<'a>(company: Option<&'a Standing>, action: &str) -> Result<&'a Standing, Denied> {
    let Some(company) = company.filter(|company| company.founded) else {
        return Err(Denied::Company("there is no such company"));
    };
    match company.halt() {
        None => Ok(company),
        Some(Halt::Suspended) if action == REINSTATE => Ok(company),
        Some(halt) => Err(Denied::Company(halt.why())),
    }
}

/// Whether the company has the module that an action belongs to. History stays readable where a module is off.
fn is_on(company: &Standing, action: &str) -> bool {
    let stream = match action.split_once('.') {
        Some(("view", view)) => catalog().view(view).and_then(|view| view.view.kind.streams().first().copied()),
        Some((_, "read")) | None => None,
        Some((stream, _)) => Some(stream),
    };
    stream.and_then(module_of).is_none_or(|module| company.has(module.name))
}

fn narrower(one: Option<&BTreeSet<LocationId>>, other: Option<&BTreeSet<LocationId>>) -> Option<BTreeSet<LocationId>> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.intersection(other).copied().collect()),
        (one, other) => one.or(other).cloned(),
    }
}

impl Grant {
    /// A grant for tests of what is told under one.
    #[cfg(test)]
    pub(crate) fn sample(company: CompanyId, role: &str, scope: impl IntoIterator<Item = LocationId>) -> Self {
        Self { user: UserId::nil(), company, role: role.into(), scope: Some(scope.into_iter().collect()) }
    }

    /// Whose data.
    pub fn company(&self) -> CompanyId {
        self.company
    }

    /// The branches that may be seen; all where there is none.
    pub fn scope(&self) -> Option<&BTreeSet<LocationId>> {
        self.scope.as_ref()
    }

    /// Whether something of this branch may be seen. What belongs to no branch belongs to the whole company.
    pub fn covers(&self, location: Option<LocationId>) -> bool {
        match (&self.scope, location) {
            (Some(scope), Some(location)) => scope.contains(&location),
            _ => true,
        }
    }

    /// The only branch of the scope, where it is one.
    pub fn only_location(&self) -> Option<LocationId> {
        let scope = self.scope.as_ref()?;
        scope.first().copied().filter(|_| scope.len() == 1)
    }

    /// The role, which alone decides what is [opened](Self::may_open) and [seen](Self::sees_restricted) of a document.
    pub fn role(&self) -> &str {
        &self.role
    }

    /// Whether personal data of this kind may be opened.
    pub fn may_open(&self, kind: &str) -> bool {
        roles::may_open(&self.role, kind)
    }

    /// Whether restricted members of documents may be seen.
    pub fn sees_restricted(&self) -> bool {
        roles::may_see_restricted(&self.role)
    }

    /// The actor of commands given under this grant.
    pub fn actor(&self) -> Actor {
        Actor::User { user: self.user, role: self.role.clone() }
    }
}

impl Account {
    /// The account that a user's state stands for. One that cannot be read lets nobody in.
    pub fn of(state: &Value) -> Self {
        let Ok(user) = User::deserialize(state) else { return Self::Shut { why: "the user cannot be read" } };
        match user.duties() {
            _ if user.is_removed() => Self::Shut { why: "the user has been removed" },
            _ if user.is_locked() => Self::Shut { why: "the user is locked" },
            None => Self::Shut { why: "the user was not invited" },
            Some(duties) => {
                Self::Listed { role: duties.role, locations: duties.locations, accepted: user.has_accepted() }
            }
        }
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Token(why) => Self::unauthenticated(why),
            Denied::Company(why) => Self::forbidden("company_not_in_business", why),
            Denied::Role => Self::forbidden("not_allowed", "this role may not do that"),
            Denied::Module => Self::forbidden("module_off", "the company's plan does not have this module"),
            Denied::Elsewhere => Self::not_found(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn claims(role: &str) -> Claims {
        Claims::new(UserId::number(1), CompanyId::number(2), role, NOW, 60)
    }

    fn company() -> Standing {
        Standing { founded: true, ..Standing::default() }
    }

    fn ask(claims: Claims, account: Account, action: &str, at: Option<LocationId>) -> Result<Grant, Denied> {
        authorize(&Who { claims: &claims, account }, action, Some(&company()), at, NOW)
    }

    fn listed(role: &str, accepted: bool) -> Account {
        Account::Listed { role: role.into(), locations: None, accepted }
    }

    #[test]
    fn what_no_rule_allows_is_denied() {
        assert_eq!(ask(claims("admin"), Account::Unlisted, "nothing.such", None).err(), Some(Denied::Role));
        assert_eq!(ask(claims("nobody"), Account::Unlisted, "view.alerts", None).err(), Some(Denied::Role));
    }

    #[test]
    fn an_expired_token_or_a_company_out_of_business_allows_nothing() {
        let expired = Claims { exp: 1_800_000_000, ..claims("admin") };
        let who = Who { claims: &expired, account: Account::Unlisted };
        assert!(matches!(authorize(&who, "user.read", Some(&company()), None, NOW), Err(Denied::Token(_))));
        let claims = claims("admin");
        let who = Who { claims: &claims, account: Account::Unlisted };
        for company in [
            None,
            Some(Standing::default()),
            Some(Standing { suspended: true, ..company() }),
            Some(Standing { closed: true, ..company() }),
        ] {
            assert!(matches!(authorize(&who, "user.read", company.as_ref(), None, NOW), Err(Denied::Company(_))));
        }
    }

    #[test]
    fn a_user_is_let_in_as_what_the_company_says_they_are() {
        assert!(ask(claims("admin"), listed("admin", true), "user.read", None).is_ok());
        assert!(matches!(ask(claims("admin"), listed("driver", true), "user.read", None), Err(Denied::Token(_))));
        assert!(matches!(ask(claims("admin"), listed("admin", false), "user.read", None), Err(Denied::Token(_))));
        let shut = Account::Shut { why: "the user is locked" };
        assert!(matches!(ask(claims("admin"), shut, "user.read", None), Err(Denied::Token(_))));
    }

    #[test]
    fn branches_of_token_and_user_both_bind() {
        let (one, two) = (LocationId::number(1), LocationId::number(2));
        let account = Account::Listed { role: "admin".into(), locations: Some([one].into()), accepted: true };
        let grant = ask(claims("admin").within([one, two]), account.clone(), "user.read", Some(one)).expect("may");
        assert!(grant.covers(Some(one)) && grant.covers(None) && !grant.covers(Some(two)));
        assert_eq!(ask(claims("admin"), account.clone(), "user.read", Some(two)).err(), Some(Denied::Elsewhere));
        assert_eq!(ask(claims("admin"), account, "ledger.read", None).err(), Some(Denied::Role));
    }

    #[test]
    fn a_user_that_is_removed_locked_or_unreadable_is_shut_out() {
        let state = |change: fn(&mut Value)| {
            let sealed = json!({ "sealed": { "kind": "name", "subject": UserId::nil(), "key": UserId::nil(),
                "nonce": "", "box": "" } });
            let invitation = json!({ "name": sealed, "email": sealed, "role": "driver", "locations": null });
            let mut state = serde_json::to_value(User::default()).expect("writes");
            (state["invitation"], state["accepted"]) = (invitation, true.into());
            change(&mut state);
            Account::of(&state)
        };
        assert_eq!(state(|_| {}), listed("driver", true));
        for change in [
            |state: &mut Value| state["locked"] = "late".into(),
            |state: &mut Value| state["removed"] = true.into(),
            |state: &mut Value| state["invitation"] = Value::Null,
            |state: &mut Value| *state = json!([]),
            |state: &mut Value| state["invitation"] = json!({ "changed": "shape" }),
        ] {
            assert!(matches!(state(change), Account::Shut { .. }));
        }
    }
}
