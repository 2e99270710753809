//! Those who work for a company: invited as its operator's tool does it, with tokens of their own.

use std::{
    collections::HashMap,
    sync::{MutexGuard, PoisonError},
};

use cnc_commands::Request;
use cnc_domain::kernel::{Actor, CompanyId, LocationId, Message, Minutes, Timestamp, UserId};
use cnc_gateway::{
    issuing::{self, Bearer},
    principal::Principal,
};
use serde_json::{Value, json, value::RawValue};
use uuid::Uuid;

use crate::{fixtures, system::Running};

/// A company, a role and the branches that somebody is bound to.
pub(crate) type Place = (CompanyId, String, Option<Vec<LocationId>>);

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
        (user, self.issue(company, Principal::User(user), Minutes(60)).await.token)
    }

    /// Issues a token that is good for so long.
    pub async fn issue(&self, company: CompanyId, principal: Principal, length: Minutes) -> Bearer {
        let now = fixtures::now();
        self.issue_until(company, principal, now.plus(length)).await
    }

    /// Issues a token that is good until a time.
    pub async fn issue_until(&self, company: CompanyId, principal: Principal, expires: Timestamp) -> Bearer {
        let rooms = &self.system.rooms;
        let times = (fixtures::now(), expires);
        issuing::issue((&rooms.host, &rooms.tokens), company, principal, None, times).await.expect("is issued")
    }

    /// A token of somebody in this role, the same one each time: who was invited once is not invited again.
    pub async fn token(&self, company: CompanyId, role: &str, locations: Option<&[LocationId]>) -> String {
        let place = (company, role.to_owned(), locations.map(<[_]>::to_vec));
        if let Some(token) = self.tokens().get(&place) {
            return token.clone();
        }
        let (_, token) = self.invite(company, Person { role, locations, crew_member: None }).await;
        self.tokens().insert(place, token.clone());
        token
    }

    fn tokens(&self) -> MutexGuard<'_, HashMap<Place, String>> {
        self.issued.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
