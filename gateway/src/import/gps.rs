//! The import of GPS fixes: every vehicle's runs as journeys, many vehicles at a time, so that their commands are recorded
//! in groups.
//!
//! What is there already is looked up, not assumed: the fixes that a journey has are opened and compared, so that a run
//! that was brought in by half, or that has grown since, gets exactly what it lacks. Killed anywhere and started again, the
//! import leaves the same streams as in one go.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use cnc_commands::host::{Host, HostError, Request};
use cnc_domain::{
    kernel::{Actor, CommandId, CompanyId, LocationId, Message, Timestamp},
    ledger::{Answer, Entry, Fault},
};
use futures::StreamExt;
use serde_json::{Value, value::RawValue};

use super::{
    journey::{Fleet, Step, Trip, open_location, own_location},
    runs::{Grouped, Run, Vehicle},
    table::{BadRow, Row},
};

/// How many vehicles are worked on at once.
const AT_ONCE: usize = 64;
/// How many fixes go into one chunk: what a journey takes.
const CHUNK: usize = 500;
/// How often a step is tried when the system is busy, and how long is waited at first.
const TRIES: u32 = 8;
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// How many entries of a journey are read at once.
const BATCH: usize = 500;

/// Brings fixes into one company.
#[derive(Clone)]
pub struct Import {
    /// The write side.
    pub host: Host,
    /// Whose they are.
    pub company: CompanyId,
    /// The branch that vehicles belong to, where one is named.
    pub location: Option<LocationId>,
    /// Rows that are settled, for whoever shows progress.
    pub settled: Arc<AtomicU64>,
}

/// What became of the rows of runs.
#[derive(Debug, Default)]
pub struct Imported {
    /// Fixes that were recorded.
    pub recorded: u64,
    /// Fixes that were there already.
    pub known: u64,
    /// Journeys that are new.
    pub journeys: u64,
    /// Rows that a rule refused.
    pub bad: Vec<BadRow>,
    /// Steps after a journey's fixes that a rule refused, so that it was left unfinished.
    pub unfinished: Vec<String>,
}

/// Why an import stopped. What was recorded until then stands, and the same import again goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// The system failed.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// There is no such company.
    #[error("no such company")]
    NoCompany,
    /// Somebody else imports the same vehicles.
    #[error("another import of the same vehicles is running: wait for it, then start this one again")]
    Beside,
    /// The product contradicts itself: its own command was not understood.
    #[error("{0}")]
    Misfit(String),
}

/// A step was done (now or before), or a rule refused it.
enum Outcome {
    Done,
    Refused(String),
}

impl Import {
    /// Brings in all runs. Stops at the first failure.
    pub async fn run(self, grouped: Grouped) -> Result<Imported, Stopped> {
        let location = self.location.unwrap_or_else(|| own_location(self.company));
        if self.location.is_none()
            && let Outcome::Refused(why) = self.give(open_location(self.company)).await?
        {
            return Err(Stopped::Misfit(format!("the branch of imported vehicles: {why}")));
        }
        let import = Arc::new(self);
        let vehicles = grouped.vehicles.into_iter().map(|vehicle| {
            let import = import.clone();
            // On its own task, so that all cores seal and decide.
            async move { tokio::spawn(async move { import.vehicle(location, &vehicle).await }).await }
        });
        let mut done = futures::stream::iter(vehicles).buffer_unordered(AT_ONCE);
        let mut imported = Imported::default();
        while let Some(vehicle) = done.next().await {
            let vehicle = vehicle.map_err(|panic| Fault::broken("importing a vehicle", panic))?;
            imported.add(vehicle?);
        }
        Ok(imported)
    }

    async fn vehicle(&self, location: LocationId, vehicle: &Vehicle) -> Result<Imported, Stopped> {
        let fleet = Fleet::of(self.company, location, &vehicle.name);
        let mut imported = Imported::default();
        for step in fleet.steps(vehicle) {
            if let Outcome::Refused(why) = self.give(step).await? {
                vehicle.runs.iter().for_each(|run| imported.refuse(&run.rows, &why));
                self.settled.fetch_add(imported.bad.len() as u64, Ordering::Relaxed);
                return Ok(imported);
            }
        }
        for run in &vehicle.runs {
            imported.add(self.journey(fleet.trip(&vehicle.name, run), run).await?);
            self.settled.fetch_add(run.rows.len() as u64, Ordering::Relaxed);
        }
        Ok(imported)
    }

    async fn journey(&self, trip: Trip, run: &Run) -> Result<Imported, Stopped> {
        let mut imported = Imported::default();
        let before = self.before(&trip).await?;
        for step in if before.over { Vec::new() } else { trip.start(run) } {
            if let Outcome::Refused(why) = self.give(step).await? {
                imported.refuse(&run.rows, &why);
                return Ok(imported);
            }
        }
        imported.journeys = u64::from(!before.exists);
        let (known, new): (Vec<Row>, Vec<Row>) = run.rows.iter().cloned().partition(|row| before.has(row));
        imported.known = known.len() as u64;
        for (chunk, rows) in (before.chunks..).zip(new.chunks(CHUNK)) {
            match self.give(trip.gps(chunk, rows)).await? {
                Outcome::Done => imported.recorded += rows.len() as u64,
                Outcome::Refused(why) => imported.refuse(rows, &why),
            }
        }
        for step in if before.over { Vec::new() } else { trip.end(run) } {
            let name = step.name;
            if let Outcome::Refused(why) = self.give(step).await? {
                imported.unfinished.push(format!("{} {name}: {why}", trip.journey));
                break;
            }
        }
        Ok(imported)
    }

    /// Gives one command. The same step of the same journey is the same command, whatever file it comes from.
    async fn give(&self, step: Step) -> Result<Outcome, Stopped> {
        let key = format!("{}/{}/{}/{}", step.stream, step.id, step.name, step.nth);
        let request = Request {
            company: self.company,
            stream: step.stream.into(),
            id: step.id,
            command: message(&step)?,
            command_id: CommandId::derived(&[b"import gps", self.company.uuid().as_bytes(), key.as_bytes()]),
            actor: Actor::tool("import"),
            location: None,
            correlation: None,
            causation: None,
            idempotency_key: Some(key),
            if_match: None,
            internal_allowed: false,
            scope: None,
        };
        let mut wait = FIRST_WAIT;
        for _ in 0..TRIES {
            match self.host.execute(request.clone()).await {
                Ok(answer) => return Ok(outcome(answer)),
                // An earlier import took this step with another body, from a file with fewer or more rows: it is done.
                Err(HostError::KeyReused) if step.name != "record_gps" => return Ok(Outcome::Done),
                Err(HostError::KeyReused) => return Err(Stopped::Beside),
                Err(HostError::NoCompany) => return Err(Stopped::NoCompany),
                Err(HostError::Busy) => {}
                Err(HostError::Fault(fault)) if fault.passing => {}
                Err(HostError::Fault(fault)) => return Err(fault.into()),
                Err(other) => return Err(Stopped::Misfit(format!("{} {}: {other}", step.stream, step.name))),
            }
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
        Err(Fault::passing("importing", "the system stayed busy").into())
    }
}

/// What a journey has already.
#[derive(Default)]
struct Before {
    exists: bool,
    over: bool,
    /// The times of its fixes of this import's receiver.
    fixes: HashSet<Timestamp>,
    /// Whether its fixes cannot be read any more, since its key was destroyed.
    erased: bool,
    /// The next chunk of this import's receiver.
    chunks: u64,
}

impl Before {
    fn has(&self, row: &Row) -> bool {
        // What was erased on request is not brought in again.
        self.erased || self.fixes.contains(&row.at)
    }

    /// Takes a chunk of fixes, opened.
    fn take(&mut self, chunk: &Value) {
        self.chunks = self.chunks.max(chunk["chunk"].as_u64().map_or(0, |chunk| chunk + 1));
        match chunk["fixes"].as_array() {
            Some(fixes) => {
                self.fixes.extend(fixes.iter().filter_map(|fix| fix["at"].as_str()?.parse::<Timestamp>().ok()));
            }
            None => self.erased = true,
        }
    }
}

impl Import {
    /// Reads what a journey has already.
    async fn before(&self, trip: &Trip) -> Result<Before, Stopped> {
        let mut before = Before::default();
        let mut after = 0;
        loop {
            let id = trip.journey.uuid();
            let lines = self.host.ledger().read_stream(self.company, "truck_journey", id, after, BATCH).await?;
            if lines.is_empty() {
                return Ok(before);
            }
            after += lines.len() as u64;
            before.exists = true;
            for line in &lines {
                let entry = Entry::read(line).map_err(|error| Fault::broken("reading a journey", error))?;
                match entry.event.as_str() {
                    "returned" | "cancelled" => before.over = true,
                    "gps_recorded" => {
                        let mut chunk: Value = serde_json::from_str(entry.payload.get())
                            .map_err(|error| Fault::broken("reading fixes", error))?;
                        if chunk["device"] == trip.tracker().to_string() {
                            self.host.keyring().open_all(self.company, &mut chunk, &|_| true).await?;
                            before.take(&chunk);
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}

impl Imported {
    fn add(&mut self, other: Self) {
        self.recorded += other.recorded;
        self.known += other.known;
        self.journeys += other.journeys;
        self.bad.extend(other.bad);
        self.unfinished.extend(other.unfinished);
    }

    fn refuse(&mut self, rows: &[Row], why: &str) {
        self.bad.extend(rows.iter().map(|row| BadRow { line: row.line, reason: format!("refused: {why}") }));
    }
}

fn outcome(answer: Answer) -> Outcome {
    match answer.rejection {
        None => Outcome::Done,
        Some(rejection) => Outcome::Refused(rejection.to_string()),
    }
}

fn message(step: &Step) -> Result<Message, Stopped> {
    let fields = RawValue::from_string(step.fields.to_string()).map_err(|error| Stopped::Misfit(error.to_string()))?;
    Ok(Message { name: step.name.into(), fields })
}
