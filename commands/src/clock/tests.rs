//! A clock beside a ledger without one.

use cnc_domain::{
    kernel::{Actor, CommandId, Id, Seconds},
    ledger::{Answer, Append, Draft, Hash},
};
use serde_json::value::RawValue;
use tempfile::TempDir;

use super::*;
use crate::ledger::SqliteLedger;

const NOON: Timestamp = Timestamp::from_seconds(1_800_000_000);
const DAY: u64 = 24 * 60 * 60;

/// A folder, and a machine that tells its processes the time.
struct Machine {
    folder: TempDir,
    wall: Arc<Mutex<Timestamp>>,
    steady: Arc<Mutex<Duration>>,
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { folder, wall: Arc::new(Mutex::new(NOON)), steady: Arc::default() }
    }

    fn monitor(&self, accepted: Option<Timestamp>) -> ClockMonitor {
        let (wall, steady) = (self.wall.clone(), self.steady.clone());
        let clock = Clock {
            wall: Arc::new(move || *wall.lock().expect("locks")),
            steady: Arc::new(move || *steady.lock().expect("locks")),
        };
        let ledger = SqliteLedger::open(self.folder.path()).expect("opens");
        ClockMonitor::new(clock, ClockLimits { accepted, ..ClockLimits::default() }, Arc::new(ledger))
    }

    /// Time goes on.
    fn passes(&self, seconds: u64) {
        *self.steady.lock().expect("locks") += Duration::from_secs(seconds);
        self.is_set(i64::try_from(seconds).expect("small"));
    }

    fn is_set(&self, ahead: i64) {
        let mut wall = self.wall.lock().expect("locks");
        *wall = Timestamp::from_micros(wall.micros() + ahead * 1_000_000);
    }

    fn now(&self) -> Timestamp {
        *self.wall.lock().expect("locks")
    }
}

async fn is_refused(monitor: &ClockMonitor) -> bool {
    monitor.look().await.expect("the ledger answers");
    matches!(monitor.now().await, Err(HostError::ClockSkew(_)))
}

#[tokio::test]
async fn a_company_may_rest_for_a_month_and_beside_a_server_for_ever() {
    let machine = Machine::new();
    let server = machine.monitor(None);
    assert!(!is_refused(&server).await, "a new folder knows no better");
    machine.passes(29 * DAY);
    assert!(!is_refused(&machine.monitor(None)).await);
    machine.passes(31 * DAY);
    assert!(is_refused(&machine.monitor(None)).await);
    // The server has been there all the time, and says so as it looks.
    assert!(!is_refused(&server).await);
    assert!(!is_refused(&machine.monitor(None)).await);
    assert_eq!(server.time(), machine.now());
}

#[tokio::test]
async fn a_clock_that_was_wrong_leaves_nothing_by_which_it_is_believed() {
    let machine = Machine::new();
    assert!(!is_refused(&machine.monitor(None)).await);
    machine.is_set(365 * DAY.cast_signed());
    for _ in 0..2 {
        let monitor = machine.monitor(None);
        assert!(is_refused(&monitor).await);
        // Nothing fires or is forgotten by it either.
        assert_eq!(monitor.time(), NOON);
    }
    let monitor = machine.monitor(None);
    assert!(is_refused(&monitor).await);
    machine.is_set(-365 * DAY.cast_signed());
    assert!(!is_refused(&monitor).await, "it heals by itself");
}

#[tokio::test]
async fn a_correction_is_followed_and_a_jump_is_not() {
    let machine = Machine::new();
    let monitor = machine.monitor(None);
    assert!(!is_refused(&monitor).await);
    for correction in [8, -300, 500] {
        machine.passes(60);
        machine.is_set(correction);
        assert!(!is_refused(&monitor).await, "{correction}");
        assert_eq!(monitor.time(), machine.now());
    }
    for jump in [3_600, -3_600] {
        let before = monitor.time();
        machine.is_set(jump);
        assert!(monitor.skew().is_some_and(|skew| skew.seconds() == jump), "{jump}");
        machine.passes(60);
        assert!(is_refused(&monitor).await, "{jump}");
        assert_eq!(monitor.time(), before.plus(Seconds(60)));
        machine.is_set(-jump);
        assert!(!is_refused(&monitor).await, "{jump}");
    }
}

#[tokio::test]
async fn the_operators_word_is_for_one_day() {
    let machine = Machine::new();
    assert!(!is_refused(&machine.monitor(None)).await);
    machine.passes(400 * DAY);
    assert!(is_refused(&machine.monitor(Some(NOON))).await);
    let word = Some(machine.now());
    assert!(!is_refused(&machine.monitor(word)).await);
    machine.passes(365 * DAY);
    assert!(is_refused(&machine.monitor(word)).await);
    // What is recorded says that the clock is behind.
    machine.is_set(-765 * DAY.cast_signed());
    assert!(is_refused(&machine.monitor(None)).await);
    assert!(!is_refused(&machine.monitor(Some(NOON))).await);
}

#[tokio::test]
async fn what_any_company_recorded_last_says_how_late_it_was() {
    let machine = Machine::new();
    let ledger = SqliteLedger::open(machine.folder.path()).expect("opens");
    let append = |company, now| Append {
        company: CompanyId::number(company),
        founds: true,
        now,
        facts: Hash::default(),
        checks: Vec::new(),
        drafts: vec![Draft {
            stream: "company".into(),
            id: CompanyId::number(company).uuid(),
            sequence: 1,
            event: "founded".into(),
            version: 1,
            location: None,
            actor: Actor::tool("test"),
            command: CommandId::number(7),
            correlation: Id::number(7),
            causation: None,
            payload: RawValue::from_string("{}".into()).expect("JSON"),
        }],
        idempotency: None,
        answer: Answer {
            command: CommandId::number(7),
            position: 0,
            sequence: 0,
            recorded: 1,
            rejection: None,
            replayed: false,
        },
    };
    let long_ago = NOON.minus(Seconds(400 * 24 * 60 * 60));
    for (company, now) in [(1, long_ago), (2, NOON.minus(Seconds(60)))] {
        ledger.append(vec![append(company, now)]).await.expect("no fault").remove(0).expect("appends");
    }
    assert!(!is_refused(&machine.monitor(None)).await);
}
