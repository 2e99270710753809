//! The host over a real ledger file: what is recorded, refused, remembered and sealed.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use cnc_commands::{AsOf, Catalog, Host, HostError, HostOptions, Keyring, MasterKey, Request, ledger::SqliteLedger};
use cnc_domain::{
    KINDS,
    cloud_control::{
        self,
        company::{self, Currency, Founding, Plan},
    },
    kernel::{
        Actor, Aggregate, Also, CommandId, CompanyId, Context, Decision, Id, LocationId, Message, Module, Name,
        Personal, Rejection, UserId, aggregate,
    },
    ledger::{Answer, Entry, Ledger, verify},
};
use futures::future::join_all;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

/// What may be asked of a tally.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Command {
    Add {
        by: i64,
        most: Option<i64>,
    },
    /// Adds to others, in order, and to itself.
    Spread {
        to: Vec<Id<Tally>>,
        by: i64,
        most: Option<i64>,
        forgiving: bool,
    },
    Refuse(Rejection),
    /// Nothing where there is nothing.
    Clear,
    Open {
        location: LocationId,
    },
    Call {
        name: Personal<Name>,
    },
    Circle,
    Hidden,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Event {
    Added { by: i64 },
    Refused { by: Option<String>, code: String },
    Cleared,
    Opened { location: LocationId },
    Called { name: Personal<Name> },
}

#[derive(Serialize, JsonSchema, thiserror::Error, Debug)]
#[serde(rename_all = "snake_case")]
enum Refusal {
    #[error("{total} is too much")]
    TooMuch { total: i64 },
}

#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
struct Tally {
    total: i64,
    refused: Vec<String>,
    location: Option<LocationId>,
    name: Option<Personal<Name>>,
}

impl Aggregate for Tally {
    const STREAM: &'static str = "tally";
    const INTERNAL: &'static [&'static str] = &["hidden"];
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn decide(&self, command: Command, context: &Context) -> Result<Decision<Event>, Refusal> {
        match command {
            Command::Add { by, most } if most.is_some_and(|most| self.total + by > most) => {
                Err(Refusal::TooMuch { total: self.total + by })
            }
            Command::Add { by, .. } => Ok(Event::Added { by }.into()),
            Command::Spread { to, by, most, forgiving } => {
                Ok(Decision::from(Event::Added { by }).also(to.into_iter().map(|id| {
                    let also = Also::to::<Self>(id, Command::Add { by, most });
                    if forgiving { also.or(Command::Refuse) } else { also }
                })))
            }
            Command::Refuse(rejection) => Ok(Event::Refused { by: rejection.by, code: rejection.code }.into()),
            Command::Clear if self.total == 0 => Ok(Decision::nothing()),
            Command::Clear => Ok(Event::Cleared.into()),
            Command::Open { location } => Ok(Event::Opened { location }.into()),
            Command::Call { name } => Ok(Event::Called { name }.into()),
            Command::Circle => {
                Ok(Decision::from(Event::Added { by: 1 }).also([Also::to::<Self>(context.me(), Command::Circle)]))
            }
            Command::Hidden => Ok(Decision::nothing()),
        }
    }

    fn evolve(&mut self, event: Event) {
        match event {
            Event::Added { by } => self.total += by,
            Event::Refused { by, code } => self.refused.push(format!("{code} by {}", by.unwrap_or_default())),
            Event::Cleared => self.total = 0,
            Event::Opened { location } => self.location = Some(location),
            Event::Called { name } => self.name = Some(name),
        }
    }

    fn location(&self) -> Option<LocationId> {
        self.location
    }
}

static TALLIES: Module =
    Module { name: "tallies", about: "For tests.", aggregates: &[aggregate::<Tally>()], triggers: &[] };
static MODULES: &[&Module] = &[&cloud_control::MODULE, &TALLIES];
const COMPANY: CompanyId = CompanyId::number(100);

async fn host_on(folder: &Path) -> Host {
    let ledger: Arc<dyn Ledger> = Arc::new(SqliteLedger::open(folder).expect("opens"));
    let master = MasterKey::load_or_create(&folder.join("master.key")).expect("a key");
    let keyring = Keyring::sqlite(folder, master).await.expect("opens");
    let catalog = Catalog { modules: MODULES, kinds: KINDS, standing: cloud_control::standing };
    let options = HostOptions { catalog, adopt_schemas: false, ..HostOptions::default() };
    Host::start(ledger, keyring, options).await.expect("starts")
}

async fn founded() -> (TempDir, Host) {
    let folder = tempfile::tempdir().expect("a folder");
    let host = host_on(folder.path()).await;
    found(&host, COMPANY).await;
    (folder, host)
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
    Request {
        company: COMPANY,
        stream: stream.into(),
        id,
        command,
        command_id: CommandId::new(Uuid::now_v7()),
        actor: Actor::User { user: UserId::number(4), role: "dispatcher".into() },
        location: None,
        correlation: None,
        causation: None,
        idempotency_key: None,
        if_match: None,
        internal_allowed: false,
        scope: None,
    }
}

fn tally(number: u128) -> Uuid {
    Id::<Tally>::number(number).uuid()
}

fn ask(number: u128, command: Command) -> Request {
    request("tally", tally(number), Message::split(&command))
}

fn raw(number: u128, name: &str, fields: Value) -> Request {
    let fields = serde_json::value::to_raw_value(&fields).expect("JSON");
    request("tally", tally(number), Message { name: name.into(), fields })
}

fn add(number: u128, by: i64, most: Option<i64>) -> Request {
    ask(number, Command::Add { by, most })
}

fn keyed(request: Request, key: &str) -> Request {
    Request { idempotency_key: Some(key.into()), ..request }
}

async fn total(host: &Host, number: u128) -> i64 {
    let shown = host.state(COMPANY, "tally", tally(number), None).await.expect("is read");
    shown.map_or(0, |shown| shown.state["total"].as_i64().expect("a number"))
}

async fn entries(host: &Host) -> Vec<Entry> {
    let lines = host.ledger().read(COMPANY, 0, 10_000).await.expect("is read");
    let head = host.ledger().head(COMPANY).await.expect("is read");
    verify(&lines, head).expect("the ledger is whole");
    lines.iter().map(|line| Entry::read(line).expect("an entry")).collect()
}

fn code(answer: &Answer) -> &str {
    answer.rejection.as_ref().map_or("", |rejection| &rejection.code)
}

#[tokio::test]
async fn a_command_is_recorded_and_answered_with_its_place() {
    let (_folder, host) = founded().await;
    let request = Request { location: Some(LocationId::number(7)), ..add(1, 3, None) };
    let (id, answer) = (request.command_id, host.execute(request).await.expect("is answered"));
    assert_eq!((answer.command, answer.position, answer.sequence, answer.recorded), (id, 2, 1, 1));
    let entries = entries(&host).await;
    let entry = &entries[1];
    assert_eq!((entry.event.as_str(), entry.version, entry.payload.get()), ("added", 1, r#"{"by":3}"#));
    assert_eq!((entry.location, entry.command, entry.correlation), (Some(LocationId::number(7)), id, id.cast()));
    assert_eq!(entry.causation, None);
    let shown = host.state(COMPANY, "tally", tally(1), None).await.expect("is read").expect("is there");
    assert_eq!((shown.state["total"].clone(), shown.sequence, shown.position), (json!(3), 1, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_at_once_lose_nothing() {
    let (_folder, host) = founded().await;
    let writers = (0..64).map(|writer| {
        let host = host.clone();
        tokio::spawn(async move {
            for _ in 0..5 {
                host.execute(add(writer, 1, None)).await.expect("is answered");
            }
        })
    });
    join_all(writers).await.into_iter().for_each(|done| done.expect("ends"));
    assert_eq!(entries(&host).await.len(), 1 + 64 * 5);
    for writer in 0..64 {
        assert_eq!(total(&host, writer).await, 5);
    }
    host.stop().await;
    assert!(matches!(host.execute(add(1, 1, None)).await, Err(HostError::Fault(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_of_one_aggregate_each_get_their_turn_on_two_hosts() {
    let (folder, host) = founded().await;
    let other = host_on(folder.path()).await;
    let writers = (0..64).map(|writer| {
        let host = if writer % 2 == 0 { host.clone() } else { other.clone() };
        tokio::spawn(async move { host.execute(add(1, 1, Some(50))).await.expect("is answered") })
    });
    let answers: Vec<Answer> = join_all(writers).await.into_iter().map(|done| done.expect("ends")).collect();
    assert_eq!(answers.iter().filter(|answer| answer.rejection.is_none()).count(), 50);
    assert_eq!((total(&host, 1).await, total(&other, 1).await), (50, 50));
    assert_eq!(entries(&host).await.len(), 51);
}

#[tokio::test]
async fn a_refusal_or_an_empty_decision_is_never_stale() {
    let (folder, host) = founded().await;
    let other = host_on(folder.path()).await;
    host.execute(add(1, 10, None)).await.expect("is answered");
    assert_eq!(code(&other.execute(add(1, 1, Some(10))).await.expect("is answered")), "too_much");
    host.execute(ask(1, Command::Clear)).await.expect("is answered");
    assert_eq!(code(&other.execute(add(1, 1, Some(10))).await.expect("is answered")), "");
    host.execute(ask(1, Command::Clear)).await.expect("is answered");
    assert_eq!(host.execute(ask(1, Command::Clear)).await.expect("is answered").recorded, 0);
    other.execute(add(1, 4, None)).await.expect("is answered");
    assert_eq!(host.execute(ask(1, Command::Clear)).await.expect("is answered").recorded, 1);
    assert_eq!(total(&other, 1).await, 0);
}

#[tokio::test]
async fn what_a_command_carries_is_recorded_with_it_or_not_at_all() {
    let (_folder, host) = founded().await;
    let spread = |to: &[u128], most, forgiving| {
        let to = to.iter().map(|number| Id::number(*number)).collect();
        ask(1, Command::Spread { to, by: 2, most, forgiving })
    };
    let request = spread(&[2, 3, 2], None, false);
    let id = request.command_id.uuid();
    let answer = host.execute(request).await.expect("is answered");
    assert_eq!((answer.recorded, answer.sequence), (4, 1));
    assert_eq!((total(&host, 1).await, total(&host, 2).await, total(&host, 3).await), (2, 4, 2));
    let carried = entries(&host).await;
    assert!(carried[2..].iter().all(|entry| entry.causation == Some(id) && entry.correlation.uuid() == id));

    let answer = host.execute(spread(&[3, 2], Some(5), false)).await.expect("is answered");
    let rejection = answer.rejection.expect("is refused");
    assert_eq!((rejection.code, rejection.by), ("too_much".into(), Some(format!("tally/{}", tally(2)))));
    assert_eq!(entries(&host).await.len(), 5);

    let answer = host.execute(spread(&[3, 2], Some(5), true)).await.expect("is answered");
    assert_eq!((code(&answer), answer.recorded), ("", 3));
    assert_eq!((total(&host, 1).await, total(&host, 2).await, total(&host, 3).await), (4, 4, 4));
    let asker = host.state(COMPANY, "tally", tally(1), None).await.expect("is read").expect("is there");
    assert_eq!(asker.state["refused"], json!([format!("too_much by tally/{}", tally(2))]));
}

#[tokio::test]
async fn commands_that_lead_to_ever_more_are_stopped() {
    let (_folder, host) = founded().await;
    assert!(matches!(host.execute(ask(1, Command::Circle)).await, Err(HostError::Fault(_))));
    assert_eq!(entries(&host).await.len(), 1);
}

#[tokio::test]
async fn a_key_gives_the_first_answer_again_also_after_a_restart() {
    let (folder, host) = founded().await;
    let first = host.execute(keyed(add(1, 8, Some(10)), "a")).await.expect("is answered");
    let refused = host.execute(keyed(add(1, 8, Some(10)), "b")).await.expect("is answered");
    assert_eq!(code(&refused), "too_much");
    host.execute(ask(1, Command::Clear)).await.expect("is answered");
    host.stop().await;
    let host = host_on(folder.path()).await;
    for (key, before) in [("a", &first), ("b", &refused)] {
        let again = host.execute(keyed(add(1, 8, Some(10)), key)).await.expect("is answered");
        assert_eq!(again.command, before.command);
        assert_eq!((again.position, code(&again)), (before.position, code(before)));
    }
    assert!(matches!(host.execute(keyed(add(1, 7, Some(10)), "a")).await, Err(HostError::KeyReused)));
    let other = Actor::User { user: UserId::number(5), role: "dispatcher".into() };
    let request = Request { actor: other, ..keyed(add(1, 7, None), "a") };
    assert_eq!(host.execute(request).await.expect("another's key is another").recorded, 1);
    assert_eq!(total(&host, 1).await, 7);
}

#[tokio::test]
async fn what_is_not_there_is_told_so() {
    let (_folder, host) = founded().await;
    let elsewhere = Request { company: CompanyId::number(9), ..add(1, 1, None) };
    assert!(matches!(host.execute(elsewhere).await, Err(HostError::NoCompany)));
    assert!(matches!(
        host.execute(request("nothing", tally(1), add(1, 1, None).command)).await,
        Err(HostError::UnknownStream)
    ));
    assert!(matches!(host.execute(raw(1, "nothing", json!({}))).await, Err(HostError::UnknownCommand)));
    assert!(matches!(host.execute(ask(1, Command::Hidden)).await, Err(HostError::UnknownCommand)));
    let Err(HostError::Form(errors)) = host.execute(raw(1, "add", json!({ "by": "x", "more": 1 }))).await else {
        panic!("is taken");
    };
    assert_eq!(errors.iter().map(|error| error.path.as_str()).collect::<Vec<_>>(), ["/by", "/more"]);
    assert!(host.state(COMPANY, "tally", tally(1), None).await.expect("is read").is_none());
    assert!(host.standing(CompanyId::number(9)).await.expect("is read").is_none());
}

#[tokio::test]
async fn a_sender_sees_only_their_branches() {
    let (_folder, host) = founded().await;
    let within =
        |number: u128, request| Request { scope: Some(BTreeSet::from([LocationId::number(number)])), ..request };
    let open = |location| ask(1, Command::Open { location: LocationId::number(location) });
    assert!(matches!(host.execute(within(2, open(1))).await, Err(HostError::NotFound)));
    assert_eq!(entries(&host).await.len(), 1);
    host.execute(within(1, open(1))).await.expect("is answered");
    assert!(matches!(host.execute(within(2, add(1, 1, None))).await, Err(HostError::NotFound)));
    assert!(matches!(host.execute(within(2, add(1, 1, Some(0)))).await, Err(HostError::NotFound)));
    host.execute(within(1, add(1, 1, None))).await.expect("is answered");
    assert_eq!(entries(&host).await[2].location, Some(LocationId::number(1)));
}

#[tokio::test]
async fn a_sequence_that_has_moved_on_is_told() {
    let (folder, host) = founded().await;
    let other = host_on(folder.path()).await;
    let matching = |sequence| Request { if_match: Some(sequence), ..add(1, 1, None) };
    host.execute(matching(0)).await.expect("is answered");
    other.execute(matching(1)).await.expect("is answered");
    assert!(matches!(host.execute(matching(1)).await, Err(HostError::SequenceMismatch { sequence: 2 })));
    assert_eq!(host.execute(matching(2)).await.expect("is answered").sequence, 3);
}

#[tokio::test]
async fn a_suspended_company_acts_no_more_until_it_is_reinstated() {
    let (_folder, host) = founded().await;
    let company = |command| Request {
        actor: Actor::tool("cnc"),
        internal_allowed: true,
        ..request("company", COMPANY.uuid(), Message::split(&command))
    };
    host.execute(company(company::Command::Suspend { reason: "unpaid".into() })).await.expect("is answered");
    assert_eq!(code(&host.execute(add(1, 1, None)).await.expect("is answered")), "company_suspended");
    host.execute(company(company::Command::Reinstate)).await.expect("is answered");
    assert_eq!(code(&host.execute(add(1, 1, None)).await.expect("is answered")), "");
    let modules = BTreeSet::from(["cloud_control".to_owned()]);
    let answer = host.execute(company(company::Command::ChangePlan { modules })).await.expect("is answered");
    if answer.rejection.is_none() {
        assert_eq!(code(&host.execute(add(1, 1, None)).await.expect("is answered")), "module_off");
    }
}

#[tokio::test]
async fn the_past_is_shown_as_it_was() {
    let (_folder, host) = founded().await;
    for by in 1..=4 {
        host.execute(add(1, by, None)).await.expect("is answered");
    }
    let at = async |as_of| host.state(COMPANY, "tally", tally(1), Some(as_of)).await.expect("is read");
    assert!(at(AsOf::Position(1)).await.is_none());
    let past = at(AsOf::Position(3)).await.expect("was there");
    assert_eq!((past.state["total"].clone(), past.sequence, past.position), (json!(3), 2, 3));
    let when = entries(&host).await[3].at;
    assert_eq!(at(AsOf::Time(when)).await.expect("was there").state["total"], 6);
}

#[tokio::test]
async fn a_personal_field_is_never_in_clear_in_any_file() {
    let (folder, host) = founded().await;
    let name = "Quillon Abernathy-Vex";
    host.execute(keyed(raw(1, "call", json!({ "name": name })), "k")).await.expect("is answered");
    let mut shown = host.state(COMPANY, "tally", tally(1), None).await.expect("is read").expect("is there").state;
    assert!(shown["name"]["sealed"].is_object());
    host.keyring().open_all(COMPANY, &mut shown, &|_| true).await.expect("opens");
    assert_eq!(shown["name"], name);
    host.stop().await;
    let mut files = BTreeMap::new();
    for file in std::fs::read_dir(folder.path()).expect("is read") {
        let path = file.expect("a file").path();
        let bytes = std::fs::read(&path).expect("is read");
        files.insert(path.display().to_string(), bytes.windows(8).any(|window| window == &name.as_bytes()[..8]));
    }
    assert!(files.len() >= 3 && files.values().all(|found| !found), "{files:?}");
}

#[tokio::test]
async fn an_event_s_shape_is_adopted_once_at_its_first_append() {
    let folder = tempfile::tempdir().expect("a folder");
    for turn in 0..2 {
        let ledger: Arc<dyn Ledger> = Arc::new(SqliteLedger::open(folder.path()).expect("opens"));
        let master = MasterKey::load_or_create(&folder.path().join("master.key")).expect("a key");
        let keyring = Keyring::sqlite(folder.path(), master).await.expect("opens");
        let catalog = Catalog { modules: MODULES, kinds: KINDS, standing: cloud_control::standing };
        let host = Host::start(ledger, keyring, HostOptions { catalog, ..HostOptions::default() });
        let host = host.await.expect("starts");
        if turn == 0 {
            found(&host, COMPANY).await;
        }
        host.execute(add(1, 1, None)).await.expect("is answered");
        host.execute(add(1, 1, None)).await.expect("is answered");
        host.stop().await;
        let adopted = entries(&host).await.iter().filter(|entry| entry.event == "schema_adopted").count();
        assert_eq!(adopted, 3, "founded, schema_adopted and added");
    }
}
