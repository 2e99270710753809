//! Which companies a relay holds, renewed once a second; and how far they were published, recorded a little later, and
//! compared with their ledgers: a position alone says nothing of a ledger that was put back.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use cnc_domain::{
    kernel::{CompanyId, Timestamp},
    ledger::{Fault, Feed, Head, Position},
};
use futures::{StreamExt as _, stream};
use tokio::{
    sync::{Notify, mpsc},
    time::{MissedTickBehavior, interval},
};

use super::{
    fork::{Start, Taken},
    options::{RelayMetrics, RelayOptions},
    ports::{Book, Broker},
    shortfall::Tip,
};

/// How often leases are renewed.
const RENEW: Duration = Duration::from_secs(1);
/// How often it is recorded how far companies were published.
const RECORD: Duration = Duration::from_millis(250);
/// How many companies' beginnings are looked up at once.
const AT_ONCE: usize = 16;
/// How many companies are taken on before the leases are renewed again.
const TAKEN_MAX: usize = 1_000;
/// Of how many companies it is looked each time whether their ledgers still have what was published.
const COMPARED_MAX: usize = 1_000;

/// What changed about what this relay holds.
#[derive(Debug)]
pub(super) enum News {
    /// A generation begins, and it holds nothing.
    Begun(i64),
    /// It holds this company, and begins with it there.
    Gained(CompanyId, Start),
    /// It does not hold it any more.
    Lost(CompanyId),
}

/// How far companies were published.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) generation: i64,
    /// What moved since this was last recorded.
    pub(super) moved: BTreeMap<CompanyId, Head>,
    /// The last message that the broker acknowledged.
    pub(super) tip: Tip,
    /// The last entry that is published of each company that is held.
    pub(super) published: BTreeMap<CompanyId, Head>,
    /// Companies whose ledgers were found not to go on from what was published.
    pub(super) astray: BTreeSet<CompanyId>,
    /// Entries that the broker says it has, which is news.
    pub(super) doubted: BTreeMap<CompanyId, Position>,
}

/// What this relay was told that it holds.
#[derive(Default)]
struct Told {
    generation: Option<i64>,
    companies: BTreeSet<CompanyId>,
    /// Entries that consumers lack though the broker says that it has them.
    missing: BTreeMap<CompanyId, Position>,
    /// After which company comparing goes on.
    turn: Option<CompanyId>,
}

/// Holds companies, and tells what it holds.
pub(super) struct Leases {
    pub(super) ledger: Arc<dyn Feed>,
    pub(super) book: Arc<dyn Book>,
    pub(super) broker: Arc<dyn Broker>,
    pub(super) options: RelayOptions,
    pub(super) metrics: Arc<RelayMetrics>,
    pub(super) progress: Arc<Mutex<Progress>>,
    pub(super) begun: Arc<Notify>,
    pub(super) news: mpsc::Sender<News>,
}

impl Leases {
    pub(super) async fn run(&self) {
        // Where to begin with a company says the stream, and whether that is there, the guard.
        self.begun.notified().await;
        let (mut renew, mut record) = (interval(RENEW), interval(RECORD));
        renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
        record.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = Told::default();
        let mut is_down = false;
        loop {
            let done = tokio::select! {
                biased;
                _ = renew.tick() => self.renew(&mut told).await,
                () = self.begun.notified() => self.renew(&mut told).await,
                _ = record.tick() => self.settle(&mut told).await,
            };
            match done {
                Ok(()) => {
                    if std::mem::take(&mut is_down) {
                        tracing::info!("the relay has its database again");
                    }
                }
                Err(fault) => {
                    // It may come back as another: whatever is remembered is compared with it then.
                    told.generation = None;
                    if !std::mem::replace(&mut is_down, true) {
                        tracing::warn!(%fault, "the relay is without its database; it is tried again");
                    }
                }
            }
        }
    }

    async fn renew(&self, told: &mut Told) -> Result<(), Fault> {
        let astray = self.astray(told).await?;
        let held = self.book.renew(self.options.lease).await?;
        if told.generation != Some(held.generation) {
            *told = Told {
                generation: Some(held.generation),
                missing: std::mem::take(&mut told.missing),
                ..Told::default()
            };
            self.tell(News::Begun(held.generation)).await;
        }
        let is_lost = |company: &&CompanyId| !held.companies.contains_key(company) || astray.contains(company);
        let lost: Vec<CompanyId> = told.companies.iter().filter(is_lost).copied().collect();
        for company in lost {
            told.companies.remove(&company);
            self.tell(News::Lost(company)).await;
        }
        let gained = held.companies.into_iter().filter(|(company, _)| !told.companies.contains(company));
        let mut gained: Vec<_> = gained.take(TAKEN_MAX + 1).collect();
        if gained.len() > TAKEN_MAX {
            gained.truncate(TAKEN_MAX);
            self.begun.notify_one();
        }
        let missing = std::mem::take(&mut told.missing);
        let mut begins = stream::iter(gained)
            .map(|(company, recorded)| self.take(company, recorded, missing.get(&company).copied()))
            .buffer_unordered(AT_ONCE);
        while let Some((company, start)) = begins.next().await {
            match start {
                Ok(start) => {
                    self.tell(News::Gained(company, start)).await;
                    told.companies.insert(company);
                }
                Err(fault) if fault.passing => {
                    // Of the others it would be the same. All are tried again with the next renewal.
                    tracing::debug!(%fault, "it is not known where to begin with a company");
                    break;
                }
                Err(fault) => {
                    self.metrics.failed.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(%company, %fault, "a company's entries cannot be published; it is tried again");
                }
            }
        }
        drop(begins);
        told.missing.extend(missing.into_iter().filter(|(company, _)| !told.companies.contains(company)));
        Ok(())
    }

    /// The companies whose ledgers do not have what was published of them: those that were found, and of some of the others,
    /// each in its turn.
    async fn astray(&self, told: &mut Told) -> Result<BTreeSet<CompanyId>, Fault> {
        let (mut astray, compared) = {
            let mut progress = self.progress();
            let after = told.turn.map_or(Bound::Unbounded, Bound::Excluded);
            let compared = progress.published.range((after, Bound::Unbounded)).take(COMPARED_MAX);
            let compared: Vec<_> = compared.map(|(company, head)| (*company, *head)).collect();
            (std::mem::take(&mut progress.astray), compared)
        };
        told.turn = compared.last().map(|(company, _)| *company).filter(|_| compared.len() == COMPARED_MAX);
        if !compared.is_empty() {
            astray.extend(self.book.astray(&compared).await?);
        }
        Ok(astray)
    }

    /// Where to begin with a company.
    async fn take(
        &self,
        company: CompanyId,
        recorded: Option<Head>,
        doubted: Option<Position>,
    ) -> (CompanyId, Result<Start, Fault>) {
        let start = async {
            let oldest = if recorded.is_some() { 0 } else { self.oldest(company).await? };
            Taken { company, recorded, oldest, doubted }.start(&*self.ledger, &*self.broker).await
        };
        let start = start.await;
        if let Ok(Start { fork: Some(fork), .. }) = &start {
            self.metrics.forks.fetch_add(1, Ordering::Relaxed);
            tracing::error!(
                %company, position = fork.after, stream_sequence = fork.sequence,
                "the ledger has parted from what was published of it: consumers are told to forget what came after this \
                 position, and it is published from there on"
            );
        }
        (company, start)
    }

    /// Where it is not known how far a company was published, everything that the stream keeps is published.
    async fn oldest(&self, company: CompanyId) -> Result<Position, Fault> {
        if self.options.keep.is_zero() {
            return Ok(0);
        }
        let keep = i64::try_from(self.options.keep.as_micros()).unwrap_or(i64::MAX);
        let now = chrono::Utc::now().timestamp_micros();
        self.ledger.position_at(company, Timestamp::from_micros(now.saturating_sub(keep))).await
    }

    async fn tell(&self, news: News) {
        // Nobody listens any more: the relay is being stopped.
        let _ = self.news.send(news).await;
    }

    /// Looks into what is doubted, and records the rest.
    async fn settle(&self, told: &mut Told) -> Result<(), Fault> {
        let doubted = self.progress().doubted.clone();
        for (company, position) in doubted {
            let taken = Taken { company, recorded: None, oldest: 0, doubted: Some(position) };
            let has_arrived = taken.has_arrived(&*self.broker).await?;
            self.progress().doubted.remove(&company);
            if has_arrived {
                tracing::warn!(%company, position, "an entry was in the stream already; is another relay at it?");
                continue;
            }
            tracing::error!(
                %company, position,
                "the broker took an entry for one that consumers were told to forget: it is sent again under another id"
            );
            self.metrics.failed.fetch_add(1, Ordering::Relaxed);
            told.missing.insert(company, position);
            let mut progress = self.progress();
            progress.moved.remove(&company);
            progress.astray.insert(company);
        }
        self.record().await
    }

    /// Records what moved. What could not be recorded is tried again with what moved since.
    pub(super) async fn record(&self) -> Result<(), Fault> {
        let (generation, tip, taken) = {
            let mut progress = self.progress();
            (progress.generation, progress.tip.clone(), std::mem::take(&mut progress.moved))
        };
        if taken.is_empty() {
            return Ok(());
        }
        let moved: Vec<_> = taken.into_iter().collect();
        let recorded = self.book.record(generation, &moved, tip).await;
        let mut progress = self.progress();
        match recorded {
            Ok(astray) => progress.astray.extend(astray),
            Err(fault) => {
                if progress.generation == generation {
                    for (company, head) in moved {
                        progress.moved.entry(company).or_insert(head);
                    }
                }
                return Err(fault);
            }
        }
        Ok(())
    }

    fn progress(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
