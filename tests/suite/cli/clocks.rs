//! Clocks that are wrong: nothing is recorded by them, whoever asks, and all is well once they are right.

use cnc_domain::{kernel::Seconds, ledger::Entry};
use cnc_tests::{
    clock::OwnClock,
    fixtures,
    mover::{Answered, answered},
    postgres::cluster,
};
use reqwest::Client;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Operator, Server, until};

const YEAR: i64 = 365 * 24 * 60 * 60;
/// Long, and short enough for a token to be good until then.
const MONTHS: u32 = 200 * 24 * 60 * 60;

/// A company whose people command it through servers with clocks of their own.
struct Late {
    operator: Operator,
    clock: OwnClock,
    company: String,
    token: String,
    truck: Uuid,
    branch: Uuid,
}

impl Late {
    fn new(operator: Operator) -> Self {
        let company = operator.found("Punctual Movers");
        let user = operator.invite(&company, "admin");
        let issue = ["token", "issue", "--company", &company, "--user", &user, "--hours", "8760"];
        let token = operator.ok(&issue).trim().to_owned();
        let clock = OwnClock::in_file(operator.data().join("own.clock"));
        Self { operator, clock, company, token, truck: Uuid::now_v7(), branch: Uuid::now_v7() }
    }

    fn serve(&self, options: &[&str]) -> Server {
        self.operator.serve_with(options, &self.clock.environment())
    }

    async fn give(&self, server: &Server, path: &str, key: &str, body: &Value) -> Answered {
        let request = Client::new().post(format!("http://{}/v1/{path}", server.address));
        answered(request.bearer_auth(&self.token).header("idempotency-key", key).json(body)).await
    }

    async fn rename(&self, server: &Server, name: &str) -> Answered {
        self.give(server, &format!("location/{}/rename", self.branch), name, &json!({ "name": name })).await
    }

    /// A branch, a truck, and a journey that a deadline looks after for hours.
    async fn plan(&self, server: &Server) {
        let truck = fixtures::truck("TRK 1", self.branch);
        self.give(server, &format!("location/{}/open", self.branch), "open", &fixtures::branch("Yard")).await.good();
        self.give(server, &format!("truck/{}/commission", self.truck), "truck", &truck).await.good();
        let journey = fixtures::journey(self.truck, self.branch, 2..9);
        self.give(server, &format!("truck_journey/{}/plan", self.truck), "plan", &journey).await.good();
    }

    fn entries(&self) -> Vec<Entry> {
        let lines = self.operator.export(&self.company);
        lines.iter().map(|line| Entry::read(line).expect("an entry")).collect()
    }

    fn ready(&self, server: &Server) -> bool {
        self.operator.run(&["health", "--listen", &server.address]).status == 0
    }

    /// Waits until the server says that it is not ready, and why.
    #[track_caller]
    fn is_not_ready(&self, server: &Server, why: &str) {
        let asked = ["health", "--listen", &server.address];
        until("it is not ready", || self.operator.run(&asked).status == 1);
        let said = self.operator.run(&asked).err;
        assert!(said.contains("not ready: clock:") && said.contains(why), "{said}");
        server.says(&["nothing is recorded", why]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_a_year_from_its_databases_records_fires_and_forgets_nothing_until_it_is_right() {
    let late = Late::new(Operator::on(&cluster().database().await));
    let server = late.serve(&[]);
    late.plan(&server).await;
    let renamed = late.rename(&server, "North").await.good();
    drop(server);
    let before = late.entries();
    for ahead in [YEAR, -YEAR] {
        late.clock.set(ahead);
        let server = late.serve(&[]);
        late.is_not_ready(&server, "the database's");
        let refused = late.rename(&server, "South").await;
        assert_eq!(refused.headers["retry-after"], "5");
        let refused = refused.problem(503, "clock_skew");
        let skew = refused["skew_seconds"].as_i64().expect("a number");
        assert!((skew - ahead).abs() < 60, "{refused}");
        // What was done before is answered still; nothing of it was forgotten.
        let again = late.rename(&server, "North").await;
        assert_eq!(again.headers["idempotent-replayed"], "true");
        assert_eq!(again.good(), renamed);
        late.clock.set(0);
        until("it is ready again", || late.ready(&server));
        server.says(&["the clock is right again"]);
        assert_eq!(late.entries().len(), before.len());
    }
    let server = late.serve(&[]);
    late.rename(&server, "South").await.good();
    // It steps while the server runs, and is noticed by the very next command.
    late.clock.set(YEAR);
    late.rename(&server, "East").await.problem(503, "clock_skew");
    late.clock.set(0);
    late.rename(&server, "East").await.good();
    let after = late.entries();
    assert_eq!(after.len(), before.len() + 2, "{after:?}");
    assert!(after.iter().all(|entry| entry.at < fixtures::now().plus(Seconds(5))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_second_clock_a_jump_needs_the_operators_word() {
    let late = Late::new(Operator::new());
    late.clock.set(MONTHS.into());
    let server = late.serve(&[]);
    late.is_not_ready(&server, "--accept-clock");
    late.give(&server, &format!("location/{}/open", late.branch), "open", &fixtures::branch("Yard"))
        .await
        .problem(503, "clock_skew");
    // Nothing that was left behind makes the next start believe it.
    drop(server);
    let server = late.serve(&[]);
    late.is_not_ready(&server, "--accept-clock");
    late.clock.set(0);
    until("it is ready again", || late.ready(&server));
    late.plan(&server).await;
    late.clock.set(MONTHS.into());
    late.is_not_ready(&server, "forward by");
    late.rename(&server, "South").await.problem(503, "clock_skew");
    late.clock.set(0);
    until("it is ready again", || late.ready(&server));
    late.rename(&server, "South").await.good();
    drop(server);
    let before = late.entries();
    assert!(before.iter().all(|entry| entry.at < fixtures::now().plus(Seconds(5))));
    // On the operator's word; and then it is the right clock that needs it.
    late.clock.set(MONTHS.into());
    let day = |ahead: u32| fixtures::now().plus(Seconds(ahead)).to_string()[..10].to_owned();
    let server = late.serve(&["--accept-clock", &day(MONTHS)]);
    assert!(late.ready(&server));
    late.rename(&server, "East").await.good();
    drop(server);
    late.clock.set(0);
    let server = late.serve(&["--accept-clock", &day(MONTHS)]);
    late.is_not_ready(&server, "--accept-clock");
    drop(server);
    let server = late.serve(&["--accept-clock", &day(0)]);
    assert!(late.ready(&server));
    late.rename(&server, "West").await.good();
    server.says(&["entries keep its time"]);
}
