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
    ledger::{Answer, Append, AppendError, Appended, Fault, Idempotency, Ledger},
};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{
    appender::Appender,
    cache::Lately,
    catalog::{Catalog, Served, Serving},
    keyring::Keyring,
    request::{AsOf, HostError, Request, Shown},
    shelf::{Kept, Shelf},
    unit::{Finished, Origin, Stop, Unit, last_positions},
};

mod adopt;
mod carry;
mod reach;
mod standings;

use adopt::Adopted;
use carry::Task;

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
    /// The server's time.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
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
            clock: Arc::new(|| chrono::Utc::now().into()),
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
    standings: Lately<CompanyId, Arc<Standing>>,
    adopted: Option<Adopted>,
    appender: Appender,
    keyring: Keyring,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
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

/// What one attempt led to.
enum Attempt {
    Decided(Finished),
    Rejected(Finished, Rejection),
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
            adopted: options.adopt_schemas.then(Adopted::default),
            appender: Appender::start(ledger, options.batch),
            keyring,
            clock: options.clock,
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

    /// The server's time.
    pub fn now(&self) -> Timestamp {
        (self.0.clock)()
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
        self.0.standing(company, false).await
    }

    /// Decides a command as it was sent: its form is checked and its personal fields are sealed first.
    pub async fn execute(&self, request: Request) -> Result<Answer, HostError> {
        self.0.execute(&request, false).await
    }

    /// Decides a command whose fields are in the recorded form already, as triggers and deadlines give them.
    pub async fn execute_sealed(&self, request: Request) -> Result<Answer, HostError> {
        self.0.execute(&request, true).await
    }

    /// An aggregate's state, now or in the past, with its personal fields sealed. `None` where it has (or had) no
    /// entries.
    pub async fn state(
        &self,
        company: CompanyId,
        stream: &str,
        id: Uuid,
        as_of: Option<AsOf>,
    ) -> Result<Option<Shown>, HostError> {
        let inner = &self.0;
        let served = inner.serving.stream(stream).ok_or(HostError::UnknownStream)?;
        let kept = match as_of {
            None => inner.shelf.load(company, served, id, true).await?.0,
            Some(AsOf::Position(position)) => inner.shelf.past(company, served, id, position).await?,
            Some(AsOf::Time(at)) => {
                let position = self.ledger().position_at(company, at).await?;
                inner.shelf.past(company, served, id, position).await?
            }
        };
        Ok(shown(served, &kept))
    }

    /// An aggregate's state as it was at most a second ago; what this process has recorded itself is in it at once.
    pub async fn state_lately(&self, company: CompanyId, stream: &str, id: Uuid) -> Result<Option<Shown>, HostError> {
        let served = self.0.serving.stream(stream).ok_or(HostError::UnknownStream)?;
        let kept = self.0.shelf.lately(company, served, id).await?;
        Ok(shown(served, &kept))
    }
}

fn shown(served: &Served, kept: &Kept) -> Option<Shown> {
    (kept.sequence > 0).then(|| Shown {
        state: served.rules.show(&kept.state),
        sequence: kept.sequence,
        position: kept.position,
        location: served.rules.location(&kept.state),
        rules: served.rules,
        kept: kept.state.clone(),
    })
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
            Ok(_) | Err(HostError::Fault(_) | HostError::KeyReused) => done,
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

    /// Nothing without a company; keys neither.
    async fn known(&self, served: &Served, request: &Request) -> Result<(), HostError> {
        if founds(served, request) || self.standing(request.company, false).await?.is_some() {
            Ok(())
        } else {
            Err(HostError::NoCompany)
        }
    }

    /// The key under which the answer is remembered, with a keyed hash of what it is used for.
    async fn idempotency(&self, request: &Request) -> Result<Option<Idempotency>, Fault> {
        let Some(key) = &request.idempotency_key else { return Ok(None) };
        let parts: [&[u8]; 4] = [
            request.stream.as_bytes(),
            request.id.as_bytes(),
            request.command.name.as_bytes(),
            request.command.fields.get().as_bytes(),
        ];
        Ok(Some(Idempotency {
            actor: request.actor.to_string(),
            for_ever: !matches!(request.actor, Actor::User { .. }),
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
            Some(answered) if answered.fingerprint == key.fingerprint => Ok(Some(answered.answer)),
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
            let (finished, rejection) = match self.here(job, self.attempt(job, fresh).await).await? {
                Attempt::Stale => {
                    fresh = true;
                    continue;
                }
                Attempt::Decided(finished) => (finished, None),
                Attempt::Rejected(finished, rejection) => (finished, Some(rejection)),
            };
            match self.record(job, finished, rejection).await {
                Ok(answer) => return Ok(answer),
                Err(AppendError::Conflict { stream, id, .. }) => {
                    drop(turn.take());
                    turn = Some(self.line(&stream, id).lock().await);
                    tokio::time::sleep(back_off(conflicts, (job.request.command_id, (self.clock)().micros()))).await;
                    conflicts += 1;
                }
                Err(AppendError::NoCompany) if founds(job.served, job.request) => {}
                Err(AppendError::Departed) => return Err(HostError::Departed),
                Err(AppendError::NoCompany) => return Err(HostError::NoCompany),
                Err(AppendError::Repeated(answered)) => {
                    let same = job.idempotency.is_some_and(|key| key.fingerprint == answered.fingerprint);
                    return if same { Ok(answered.answer) } else { Err(HostError::KeyReused) };
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
        let standing = self.standing(request.company, fresh).await?;
        let unit = Unit::new(&self.serving, &self.shelf, origin, fresh);
        let decided = self.decide(job, &unit, standing).await;
        // Whatever does not end in entries must rest on what the ledger says now.
        let verified = unit.verified() && (fresh || decided.is_ok());
        let finished = unit.finish();
        match decided {
            Ok(()) if !finished.drafts.is_empty() || verified => Ok(Attempt::Decided(finished)),
            Err(Stop::Rejected(rejection)) if verified => Ok(Attempt::Rejected(finished, rejection)),
            Err(Stop::Fault(fault)) => Err(fault.into()),
            _ if !verified => Ok(Attempt::Stale),
            Err(Stop::Mismatch(sequence)) => Err(HostError::SequenceMismatch { sequence }),
            _ => Err(HostError::NotFound),
        }
    }

    async fn decide(&self, job: &Job<'_>, unit: &Unit<'_>, standing: Option<Arc<Standing>>) -> Result<(), Stop> {
        let request = job.request;
        let (place, seen) = unit.see(job.served, request.id).await?;
        let is_hidden = reach::enter(unit, job, place, &seen)?;
        if let Some(rejection) = standing.as_deref().and_then(|standing| standing.refuses(job.served.module)) {
            return Err(Stop::Rejected(rejection));
        }
        let settings = standing.map(|standing| Arc::clone(&standing.settings)).unwrap_or_default();
        let carrying = carry::Carrying::new(unit, request, settings, (self.clock)());
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
        mut finished: Finished,
        rejection: Option<Rejection>,
    ) -> Result<Answer, AppendError> {
        let request = job.request;
        let checks = finished.checks();
        let drafts = if rejection.is_some() { Vec::new() } else { std::mem::take(&mut finished.drafts) };
        let founding = founds(job.served, request) && checks.first().is_some_and(|check| check.sequence == 0);
        let sequence = checks.first().map_or(0, |check| check.sequence);
        let answer = Answer { command: request.command_id, position: 0, sequence, recorded: 0, rejection };
        if drafts.is_empty() && (founding || job.idempotency.is_none()) {
            let head = self.shelf.ledger().head(request.company).await?.unwrap_or_default();
            return Ok(Answer { position: head.position, ..answer });
        }
        let shapes = self.adopted.as_ref().map(|adopted| adopted.unknown(&self.serving, request.company, &drafts));
        let places: Vec<_> =
            drafts.iter().filter_map(|draft| Some((self.serving.stream(&draft.stream)?.stream, draft.id))).collect();
        let append = Append {
            company: request.company,
            founds: founding,
            now: (self.clock)(),
            checks,
            drafts,
            idempotency: job.idempotency.cloned(),
            answer,
        };
        let Appended { head, answer, .. } = self.appender.append(append).await?;
        let last = last_positions(&places, head.position);
        self.keep(request.company, finished, &last);
        self.adopt(request, shapes.unwrap_or_default()).await;
        Ok(answer)
    }

    /// Keeps the states after an append.
    fn keep(&self, company: CompanyId, finished: Finished, last: &[(&'static str, Uuid, u64)]) {
        for seen in finished.seen {
            let place = last.iter().find(|(stream, id, _)| *stream == seen.served.stream && *id == seen.id);
            let Some((stream, _, position)) = place else { continue };
            self.shelf.keep(company, &seen.served, seen.id, Kept { position: *position, ..seen.now });
            if *stream == standings::STREAM {
                self.standings.remove(&company);
            }
        }
    }
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

/// Whether this is the founding of a company: the one command that needs none.
fn founds(served: &Served, request: &Request) -> bool {
    served.stream == standings::STREAM
        && request.id == request.company.uuid()
        && request.command.name == standings::FOUND
}
