//! Entries that end the process: who begins to fold says so, and says again and again that it lives. Who has begun, has not
//! ended, and is not heard of any more has died of what comes next. That others have begun too is no death.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use cnc_domain::ledger::{Fault, Head};
use tokio::time::Instant;
use uuid::Uuid;

use crate::store::{Begun, FoldId, FoldRow, Storage};

/// After this many starts without an end, its own among them, a process folds what it begins entry by entry.
const STARTS_SUSPECT: usize = 3;
/// After this many deaths, the next entry is held to be what ends the process.
const DEATHS_MAX: usize = 5;
/// Who says nothing new at this many looks after the first is dead.
const LOOKS: u32 = 3;
/// So much time is between two looks at least: living processes say so every second.
const APART: Duration = Duration::from_millis(900);

/// This process, as it shows itself to others.
pub(super) struct Process {
    id: Uuid,
    started: Instant,
    /// The builds where it has begun and not ended yet, and where they stand.
    begun: Mutex<BTreeMap<(bool, String), (FoldId, Head)>>,
}

/// What is known of the others that have begun at a build's position.
#[derive(Debug, Default)]
pub(super) struct Deaths {
    /// What each said last, and how often it was seen to say just that again.
    seen: BTreeMap<Uuid, (i64, u32)>,
    /// When that was looked at last.
    looked: Option<Instant>,
    /// They may be dead: until that is known, nothing is folded.
    pub are_doubtful: bool,
}

/// How to begin.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// Nothing is suspect.
    Freely,
    /// Entry by entry.
    Carefully,
    /// Not before it is known whether those who have begun live.
    Wait,
    /// Not at all, and why.
    Stop(String),
}

impl Default for Process {
    fn default() -> Self {
        Self { id: Uuid::now_v7(), started: Instant::now(), begun: Mutex::default() }
    }
}

impl Process {
    fn beat(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_secs()).unwrap_or(i64::MAX)
    }

    fn key(trigger: bool, id: &FoldId) -> (bool, String) {
        (trigger, format!("{} {} {} {}", id.company, id.fold, id.version, id.build))
    }

    /// Says that it begins.
    pub async fn begin(&self, storage: &dyn Storage, trigger: bool, row: &FoldRow) -> Result<(), Fault> {
        storage.begin(trigger, &row.id, row.head(), self.id, self.beat()).await?;
        let begun = (row.id.clone(), row.head());
        self.lock().insert(Self::key(trigger, &row.id), begun);
        Ok(())
    }

    /// It has ended what it began.
    pub fn end(&self, trigger: bool, id: &FoldId) {
        let mut begun = self.lock();
        if !begun.is_empty() {
            begun.remove(&Self::key(trigger, id));
        }
    }

    /// Says that it lives, wherever it has begun and nobody has moved the build since.
    pub async fn live(&self, storage: &dyn Storage) -> Result<(), Fault> {
        let begun: Vec<_> = self.lock().iter().map(|((trigger, _), (id, at))| (*trigger, id.clone(), *at)).collect();
        for (trigger, id, at) in begun {
            if !storage.begin(trigger, &id, at, self.id, self.beat()).await? {
                self.end(trigger, &id);
            }
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<(bool, String), (FoldId, Head)>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Deaths {
    /// Looks at who has begun where the build stands now.
    pub fn look(&mut self, begun: &Begun) {
        self.are_doubtful = false;
        if self.looked.is_some_and(|looked| looked.elapsed() < APART) {
            return;
        }
        let looked = |(process, beat): (&Uuid, &i64)| {
            let looks = self.seen.get(process).filter(|(before, _)| before == beat).map_or(0, |(_, looks)| looks + 1);
            (*process, (*beat, looks))
        };
        self.seen = begun.iter().map(looked).collect();
        self.looked = Some(Instant::now());
    }

    /// How `own` process may begin. What was stopped before and is tried again is stopped by one death.
    pub fn start(&self, own: &Process, again: bool) -> Start {
        let most = if again { 1 } else { DEATHS_MAX };
        let others = || self.seen.iter().filter(|(process, _)| **process != own.id);
        let (count, dead) = (others().count(), others().filter(|(_, (_, looks))| *looks >= LOOKS).count());
        if dead >= most {
            return Start::Stop(format!("the process ended {dead} times while this entry was to be folded"));
        }
        if count >= most {
            return Start::Wait;
        }
        if count + 1 >= STARTS_SUSPECT { Start::Carefully } else { Start::Freely }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Others that have begun, who have said this.
    fn others(count: u128, beat: i64) -> Begun {
        (0..count).map(|nth| (Uuid::from_u128(nth), beat)).collect()
    }

    fn seen(begun: &Begun) -> Deaths {
        let mut deaths = Deaths::default();
        deaths.look(begun);
        deaths
    }

    #[tokio::test(start_paused = true)]
    async fn others_that_have_begun_at_the_same_time_are_no_deaths_and_those_that_fall_silent_are() {
        let (own, mut deaths) = (Process::default(), seen(&others(7, 0)));
        let mut look = async |beat| {
            tokio::time::advance(APART).await;
            deaths.look(&others(7, beat));
            deaths.look(&others(7, beat));
            deaths.start(&own, false)
        };
        for beat in 1..20 {
            assert_eq!(look(beat).await, Start::Wait);
        }
        for _ in 1..LOOKS {
            assert_eq!(look(19).await, Start::Wait);
        }
        assert!(matches!(look(19).await, Start::Stop(reason) if reason.contains("ended 7 times")));
    }

    #[tokio::test]
    async fn a_few_that_never_ended_make_one_careful_and_of_what_stopped_before_one_is_enough() {
        let own = Process::default();
        for (count, again, start) in [
            (0, false, Start::Freely),
            (1, false, Start::Freely),
            (2, false, Start::Carefully),
            (4, false, Start::Carefully),
            (0, true, Start::Freely),
            (1, true, Start::Wait),
        ] {
            assert_eq!(seen(&others(count, 3)).start(&own, again), start, "{count} {again}");
        }
        assert_eq!(
            seen(&Begun::from([(own.id, 1)])).start(&own, true),
            Start::Freely,
            "its own start is none of another"
        );
    }
}
