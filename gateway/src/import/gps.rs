//! The import of GPS fixes: every vehicle's runs as journeys, many vehicles at a time, so that their commands are recorded
//! in groups.
//!
//! What is there already is looked up, not assumed: the fixes that a journey has are opened and compared, so that a run
//! that was brought in by half, or that has grown since, at its end or before its start, gets exactly what it lacks. Killed
//! anywhere and started again, the import leaves the same streams as in one go.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use cnc_commands::{Host, HostError, Request};
use cnc_domain::{
    kernel::{Actor, CommandId, CompanyId, LocationId, Message},
    ledger::{Answer, Fault},
};
use futures::StreamExt;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{
    before::{Before, Compared},
    journey::{Branch, Fleet, Step, Trip},
    patience::Patience,
    runs::{Grouped, Run, Vehicle},
    table::{BadRow, Row},
};

/// How many vehicles are worked on at once.
const AT_ONCE: usize = 64;
/// How many fixes go into one chunk: what a journey takes.
const CHUNK: usize = 500;

/// Brings fixes into one company.
#[derive(Clone)]
pub struct Import {
    /// The write side.
    pub host: Host,
    /// Whose they are.
    pub company: CompanyId,
    /// The branch that vehicles belong to, where one is named.
    pub location: Option<LocationId>,
    /// The branch that is opened for them otherwise.
    pub branch: Branch,
    /// What tells this import from an earlier one of the same rows: a step that was refused then is decided anew.
    pub attempt: Uuid,
    /// Rows that are settled, for whoever shows progress.
    pub settled: Arc<AtomicU64>,
    /// How a system is borne that is away or busy.
    pub patience: Arc<Patience>,
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
    /// The product contradicts itself: its own command was not understood.
    #[error("{0}")]
    Misfit(String),
}

impl Stopped {
    /// Whether the same may work if tried again soon.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::Fault(fault) if fault.passing)
    }
}

/// A step was done, or a rule refused it.
enum Outcome {
    /// With so many new entries; none where it was so already.
    Done(usize),
    Refused(String),
}

impl Import {
    /// Brings in all runs. Stops at the first failure.
    pub async fn run(self, grouped: Grouped) -> Result<Imported, Stopped> {
        let location = self.location.unwrap_or_else(|| Branch::id(self.company));
        let first = grouped.vehicles.first().and_then(|vehicle| vehicle.runs.first()?.rows.first());
        if let (None, Some(first)) = (self.location, first)
            && let Some(why) = self.once(self.branch.open(self.company, first)).await?
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
        for step in fleet.steps(vehicle, &self.branch.province) {
            if let Some(why) = self.once(step).await? {
                vehicle.runs.iter().for_each(|run| imported.refuse(&run.rows, &why));
                self.settled.fetch_add(imported.bad.len() as u64, Ordering::Relaxed);
                return Ok(imported);
            }
        }
        for run in &vehicle.runs {
            imported.add(self.journey(fleet, vehicle, run).await?);
            self.settled.fetch_add(run.rows.len() as u64, Ordering::Relaxed);
        }
        Ok(imported)
    }

    async fn journey(&self, fleet: Fleet, vehicle: &Vehicle, run: &Run) -> Result<Imported, Stopped> {
        let mut imported = Imported::default();
        let near = self.near(fleet, vehicle, run).await?;
        let (mut new, mut contradicting) = (Vec::new(), Vec::new());
        for row in &run.rows {
            match near.compare(row) {
                Compared::New => new.push(row.clone()),
                Compared::Known => imported.known += 1,
                Compared::Contradicts(reason) => contradicting.push(BadRow { line: row.line, reason }),
            }
        }
        imported.bad = contradicting;
        let (trip, before) = near.chosen(vehicle, run);
        if new.is_empty() && before.is_over() {
            return Ok(imported);
        }
        if let Some((_, why)) = self.steps(&trip, &before, trip.start(run)).await? {
            imported.refuse(&new, &why);
            return Ok(imported);
        }
        imported.journeys = u64::from(before.events.is_empty());
        for (chunk, rows) in (before.chunks..).zip(new.chunks(CHUNK)) {
            match self.give(&trip.gps(chunk, rows)).await? {
                Outcome::Done(0) => imported.known += rows.len() as u64,
                Outcome::Done(_) => imported.recorded += rows.len() as u64,
                Outcome::Refused(why) => imported.refuse(rows, &why),
            }
        }
        if let Some((step, why)) = self.steps(&trip, &before, trip.end(run)).await? {
            imported.unfinished.push(format!("journey {}, {step}: {why}", trip.journey));
        }
        Ok(imported)
    }

    /// Gives those steps of a journey that it has not taken; says which was refused, and why.
    async fn steps(
        &self,
        trip: &Trip,
        before: &Before,
        steps: Vec<Step>,
    ) -> Result<Option<(&'static str, String)>, Stopped> {
        for step in steps.into_iter().filter(|step| !before.took(step)) {
            if let Outcome::Refused(why) = self.give(&step).await?
                // Another import of the same rows may have been faster.
                && !self.before(trip).await?.took(&step)
            {
                return Ok(Some((step.name, why)));
            }
        }
        Ok(None)
    }

    /// Gives the first command of a stream, where it has not been given; says why it was refused.
    async fn once(&self, step: Step) -> Result<Option<String>, Stopped> {
        if self.has_begun(&step).await? {
            return Ok(None);
        }
        let Outcome::Refused(why) = self.give(&step).await? else { return Ok(None) };
        let faster = self.has_begun(&step).await?;
        Ok((!faster).then_some(why))
    }

    /// Whether a step's stream has entries.
    async fn has_begun(&self, step: &Step) -> Result<bool, Stopped> {
        let first = || async { Ok(self.host.ledger().read_stream(self.company, step.stream, step.id, 0, 1).await?) };
        Ok(!self.patience.with(first).await?.is_empty())
    }

    /// Gives one command, again where the system is away or busy: under its key it acts once.
    async fn give(&self, step: &Step) -> Result<Outcome, Stopped> {
        let request = self.request(step)?;
        self.patience.with(|| self.execute(step, request.clone())).await
    }

    async fn execute(&self, step: &Step, request: Request) -> Result<Outcome, Stopped> {
        match self.host.execute(request).await {
            Ok(Answer { rejection: Some(rejection), .. }) => Ok(Outcome::Refused(rejection.to_string())),
            Ok(Answer { recorded, .. }) => Ok(Outcome::Done(recorded)),
            Err(HostError::NoCompany) => Err(Stopped::NoCompany),
            Err(HostError::Busy) => Err(Fault::passing("importing", "the system is busy").into()),
            Err(HostError::ClockSkew(skew)) => Err(Fault::passing("importing", skew).into()),
            Err(HostError::Fault(fault)) => Err(fault.into()),
            Err(HostError::Form(errors)) => {
                // Where a file's own words do not fit, such as a province, the sentence says which.
                let wrong: Vec<String> = errors.iter().map(ToString::to_string).collect();
                Err(Stopped::Misfit(format!("{} {}: {}", step.stream, step.name, wrong.join("; "))))
            }
            Err(other) => Err(Stopped::Misfit(format!("{} {}: {other}", step.stream, step.name))),
        }
    }

    /// The same step is the same command, whatever file it comes from.
    fn request(&self, step: &Step) -> Result<Request, Stopped> {
        let fields = RawValue::from_string(step.fields.to_string());
        let fields = fields.map_err(|error| Stopped::Misfit(error.to_string()))?;
        let key = format!("{}/{}/{}/{}", step.stream, step.id, step.name, step.nth);
        let command = Message { name: step.name.into(), fields };
        Ok(Request {
            command_id: CommandId::derived(&[b"import gps", self.company.uuid().as_bytes(), key.as_bytes()]),
            idempotency_key: Some(format!("{}/{key}", self.attempt)),
            internal_allowed: false,
            ..Request::internal(self.company, step.stream, step.id, command, Actor::tool("import"))
        })
    }
}

impl Imported {
    /// Adds what became of more rows.
    pub fn add(&mut self, other: Self) {
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
