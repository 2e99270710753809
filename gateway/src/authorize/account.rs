//! Who somebody is to the company now, whatever their token says.

use std::collections::BTreeSet;

use cnc_domain::{
    cloud_control::{User, user::Duties},
    kernel::{Id, LocationId},
};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

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
        /// Who they are in the field, where they work there.
        crew_member: Option<Uuid>,
        /// Whether they took up their invitation. Until then that is all that they may do.
        accepted: bool,
    },
    /// A user who may not come in.
    Shut {
        /// Why not, for the answer.
        why: &'static str,
    },
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
                let Duties { role, locations, crew_member } = duties;
                let crew_member = crew_member.map(Id::uuid);
                Self::Listed { role, locations, crew_member, accepted: user.has_accepted() }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use cnc_domain::kernel::UserId;
    use serde_json::json;

    use super::*;

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
        assert_eq!(
            state(|_| {}),
            Account::Listed { role: "driver".into(), locations: None, crew_member: None, accepted: true }
        );
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
