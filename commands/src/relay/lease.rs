//! Which companies a relay holds, renewed once a second; and how far they were published, recorded a little later.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use cnc_domain::{
    kernel::{CompanyId, Timestamp},
    ledger::{Fault, Feed, Head, Position, subject},
};
use futures::{StreamExt as _, stream};
use tokio::{
    sync::{Notify, mpsc},
    time::{MissedTickBehavior, interval},
};

use super::{RelayOptions, ports::Book, shortfall::Tip};

/// How often leases are renewed.
const RENEW: Duration = Duration::from_secs(1);
/// How often it is recorded how far companies were published.
const RECORD: Duration = Duration::from_millis(250);
/// How many companies' beginnings are looked up at once.
const AT_ONCE: usize = 4;

/// What changed about what this relay holds.
#[derive(Debug)]
pub(super) enum News {
    /// A generation begins, and it holds nothing.
    Begun(i64),
    /// It holds this company, of which all up to here was published.
    Gained(CompanyId, Position),
    /// It does not hold it any more.
    Lost(CompanyId),
}

/// How far companies were published since this was last recorded.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) generation: i64,
    pub(super) moved: BTreeMap<CompanyId, Position>,
    /// The last message that the broker acknowledged: its place in the stream, and which it is.
    pub(super) tip: (u64, CompanyId, Head),
}

/// Holds companies, and tells what it holds.
pub(super) struct Leases {
    pub(super) ledger: Arc<dyn Feed>,
    pub(super) book: Arc<dyn Book>,
    pub(super) options: RelayOptions,
    pub(super) progress: Arc<Mutex<Progress>>,
    pub(super) begun: Arc<Notify>,
    pub(super) news: mpsc::Sender<News>,
}

impl Leases {
    pub(super) async fn run(&self) {
        let (mut renew, mut record) = (interval(RENEW), interval(RECORD));
        renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
        record.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut known = (-1, BTreeSet::new());
        let mut is_down = false;
        loop {
            let done = tokio::select! {
                biased;
                _ = renew.tick() => self.renew(&mut known).await,
                () = self.begun.notified() => self.renew(&mut known).await,
                _ = record.tick() => self.record().await,
            };
            match done {
                Ok(()) => {
                    if std::mem::take(&mut is_down) {
                        tracing::info!("the relay has its database again");
                    }
                }
                Err(fault) => {
                    if !std::mem::replace(&mut is_down, true) {
                        tracing::warn!(%fault, "the relay is without its database; it is tried again");
                    }
                }
            }
        }
    }

    /// `known` is what was told: the generation, and what is held.
    async fn renew(&self, known: &mut (i64, BTreeSet<CompanyId>)) -> Result<(), Fault> {
        let held = self.book.renew(self.options.lease).await?;
        if known.0 != held.generation {
            *known = (held.generation, BTreeSet::new());
            self.tell(News::Begun(held.generation)).await;
        }
        let lost: Vec<CompanyId> =
            known.1.iter().filter(|company| !held.companies.contains_key(company)).copied().collect();
        for company in lost {
            known.1.remove(&company);
            self.tell(News::Lost(company)).await;
        }
        let gained: Vec<_> = held.companies.into_iter().filter(|(company, _)| !known.1.contains(company)).collect();
        let mut begins = stream::iter(gained)
            .map(|(company, published)| async move { (company, self.begin(company, published).await) })
            .buffer_unordered(AT_ONCE);
        while let Some((company, position)) = begins.next().await {
            self.tell(News::Gained(company, position?)).await;
            known.1.insert(company);
        }
        Ok(())
    }

    /// Where it is not known how far a company was published, everything that the stream keeps is published.
    async fn begin(&self, company: CompanyId, published: Option<Position>) -> Result<Position, Fault> {
        match published {
            Some(published) => Ok(published),
            None if self.options.keep.is_zero() => Ok(0),
            None => {
                let keep = i64::try_from(self.options.keep.as_micros()).unwrap_or(i64::MAX);
                let now = chrono::Utc::now().timestamp_micros();
                self.ledger.position_at(company, Timestamp::from_micros(now.saturating_sub(keep))).await
            }
        }
    }

    async fn tell(&self, news: News) {
        // Nobody listens any more: the relay is being stopped.
        let _ = self.news.send(news).await;
    }

    /// Records what moved. What could not be recorded is tried again with what moved since.
    pub(super) async fn record(&self) -> Result<(), Fault> {
        let (generation, (sequence, company, head), taken) = {
            let mut progress = self.progress();
            (progress.generation, progress.tip, std::mem::take(&mut progress.moved))
        };
        if taken.is_empty() {
            return Ok(());
        }
        let mut moved: Vec<_> = taken.into_iter().collect();
        moved.sort_unstable();
        let tip = Tip { sequence, message_id: subject::message_id(company, head) };
        let recorded = self.book.record(generation, &moved, tip).await;
        if recorded.is_err() {
            let mut progress = self.progress();
            if progress.generation == generation {
                for (company, position) in moved {
                    progress.moved.entry(company).or_insert(position);
                }
            }
        }
        recorded
    }

    fn progress(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
