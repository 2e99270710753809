//! Several processes write the same ledger at once, and are killed while they do.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdout, Command, Stdio},
    time::Instant,
};

use super::*;

on_both!(every; ledgers_opened_several_times_write_at_once, processes_write_at_once, a_killed_process_loses_nothing);

const ADDRESS: &str = "CNC_TEST_CHILD_ADDRESS";
const NAME: &str = "CNC_TEST_CHILD_NAME";
const COUNT: &str = "CNC_TEST_CHILD_COUNT";

/// Not a test of its own, but what another process does when it is started as this test: it appends to a truck of its
/// own and to one that all share, and says on standard output what was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_a_child() {
    let Ok(address) = std::env::var(ADDRESS) else { return };
    let number = |name| std::env::var(name).expect("told").parse::<u64>().expect("a number");
    let ledger = open(&address).await;
    let mut shared = 0;
    for nth in 0..number(COUNT) {
        let position = work(&*ledger, number(NAME), nth, &mut shared).await;
        writeln!(std::io::stdout(), "acknowledged {nth} {position}").expect("heard");
    }
}

/// One piece of a child's work: again with the same key until it is done, as a client does it. Returns the position.
async fn work(ledger: &dyn Audit, name: u64, nth: u64, shared: &mut u64) -> u64 {
    let own = truck(u128::from(100 + name));
    let started = Instant::now();
    loop {
        let mut wish = deed(company(1), own, nth, &["cleaned", "washed"]);
        wish.checks.push(consulted(truck(1), *shared));
        // The second entry is of the truck that all share.
        wish.drafts[1] = draft(truck(1), *shared + 1, "washed", "{}");
        let batch = vec![keyed(wish, &format!("tool:{name}"), &nth.to_string())];
        match append_all(ledger, batch).await.map(|mut outcomes| outcomes.remove(0)) {
            Ok(Ok(appended)) => {
                *shared += 1;
                return appended.answer.position;
            }
            Ok(Err(AppendError::Repeated(answered))) => return answered.answer.position,
            Ok(Err(AppendError::Conflict { id, found, .. })) if id == truck(1) => *shared = found.sequence,
            Err(fault) if fault.passing && started.elapsed() < PATIENCE => {
                writeln!(std::io::stdout(), "fault {fault}").expect("heard");
            }
            other => panic!("{nth}: {other:?}"),
        }
    }
}

fn child(ground: &Ground, name: u64, count: u64) -> (Child, BufReader<ChildStdout>) {
    start(ground, name, count, Command::new(std::env::current_exe().expect("this program")))
}

fn start(ground: &Ground, name: u64, count: u64, mut command: Command) -> (Child, BufReader<ChildStdout>) {
    command.args(["--exact", "ledger::processes::as_a_child", "--nocapture", "--test-threads=1"]);
    command.env(ADDRESS, ground.address()).env(NAME, name.to_string()).env(COUNT, count.to_string());
    let mut child = command.stdout(Stdio::piped()).spawn().expect("this program can be started");
    let output = BufReader::new(child.stdout.take().expect("piped"));
    (child, output)
}

/// The number and position of a piece of work that a child says was acknowledged.
fn acknowledged(line: &str) -> Option<(u64, u64)> {
    let (nth, position) = line.split_once("acknowledged ")?.1.split_once(' ')?;
    Some((nth.parse().ok()?, position.parse().ok()?))
}

async fn ledgers_opened_several_times_write_at_once(ground: Ground) {
    let (ledger, company) = founded(&ground).await;
    let mut writing = Vec::new();
    for name in 0..4 {
        let ledger = ground.ledger().await;
        writing.push(tokio::spawn(async move {
            let mut shared = 0;
            for nth in 0..25 {
                work(&*ledger, name, nth, &mut shared).await;
            }
        }));
    }
    for writer in writing {
        within("the writers", writer).await.expect("written");
    }
    assert_eq!(lines(&*ledger, company).await.len(), 201);
}

async fn processes_write_at_once(ground: Ground) {
    let (ledger, company) = founded(&ground).await;
    let children: Vec<_> = (0..3).map(|name| child(&ground, name, 25)).collect();
    for (mut child, output) in children {
        let said: Vec<String> = output.lines().map(|line| line.expect("text")).collect();
        assert!(child.wait().expect("ended").success(), "{said:#?}");
        assert_eq!(said.iter().filter_map(|line| acknowledged(line)).count(), 25);
    }
    assert_eq!(lines(&*ledger, company).await.len(), 151);
    assert_eq!(ledger.read_stream(company, "truck", truck(1), 0, 100).await.expect("read").len(), 75);
}

async fn a_killed_process_loses_nothing(ground: Ground) {
    let (ledger, company) = founded(&ground).await;
    let mut seen = 0;
    for round in 0..6_u64 {
        // Killed somewhere in its work, further on each time.
        let (mut child, output) = child(&ground, round, 1_000_000);
        let mut acks = Vec::new();
        for line in output.lines() {
            acks.extend(acknowledged(&line.expect("text")));
            if acks.len() as u64 == 5 + 7 * round {
                child.kill().expect("killed");
            }
        }
        child.wait().expect("ended");
        let lines = lines(&*ledger, company).await;
        assert!(acks.len() as u64 >= 5 + 7 * round);
        for (nth, position) in &acks {
            let own = truck(u128::from(100 + round));
            let entry = cnc_domain::ledger::Entry::read(&lines[usize::try_from(*position).expect("small") - 2]);
            let entry = entry.expect("an entry");
            assert_eq!((entry.id, entry.sequence), (own, nth + 1));
        }
        // At most the one in flight is there beside them, whole; and its key finds it.
        let fresh = lines.len() as u64 - 1 - seen;
        let done = acks.len() as u64;
        assert!(fresh == 2 * done || fresh == 2 * (done + 1), "{fresh} entries of {done}");
        work(&*ledger, round, done, &mut 0).await;
        seen += 2 * (done + 1);
        assert_eq!(head(&*ledger, company).await.position, seen + 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_loses_nothing_and_heals() {
    let ground = Ground::sqlite();
    let (ledger, company) = founded(&ground).await;
    // A process whose files may not grow past a megabyte, until they may.
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -S -f 2048; exec \"$0\" \"$@\""]);
    limited.arg(std::env::current_exe().expect("this program"));
    let (mut child, output) = start(&ground, 0, 150, limited);
    let (mut acks, mut faults) = (0, 0);
    for line in output.lines() {
        let line = line.expect("text");
        acks += u64::from(acknowledged(&line).is_some());
        if line.contains("fault ") {
            faults += 1;
            let lift = ["--pid", &child.id().to_string(), "--fsize=unlimited"];
            assert!(faults > 1 || Command::new("prlimit").args(lift).status().expect("run").success());
        }
    }
    assert!(child.wait().expect("ended").success());
    assert!(acks == 150 && faults > 0, "{acks} acknowledged, {faults} faults");
    assert_eq!(lines(&*ledger, company).await.len(), 301);
}
