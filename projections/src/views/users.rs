//! Everybody who signs in, people and programs: as what, where, and by which tokens.

use std::collections::BTreeSet;

use cnc_domain::{
    cloud_control::{
        ServiceAccount, User,
        service_account::{self, Registration},
        tokens::Tokens,
        user::{self, Duties, Invitation},
    },
    crew_customer::CrewMember,
    kernel::{Docs, Document, Email, Fold, Folded, Id, LocationId, Name, On, Personal, Shelf, fold},
    ledger::Entry,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::View;

/// The view.
pub const VIEW: View = View {
    kind: fold::<Users>(),
    about: "Everybody who signs in, people and programs: their role, their branches, their tokens.",
    present: None,
    describe: |_| (),
};

/// Keeps a row for every user and service account.
#[derive(Default)]
pub struct Users {
    rows: Docs<UserRow>,
}

/// Somebody who signs in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UserRow {
    /// Whether it is a person or a program.
    kind: UserKind,
    /// A person's name.
    name: Option<Personal<Name>>,
    /// A person's e-mail address.
    email: Option<Personal<Email>>,
    /// What a program is called.
    program: Option<String>,
    /// Their role.
    role: String,
    /// The branches that they are bound to; all where there is no list.
    locations: Option<BTreeSet<LocationId>>,
    /// Who they are in the field.
    crew_member: Option<Id<CrewMember>>,
    /// Whether they have come in. A program need not.
    accepted: bool,
    /// Whether they are kept out for now.
    locked: bool,
    /// Whether they are kept out for good.
    removed: bool,
    /// The tokens that they were issued and that were not revoked. Those that have run out are forgotten in time.
    tokens: Tokens,
}

/// Whether it is a person or a program that signs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
enum UserKind {
    /// A user.
    Person,
    /// A service account.
    Program,
}

impl Document for UserRow {
    const NAME: &'static str = "users";
    const FILTERS: &'static [&'static str] = &["kind", "role", "crew_member", "accepted", "locked", "removed"];
    // Somebody may work in several branches.
    const COMPANY_WIDE: bool = true;
}

impl Fold for Users {
    const NAME: &'static str = "users";
    type Reads = (ServiceAccount, User);

    fn shelves(&mut self) -> Vec<&mut dyn Shelf> {
        vec![&mut self.rows]
    }
}

impl On<User> for Users {
    fn on(&mut self, id: Id<User>, event: &user::Event, _: &Entry) -> Folded {
        use user::Event;
        match event {
            Event::Invited(invitation) => self.rows.put(id, UserRow::person(invitation)),
            Event::RoleChanged(duties) => self.rows.edit(id, |row| row.take(duties.clone())),
            Event::Accepted => self.rows.edit(id, |row| row.accepted = true),
            Event::Locked { .. } => self.rows.edit(id, |row| row.locked = true),
            Event::Unlocked => self.rows.edit(id, |row| row.locked = false),
            Event::Removed => self.rows.edit(id, |row| row.removed = true),
            Event::TokenIssued(token) => self.rows.edit(id, |row| row.tokens.put(token.clone())),
            Event::TokenRevoked { token } => self.rows.edit(id, |row| row.tokens.remove(*token)),
        }
    }
}

impl On<ServiceAccount> for Users {
    fn on(&mut self, id: Id<ServiceAccount>, event: &service_account::Event, _: &Entry) -> Folded {
        use service_account::Event;
        match event {
            Event::Registered(registration) => self.rows.put(id, UserRow::program(registration)),
            Event::Retired => self.rows.edit(id, |row| row.removed = true),
            Event::TokenIssued(token) => self.rows.edit(id, |row| row.tokens.put(token.clone())),
            Event::TokenRevoked { token } => self.rows.edit(id, |row| row.tokens.remove(*token)),
        }
    }
}

impl UserRow {
    fn person(Invitation { name, email, role, locations, crew_member }: &Invitation) -> Self {
        let (name, email) = (Some(name.clone()), Some(email.clone()));
        let blank = Self::blank(UserKind::Person, role, locations.as_ref());
        Self { name, email, crew_member: *crew_member, ..blank }
    }

    fn program(Registration { name, role, locations }: &Registration) -> Self {
        let blank = Self::blank(UserKind::Program, role, locations.as_ref());
        Self { program: Some(name.clone()), accepted: true, ..blank }
    }

    fn blank(kind: UserKind, role: &str, locations: Option<&BTreeSet<LocationId>>) -> Self {
        Self {
            kind,
            name: None,
            email: None,
            program: None,
            role: role.to_owned(),
            locations: locations.cloned(),
            crew_member: None,
            accepted: false,
            locked: false,
            removed: false,
            tokens: Tokens::default(),
        }
    }

    fn take(&mut self, Duties { role, locations, crew_member }: Duties) {
        (self.role, self.locations, self.crew_member) = (role, locations, crew_member);
    }
}

#[cfg(test)]
mod tests {
    use cnc_domain::{
        cloud_control::tokens::IssuedToken,
        kernel::{Minutes, Nothing, Story, given},
    };
    use serde_json::{Value, json};

    use super::*;

    const ANN: Id<User> = Id::number(70);
    const EXPORT: Id<ServiceAccount> = Id::number(71);

    fn story() -> Story {
        let issued_at = given::context().now;
        let issued = |number: u128, minutes: u32| {
            let (token, expires) = (Id::number(number), issued_at.plus(Minutes(minutes)));
            IssuedToken { token, locations: None, issued_at, expires }
        };
        let invitation = Invitation {
            name: Personal::sample(ANN.uuid(), "QW5u", Nothing),
            email: Personal::sample(ANN.uuid(), "YW5u", Nothing),
            role: "dispatcher".into(),
            locations: None,
            crew_member: None,
        };
        let duties = Duties { role: "manager".into(), locations: None, crew_member: Some(Id::number(9)) };
        let registration = Registration { name: "Night export".into(), role: "auditor".into(), locations: None };
        Story::default()
            .tell(ANN, user::Event::Invited(invitation))
            .tell(ANN, user::Event::TokenIssued(issued(1, 5)))
            .tell(ANN, user::Event::Accepted)
            .tell(ANN, user::Event::TokenIssued(issued(2, 5)))
            .tell(ANN, user::Event::RoleChanged(duties))
            .tell(ANN, user::Event::TokenRevoked { token: Id::number(1) })
            .tell(ANN, user::Event::Locked { reason: "a lost phone".into() })
            .tell(EXPORT, service_account::Event::Registered(registration))
            .tell(EXPORT, service_account::Event::TokenIssued(issued(3, 5)))
            .tell(EXPORT, service_account::Event::TokenRevoked { token: Id::number(3) })
            .tell(EXPORT, service_account::Event::Retired)
    }

    #[test]
    fn folding_entry_by_entry_gives_what_folding_at_once_gives() {
        assert_eq!(story().by_entry(VIEW.kind), story().at_once(VIEW.kind));
    }

    #[test]
    fn a_row_says_who_signs_in_as_what_and_by_which_tokens() {
        let rows: Vec<Value> = story().at_once(VIEW.kind).into_iter().map(|(_, _, document)| document).collect();
        let [ann, export] = rows.as_slice() else { panic!("two rows, not {rows:?}") };
        assert_eq!((&ann["kind"], &ann["role"], &ann["locked"]), (&json!("person"), &json!("manager"), &json!(true)));
        let tokens = ann["tokens"].as_object().expect("has tokens");
        assert_eq!(tokens.keys().collect::<Vec<_>>(), [&Id::<()>::number(2).to_string()]);
        assert_eq!((&export["program"], &export["removed"]), (&json!("Night export"), &json!(true)));
        assert_eq!(export["tokens"], json!({}));
    }
}
