//! Those who work for a company: invited as its operator's tool does it, with tokens of their own.

use cnc_commands::Request;
use cnc_domain::kernel::{Actor, CompanyId, Id, LocationId, Message, UserId};
use cnc_gateway::tokens::Claims;
use serde_json::{Value, json, value::RawValue};
use uuid::Uuid;

use crate::{fixtures, system::Running};

/// Who is to be invited.
#[derive(Clone, Debug)]
pub struct Person<'a> {
    /// Their role.
    pub role: &'a str,
    /// The branches that they are bound to; to none where there is no list.
    pub locations: Option<&'a [LocationId]>,
    /// Who they are in the field.
    pub crew_member: Option<Uuid>,
}

impl<'a> Person<'a> {
    /// Somebody in this role, bound to no branch.
    pub fn of(role: &'a str) -> Self {
        Self { role, locations: None, crew_member: None }
    }

    /// Bound to these branches.
    #[must_use]
    pub fn within(self, locations: &'a [LocationId]) -> Self {
        Self { locations: Some(locations), ..self }
    }

    /// This crew member.
    #[must_use]
    pub fn being(self, crew_member: Uuid) -> Self {
        Self { crew_member: Some(crew_member), ..self }
    }
}

impl Running {
    /// Gives a command as the operator's tool does.
    pub async fn give(&self, company: CompanyId, stream: &str, id: Uuid, name: &str, fields: &Value) {
        let fields = RawValue::from_string(fields.to_string()).expect("is JSON");
        let command = Message { name: name.into(), fields };
        let request = Request::internal(company, stream, id, command, Actor::tool("test"));
        let answer = self.system.rooms.host.execute(request).await.expect("is answered");
        assert!(answer.rejection.is_none(), "{stream}.{name}: {answer:?}");
    }

    /// Invites somebody, who takes the invitation up: their id, and a token for an hour.
    pub async fn invite(&self, company: CompanyId, person: Person<'_>) -> (UserId, String) {
        let user = UserId::new(Uuid::now_v7());
        let Person { role, locations, crew_member } = person;
        let invitation = json!({ "name": "Ann Example", "email": format!("{user}@example.com"), "role": role,
            "locations": locations, "crew_member": crew_member });
        self.give(company, "user", user.uuid(), "invite", &invitation).await;
        self.give(company, "user", user.uuid(), "accept", &json!({})).await;
        let claims = Claims::new(Id::new(user.uuid()), company, role, fixtures::now(), 3600);
        (user, self.system.rooms.tokens.issue(&claims).expect("signs"))
    }
}
