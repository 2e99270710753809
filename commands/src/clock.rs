//! Whether the clock of this process can be believed. Where the database has a clock, the two are compared, now and then and
//! by the machine's own counter in between, so that a clock that is set is noticed by the next command. Where it has none,
//! the first look goes by what was recorded last, and the counter is the second clock from then on.

#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cnc_domain::{
    kernel::{CompanyId, Timestamp},
    ledger::{Fault, Ledger, LedgerTime},
};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;

use crate::HostError;

/// How often a running process compares.
pub const EVERY: Duration = Duration::from_secs(2);
/// A clock that was not believed is looked at again by commands, but not more often than this.
const AGAIN: Duration = Duration::from_millis(500);
/// By how much a clock may be set at once where the database has none: more is no correction.
const STEP_MAX: Duration = Duration::from_mins(10);
/// How often it is said that a ledger is later than the clock.
const SAID_EVERY: Duration = Duration::from_mins(1);
/// How often a database without a clock is told that time goes on while nothing is recorded.
const KEEP_EVERY: Duration = Duration::from_hours(1);

/// What tells a process the time. Both are read often.
#[derive(Clone)]
pub struct Clock {
    /// The time of day, which can be set.
    pub wall: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// A counter that nobody can set, and that goes on while the machine sleeps.
    pub steady: Arc<dyn Fn() -> Duration + Send + Sync>,
}

impl Clock {
    /// Those of the machine.
    pub fn machine() -> Self {
        Self { wall: Arc::new(|| chrono::Utc::now().into()), steady: Arc::new(since_boot) }
    }
}

fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    let whole = Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or_default());
    whole + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or_default())
}

/// How far a clock is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockLimits {
    /// How far it may be from the database's.
    pub skew_max: Duration,
    /// How long after all that was recorded it may be when a process starts, where the database has no clock.
    pub gap_max: Duration,
    /// A day, by this clock, on which the operator says that it is right whatever was recorded: its first moment.
    pub accepted: Option<Timestamp>,
}

impl Default for ClockLimits {
    fn default() -> Self {
        Self { skew_max: Duration::from_secs(5), gap_max: Duration::from_hours(30 * 24), accepted: None }
    }
}

/// What a clock disagrees with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Witness {
    Database,
    Counter,
    Ledger,
}

/// A clock that is not believed: nothing is recorded by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockSkew {
    witness: Witness,
    clock: Timestamp,
    ahead_micros: i64,
}

impl ClockSkew {
    /// How far it is ahead, in seconds; negative where it is behind.
    pub fn seconds(&self) -> i64 {
        self.ahead_micros / 1_000_000
    }
}

impl fmt::Display for ClockSkew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, ahead) = (self.seconds().unsigned_abs(), self.ahead_micros > 0);
        let side = |yes, no| if ahead { yes } else { no };
        match self.witness {
            Witness::Database => {
                let side = side("ahead of", "behind");
                write!(f, "this process's clock is {seconds} s {side} the database's: set it right")
            }
            Witness::Counter => {
                let side = side("forward", "back");
                write!(f, "the clock was set {side} by {seconds} s while this process ran: set it right, or, ")?;
                f.write_str("where it is right now, start the process anew")
            }
            Witness::Ledger => {
                let (side, clock) = (side("after", "before"), self.clock);
                write!(f, "the clock says {clock}, {seconds} s {side} the last time that was recorded here: ")?;
                let day = self.clock.utc().date_naive();
                write!(f, "set it right, or, where it is right, start once with --accept-clock {day}")
            }
        }
    }
}

impl std::error::Error for ClockSkew {}

/// What the time is by the second clock: between two moments, so long ago.
#[derive(Clone, Copy)]
struct Reference {
    earliest: Timestamp,
    latest: Timestamp,
    since: Duration,
    witness: Witness,
}

impl Reference {
    fn exactly(time: Timestamp, since: Duration, witness: Witness) -> Self {
        Self { earliest: time, latest: time, since, witness }
    }

    fn at(&self, steady: Duration) -> (Timestamp, Timestamp) {
        let passed = steady.saturating_sub(self.since);
        (later(self.earliest, passed), later(self.latest, passed))
    }

    /// How far a clock is certainly ahead (or behind), in microseconds.
    fn apart(&self, wall: Timestamp, steady: Duration) -> i64 {
        let (earliest, latest) = self.at(steady);
        wall.micros() - wall.clamp(earliest, latest).micros()
    }
}

#[derive(Default)]
struct State {
    reference: Option<Reference>,
    /// Why the first look was not enough to believe the clock.
    doubt: Option<ClockSkew>,
    looked: Option<Duration>,
    kept: Option<Duration>,
    /// Whether the log says that it is not believed.
    said: bool,
    /// When the log last said that a ledger is later than the clock.
    late_said: Option<Duration>,
}

/// Judges the clock of a process by that of its ledger's database.
pub struct ClockMonitor {
    clock: Clock,
    limits: ClockLimits,
    ledger: Arc<dyn Ledger>,
    state: Mutex<State>,
}

impl ClockMonitor {
    /// It has not looked yet.
    pub fn new(clock: Clock, limits: ClockLimits, ledger: Arc<dyn Ledger>) -> Self {
        Self { clock, limits, ledger, state: Mutex::default() }
    }

    /// The time by which something may be decided and recorded.
    pub async fn now(&self) -> Result<Timestamp, HostError> {
        if let Ok(now) = self.check() {
            return Ok(now);
        }
        let looked = self.state().looked;
        if looked.is_none_or(|looked| (self.clock.steady)().saturating_sub(looked) >= AGAIN) {
            self.look().await?;
        }
        self.check().map_err(|skew| match skew {
            Some(skew) => HostError::ClockSkew(skew),
            None => Fault::passing("compare the clock", "the database has not told the time yet").into(),
        })
    }

    /// Says where a company's newest entry is later than the time: its next ones keep that stamp until the time has come.
    pub fn recorded(&self, company: CompanyId, at: Timestamp, now: Timestamp) {
        let ahead_micros = at.micros().saturating_sub(now.micros());
        if ahead_micros <= i64::try_from(micros(self.limits.skew_max)).unwrap_or(i64::MAX) {
            return;
        }
        let steady = (self.clock.steady)();
        let mut state = self.state();
        if state.late_said.is_none_or(|said| steady.saturating_sub(said) >= SAID_EVERY) {
            state.late_said = Some(steady);
            drop(state);
            let seconds = ahead_micros / 1_000_000;
            tracing::warn!(%company, seconds, "what was recorded before is later than the clock, and entries keep its time");
        }
    }

    /// The time by the database: never ahead of it. By this process's own clock before the first look.
    pub fn time(&self) -> Timestamp {
        let (wall, steady) = ((self.clock.wall)(), (self.clock.steady)());
        self.state().reference.map_or(wall, |reference| reference.at(steady).0)
    }

    /// Why nothing can be recorded by this clock, where it is so.
    pub fn skew(&self) -> Option<ClockSkew> {
        self.check().err().flatten()
    }

    /// Compares at once and every few seconds, until `stop` says so. Whatever else is wrong with the database is told by
    /// others.
    pub async fn watch(&self, mut stop: watch::Receiver<bool>) {
        let compare = async {
            loop {
                if let Err(fault) = self.look().await {
                    tracing::debug!(%fault, "the clock could not be compared");
                }
                tokio::time::sleep(EVERY).await;
            }
        };
        tokio::select! {
            biased;
            // A sender that is gone means the same.
            _ = stop.wait_for(|stop| *stop) => {}
            () = compare => {}
        }
    }

    /// Asks the database for the time, and judges anew.
    pub async fn look(&self) -> Result<(), Fault> {
        let asked = (self.clock.steady)();
        let told = self.ledger.time().await?;
        let (wall, steady) = ((self.clock.wall)(), (self.clock.steady)());
        {
            let mut state = self.state();
            state.looked = Some(steady);
            match told {
                LedgerTime::Now(time) => {
                    let latest = later(time, steady.saturating_sub(asked));
                    let (earliest, witness) = (time, Witness::Database);
                    state.reference = Some(Reference { earliest, latest, since: steady, witness });
                }
                LedgerTime::Last(last) => self.judge_alone(&mut state, last, wall, steady),
            }
        }
        let believed = self.check().is_ok();
        if believed && matches!(told, LedgerTime::Last(_)) && self.is_to_be_kept(steady) {
            self.state().kept = Some(steady);
            // A folder that takes nothing shows so where something must be recorded.
            if let Err(fault) = self.ledger.keep_time(wall).await {
                tracing::debug!(%fault, "the time is not kept");
            }
        }
        Ok(())
    }

    /// There is no other clock: is it the one that was believed before, or at first one that what is recorded allows?
    fn judge_alone(&self, state: &mut State, last: Option<Timestamp>, wall: Timestamp, steady: Duration) {
        let believed = Reference::exactly(wall, steady, Witness::Counter);
        if let Some(reference) = state.reference.filter(|_| state.doubt.is_none()) {
            let ahead_micros = reference.apart(wall, steady);
            if ahead_micros.unsigned_abs() <= micros(STEP_MAX) {
                if ahead_micros.unsigned_abs() > micros(self.limits.skew_max) {
                    tracing::warn!(seconds = ahead_micros / 1_000_000, "the clock was set while this process ran");
                }
                state.reference = Some(believed);
            }
            return;
        }
        let ahead_micros = last.map_or(0, |last| wall.micros() - last.micros());
        let limit = if ahead_micros > 0 { self.limits.gap_max } else { STEP_MAX };
        let is_plausible = ahead_micros.unsigned_abs() <= micros(limit);
        if is_plausible || self.is_accepted(wall) {
            if !is_plausible {
                tracing::warn!(clock = %wall, "the clock is believed on the operator's word");
            }
            (state.reference, state.doubt) = (Some(believed), None);
            return;
        }
        let last = last.unwrap_or(wall);
        state.reference.get_or_insert(Reference::exactly(last, steady, Witness::Ledger));
        state.doubt = Some(ClockSkew { witness: Witness::Ledger, clock: wall, ahead_micros });
    }

    /// Whether the operator's word is for today: a word that stays in a configuration must not hold for every year.
    fn is_accepted(&self, wall: Timestamp) -> bool {
        const DAY: u64 = 24 * 60 * 60 * 1_000_000;
        self.limits.accepted.is_some_and(|day| wall.micros().abs_diff(day.micros()) < 2 * DAY)
    }

    fn is_to_be_kept(&self, steady: Duration) -> bool {
        self.state().kept.is_none_or(|kept| steady.saturating_sub(kept) >= KEEP_EVERY)
    }

    /// The time, or why there is none to go by; nothing where it was never compared.
    fn check(&self) -> Result<Timestamp, Option<ClockSkew>> {
        let (wall, steady) = ((self.clock.wall)(), (self.clock.steady)());
        let mut state = self.state();
        let Some(reference) = state.reference else { return Err(None) };
        let skew = state.doubt.or_else(|| {
            let ahead_micros = reference.apart(wall, steady);
            let limit = if reference.witness == Witness::Database { self.limits.skew_max } else { STEP_MAX };
            let is_apart = ahead_micros.unsigned_abs() > micros(limit);
            is_apart.then_some(ClockSkew { witness: reference.witness, clock: wall, ahead_micros })
        });
        let said = std::mem::replace(&mut state.said, skew.is_some());
        drop(state);
        let Some(skew) = skew else {
            if said {
                tracing::info!("the clock is right again");
            }
            return Ok(wall);
        };
        if !said {
            tracing::error!(skew_seconds = skew.seconds(), "nothing is recorded: {skew}");
        }
        Err(Some(skew))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn micros(length: Duration) -> u64 {
    u64::try_from(length.as_micros()).unwrap_or(u64::MAX)
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    Timestamp::from_micros(time.micros().saturating_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
}
