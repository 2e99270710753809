//! The host: runs a command and all that it carries, and records what they decided, or nothing.

use std::{
    fmt,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use cnc_domain::{
    cloud_control::Standing,
    kernel::{Actor, CommandId, CompanyId, Message, Rejection, Timestamp},
    ledger::{Answer, Answered, Append, AppendError, Appended, Fault, Head, Idempotency, Ledger, PAYLOAD_BYTES_MAX},
};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{
    appender::Appender,
    cache::Lately,
    catalog::{Catalog, Served, Serving},
    clock::{Clock, ClockLimits, ClockMonitor},
    door::canonical,
    keyring::Keyring,
    request::{HostError, Request},
    shelf::{Kept, Shelf},
    unit::{Finished, Origin, Stop, Unit, last_entries},
};

mod adopt;
mod carry;
mod reach;
mod standings;
mod states;

use adopt::{Adopting, unadopted};
use carry::Task;
use standings::{Facts, founds};

/// How often a command is decided before it is given up because others are faster. Where three processes take turns at
/// random, one in a hundred billion commands is.
const ATTEMPTS: usize = 64;
/// Commands that met a conflict line up for the stream that they met it on, in this many lines.
const LINES: usize = 1_024;
/// Other processes take no part in that line: who meets conflicts again and again waits up to so long before the next try.
const BACK_OFF_MAX: Duration = Duration::from_millis(32);

/// How a host runs.
#[derive(Clone)]
pub struct HostOptions {
    /// What it serves.
    pub catalog: Catalog,
    /// What tells the time.
    pub clock: Clock,
    /// How far it is believed.
    pub clock_limits: ClockLimits,
    /// How many states are kept in memory.
    pub states: usize,
    /// How many appends one transaction takes.
    pub batch: usize,
    /// Whether a company records with which shape each of its events is recorded, at the event's first append.
    pub adopt_schemas: bool,
}

impl Default for HostOptions {
    fn default() -> Self {
        Self {
            catalog: Catalog::default(),
            clock: Clock::machine(),
            clock_limits: ClockLimits::default(),
            states: 20_000,
            batch: 512,
            adopt_schemas: true,
        }
    }
}
impl fmt::Debug for HostOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostOptions").field("states", &self.states).field("batch", &self.batch).finish_non_exhaustive()
    }
}

/// Decides commands and records them. Cheap to clone.
#[derive(Clone)]
pub struct Host(Arc<Inner>);

struct Inner {
    serving: Serving,
    shelf: Shelf,
    standings: Lately<CompanyId, Facts>,
    adopts: bool,
    adopting: Adopting,
    appender: Appender,
    keyring: Keyring,
    clock: ClockMonitor,
    lines: Vec<tokio::sync::Mutex<()>>,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Host")
    }
}

/// A request whose personal fields are sealed.
struct Job<'a> {
    served: &'a Arc<Served>,
    request: &'a Request,
    command: Arc<Message>,
    idempotency: Option<&'a Idempotency>,
}

/// What was decided, and on which of the company's facts.
struct Decided {
    finished: Finished,
    facts: Option<Facts>,
}

/// What one attempt led to.
enum Attempt {
    Decided(Decided),
    Rejected(Decided, Rejection),
    /// It rests on states that may be old: decide again on fresh ones.
    Stale,
}

impl Host {
    /// Starts a host over a ledger, within a tokio runtime.
    pub fn start(ledger: Arc<dyn Ledger>, keyring: Keyring, options: HostOptions) -> Result<Self, Fault> {
        let serving = Serving::new(&options.catalog)?;
        Ok(Self(Arc::new(Inner {
            serving,
            shelf: Shelf::new(Arc::clone(&ledger), options.states),
            standings: standings::kept(),
            adopts: options.adopt_schemas,
            adopting: Adopting::default(),
            clock: ClockMonitor::new(options.clock, options.clock_limits, Arc::clone(&ledger)),
            appender: Appender::start(ledger, options.batch),
            keyring,
            lines: (0..LINES).map(|_| tokio::sync::Mutex::default()).collect(),
        })))
    }

    /// The ledger that it records in.
    pub fn ledger(&self) -> &Arc<dyn Ledger> {
        self.0.shelf.ledger()
    }

    /// The keys that it seals with.
    pub fn keyring(&self) -> &Keyring {
        &self.0.keyring
    }

    /// The time, by the ledger's database where it has a clock, as soon as it was asked.
    pub fn now(&self) -> Timestamp {
        self.0.clock.time()
    }

    /// What judges this process's clock: nothing is recorded while it is not believed.
    pub fn clock(&self) -> &ClockMonitor {
        &self.0.clock
    }

    /// How many transactions this host has made since its start, and how many commands they recorded.
    pub fn appended(&self) -> (u64, u64) {
        let made = &self.0.appender.made;
        (made.batches.load(Ordering::Relaxed), made.appends.load(Ordering::Relaxed))
    }

    /// Records what waits and takes no more commands.
    pub async fn stop(&self) {
        self.0.appender.stop().await;
    }

    /// What the company is: its settings, and whether it may act. `None` where it was never founded.
    pub async fn standing(&self, company: CompanyId) -> Result<Option<Arc<Standing>>, Fault> {
        Ok(self.0.facts(company, false).await?.0.map(|facts| facts.standing))
    }

    /// Decides a command as it was sent: its form is checked and its personal fields are sealed first.
    pub async fn execute(&self, request: Request) -> Result<Answer, HostError> {
        self.0.execute(&request, false).await
    }

    /// Decides a command whose fields are in the recorded form already, as triggers and deadlines give them.
    pub async fn execute_sealed(&self, request: Request) -> Result<Answer, HostError> {
        self.0.execute(&request, true).await
    }
}

impl Inner {
    /// What came of a command; where nothing was recorded of it, what was answered under its key before. (Where something
    /// is to be recorded, the append finds a key that was used: so a new one costs no look-up.)
    async fn execute(&self, request: &Request, sealed: bool) -> Result<Answer, HostError> {
        let served = self.admit(request)?;
        self.known(served, request).await?;
        let idempotency = self.idempotency(request).await?;
        let idempotency = idempotency.as_ref();
        let command = if sealed { Ok(request.command.clone()) } else { self.seal(served, request).await };
        let done = match command {
            Ok(command) => self.run(&Job { served, request, command: Arc::new(command), idempotency }).await,
            Err(refused) => Err(refused),
        };
        match done {
            Ok(answer) => {
                if let Some(rejection) = answer.rejection.as_ref().filter(|_| !answer.replayed) {
                    log_rejection(request, rejection);
                }
                Ok(answer)
            }
            Err(HostError::Fault(_) | HostError::KeyReused) => done,
            Err(refused) => self.answered(request.company, idempotency).await?.ok_or(refused),
        }
    }

    fn admit(&self, request: &Request) -> Result<&Arc<Served>, HostError> {
        let served = self.serving.stream(&request.stream).ok_or(HostError::UnknownStream)?;
        match served.commands.get(&request.command.name) {
            Some(command) if !command.internal || request.internal_allowed => Ok(served),
            _ => Err(HostError::UnknownCommand),
        }
    }

    /// Nothing without a company; keys neither. A company gets its key when it is founded, and never later.
    async fn known(&self, served: &Served, request: &Request) -> Result<(), HostError> {
        if self.facts(request.company, false).await?.0.is_some() {
            return Ok(());
        }
        if founds(served, request) { Ok(self.keyring.found(request.company).await?) } else { Err(HostError::NoCompany) }
    }

    /// The key under which the answer is remembered, with a keyed hash of what it is used for.
    async fn idempotency(&self, request: &Request) -> Result<Option<Idempotency>, Fault> {
        let Some(key) = &request.idempotency_key else { return Ok(None) };
        let fields = canonical(request.command.fields.get());
        let parts: [&[u8]; 4] =
            [request.stream.as_bytes(), request.id.as_bytes(), request.command.name.as_bytes(), fields.as_bytes()];
        Ok(Some(Idempotency {
            actor: request.actor.to_string(),
            for_ever: request.actor.role().is_none(),
            refusals: matches!(request.actor, Actor::Trigger { .. } | Actor::Deadline { .. }),
            key: key.clone(),
            fingerprint: self.keyring.fingerprint(request.company, &parts).await?,
        }))
    }

    /// The command in its recorded form: checked, and its personal fields sealed.
    async fn seal(&self, served: &Served, request: &Request) -> Result<Message, HostError> {
        let form = &served.commands.get(&request.command.name).ok_or(HostError::UnknownCommand)?.form;
        let walked = form.walk(request.command.fields.get(), &self.serving.kinds).map_err(HostError::Form)?;
        let sealed = walked.seal(&self.keyring, request.company, request.id).await?;
        let fields = RawValue::from_string(sealed).map_err(|cause| Fault::broken("seal a command", cause))?;
        Ok(Message { name: request.command.name.clone(), fields })
    }

    /// What was answered under the request's key, where it was used before.
    async fn answered(&self, company: CompanyId, key: Option<&Idempotency>) -> Result<Option<Answer>, HostError> {
        let Some(key) = key else { return Ok(None) };
        match self.shelf.ledger().answered(company, &key.actor, &key.key).await? {
            Some(answered) if answered.fingerprint == key.fingerprint => Ok(Some(replayed(answered))),
            Some(_) => Err(HostError::KeyReused),
            None => Ok(None),
        }
    }

    async fn run(&self, job: &Job<'_>) -> Result<Answer, HostError> {
        let mut fresh = false;
        // Held while a command that met a conflict tries again, so that it meets none from this process.
        let mut turn = None;
        let mut conflicts = 0;
        for _ in 0..ATTEMPTS {
            let (decided, rejection) = match self.here(job, self.attempt(job, fresh).await).await? {
                Attempt::Stale => {
                    fresh = true;
                    continue;
                }
                Attempt::Decided(decided) => (decided, None),
                Attempt::Rejected(decided, rejection) => (decided, Some(rejection)),
            };
            let now = self.clock.now().await?;
            match self.record(job, decided, rejection, now).await {
                Ok(answer) => return Ok(answer),
                Err(AppendError::Conflict { stream, id, .. }) => {
                    drop(turn.take());
                    turn = Some(self.line(&stream, id).lock().await);
                    tokio::time::sleep(back_off(conflicts, (job.request.command_id, now.micros()))).await;
                    conflicts += 1;
                }
                Err(AppendError::FactsChanged) => {}
                Err(AppendError::NoCompany) if founds(job.served, job.request) => {}
                Err(AppendError::Departed) => return Err(HostError::Departed),
                Err(AppendError::NoCompany) => return Err(HostError::NoCompany),
                Err(AppendError::Repeated(answered)) => {
                    let same = job.idempotency.is_some_and(|key| key.fingerprint == answered.fingerprint);
                    return if same { Ok(replayed(*answered)) } else { Err(HostError::KeyReused) };
                }
                Err(AppendError::Held(_)) => return Err(crate::appender::held().into()),
                Err(AppendError::Fault(fault)) => return Err(fault.into()),
            }
            fresh = true;
        }
        Err(HostError::Busy)
    }

    /// What was refused without being recorded may rest on a ledger that goes on elsewhere: then that is the answer.
    async fn here(&self, job: &Job<'_>, attempt: Result<Attempt, HostError>) -> Result<Attempt, HostError> {
        match attempt {
            Err(HostError::NotFound | HostError::SequenceMismatch { .. })
                if self.shelf.ledger().departed(job.request.company).await? =>
            {
                Err(HostError::Departed)
            }
            attempt => attempt,
        }
    }

    fn line(&self, stream: &str, id: Uuid) -> &tokio::sync::Mutex<()> {
        let mixed = id.as_u128() ^ stream.bytes().fold(0, |sum: u128, byte| sum.wrapping_mul(31) + u128::from(byte));
        let folded = (mixed >> 64) ^ mixed;
        &self.lines[usize::try_from(folded % LINES as u128).unwrap_or_default()]
    }

    async fn attempt(&self, job: &Job<'_>, fresh: bool) -> Result<Attempt, HostError> {
        let request = job.request;
        let origin = Origin {
            company: request.company,
            actor: request.actor.clone(),
            location: request.location,
            correlation: request.correlation.unwrap_or_else(|| request.command_id.cast()),
        };
        let now = self.clock.now().await?;
        let (facts, asked) = self.facts(request.company, fresh).await?;
        let unit = Unit::new(&self.serving, &self.shelf, origin, fresh);
        let outcome = self.decide(job, &unit, facts.as_ref().map(|facts| &*facts.standing), now).await;
        // Whatever does not end in entries must rest on what the ledger says now.
        let verified = unit.verified() && asked;
        let decided = Decided { finished: unit.finish(), facts };
        let bytes = decided.finished.payload_bytes();
        match outcome {
            Ok(()) if bytes > PAYLOAD_BYTES_MAX && verified => Err(HostError::TooLarge { bytes }),
            Ok(()) if bytes > PAYLOAD_BYTES_MAX => Ok(Attempt::Stale),
            Ok(()) if !decided.finished.drafts.is_empty() || verified => Ok(Attempt::Decided(decided)),
            Err(Stop::Rejected(rejection)) if verified => Ok(Attempt::Rejected(decided, rejection)),
            Err(Stop::Fault(fault)) => Err(fault.into()),
            _ if !verified => Ok(Attempt::Stale),
            Err(Stop::Mismatch(sequence)) => Err(HostError::SequenceMismatch { sequence }),
            _ => Err(HostError::NotFound),
        }
    }

    async fn decide(
        &self,
        job: &Job<'_>,
        unit: &Unit<'_>,
        standing: Option<&Standing>,
        now: Timestamp,
    ) -> Result<(), Stop> {
        let request = job.request;
        let (place, seen) = unit.see(job.served, request.id).await?;
        let is_hidden = reach::enter(unit, job, place, &seen)?;
        if let Some(rejection) = standing.and_then(|standing| standing.refuses(job.served.module)) {
            return Err(Stop::Rejected(rejection));
        }
        let settings = standing.map(|standing| Arc::clone(&standing.settings)).unwrap_or_default();
        let carrying = carry::Carrying::new(unit, request, settings, now);
        let task = Task {
            stream: request.stream.clone(),
            id: request.id,
            command: Arc::clone(&job.command),
            command_id: request.command_id,
            causation: request.causation,
        };
        reach::leave(unit, &request.scope, is_hidden, carrying.run(task, 0).await)
    }

    /// Records what was decided; a refusal too, where its answer is to be remembered.
    async fn record(
        &self,
        job: &Job<'_>,
        Decided { mut finished, facts }: Decided,
        rejection: Option<Rejection>,
        now: Timestamp,
    ) -> Result<Answer, AppendError> {
        let request = job.request;
        let checks = finished.checks();
        let drafts = if rejection.is_some() { Vec::new() } else { std::mem::take(&mut finished.drafts) };
        let founding = founds(job.served, request) && checks.first().is_some_and(|check| check.seen.sequence == 0);
        let sequence = checks.first().map_or(0, |check| check.seen.sequence);
        let command = request.command_id;
        let answer = Answer { command, position: 0, sequence, recorded: 0, rejection, replayed: false };
        if drafts.is_empty() && (founding || job.idempotency.is_none()) {
            let head = self.shelf.ledger().head(request.company).await?.unwrap_or_default();
            return Ok(Answer { position: head.position, ..answer });
        }
        let state = facts.as_ref().map(|facts| &facts.state);
        let shapes = if self.adopts { unadopted(&self.serving, state, &drafts) } else { Vec::new() };
        let places: Vec<_> =
            drafts.iter().filter_map(|draft| Some((self.serving.stream(&draft.stream)?.stream, draft.id))).collect();
        let append = Append {
            company: request.company,
            founds: founding,
            now,
            facts: facts.map(|facts| facts.hash).unwrap_or_default(),
            checks,
            drafts,
            idempotency: job.idempotency.cloned(),
            answer,
        };
        let Appended { head, answer, at, hashes } = self.appender.append(append).await?;
        self.clock.recorded(request.company, at, now);
        let last = last_entries(&places, head, &hashes);
        self.keep(request.company, finished, &last);
        self.adopt(request, shapes).await;
        Ok(answer)
    }

    /// Keeps the states after an append.
    fn keep(&self, company: CompanyId, finished: Finished, last: &[(&'static str, Uuid, Head)]) {
        for seen in finished.seen {
            let place = last.iter().find(|(stream, id, _)| *stream == seen.served.stream && *id == seen.id);
            let Some((stream, _, Head { position, hash })) = place else { continue };
            self.shelf.keep(company, &seen.served, seen.id, Kept { position: *position, hash: *hash, ..seen.now });
            if *stream == standings::STREAM {
                self.standings.remove(&company);
            }
        }
    }
}

/// An answer as it was given before.
fn replayed(answered: Answered) -> Answer {
    Answer { replayed: true, ..answered.answer }
}

/// Why the system answered as it did: what was recorded is on the record, and what was refused is in the log. Never with the
/// facts or the words of a refusal, which may hold what a person wrote.
fn log_rejection(request: &Request, rejection: &Rejection) {
    tracing::info!(
        code = rejection.code,
        company = %request.company,
        stream = request.stream,
        id = %request.id,
        command = request.command.name,
        command_id = %request.command_id,
        by = rejection.by.as_deref(),
        "a command was rejected by a business rule"
    );
}

/// How long to wait after so many conflicts before: nothing at first, then up to 2 ms, 4 ms, 8 ms and so on. Which command
/// this is, and when, is chance enough to part two processes.
fn back_off(conflicts: u32, chance: (CommandId, i64)) -> Duration {
    let most = Duration::from_millis(1 << conflicts.min(16)).min(BACK_OFF_MAX);
    if conflicts == 0 {
        return Duration::ZERO;
    }
    let mut hasher = DefaultHasher::new();
    chance.hash(&mut hasher);
    most.mul_f64(f64::from(u32::try_from(hasher.finish() % 1_000).unwrap_or_default()) / 1_000.0)
}
