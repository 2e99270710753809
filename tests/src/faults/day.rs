//! A day of a fleet's fixes, brought into a split deployment while it is struck.

use std::{
    fmt,
    path::Path,
    time::{Duration, Instant},
};

use cnc_domain::ledger::Entry;
use cnc_gateway::import::{runs, table};
use serde_json::Value;

use super::{
    Fault, Verdict, strike, verdict,
    world::{Size, World},
};
use crate::{fixtures::now, random::Random};

/// How often the import is killed before it is let run.
const KILLS: u32 = 6;

/// How a day is brought in.
pub struct Day<'a> {
    /// The `cnc` program.
    pub program: &'a Path,
    /// Decides when and whom faults strike.
    pub seed: u64,
    /// The file of fixes.
    pub file: &'a Path,
}

/// What a day came to.
#[derive(Debug)]
pub struct DayRow {
    /// The seed.
    pub seed: u64,
    /// What the import that came to its end says.
    pub summary: Value,
    /// How many fixes the ledger holds.
    pub fixes: u64,
    /// How many it should hold.
    pub expected: u64,
    /// How often faults struck.
    pub strikes: u32,
    /// How often the import was killed and started again.
    pub killed: u32,
    /// What an import said that gave up by itself.
    pub gave_up: Vec<String>,
    /// How long the import took.
    pub took: Duration,
    /// From its end until every view and every outbox was even with the ledger.
    pub recovered_in: Duration,
    /// What was found afterwards.
    pub verdict: Verdict,
}

/// Two gateways, two relays, two processes that fold and four that run triggers, while `cnc import gps` brings in a day:
/// faults strike until it is done.
pub async fn day(how: &Day<'_>) -> DayRow {
    let (mut random, mut kills) = (Random::new(how.seed), Random::new(!how.seed));
    let size = Size { writers: 0, folds: 2, workers: 4 };
    let world = World::start(how.program, Fault::Any, size).await;
    let following = world.follow_the_ledger();
    let begun = Instant::now();
    let importing = async {
        let imported = import(&world, how.file, &mut kills).await;
        let took = begun.elapsed();
        following.abort();
        world.written.finish();
        (imported, took)
    };
    let striking = async {
        for strikes in 0.. {
            world.go_on_for(random.between(40, 160)).await;
            if world.written.is_finished() {
                return strikes;
            }
            strike::strike(Fault::Any, &world, &mut random).await;
        }
        0
    };
    let ((Imported { summary, killed, gave_up }, took), strikes) = tokio::join!(importing, striking);
    let healed = Instant::now();
    world.until_even().await;
    let recovered_in = healed.elapsed();
    let verdict = verdict::reach(&world, &[]).await;
    let (fixes, expected) = (fixes(&world), fixes_in(how.file));
    DayRow { seed: how.seed, summary, fixes, expected, strikes, killed, gave_up, took, recovered_in, verdict }
}

/// What became of the import.
struct Imported {
    summary: Value,
    killed: u32,
    gave_up: Vec<String>,
}

/// Imports until an import comes to its end; some are killed on the way.
async fn import(world: &World, file: &Path, kills: &mut Random) -> Imported {
    let (mut killed, mut gave_up) = (0, Vec::new());
    let file = file.to_str().expect("a plain path");
    loop {
        let branch = ["--province", "US-TX", "--timezone", "America/Chicago"];
        let import = ["import", "gps", file, "--company", &world.company, "--json"];
        let child = world.split.spawn(&[import.as_slice(), &branch].concat());
        let output = tokio::select! {
            output = child.wait_with_output() => output.expect("the import can be waited for"),
            () = world.go_on_for(kills.between(300, 2_000)), if killed < KILLS => {
                killed += 1;
                continue;
            }
        };
        // Where rows are reported, the status says so, and the summary stands on the first line.
        let summary = String::from_utf8_lossy(&output.stdout);
        let summary = summary.lines().next().and_then(|line| serde_json::from_str::<Value>(line).ok());
        if let Some(summary) = summary.filter(|summary| summary["adds_up"].is_boolean()) {
            return Imported { summary, killed, gave_up };
        }
        let said = String::from_utf8_lossy(&output.stderr);
        gave_up.push(said.lines().last().unwrap_or_default().to_owned());
    }
}

/// How many fixes the ledger holds.
fn fixes(world: &World) -> u64 {
    let lines = world.split.ok(&["audit", "export", "--company", &world.company]);
    let entries = lines.lines().map(|line| Entry::read(line).expect("is an entry"));
    let chunks = entries.filter(|entry| entry.event == "gps_recorded");
    let count = |chunk: Entry| serde_json::from_str::<Value>(chunk.payload.get()).ok()?["count"].as_u64();
    chunks.filter_map(count).sum()
}

/// How many different fixes a file holds.
fn fixes_in(file: &Path) -> u64 {
    let file = table::open(file).expect("the file can be read");
    let mut reader = table::Reader::new(file, now()).expect("it is a table of fixes");
    let table = reader.batch(usize::MAX).expect("the file can be read");
    let grouped = runs::group(table.rows);
    grouped.vehicles.iter().flat_map(|vehicle| &vehicle.runs).map(|run| run.rows.len() as u64).sum()
}

impl DayRow {
    /// Whether every row was accounted for and every promise kept.
    pub fn is_clean(&self) -> bool {
        let reported_late = self.summary["unfinished"].as_array().is_none_or(|left| !left.is_empty());
        self.verdict.is_clean() && self.summary["adds_up"] == true && self.fixes == self.expected && !reported_late
    }
}

impl fmt::Display for DayRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (said, Verdict { entries, views_differing, missing_in_stream, .. }) = (&self.summary, &self.verdict);
        let audit = if self.verdict.broken.is_none() { "clean" } else { "BROKEN" };
        writeln!(
            f,
            "{} rows = {} recorded + {} already known + {} reported, by an import that was killed {} times and gave up {} times",
            said["rows"],
            said["recorded"],
            said["already_known"],
            said["reported"],
            self.killed,
            self.gave_up.len(),
        )?;
        write!(
            f,
            "seed {}: {} fixes of {} in {entries} entries, {} faults in {:.0} s; views differing {views_differing}, missing in the stream {missing_in_stream}, audit {audit}, recovered in {:.1} s",
            self.seed,
            self.fixes,
            self.expected,
            self.strikes,
            self.took.as_secs_f64(),
            self.recovered_in.as_secs_f64(),
        )
    }
}
