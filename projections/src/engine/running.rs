//! The loop that gives companies their turns: woken by the feed and once a second, several companies at once, each in a
//! task of its own.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use cnc_domain::{
    kernel::{CompanyId, Seconds},
    ledger::{Fault, Grown, Head},
};
use tokio::{
    sync::{Semaphore, watch},
    task::{Id, JoinError, JoinSet},
    time::Instant,
};

use super::{
    Inner,
    company::{CompanyFolds, Turn},
};
use crate::store::{Generation, Plan, Standing};

/// How many companies are folded at once.
const AT_ONCE: usize = 8;
/// How much text the folds of companies that wait for news may hold.
const WAITING_TEXT_MAX: usize = 256 << 20;
/// A company's folds hold nothing any more when it had no news for so long.
const IDLE: Duration = Duration::from_secs(10);
/// Removals are remembered this long.
const REMOVALS_KEPT: Seconds = Seconds(24 * 3600);
const TICK: Duration = Duration::from_secs(1);
/// Removals are forgotten every so many ticks.
const TICKS_A_SWEEP: u64 = 600;

/// A company as the loop sees it.
#[derive(Default)]
struct Slot {
    /// Its folds, while they are not at work.
    folds: Option<CompanyFolds>,
    /// The task that has them, while they are.
    task: Option<Id>,
    /// When its last turn ended.
    ended: Option<Instant>,
    head: Head,
    done: Head,
    watch: bool,
    /// When its resting folds are looked at.
    look: Option<Instant>,
    /// The store lost commits while its folds were at work.
    distrusted: bool,
    /// Its last turn failed; it is tried at the next tick.
    failed: bool,
}

type Ended = (CompanyId, CompanyFolds, Result<Turn, Fault>);

struct Rounds {
    inner: Arc<Inner>,
    plans: Arc<Vec<Arc<Plan>>>,
    slots: BTreeMap<CompanyId, Slot>,
    tasks: JoinSet<Ended>,
    /// When to look at companies that another process folds.
    looks: BinaryHeap<Reverse<(Instant, CompanyId)>>,
    permits: Arc<Semaphore>,
    /// The generation of the store that is known here.
    generation: Option<Generation>,
}

/// Folds until `stop`.
pub(super) async fn run(inner: Arc<Inner>, mut stop: watch::Receiver<bool>) {
    let folding = async {
        let plans = prepared(&inner).await;
        let permits = Arc::new(Semaphore::new(AT_ONCE));
        let (slots, tasks, looks) = (BTreeMap::new(), JoinSet::new(), BinaryHeap::new());
        let plans = Arc::new(plans);
        Rounds { inner, plans, slots, tasks, looks, permits, generation: None }.go().await;
    };
    // A turn that is cut off has either written its batch or not; both are as if the process had ended here.
    tokio::select! {
        biased;
        _ = stop.wait_for(|stop| *stop) => {}
        () = folding => {}
    }
}

/// Makes tables and registers triggers, however long the store is away.
async fn prepared(inner: &Inner) -> Vec<Arc<Plan>> {
    loop {
        match inner.prepare().await {
            Ok(plans) => return plans,
            Err(fault) => tracing::warn!(%fault, "folds cannot start yet"),
        }
        inner.goes_round();
        tokio::time::sleep(TICK).await;
    }
}

impl Rounds {
    async fn go(mut self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut seen, mut ticks) = (0, 0_u64);
        if let Err(fault) = self.survey().await {
            tracing::warn!(%fault, "it is not known which companies have nothing to fold: all are looked at");
        }
        loop {
            let (mut ticked, mut grown) = (false, Grown::Any);
            let look = self.looks.peek().map(|Reverse((at, _))| *at);
            // In this order, what comes seldom first, so that nothing waits for long and a simulated run can be repeated.
            tokio::select! {
                biased;
                _ = tick.tick() => ticked = true,
                Some(ended) = self.tasks.join_next_with_id() => {
                    self.ended(ended);
                    continue;
                }
                () = tokio::time::sleep_until(look.unwrap_or_else(Instant::now)), if look.is_some() => {
                    self.look_at_rested();
                    continue;
                }
                told = self.inner.feed.changed(seen) => (seen, grown) = (told.cursor, told.grown),
            }
            if ticked && let Err(fault) = self.look_back().await {
                tracing::warn!(%fault, "what the store remembers cannot be looked at");
            }
            if ticked && let Err(fault) = self.inner.process.live(&**self.inner.storage()).await {
                tracing::warn!(%fault, "others cannot be told that this process lives");
            }
            if let Err(fault) = self.look(ticked, grown).await {
                tracing::warn!(%fault, "the ledgers' heads cannot be read");
                tokio::time::sleep(TICK / 10).await;
            }
            if ticked {
                self.sweep(ticks).await;
                ticks += 1;
            }
        }
    }

    /// Finds, by a few questions for all companies, those whose every fold stands at the head: until there is news, nothing of
    /// them needs to be opened.
    async fn survey(&mut self) -> Result<(), Fault> {
        // Asked first: what the store loses from here on is noticed, and what it lost before is not in the rows.
        self.inner.look_at_store(&mut self.generation).await?;
        let heads: BTreeMap<CompanyId, Head> = self.inner.feed.heads().await?.into_iter().collect();
        let mut even: BTreeMap<CompanyId, usize> = BTreeMap::new();
        for (trigger, row) in self.inner.storage().rows(None).await? {
            let company = row.id.company;
            let mine = |plan: &&Arc<Plan>| {
                (plan.trigger, plan.fold, plan.version) == (trigger, row.id.fold.as_str(), row.id.version)
            };
            let Some(plan) = self.plans.iter().find(mine).filter(|_| row.standing == Standing::Live) else { continue };
            if row.poisoned.is_some() || heads.get(&company) != Some(&row.head()) {
                continue;
            }
            *even.entry(company).or_default() += 1;
            if !trigger {
                self.inner.board.start(company, plan.fold, row.position);
                self.inner.board.built(company, plan.fold, row.position, row.id.build());
            }
        }
        for (company, head) in heads {
            if even.get(&company) == Some(&self.plans.len()) {
                self.inner.feed.folded(company, head.position);
                self.slots.insert(company, Slot { head, done: head, ..Slot::default() });
            }
        }
        Ok(())
    }

    /// Compares heads with positions, and gives a turn to who is behind. What was told may be late: then it says less than
    /// is known.
    async fn look(&mut self, tick: bool, grown: Grown) -> Result<(), Fault> {
        self.inner.goes_round();
        if let Grown::These(heads) = grown {
            for (company, head) in heads {
                let slot = self.slots.entry(company).or_default();
                if head.position > slot.head.position {
                    slot.head = head;
                }
                if slot.task.is_none() && slot.wants(tick) {
                    self.give_turn(company, tick);
                }
            }
            return Ok(());
        }
        let heads = self.inner.feed.heads().await?;
        if tick {
            // A ledger that was restored may lack a company.
            self.slots.values_mut().for_each(|slot| slot.head = Head::default());
        }
        for (company, head) in heads {
            self.slots.entry(company).or_default().head = head;
        }
        let wanting: Vec<CompanyId> = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.task.is_none() && slot.wants(tick))
            .map(|(company, _)| *company)
            .collect();
        for company in wanting {
            self.give_turn(company, tick);
        }
        Ok(())
    }

    /// Looks at what companies that have no news would never ask for.
    async fn look_back(&mut self) -> Result<(), Fault> {
        if self.inner.look_at_store(&mut self.generation).await? {
            let inner = &self.inner;
            self.slots.values_mut().for_each(|slot| slot.distrust(inner));
        }
        self.look_at_outdated().await
    }

    /// Lets folds go on that stand still for a higher version, where ours is live again. One question for all companies.
    async fn look_at_outdated(&mut self) -> Result<(), Fault> {
        let outdated: Vec<_> = self.plans.iter().filter(|plan| self.inner.is_outdated(plan.fold)).cloned().collect();
        for plan in outdated {
            for company in self.inner.storage().live_in(&plan).await? {
                let Some(slot) = self.slots.get_mut(&company) else { continue };
                if slot.folds.as_mut().is_some_and(|folds| folds.resume(plan.fold)) {
                    slot.done = Head::default();
                }
            }
        }
        Ok(())
    }

    /// Gives a turn to the company whose resting folds are to be looked at first. One that is at work says at the end of
    /// its turn when to look.
    fn look_at_rested(&mut self) {
        let Some(Reverse((at, company))) = self.looks.pop() else { return };
        let Some(slot) = self.slots.get_mut(&company).filter(|slot| slot.look == Some(at)) else { return };
        slot.look = None;
        if slot.task.is_none() && !slot.failed {
            self.give_turn(company, false);
        }
    }

    fn give_turn(&mut self, company: CompanyId, tick: bool) {
        let slot = self.slots.entry(company).or_default();
        let (inner, plans, permits) = (self.inner.clone(), self.plans.clone(), self.permits.clone());
        let mut folds = slot.folds.take().unwrap_or_else(|| CompanyFolds::new(&inner, company));
        let head = slot.head;
        let task = self.tasks.spawn(async move {
            let _permit = permits.acquire_owned().await;
            let turn = folds.turn(&inner, &plans, head, tick).await;
            if turn.is_err() {
                folds.distrust(&inner);
            }
            (company, folds, turn)
        });
        slot.task = Some(task.id());
    }

    fn ended(&mut self, ended: Result<(Id, Ended), JoinError>) {
        match ended {
            Ok((_, (company, folds, turn))) => {
                let slot = self.slots.entry(company).or_default();
                (slot.task, slot.folds, slot.ended) = (None, Some(folds), Some(Instant::now()));
                match turn {
                    Ok(turn) => {
                        (slot.done, slot.watch, slot.failed) = (turn.done, turn.watch, false);
                        if slot.look != turn.look {
                            slot.look = turn.look;
                            self.looks.extend(turn.look.map(|at| Reverse((at, company))));
                        }
                    }
                    Err(fault) => {
                        tracing::warn!(%company, %fault, "folds are held up");
                        slot.failed = true;
                    }
                }
                if slot.distrusted {
                    slot.distrust(&self.inner);
                }
                if slot.wants(false) {
                    self.give_turn(company, false);
                }
            }
            Err(died) => self.died(&died),
        }
    }

    /// A task died: its folds are gone, and start again from what is written.
    fn died(&mut self, died: &JoinError) {
        for (company, slot) in &mut self.slots {
            if slot.task == Some(died.id()) {
                (slot.task, slot.folds, slot.failed) = (None, None, true);
                self.inner.restarts.fetch_add(1, Ordering::Relaxed);
                tracing::error!(%company, %died, "the folds of a company died and are started again");
            }
        }
    }

    /// How much text the folds of companies that wait for news hold.
    fn held(&self) -> usize {
        self.slots.values().filter_map(|slot| slot.folds.as_ref()).map(CompanyFolds::text).sum()
    }

    /// Bounds what is held and remembered.
    async fn sweep(&mut self, ticks: u64) {
        let is_much = self.held() > WAITING_TEXT_MAX;
        let is_idle = |slot: &Slot| slot.ended.is_some_and(|ended| ended.elapsed() >= IDLE);
        let forgets = self.slots.values_mut().filter(|slot| is_much || is_idle(slot));
        forgets.filter_map(|slot| slot.folds.as_mut()).for_each(CompanyFolds::forget);
        self.inner.held.store(self.held(), Ordering::Relaxed);
        if ticks.is_multiple_of(TICKS_A_SWEEP) {
            let forgotten = self.inner.storage().forget_removals(self.inner.now().minus(REMOVALS_KEPT)).await;
            if let Err(fault) = forgotten {
                tracing::warn!(%fault, "old removals are still remembered");
            }
        }
        if self.inner.folds.unwatched {
            return;
        }
        if let Err(fault) = self.inner.follow_others().await {
            tracing::warn!(%fault, "the positions of views cannot be read");
        }
    }
}

impl Slot {
    /// Has everything read from the store again that is remembered of it; where the folds are at work, after that.
    fn distrust(&mut self, inner: &Inner) {
        (self.done, self.distrusted) = (Head::default(), self.task.is_some());
        if let Some(folds) = &mut self.folds {
            folds.distrust(inner);
        }
    }

    fn wants(&self, tick: bool) -> bool {
        if self.failed {
            return tick;
        }
        // A head that is behind what is folded, or another one there, is looked into at a tick: it may be of a moment ago.
        self.done.position < self.head.position || (tick && (self.watch || self.done != self.head))
    }
}
