//! Verifying beside plain SHA-256, and folding beside reading and decoding alone.

use std::{
    hint::black_box,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use cnc_commands::ledger::SqliteLedger;
use cnc_domain::{
    command_control::{TruckJourney, truck_journey},
    kernel::{Aggregate, CompanyId, Message},
    ledger::{Entry, Hash, Head, Ledger, Position, StreamHead, Verifier},
};
use cnc_projections::{Engine, EngineFolds, Store, VIEWS};
use tokio::sync::watch;

use super::{
    Options, Outcome, journeys, load,
    report::{Report, Target},
    rows::{self, Journey},
};

/// Entries that are verified and folded.
const ENTRIES: u64 = 200_000;

/// Measures on one thread, in turns.
pub fn verify(options: &Options, report: &mut Report) -> Outcome {
    let lines = chain();
    let (mut verified, mut hashed) = (Vec::new(), Vec::new());
    for _ in 0..options.turns.max(5) {
        hashed.push(per_second(|| {
            for line in &lines {
                black_box(Hash::of(line));
            }
            Ok(())
        })?);
        verified.push(per_second(|| {
            let mut verifier = Verifier::default();
            for line in &lines {
                verifier.line(line.as_bytes())?;
            }
            black_box(verifier.head());
            Ok(())
        })?);
    }
    report.add(
        "entries/s verified, one thread",
        load::median(verified),
        "plain SHA-256 of the same lines",
        load::median(hashed),
        Some(Target::AtLeast(0.6)),
    );
    Ok(())
}

/// Entries per second of one pass over all of them.
fn per_second(pass: impl FnOnce() -> Outcome) -> Outcome<f64> {
    let start = Instant::now();
    pass()?;
    #[allow(clippy::cast_precision_loss, reason = "a count of entries")]
    Ok(ENTRIES as f64 / start.elapsed().as_secs_f64())
}

/// Lines of one company, each naming the hash of the one before.
fn chain() -> Vec<String> {
    let (company, at) = (CompanyId::new(rows::fresh()), rows::now());
    let mut journey = Journey::new(company, Hash::default());
    let mut head = Head::default();
    let mut lines = Vec::new();
    for _ in 0..ENTRIES {
        let append = journey.report("bench");
        let line = Entry::line(&append.drafts[0].header(company, head, at), append.drafts[0].payload.get());
        head = Head { position: head.position + 1, hash: Hash::of(&line) };
        journey.seen = StreamHead { sequence: head.position, hash: head.hash };
        lines.push(line);
    }
    lines
}

/// Measures how fast the dispatch board is built from nothing, beside reading and decoding the same entries alone.
pub async fn fold(folder: &Path, options: &Options, report: &mut Report) -> Outcome {
    let ledger: Arc<dyn Ledger> = Arc::new(SqliteLedger::open(folder)?);
    let company = journeys::record(&ledger, ENTRIES).await?;
    let head = ledger.head(company).await?.unwrap_or_default();
    let (mut built, mut decoded) = (Vec::new(), Vec::new());
    for _ in 0..options.turns {
        decoded.push(decode(&ledger, company).await?);
        built.push(build(&ledger, company, head.position).await?);
    }
    report.add(
        "entries/s folded into a new dispatch_board",
        load::median(built),
        "reading and decoding the same entries alone",
        load::median(decoded),
        Some(Target::AtLeast(0.3)),
    );
    Ok(())
}

/// Entries per second, read in pages, each event decoded to its type.
async fn decode(ledger: &Arc<dyn Ledger>, company: CompanyId) -> Outcome<f64> {
    let (start, mut position) = (Instant::now(), 0_u32);
    loop {
        let lines = ledger.read(company, position.into(), 2_000).await?;
        if lines.is_empty() {
            return Ok(f64::from(position) / start.elapsed().as_secs_f64());
        }
        for line in &lines {
            let entry = Entry::read(line)?;
            if entry.stream == TruckJourney::STREAM {
                black_box(Message::join::<truck_journey::Event>(&entry.event, entry.payload.get())?);
            }
            position += 1;
        }
    }
}

/// Entries per second until the board of a new, empty store has reached the head.
async fn build(ledger: &Arc<dyn Ledger>, company: CompanyId, head: Position) -> Outcome<f64> {
    let folder = tempfile::tempdir()?;
    let store = Store::sqlite(folder.path()).await?;
    let board = VIEWS.iter().find(|view| view.kind.name() == "dispatch_board").ok_or("there is no dispatch_board")?;
    let engine = Engine::new(ledger.clone(), store, EngineFolds { views: vec![board.kind], ..EngineFolds::default() });
    let (stop, stopped) = watch::channel(false);
    let start = Instant::now();
    let running = tokio::spawn({
        let engine = engine.clone();
        async move { engine.run(stopped).await }
    });
    engine
        .wait_for(company, "dispatch_board", head, Duration::from_mins(10))
        .await
        .map_err(|at| format!("only at {at}"))?;
    #[allow(clippy::cast_precision_loss, reason = "a count of entries")]
    let rate = head as f64 / start.elapsed().as_secs_f64();
    stop.send(true)?;
    running.await?;
    Ok(rate)
}
