//! The host over a real ledger file: what is recorded, refused, remembered and sealed.

mod deciding;
mod facts;
mod failing;
mod keeping;
mod losing;
mod place;
mod tally;

use std::sync::Arc;

use cnc_commands::{Catalog, Host, HostOptions, Keyring, MasterKey, Request};
use cnc_domain::{
    KINDS,
    cloud_control::{
        self,
        company::{self, Currency, Founding, Plan},
    },
    kernel::{Actor, CompanyId, Id, Message, Module, UserId},
    ledger::{Answer, Entry, Ledger, verify},
};
use serde_json::Value;
use uuid::Uuid;

use crate::ledger::Ground;
use tally::{Command, TALLIES, Tally};

static MODULES: &[&Module] = &[&cloud_control::MODULE, &TALLIES];
const COMPANY: CompanyId = CompanyId::number(100);

/// The same master key everywhere, so that hosts that share a ledger share their keys.
const MASTER: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

async fn host_with(ground: &Ground, adopt_schemas: bool) -> Host {
    host_over(ground.ledger().await, ground, adopt_schemas).await
}

async fn host_over(ledger: Arc<dyn Ledger>, ground: &Ground, adopt_schemas: bool) -> Host {
    let catalog = Catalog { modules: MODULES, kinds: KINDS, standing: cloud_control::standing };
    let options = HostOptions { catalog, adopt_schemas, ..HostOptions::default() };
    let master = MasterKey::read(MASTER).expect("a key");
    let keyring = match ground {
        Ground::Sqlite(folder) => Keyring::sqlite(folder.path(), master).await,
        Ground::Postgres(url) => Keyring::postgres(url, master).await,
    };
    Host::start(ledger, keyring.expect("opens"), options).expect("starts")
}

async fn host_on(ground: &Ground) -> Host {
    host_with(ground, false).await
}

async fn founded(ground: &Ground) -> Host {
    let host = host_on(ground).await;
    found(&host, COMPANY).await;
    host
}

async fn found(host: &Host, company: CompanyId) -> Answer {
    let founding = Founding {
        name: "Harbour Movers".into(),
        currency: Currency::Cad,
        region: "ca-west".into(),
        plan: Plan::default(),
    };
    let command = Message::split(&company::Command::Found(founding));
    let request = Request { company, internal_allowed: true, ..request("company", company.uuid(), command) };
    host.execute(request).await.expect("is answered")
}

fn request(stream: &str, id: Uuid, command: Message) -> Request {
    let actor = Actor::User { user: UserId::number(4), role: "dispatcher".into() };
    Request { internal_allowed: false, ..Request::internal(COMPANY, stream, id, command, actor) }
}

fn id_of(number: u128) -> Uuid {
    Id::<Tally>::number(number).uuid()
}

fn ask(number: u128, command: Command) -> Request {
    request("tally", id_of(number), Message::split(&command))
}

fn raw(number: u128, name: &str, fields: Value) -> Request {
    let fields = serde_json::value::to_raw_value(&fields).expect("JSON");
    request("tally", id_of(number), Message { name: name.into(), fields })
}

fn add(number: u128, by: i64, most: Option<i64>) -> Request {
    ask(number, Command::Add { by, most })
}

fn keyed(request: Request, key: &str) -> Request {
    Request { idempotency_key: Some(key.into()), ..request }
}

async fn total(host: &Host, number: u128) -> i64 {
    let shown = host.state(COMPANY, "tally", id_of(number), None).await.expect("is read");
    shown.map_or(0, |shown| shown.state["total"].as_i64().expect("a number"))
}

async fn lines(host: &Host) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        let page = host.ledger().read(COMPANY, lines.len() as u64, 10_000).await.expect("is read");
        if page.is_empty() {
            return lines;
        }
        lines.extend(page);
    }
}

async fn entries(host: &Host) -> Vec<Entry> {
    let lines = lines(host).await;
    let head = host.ledger().head(COMPANY).await.expect("is read");
    verify(&lines, head).expect("the ledger is whole");
    lines.iter().map(|line| Entry::read(line).expect("an entry")).collect()
}

fn code(answer: &Answer) -> &str {
    answer.rejection.as_ref().map_or("", |rejection| &rejection.code)
}
