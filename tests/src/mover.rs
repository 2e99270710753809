//! A small mover with two branches, served by a system of its own, and a client that speaks to it as its people do.

use cnc_domain::kernel::{CompanyId, Id, LocationId};
use reqwest::{Client, Method, RequestBuilder, StatusCode, header::HeaderMap};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    fixtures,
    staff::Person,
    system::{PATIENCE, Running},
};

/// An address that is planted in every journey, to be found nowhere in clear.
pub const ADDRESS: &str = "17 Planted Lane, Halifax";

/// The company, its branches, and a truck and a journey of each.
pub struct Mover {
    /// What serves it.
    pub running: Running,
    /// The company.
    pub company: CompanyId,
    /// Its branches.
    pub branches: [LocationId; 2],
    /// A truck of each branch.
    pub trucks: [Uuid; 2],
    /// A journey of each branch.
    pub journeys: [Uuid; 2],
    client: Client,
}

/// An answer as it came.
#[derive(Debug)]
pub struct Answered {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body: JSON, or the text where it is none.
    pub body: Value,
}

impl Answered {
    /// The body of a good answer.
    #[track_caller]
    pub fn good(self) -> Value {
        assert!(self.status.is_success(), "{} {}", self.status, self.body);
        self.body
    }

    /// The body of a problem with this status and code.
    #[track_caller]
    pub fn problem(self, status: u16, code: &str) -> Value {
        assert_eq!((self.status.as_u16(), self.body["code"].as_str()), (status, Some(code)), "{}", self.body);
        assert_eq!(self.headers["content-type"], "application/problem+json");
        self.body
    }
}

impl Mover {
    /// Starts it on `SQLite`.
    pub async fn start() -> Self {
        Self::on(Running::sqlite().await.expect("starts")).await
    }

    /// Starts it on what is running.
    pub async fn on(running: Running) -> Self {
        let new = || Id::new(Uuid::now_v7());
        let client = Client::builder().timeout(PATIENCE).build().expect("is a client");
        let (branches, trucks, journeys) =
            ([new(), new()], [Uuid::now_v7(), Uuid::now_v7()], [Uuid::now_v7(), Uuid::now_v7()]);
        let company = CompanyId::new(Uuid::now_v7());
        let mover = Self { running, company, branches, trucks, journeys, client };
        mover.found(company).await;
        // Those whom most tests ask for, before anything that they count.
        for role in ["admin", "auditor", "dispatcher"] {
            mover.token(role).await;
        }
        for nth in 0..2 {
            mover.equip(nth).await;
        }
        mover
    }

    /// Founds a company, as an operator's tool does.
    pub async fn found(&self, company: CompanyId) {
        let founding =
            json!({ "name": "Small Movers", "currency": "CAD", "region": "ca-central", "plan": { "modules": [] } });
        self.running.give(company, "company", company.uuid(), "found", &founding).await;
    }

    async fn equip(&self, nth: usize) {
        let admin = self.token("admin").await;
        let (branch, truck, journey) = (self.branches[nth], self.trucks[nth], self.journeys[nth]);
        let opening = fixtures::branch(&format!("Branch {nth}"));
        self.post(&admin, &format!("/v1/location/{branch}/open"), &opening).await.good();
        let particulars = fixtures::truck(&format!("TRK {nth}"), branch.uuid());
        self.post(&admin, &format!("/v1/truck/{truck}/commission"), &particulars).await.good();
        self.post(&admin, &format!("/v1/truck_journey/{journey}/plan"), &self.plan(nth)).await.good();
    }

    /// A journey of a branch, from an hour from now on.
    pub fn plan(&self, nth: usize) -> Value {
        let mut plan = fixtures::journey(self.trucks[nth], self.branches[nth].uuid(), 1..9);
        plan["stops"][0]["address"] = ADDRESS.into();
        plan
    }

    /// A token of somebody in this role, for all branches.
    pub async fn token(&self, role: &str) -> String {
        self.running.token(self.company, role, None).await
    }

    /// A token for one branch.
    pub async fn token_at(&self, role: &str, nth: usize) -> String {
        self.running.token(self.company, role, Some(&[self.branches[nth]])).await
    }

    /// Takes somebody on in a branch, as the operator's tool does.
    pub async fn hire(&self, nth: usize) -> Uuid {
        let (member, hire) = (Uuid::now_v7(), fixtures::hire(self.branches[nth].uuid()));
        self.running.give(self.company, "crew_member", member, "hire", &hire).await;
        member
    }

    /// A token of somebody whom the company invited.
    pub async fn invite(&self, person: Person<'_>) -> String {
        self.running.invite(self.company, person).await.1
    }

    /// A request without a token.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.running.url(path))
    }

    /// Gives a command under a new key.
    pub async fn post(&self, token: &str, path: &str, body: &Value) -> Answered {
        let request =
            self.request(Method::POST, path).bearer_auth(token).header("idempotency-key", Uuid::now_v7().to_string());
        answered(request.json(body)).await
    }

    /// Reads.
    pub async fn get(&self, token: &str, path: &str) -> Answered {
        answered(self.request(Method::GET, path).bearer_auth(token)).await
    }

    /// The ledger's last position.
    pub async fn head(&self) -> u64 {
        let head = self.running.system.rooms.ledger.head(self.company).await.expect("answers");
        head.expect("was founded").position
    }
}

/// Sends a request.
pub async fn answered(request: RequestBuilder) -> Answered {
    let response = request.send().await.expect("answers");
    let (status, headers) = (response.status(), response.headers().clone());
    let text = response.text().await.expect("is text");
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Answered { status, headers, body }
}
