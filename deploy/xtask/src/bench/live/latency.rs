//! From a command's acknowledgement until browsers have seen it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use cnc_domain::ledger::Position;
use serde::Deserialize;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{
    super::{
        Options, Outcome, load,
        report::{Report, Target},
    },
    lean::Lean,
    socket::Browser,
    world::World,
};

/// How many commands may be under way at once.
const UNDER_WAY: usize = 64;
/// How long all parts are used before the first measure.
const WARM_UP: Duration = Duration::from_secs(2);
/// How long the machine is looked at before.
const IDLE: Duration = Duration::from_secs(3);
/// How many browsers watch in the measure of fan-out.
const BROWSERS: usize = 1_000;

#[derive(Deserialize)]
struct Answer {
    position: Position,
}

/// A command: when it was given, when acknowledged, and where it stands.
type Given = (Instant, Instant, Position);

/// Measures at 100 and 1,000 commands a second and as fast as they go, then with 1,000 browsers.
pub async fn measure(world: &World, options: &Options, report: &mut Report) -> Outcome {
    let browser = Browser::open(world).await?;
    // Connections are opened and statements planned once in a process' life: not what is measured.
    let warm = give(world, Some(200), WARM_UP).await?;
    delays(&browser, &warm).await?;
    let held_up = tokio::task::spawn_blocking(|| longest_gap(IDLE)).await?;
    let idle = format!("ms for which this machine, else idle, held up a loop, longest of {} s", IDLE.as_secs());
    report.add(idle, ms(held_up), LIMIT, 50.0, None);
    for rate in [100, 1_000] {
        let given = give(world, Some(rate), options.cell()).await?;
        let delays = delays(&browser, &given).await?;
        let name = format!("{rate} commands/s");
        let (p50, p99) =
            if rate == 1_000 { (Some(Target::AtMost(1.0)), Some(Target::AtMost(1.0))) } else { (None, None) };
        report.add(
            format!("ms from acknowledged to seen, p50, {name}"),
            load::percentile(&delays, 50.0),
            LIMIT,
            10.0,
            p50,
        );
        report.add(
            format!("ms from acknowledged to seen, p99, {name}"),
            load::percentile(&delays, 99.0),
            LIMIT,
            50.0,
            p99,
        );
        report.add(
            format!("ms from acknowledged to seen, p99.9, {name}"),
            load::percentile(&delays, 99.9),
            LIMIT,
            50.0,
            None,
        );
        let answers: Vec<f64> = given.iter().map(|(given, at, _)| ms(at.saturating_duration_since(*given))).collect();
        report.add(
            format!("ms from given to acknowledged, p50, {name}"),
            load::percentile(&answers, 50.0),
            "its p99",
            load::percentile(&answers, 99.0),
            None,
        );
    }
    let started = Instant::now();
    let given = give(world, None, options.cell()).await?;
    #[allow(clippy::cast_precision_loss, reason = "a count of commands")]
    let rate = given.len() as f64 / started.elapsed().as_secs_f64();
    let delays = delays(&browser, &given).await?;
    report.add(
        format!("commands/s through the gateway, {UNDER_WAY} under way"),
        rate,
        "what the target asks for",
        1_000.0,
        None,
    );
    report.add("ms from acknowledged to seen, p50, at that rate", load::percentile(&delays, 50.0), LIMIT, 10.0, None);
    report.add("ms from acknowledged to seen, p99, at that rate", load::percentile(&delays, 99.0), LIMIT, 50.0, None);
    drop(browser);
    fan_out(world, options, report).await
}

const LIMIT: &str = "the limit in milliseconds";

async fn fan_out(world: &World, options: &Options, report: &mut Report) -> Outcome {
    let mut browsers = Vec::with_capacity(BROWSERS);
    for _ in 0..BROWSERS {
        browsers.push(Browser::open(world).await?);
    }
    let given = give(world, Some(10), options.cell()).await?;
    let mut all = Vec::new();
    for browser in &browsers {
        all.extend(delays(browser, &given).await?);
    }
    report.add(
        format!("ms until {BROWSERS} sockets have seen a change, p50"),
        load::percentile(&all, 50.0),
        LIMIT,
        10.0,
        None,
    );
    report.add(
        format!("ms until {BROWSERS} sockets have seen a change, p99"),
        load::percentile(&all, 99.0),
        LIMIT,
        50.0,
        None,
    );
    Ok(())
}

/// Gives commands for some time: at this rate whether or not the server keeps up, or as fast as it answers.
async fn give(world: &World, rate: Option<u32>, time: Duration) -> Outcome<Vec<Given>> {
    let (start, taken) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
    let mut givers = JoinSet::new();
    for _ in 0..UNDER_WAY {
        let mut lean = Lean::connect(&world.gateway.url("")).await?;
        let (taken, journeys, token) = (taken.clone(), world.journeys.clone(), world.token.clone());
        givers.spawn(async move {
            let mut given = Vec::new();
            loop {
                let nth = taken.fetch_add(1, Ordering::Relaxed);
                let due = rate.map_or_else(Instant::now, |rate| {
                    start + Duration::from_secs(1) * u32::try_from(nth).unwrap_or(0) / rate
                });
                if due.duration_since(start) > time {
                    return Ok::<_, String>(given);
                }
                tokio::time::sleep_until(due.into()).await;
                let path = format!("/v1/truck_journey/{}/report_status", journeys[nth % journeys.len()]);
                let body = r#"{"status":"in_traffic","note":"Stopped behind an accident on Knight Street"}"#;
                let before = if rate.is_some() { due } else { Instant::now() };
                let answer = lean.post(&path, &token, &Uuid::now_v7().to_string(), body).await;
                let answer: Answer = serde_json::from_slice(&answer.map_err(|error| error.to_string())?)
                    .map_err(|error| error.to_string())?;
                given.push((before, Instant::now(), answer.position));
            }
        });
    }
    let mut all = Vec::new();
    while let Some(given) = givers.join_next().await {
        all.extend(given??);
    }
    Ok(all)
}

/// How long after each acknowledgement a browser saw it, in milliseconds; 0 where it saw it before.
async fn delays(browser: &Browser, given: &[Given]) -> Outcome<Vec<f64>> {
    let last = given.iter().map(|(.., position)| *position).max().unwrap_or(0);
    let patience = Instant::now() + Duration::from_mins(1);
    while browser.saw(last).is_none() {
        if Instant::now() > patience {
            return Err(format!("a browser never saw position {last}").into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let delay = |(_, at, position): &Given| browser.saw(*position).map(|seen| ms(seen.saturating_duration_since(*at)));
    Ok(given.iter().filter_map(delay).collect())
}

/// For how long the machine did not let a thread go on that never waits: no delay can be relied on to be shorter.
fn longest_gap(time: Duration) -> Duration {
    let (start, mut last, mut longest) = (Instant::now(), Instant::now(), Duration::ZERO);
    while last.duration_since(start) < time {
        let now = Instant::now();
        longest = longest.max(now.duration_since(last));
        last = now;
    }
    longest
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}
