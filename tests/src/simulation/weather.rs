//! The weather of one simulated process: at each step of a back end the seed decides how long it takes, whether it fails
//! before or after, and whether the process ends there.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use cnc_domain::{
    kernel::Timestamp,
    ledger::{Fault, Weather},
};
use tokio::sync::Notify;

use super::World;
use crate::random::Random;

/// How often, of a thousand steps, each thing happens. A seed has a climate of its own, in which some things never happen:
/// so that rare meetings of the others are not hidden.
#[derive(Clone, Debug)]
pub struct Climate {
    /// A step gives others their turn.
    pub yields: u64,
    /// It takes some milliseconds.
    pub slow: u64,
    /// It takes up to some seconds.
    pub stuck: u64,
    /// It fails before it is done.
    pub refused: u64,
    /// It is done, and its answer is lost.
    pub lost: u64,
    /// The process ends there.
    pub deadly: u64,
    /// The clock of the process jumps.
    pub jumps: u64,
    /// How often, of a thousand looks, the broker has trouble of its own.
    pub broker: u64,
    /// How often, of a thousand looks, the database server of the folds crashes.
    pub crashes: u64,
}

impl Climate {
    /// The climate of a seed.
    pub fn of(chance: &mut Random) -> Self {
        Self {
            yields: *chance.one_of(&[0, 200, 500]),
            slow: *chance.one_of(&[0, 50, 300]),
            stuck: *chance.one_of(&[0, 0, 5]),
            refused: *chance.one_of(&[0, 5, 30, 100]),
            lost: *chance.one_of(&[0, 5, 30, 100]),
            deadly: *chance.one_of(&[0, 2, 5, 15]),
            jumps: *chance.one_of(&[0, 0, 3]),
            broker: *chance.one_of(&[0, 100, 500]),
            crashes: *chance.one_of(&[0, 100, 500]),
        }
    }

    /// Whether nothing befalls what is on its way to the broker.
    pub fn spares_messages(&self) -> bool {
        self.stuck + self.refused + self.lost + self.deadly + self.broker == 0
    }
}

/// What happens at a step.
enum Fate {
    Pass,
    Fail,
    Die,
}

/// One life of a process.
pub struct Life {
    world: Arc<World>,
    /// Whose.
    pub name: String,
    dead: AtomicBool,
    died: Notify,
    /// How far its clock is off, in microseconds.
    skew: AtomicI64,
    /// Whether only time passes here.
    calm: bool,
}

impl Life {
    /// A life in this world; one that is `calm` meets no fault.
    pub fn new(world: &Arc<World>, name: String, calm: bool) -> Arc<Self> {
        let (dead, died, skew) = (AtomicBool::new(false), Notify::new(), AtomicI64::new(0));
        Arc::new(Self { world: world.clone(), name, dead, died, skew, calm })
    }

    /// Whether it is over.
    pub fn has_ended(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// Waits for its end.
    pub async fn ended(&self) {
        while !self.has_ended() {
            self.died.notified().await;
        }
    }

    /// Ends it: none of its steps is answered any more.
    pub fn end(&self) {
        self.dead.store(true, Ordering::Relaxed);
        self.died.notify_one();
    }

    /// Takes the time that a step takes, and says what becomes of it.
    async fn meet(&self, when: &str, doing: &str) -> Fate {
        self.go_on().await;
        let storms = !self.calm && self.world.storms();
        let (turns, pause, fate) = self.world.draw(|chance, climate| {
            let turns = if chance.happens(climate.yields) { 1 + chance.below(3) } else { 0 };
            let pause = match () {
                () if storms && chance.happens(climate.stuck) => 1_000 + chance.below(12_000),
                () if chance.happens(climate.slow) => 1 + chance.below(30),
                () => 0,
            };
            if storms && chance.happens(climate.jumps) {
                // Right again, a little off, minutes off, and a year off, ahead or back.
                let most = *chance.one_of(&[0, 4_000_000, 120_000_000, 31_536_000_000_000]);
                let jump = i64::try_from(chance.below(2 * most + 1)).unwrap_or_default() - most.cast_signed();
                self.skew.store(jump, Ordering::Relaxed);
            }
            let fails = if when == "before" { climate.refused } else { climate.lost };
            let fate = match () {
                () if storms && chance.happens(climate.deadly) => Fate::Die,
                () if storms && chance.happens(fails) => Fate::Fail,
                () => Fate::Pass,
            };
            (turns, pause, fate)
        });
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        if pause > 0 {
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        if !storms {
            self.skew.store(0, Ordering::Relaxed);
        }
        let told = match fate {
            Fate::Pass => "",
            Fate::Fail => ": fails",
            Fate::Die => ": dies",
        };
        self.world.trace(|| format!("{} {when} {doing}{told}", self.name));
        if matches!(fate, Fate::Die) {
            self.end();
        }
        self.go_on().await;
        fate
    }

    /// Never comes back once the life has ended.
    async fn go_on(&self) {
        if self.has_ended() {
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait]
impl Weather for Life {
    async fn before(&self, doing: &'static str) -> Result<(), Fault> {
        match self.meet("before", doing).await {
            Fate::Fail => Err(Fault::passing(doing, "the simulated connection is lost before it is done")),
            Fate::Pass | Fate::Die => Ok(()),
        }
    }

    async fn after(&self, doing: &'static str) -> Result<(), Fault> {
        match self.meet("after", doing).await {
            Fate::Fail => Err(Fault::passing(doing, "the simulated connection is lost after it is done")),
            Fate::Pass | Fate::Die => Ok(()),
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.world.now().micros() + self.skew.load(Ordering::Relaxed))
    }
}
