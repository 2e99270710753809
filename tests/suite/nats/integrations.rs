//! A partner's rights end at its own consumer, under the configuration that we ship.

use std::{
    collections::BTreeSet,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use async_nats::{Client, ConnectOptions, Event, Subject, jetstream};
use cnc_commands::relay::RelayOptions;
use cnc_domain::{kernel::CompanyId, ledger::subject};
use cnc_gateway::{integration::Integration, roles::Role};
use cnc_tests::{
    nats::{Broker, check},
    system::{Running, Shape},
};
use futures::{FutureExt as _, StreamExt as _};
use tokio::sync::mpsc;

use super::relay::{Ground, Working, options, until};
use crate::{
    cli::Operator,
    ledger::{append_all, company, deed, noon, truck, within},
};

const SHIPPED: &str = include_str!("../../../deploy/nats/nats.conf");
const COMPOSE: &str = include_str!("../../../deploy/compose.yaml");
const BELOW: &str = "# Integrations: what `cnc integration add` prints goes below this line.";

/// Asks for a message, for a second.
const REQUEST: &str = r#"{"batch":1,"expires":1000000000}"#;
const SILENCE: Duration = Duration::from_secs(2);

/// What is shipped, with passwords, and with the accounts of partners.
fn settings(accounts: &str) -> String {
    // The harness has a place of its own for what is stored.
    let (before, rest) = SHIPPED.split_once("jetstream {").expect("is there");
    let mut settings = before.to_owned() + rest.split_once("\n}\n").expect("ends").1;
    for role in ["RELAY", "FOLDS", "GATEWAY", "OPERATOR"] {
        settings = settings.replace(&format!("$CNC_NATS_{role}_PASSWORD"), "secret");
    }
    assert!(settings.contains(BELOW));
    settings.replace(BELOW, accounts)
}

/// Two companies whose entries are in the stream of a broker as we ship it, and a partner of each.
pub(super) struct Partners {
    pub(super) ground: Ground,
    relay: Option<Working>,
    pub(super) operator: Operator,
    accounts: String,
}

impl Partners {
    pub(super) async fn new() -> Self {
        let ground = Ground::on(Broker::with_config(&settings(""))).await;
        ground.found(2).await;
        for number in 1..=2 {
            ground.fill(company(number), 1, 20).await;
        }
        let mut partners = Self::on(ground);
        partners.start_relay(options()).await;
        partners.hold(42).await;
        for number in 1..=2 {
            partners.add(number);
        }
        partners.ground.broker.restart(&settings(&partners.accounts));
        partners
    }

    /// Nobody yet, and nothing is published.
    fn on(ground: Ground) -> Self {
        let operator = Operator::on(&ground.url);
        Self { ground, relay: None, operator, accounts: String::new() }
    }

    pub(super) async fn start_relay(&mut self, options: RelayOptions) {
        let ledger = self.ground.ledger.clone();
        self.relay = Some(Working::start(ledger, jetstream::new(user(&self.ground, "relay").await), options));
    }

    pub(super) async fn stop_relay(&mut self) {
        self.relay.take().expect("works").stop().await;
    }

    /// Waits until the stream holds so many messages.
    async fn hold(&self, count: u64) {
        until("all to be published", async || self.held().await.is_some_and(|held| held >= count)).await;
    }

    /// How many messages the stream holds, where it is there.
    async fn held(&self) -> Option<u64> {
        let looker = jetstream::new(user(&self.ground, "operator").await);
        let stream = looker.get_stream(subject::STREAM).await.ok()?;
        Some(stream.cached_info().state.messages)
    }

    /// Publishes lines of company 2 by hand, without ids.
    async fn publish(&self, lines: Vec<String>) {
        let relay = jetstream::new(user(&self.ground, "relay").await);
        for line in lines {
            let subject = format!("cnc.events.{}.truck.cleaned", company(2));
            relay.publish(subject, line.into()).await.expect("sent").await.expect("stored");
        }
    }

    /// Adds the partner of a company, as an operator does.
    fn add(&mut self, number: u128) {
        let (company, seed) = (company(number).to_string(), self.seed(number));
        let arguments = [
            "integration",
            "add",
            "--company",
            &company,
            "--name",
            "erp",
            "--nats",
            &self.nats(),
            "--seed-file",
            &seed,
        ];
        let added = self.operator.json(&arguments);
        self.accounts += added["account"].as_str().expect("an account");
        self.accounts += "\n";
        assert!(!self.accounts.contains(std::fs::read_to_string(&seed).expect("written").trim()));
    }

    fn nats(&self) -> String {
        self.ground.broker.url().replace("nats://", "nats://operator:secret@")
    }

    fn seed(&self, number: u128) -> String {
        self.operator.data().join(format!("{number}.nk")).to_str().expect("a plain path").to_owned()
    }

    /// The client of a company's partner, and what the broker refuses it.
    async fn client(&self, number: u128) -> (Client, mpsc::UnboundedReceiver<String>) {
        let (refused, refusals) = mpsc::unbounded_channel();
        let seed = std::fs::read_to_string(self.seed(number)).expect("written");
        let options = ConnectOptions::with_nkey(seed.trim().to_owned())
            .custom_inbox_prefix(partner(number).inbox())
            .event_callback(move |event| {
                if let Event::ServerError(error) = event {
                    // Nobody listens any more at the end of a test.
                    let _ = refused.send(error.to_string());
                }
                async {}
            });
        (options.connect(self.ground.broker.url()).await.expect("is let in"), refusals)
    }

    /// Starts the example, which copies company 1's ledger to a file, with a gateway and a token where it has them.
    pub(super) fn example(&self, file: &str, gateway: &[String]) -> Child {
        let mut example = Command::new(env!("CARGO_BIN_EXE_integration_consumer"));
        example.args([self.ground.broker.url(), self.seed(1), company(1).to_string(), "erp".into(), file.into()]);
        example.args(gateway).stderr(Stdio::null()).spawn().expect("starts")
    }
}

fn partner(number: u128) -> Integration {
    Integration::new(company(number), "erp").expect("is a name")
}

async fn user(ground: &Ground, name: &str) -> Client {
    let options = ConnectOptions::with_user_and_password(name.into(), "secret".into());
    let options = options.custom_inbox_prefix(format!("_INBOX_{name}"));
    options.connect(ground.broker.url()).await.expect("is let in")
}

pub(super) fn lines_of(file: &str) -> Vec<String> {
    std::fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn next_of(number: u128) -> String {
    partner(number).next()
}

/// Reads as a partner of company 1, which has these lines, until it was sent all from one of them on, and says how each
/// message is answered. It is sent nothing else.
async fn read_from(client: &Client, first: usize, lines: &[String]) -> Vec<Subject> {
    let inbox = client.new_inbox();
    let mut messages = client.subscribe(inbox.clone()).await.expect("subscribed");
    let (mut missing, mut replies): (BTreeSet<_>, _) = (lines[first..].iter().cloned().collect(), Vec::new());
    let reading = async {
        while !missing.is_empty() {
            client.publish_with_reply(next_of(1), inbox.clone(), REQUEST.into()).await.expect("sent");
            // Without an entry, or an answer: the consumer is another now, and has to be asked again.
            let answer = tokio::time::timeout(SILENCE, messages.next()).await;
            let Some(message) = answer.ok().flatten().filter(|message| message.status.is_none()) else { continue };
            let line = String::from_utf8(message.payload.into()).expect("is text");
            assert!(lines.contains(&line), "{line}");
            missing.remove(&line);
            replies.extend(message.reply);
        }
    };
    within("all to be sent", reading).await;
    replies
}

/// Waits until the broker has refused something that names this.
async fn refusal(refusals: &mut mpsc::UnboundedReceiver<String>, what: &str) {
    until(what, async || {
        let refused = refusals.recv().await.expect("the client lives").to_lowercase();
        refused.contains("permissions violation") && refused.contains(&format!("\"{}\"", what.to_lowercase()))
    })
    .await;
}

/// It reads a variable as a value of its settings: what begins with a digit may be a broken number.
#[test]
fn a_server_takes_passwords_as_compose_hands_them_over_whatever_they_look_like() {
    let settings = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/nats/nats.conf");
    let (_, service) = COMPOSE.split_once("\n  nats:\n").expect("is a service");
    for password in ["14e4f502dc", "123456", "n123456"] {
        let variables = service.lines().filter_map(|line| {
            let (name, value) = line.trim().split_once(": ")?;
            let value = value.replace(&format!("${{{name}:?}}"), password);
            name.starts_with("CNC_NATS_").then(|| (name, value.trim_matches('\'').to_owned()))
        });
        let variables: Vec<_> = variables.collect();
        assert_eq!(variables.len(), 4);
        assert_eq!(check(&settings, &variables), Ok(()), "{password}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rights_that_are_shipped_are_all_that_a_relay_needs() {
    let ground = Ground::on(Broker::with_config(&settings(""))).await;
    ground.found(1).await;
    let database = sqlx::PgPool::connect(&ground.url).await.expect("connected");
    let tip = || sqlx::query_scalar::<_, i64>("SELECT tip FROM cnc.relay_stream").fetch_one(&database);
    for round in 1..=2 {
        let relay = Working::start(ground.ledger.clone(), jetstream::new(user(&ground, "relay").await), options());
        ground.fill(company(1), round, 20).await;
        until("all to be published", async || relay.published() >= 20).await;
        // From now on a relay that starts looks whether the last of these is in the stream.
        until("that to be recorded", async || tip().await.expect("is there") > 0).await;
        relay.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partner_fetches_and_acknowledges_its_own() {
    let mut partners = Partners::new().await;
    let (client, _) = partners.client(1).await;
    let inbox = client.new_inbox();
    let mut messages = client.subscribe(inbox.clone()).await.expect("subscribed");
    client.publish_with_reply(next_of(1), inbox, "21".into()).await.expect("sent");
    let lines = partners.ground.lines(company(1)).await;
    for line in lines {
        let message = messages.next().await.expect("a message");
        assert_eq!(message.payload, line);
        client.publish(message.reply.expect("can be answered"), "+ACK".into()).await.expect("sent");
    }
    // Nothing waits for it any more; all waits for the other.
    until("all to be acknowledged", async || {
        let listed = partners.operator.ok(&["integration", "list", "--json", "--nats", &partners.nats()]);
        let of = |number: u128| {
            let mut listed = listed.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
            let found = listed.find(|listed| listed["company"] == company(number).to_string()).expect("is listed");
            (found["waiting"].as_u64(), found["unanswered"].as_u64())
        };
        of(2) == (Some(21), Some(0)) && of(1) == (Some(0), Some(0))
    })
    .await;
    partners.stop_relay().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partner_is_refused_everything_else() {
    let mut partners = Partners::new().await;
    let (client, mut refusals) = partners.client(1).await;
    let (own, other) = (partner(1).durable(), partner(2).durable());
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.expect("subscribed");
    let forged = |of: CompanyId| format!("cnc.events.{of}.truck.cleaned");
    for publishing in [
        next_of(2),
        format!("$JS.ACK.CNC.{other}.1.1.1.1.0"),
        forged(company(1)),
        forged(company(2)),
        subject::of_changes(company(1), "alerts"),
        "$JS.API.INFO".into(),
        "$JS.API.STREAM.MSG.GET.CNC".into(),
        "$JS.API.DIRECT.GET.CNC".into(),
        format!("$JS.API.DIRECT.GET.CNC.{}", forged(company(1))),
        "$JS.API.STREAM.INFO.CNC".into(),
        "$JS.API.STREAM.LIST".into(),
        "$JS.API.STREAM.DELETE.CNC".into(),
        "$JS.API.STREAM.PURGE.CNC".into(),
        "$JS.API.STREAM.UPDATE.CNC".into(),
        "$JS.API.STREAM.CREATE.MINE".into(),
        "$JS.API.CONSUMER.CREATE.CNC".into(),
        format!("$JS.API.CONSUMER.CREATE.CNC.{own}"),
        format!("$JS.API.CONSUMER.DURABLE.CREATE.CNC.{own}"),
        format!("$JS.API.CONSUMER.INFO.CNC.{own}"),
        format!("$JS.API.CONSUMER.DELETE.CNC.{own}"),
        format!("$JS.API.CONSUMER.INFO.CNC.{other}"),
        format!("$JS.API.CONSUMER.DELETE.CNC.{other}"),
        "$JS.API.CONSUMER.LIST.CNC".into(),
        format!("{}.x", partner(2).inbox()),
        "_INBOX_relay.x".into(),
    ] {
        client.publish_with_reply(publishing.clone(), inbox.clone(), "{}".into()).await.expect("sent");
        refusal(&mut refusals, &publishing).await;
    }
    for listening in [
        subject::ALL_ENTRIES.to_owned(),
        subject::entries_of(company(1)),
        subject::ALL_CHANGES.into(),
        format!("{}.>", partner(2).inbox()),
        "_INBOX_relay.>".into(),
        "$JS.>".into(),
        ">".into(),
    ] {
        let subscription = client.subscribe(listening.clone()).await.expect("sent");
        refusal(&mut refusals, &listening).await;
        drop(subscription);
    }
    // Nothing of all that was answered, and nothing is changed.
    client.publish_with_reply(next_of(1), inbox, "1".into()).await.expect("sent");
    let first = answers.next().await.expect("a message");
    assert_eq!(first.payload, partners.ground.lines(company(1)).await[0]);
    let relay = jetstream::new(user(&partners.ground, "relay").await);
    let stream = relay.get_stream(subject::STREAM).await.expect("is there");
    assert_eq!((stream.cached_info().state.messages, stream.cached_info().state.consumer_count), (42, 2));
    partners.stop_relay().await;
}

/// What a client had on its way, when the broker died, may arrive before anybody looked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partner_is_not_sent_another_companys_entries_in_place_of_its_own_that_a_broker_lost() {
    let mut partners = Partners::new().await;
    let (client, _) = partners.client(1).await;
    partners.ground.broker.remember();
    partners.ground.fill(company(1), 2, 20).await;
    // All lie with the partner, unanswered.
    let sent = read_from(&client, 0, &partners.ground.lines(company(1)).await).await;
    partners.stop_relay().await;
    partners.ground.fill(company(2), 2, 40).await;
    let others = partners.ground.lines(company(2)).await.split_off(21);
    partners.ground.broker.forget_messages_that_followed();
    partners.publish(others).await;
    partners.start_relay(options()).await;
    partners.hold(42 + 40 + 20 + 40).await;
    for reply in sent {
        client.publish(reply, "-NAK".into()).await.expect("sent");
    }
    read_from(&client, 0, &partners.ground.lines(company(1)).await).await;
    partners.stop_relay().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partner_that_has_seen_what_a_broker_lost_is_sent_all_that_comes_after_it() {
    let mut partners = Partners::new().await;
    let (client, _) = partners.client(1).await;
    partners.ground.broker.remember();
    // So the partner's consumer comes to stand far beyond what will be left.
    partners.publish(partners.ground.lines(company(2)).await).await;
    partners.ground.fill(company(1), 2, 1).await;
    for reply in read_from(&client, 0, &partners.ground.lines(company(1)).await).await {
        client.publish(reply, "+ACK".into()).await.expect("sent");
    }
    client.flush().await.expect("sent");
    partners.stop_relay().await;
    partners.ground.fill(company(1), 3, 10).await;
    partners.ground.broker.forget_messages_that_followed();
    partners.start_relay(options()).await;
    read_from(&client, 22, &partners.ground.lines(company(1)).await).await;
    partners.stop_relay().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_let_in_without_a_key_and_a_removed_partner_has_nothing() {
    let mut partners = Partners::new().await;
    assert!(async_nats::connect(partners.ground.broker.url()).await.is_err());
    let company = company(1).to_string();
    let remove = ["integration", "remove", "--company", &company, "--name", "erp", "--nats", &partners.nats()];
    assert!(partners.operator.ok(&remove).contains("removed"));
    assert_eq!(partners.operator.run(&remove).status, 3);
    partners.ground.broker.restart(&settings(""));
    let seed = std::fs::read_to_string(partners.seed(1)).expect("written");
    let options = ConnectOptions::with_nkey(seed.trim().to_owned());
    assert!(options.connect(partners.ground.broker.url()).await.is_err());
    partners.stop_relay().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_copies_a_ledger_whatever_is_repeated_and_however_often_it_is_killed() {
    let mut partners = Partners::new().await;
    let file = partners.operator.data().join("copy.ndjson");
    let file = file.to_str().expect("a plain path").to_owned();
    let copied = || lines_of(&file);
    for round in 2..=4 {
        let mut example = partners.example(&file, &[]);
        let mut append = deed(company(1), truck(round), 0, &vec!["cleaned"; 50]);
        append.now = cnc_tests::fixtures::now();
        append_all(&partners.ground.ledger, vec![append]).await.expect("appended").remove(0).expect("appended");
        let before = copied().len();
        until("it to copy some", async || copied().len() > before).await;
        example.kill().expect("killed");
        example.wait().expect("ended");
        // A repeat of what it has: an older message with another id.
        let relay = user(&partners.ground, "relay").await;
        let first = partners.ground.lines(company(1)).await.swap_remove(0);
        let subject = format!("cnc.events.{}.company.founded", company(1));
        jetstream::new(relay).publish(subject, first.into()).await.expect("sent").await.expect("stored");
    }
    let mut example = partners.example(&file, &[]);
    let lines = partners.ground.lines(company(1)).await;
    until("all to be copied", async || copied().len() == lines.len()).await;
    assert_eq!(copied(), lines);
    // A forged line: it stops.
    let forged = lines
        .last()
        .expect("some")
        .replace(&format!("\"position\":{}", lines.len()), &format!("\"position\":{}", lines.len() + 1));
    let relay = jetstream::new(user(&partners.ground, "relay").await);
    let subject = format!("cnc.events.{}.truck.cleaned", company(1));
    relay.publish(subject, forged.into()).await.expect("sent").await.expect("stored");
    until("it to stop", async || example.try_wait().expect("a child").is_some()).await;
    assert_eq!(copied(), lines);
    partners.stop_relay().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_reads_from_a_gateway_what_the_stream_does_not_keep() {
    let ground = Ground::on(Broker::with_config(&settings(""))).await;
    let ledger = Some(ground.url.clone());
    let shape = Shape { ledger, roles: Some(vec![Role::Gateway]), ..Shape::default() };
    let gateway = Running::shaped(shape).await.expect("starts");
    // Founded long ago, so that a relay that begins now does not publish it.
    gateway.system.rooms.host.keyring().found(company(1)).await.expect("has keys");
    ground.found(1).await;
    ground.fill_at(noon(), company(1), 1, 1_500).await;
    let mut partners = Partners::on(ground);
    partners.start_relay(RelayOptions::default()).await;
    partners.hold(0).await;
    partners.add(1);
    partners.ground.broker.restart(&settings(&partners.accounts));
    let folder = partners.operator.data();
    let (file, token) = (folder.join("copy.ndjson"), folder.join("token"));
    std::fs::write(&token, gateway.token(company(1), "auditor", None).await).expect("written");
    let [file, token] = [file, token].map(|path| path.to_str().expect("a plain path").to_owned());
    let mut example = partners.example(&file, &[gateway.url(""), token]);
    for truck in 2..=3 {
        partners.ground.fill(company(1), truck, 5).await;
        let lines = partners.ground.lines(company(1)).await;
        until("all to be copied", async || lines_of(&file).len() == lines.len()).await;
        assert_eq!(lines_of(&file), lines);
    }
    // All but the founding and what was filled in then.
    let recent = partners.ground.lines(company(1)).await.len() as u64 - 1_501;
    partners.hold(recent).await;
    assert_eq!(partners.held().await, Some(recent));
    example.kill().expect("killed");
    example.wait().expect("ended");
    partners.stop_relay().await;
    gateway.stop().await;
}

/// A broker answers with rights of its own, to wherever it is asked to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_partner_asks_for_reaches_nobody_else() {
    let mut partners = Partners::new().await;
    let (client, _) = partners.client(1).await;
    let looker = jetstream::new(user(&partners.ground, "operator").await);
    for elsewhere in [
        format!("cnc.events.{}.truck.cleaned", company(2)),
        subject::of_changes(company(2), "alerts"),
        format!("$JS.API.CONSUMER.DELETE.CNC.{}", partner(2).durable()),
        "$JS.API.STREAM.PURGE.CNC".into(),
        "$JS.API.STREAM.DELETE.CNC".into(),
    ] {
        let mut changes = looker.client().subscribe(subject::ALL_CHANGES).await.expect("sent");
        // A message, and that there is none, and that the question is none.
        for question in ["1", r#"{"batch":1,"no_wait":true}"#, r#"{"batch":-1}"#, "{", "nonsense"] {
            client.publish_with_reply(next_of(1), elsewhere.clone(), question.into()).await.expect("sent");
        }
        // The broker answers in order: when this has come, that is done.
        let inbox = client.new_inbox();
        let mut answers = client.subscribe(inbox.clone()).await.expect("subscribed");
        client.publish_with_reply(next_of(1), inbox, "1".into()).await.expect("sent");
        answers.next().await.expect("a message");
        let state = looker.get_stream(subject::STREAM).await.expect("is there").cached_info().state.clone();
        assert_eq!((state.last_sequence, state.messages, state.consumer_count), (42, 42, 2), "{elsewhere}");
        assert!(changes.next().now_or_never().flatten().is_none());
    }
    partners.stop_relay().await;
}
