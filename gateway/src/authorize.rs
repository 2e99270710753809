//! One question, asked for every route and every subscription: may this person, in this role, do this, in this company
//! and branch, now? The answer is no unless something here says yes.

mod account;
mod grant;

use std::{collections::BTreeSet, sync::Arc};

pub use account::Account;
use cnc_commands::Standing;
use cnc_domain::{
    cloud_control::{Halt, roles},
    kernel::{LocationId, Scope, Timestamp},
    module_of,
};
pub use grant::Grant;

use crate::{catalog::catalog, problem::Problem, tokens::Claims};

/// Who asks: what the token says, and what the company's ledger says of that user now.
#[derive(Clone, Debug)]
pub struct Who<'a> {
    /// The token's claims.
    pub claims: &'a Claims,
    /// The user as the company knows them.
    pub account: Account,
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
    if !claims.is_good(now) {
        return Err(Denied::Token("the token has expired"));
    }
    let company = in_business(company, action)?;
    let (locations, crew_member) = match &who.account {
        Account::Listed { role, .. } if *role != claims.role => {
            return Err(Denied::Token("the user's role has changed since this token was issued"));
        }
        Account::Listed { accepted: false, .. } if action != ACCEPT => {
            return Err(Denied::Token("the user has not taken up the invitation yet"));
        }
        Account::Listed { locations, crew_member, .. } => {
            (narrower(claims.locations.as_ref(), locations.as_ref()), *crew_member)
        }
        Account::Shut { why } => return Err(Denied::Token(why)),
    };
    if !roles::may(&claims.role, action) {
        return Err(Denied::Role);
    }
    if !is_on(company, action) {
        return Err(Denied::Module);
    }
    // Somebody whose work in the field is not known takes part in nothing.
    let participant = roles::is_participant(&claims.role).then(|| crew_member.unwrap_or_default());
    let scope = Scope { locations, participant };
    if !is_for(&scope, action) {
        return Err(Denied::Role);
    }
    if !scope.covers(location) {
        return Err(Denied::Elsewhere);
    }
    Ok(Grant { bearer: claims.sub, company: claims.company, role: claims.role.clone(), scope: Arc::new(scope) })
}

/// Whether an action is for somebody who reaches so far. Lines of all branches stand in one ledger, and some views show
/// what belongs to several at once: only who may see all branches may read them. Of views that do not say who takes part
/// in what they show, nobody sees just their own.
fn is_for(scope: &Scope, action: &str) -> bool {
    let view = action.strip_prefix("view.").and_then(|view| catalog().view(view));
    let is_company_wide = action.starts_with("ledger.") || view.is_some_and(|view| view.document.company_wide);
    let shows_own = scope.participant.is_none() || view.is_none_or(|view| view.document.participants.is_some());
    shows_own && (!is_company_wide || scope.locations.is_none())
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
    use cnc_domain::kernel::{CompanyId, Id};
    use uuid::Uuid;

    use super::*;
    use crate::principal::Principal;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

    fn claims(role: &str) -> Claims {
        let (bearer, until) = (Principal::User(Id::number(1)), Timestamp::from_seconds(1_800_000_060));
        Claims::new(Id::number(9), bearer, CompanyId::number(2), role, (NOW, until))
    }

    fn company() -> Standing {
        Standing { founded: true, ..Standing::default() }
    }

    fn ask(claims: Claims, account: Account, action: &str, at: Option<LocationId>) -> Result<Grant, Denied> {
        authorize(&Who { claims: &claims, account }, action, Some(&company()), at, NOW)
    }

    fn listed(role: &str, accepted: bool) -> Account {
        Account::Listed { role: role.into(), locations: None, crew_member: None, accepted }
    }

    #[test]
    fn what_no_rule_allows_is_denied() {
        assert_eq!(ask(claims("admin"), listed("admin", true), "nothing.such", None).err(), Some(Denied::Role));
        assert_eq!(ask(claims("nobody"), listed("nobody", true), "view.alerts", None).err(), Some(Denied::Role));
    }

    #[test]
    fn an_expired_token_or_a_company_out_of_business_allows_nothing() {
        let expired = Claims { exp: 1_800_000_000, ..claims("admin") };
        let who = Who { claims: &expired, account: listed("admin", true) };
        assert!(matches!(authorize(&who, "user.read", Some(&company()), None, NOW), Err(Denied::Token(_))));
        let claims = claims("admin");
        let who = Who { claims: &claims, account: listed("admin", true) };
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
        let locations = Some([one].into());
        let account = Account::Listed { role: "admin".into(), locations, crew_member: None, accepted: true };
        let grant = ask(claims("admin").within([one, two]), account.clone(), "user.read", Some(one)).expect("may");
        let scope = grant.scope();
        assert!(scope.covers(Some(one)) && scope.covers(None) && !scope.covers(Some(two)));
        assert_eq!(ask(claims("admin"), account.clone(), "user.read", Some(two)).err(), Some(Denied::Elsewhere));
        assert_eq!(ask(claims("admin"), account, "ledger.read", None).err(), Some(Denied::Role));
    }

    #[test]
    fn who_takes_part_sees_their_own_alone_and_only_where_that_can_be_told() {
        let account = |crew_member| Account::Listed {
            role: "mover".into(),
            locations: Some([LocationId::number(1)].into()),
            crew_member,
            accepted: true,
        };
        let me = Uuid::from_u128(7);
        let grant = ask(claims("mover"), account(Some(me)), "view.journey_track", None).expect("may");
        assert_eq!(grant.scope().participant, Some(me));
        let grant = ask(claims("mover"), account(None), "truck_journey.read", None).expect("may");
        assert_eq!(grant.scope().participant, Some(Uuid::nil()), "who is nobody in the field takes part in nothing");
        let everybody = Scope { locations: None, participant: Some(me) };
        assert!(!is_for(&everybody, "view.dispatch_board") && is_for(&everybody, "view.journey_track"));
    }
}
