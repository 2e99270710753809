//! Who somebody is to the company now, whatever their token says.

use std::collections::BTreeSet;

use cnc_domain::{
    cloud_control::{ServiceAccount, User, service_account::Registration, tokens::TokenId, user::Duties},
    kernel::{Id, LocationId, State},
};
use uuid::Uuid;

use crate::{principal::Principal, tokens::Claims};

/// A bearer of a token as the company knows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Account {
    /// Somebody whom the company lets in.
    Listed {
        /// Their role now; a token that names another is out of date.
        role: String,
        /// Their branches now; all where there is none.
        locations: Option<BTreeSet<LocationId>>,
        /// Who they are in the field, where they work there.
        crew_member: Option<Uuid>,
        /// Whether they took up their invitation. Until then that is all that they may do.
        accepted: bool,
    },
    /// Somebody who may not come in.
    Shut {
        /// Why not, for the answer.
        why: &'static str,
    },
}

impl Account {
    /// The account that the state of a token's bearer stands for, where there is one. A token that it does not know lets
    /// nobody in.
    pub fn of(claims: &Claims, state: Option<&State>) -> Self {
        let account = state.and_then(|state| match claims.sub {
            Principal::User(_) => Some(Self::user(claims.jti, state.get()?)),
            Principal::ServiceAccount(_) => Some(Self::service_account(claims.jti, state.get()?)),
        });
        account.unwrap_or_else(|| Self::shut("the company knows nobody of this token's name"))
    }

    fn shut(why: &'static str) -> Self {
        Self::Shut { why }
    }

    fn user(token: TokenId, user: &User) -> Self {
        match user.duties() {
            _ if user.is_removed() => Self::shut("the user has been removed"),
            _ if user.is_locked() => Self::shut("the user is locked"),
            None => Self::shut("the user was not invited"),
            _ if user.tokens().get(token).is_none() => Self::shut(NOT_ISSUED),
            Some(Duties { role, locations, crew_member }) => {
                Self::Listed { role, locations, crew_member: crew_member.map(Id::uuid), accepted: user.has_accepted() }
            }
        }
    }

    fn service_account(token: TokenId, account: &ServiceAccount) -> Self {
        match account.registration() {
            _ if account.is_retired() => Self::shut("the service account has been retired"),
            None => Self::shut("the service account was not registered"),
            _ if account.tokens().get(token).is_none() => Self::shut(NOT_ISSUED),
            Some(Registration { role, locations, .. }) => {
                Self::Listed { role: role.clone(), locations: locations.clone(), crew_member: None, accepted: true }
            }
        }
    }
}

const NOT_ISSUED: &str = "the token has been revoked, or was not issued to its bearer";

#[cfg(test)]
mod tests {
    use cnc_domain::{
        cloud_control::{
            service_account,
            tokens::IssuedToken,
            user::{self, Invitation},
        },
        kernel::{Aggregate, CompanyId, Nothing, Personal, Timestamp},
    };

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
    const LATER: Timestamp = Timestamp::from_seconds(1_800_000_060);
    const TOKEN: TokenId = Id::number(9);

    /// What becomes of a token's bearer to whom this has happened.
    fn after<A: Aggregate>(sub: Principal, events: impl IntoIterator<Item = A::Event>) -> Account {
        let claims = Claims::new(TOKEN, sub, CompanyId::number(2), "driver", (NOW, LATER));
        let mut bearer = A::default();
        events.into_iter().for_each(|event| bearer.evolve(event));
        Account::of(&claims, Some(&State::new(bearer)))
    }

    fn issued() -> IssuedToken {
        IssuedToken { token: TOKEN, locations: None, issued_at: NOW, expires: LATER }
    }

    fn listed(accepted: bool) -> Account {
        Account::Listed { role: "driver".into(), locations: None, crew_member: None, accepted }
    }

    #[test]
    fn a_user_is_let_in_by_a_token_that_they_were_issued_until_it_or_they_are_shut_out() {
        use user::Event;
        let me = Principal::User(Id::number(1));
        let invited = Event::Invited(Invitation {
            name: Personal::sample(me.id(), "QW5u", Nothing),
            email: Personal::sample(me.id(), "YW5u", Nothing),
            role: "driver".into(),
            locations: None,
            crew_member: None,
        });
        let good = [invited.clone(), Event::Accepted, Event::TokenIssued(issued())];
        let after = |events: &[Event]| after::<User>(me, events.iter().cloned());
        assert_eq!(after(&good), listed(true));
        assert_eq!(after(&[good[0].clone(), good[2].clone()]), listed(false));
        for end in [Event::TokenRevoked { token: TOKEN }, Event::Locked { reason: "late".into() }, Event::Removed] {
            assert!(matches!(after(&[&good[..], &[end]].concat()), Account::Shut { .. }));
        }
        for short in [&good[..0], &good[..2], &good[2..]] {
            assert!(matches!(after(short), Account::Shut { .. }));
        }
    }

    #[test]
    fn a_service_account_is_let_in_by_a_token_that_it_was_issued_until_it_is_retired() {
        use service_account::Event;
        let me = Principal::ServiceAccount(Id::number(1));
        let registration = Registration { name: "Export".into(), role: "driver".into(), locations: None };
        let good = [Event::Registered(registration), Event::TokenIssued(issued())];
        let after = |events: &[Event]| after::<ServiceAccount>(me, events.iter().cloned());
        assert_eq!(after(&good), listed(true));
        for end in [Event::TokenRevoked { token: TOKEN }, Event::Retired] {
            assert!(matches!(after(&[&good[..], &[end]].concat()), Account::Shut { .. }));
        }
        assert!(matches!(after(&good[..1]), Account::Shut { .. }));
    }

    #[test]
    fn nobody_is_let_in_whom_the_company_does_not_know_or_knows_as_something_else() {
        let claims = Claims::new(TOKEN, Principal::User(Id::number(1)), CompanyId::number(2), "driver", (NOW, LATER));
        assert!(matches!(Account::of(&claims, None), Account::Shut { .. }));
        let other = State::new(ServiceAccount::default());
        assert!(matches!(Account::of(&claims, Some(&other)), Account::Shut { .. }));
    }
}
