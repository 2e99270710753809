//! From ledger to broker: reads what is new of all companies that are held, sends it, and counts acknowledgements. It never
//! waits for one thing while it could do another.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use cnc_domain::{
    kernel::CompanyId,
    ledger::{Fault, Feed, Grown, Head, Position},
};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Instant, MissedTickBehavior, interval},
};

use super::{
    lease::{News, Progress},
    message::{Issue, Message},
    options::RelayMetrics,
    ports::{Acknowledged, Acknowledgement, Behind, Book, Broker, Unpublished, WINDOW},
    share::{ROOM, Share},
    shortfall::Tip,
};

/// How often it looks by itself.
const LOOK: Duration = Duration::from_secs(1);
/// How long, when it stops, it waits for what is on its way.
const DRAIN: Duration = Duration::from_secs(2);

/// What became of a message that was sent.
struct Landed {
    company: CompanyId,
    life: u64,
    head: Head,
    id: String,
    outcome: Acknowledged,
}

/// What was read, or of which companies nothing could be.
type Found = Result<(Vec<Behind>, Vec<(CompanyId, Fault)>), Fault>;

pub(super) struct Pump {
    ledger: Arc<dyn Feed>,
    book: Arc<dyn Book>,
    broker: Arc<dyn Broker>,
    metrics: Arc<RelayMetrics>,
    progress: Arc<Mutex<Progress>>,
    /// The connection that was looked at.
    good: watch::Receiver<Option<u64>>,
    doubt: Arc<Notify>,
    shares: BTreeMap<CompanyId, Share>,
    lives: u64,
    flights: FuturesUnordered<BoxFuture<'static, Landed>>,
    /// Where the next reading begins, so that each company has its turn.
    turn: Option<CompanyId>,
    /// Whether there may be more to read.
    look: bool,
    /// Whether any company may have grown, and not only those that are known to have.
    look_at_all: bool,
    is_failing: bool,
}

impl Pump {
    pub(super) fn new(
        ledger: Arc<dyn Feed>,
        book: Arc<dyn Book>,
        broker: Arc<dyn Broker>,
        metrics: Arc<RelayMetrics>,
        progress: Arc<Mutex<Progress>>,
        good: watch::Receiver<Option<u64>>,
        doubt: Arc<Notify>,
    ) -> Self {
        Self {
            ledger,
            book,
            broker,
            metrics,
            progress,
            good,
            doubt,
            shares: BTreeMap::new(),
            lives: 0,
            flights: FuturesUnordered::new(),
            turn: None,
            look: false,
            look_at_all: false,
            is_failing: false,
        }
    }

    /// Publishes what `news` says that it holds, over connections that are good, until `stop` says so.
    pub(super) async fn run(&mut self, mut news: mpsc::Receiver<News>, mut stop: watch::Receiver<bool>) {
        let mut tick = interval(LOOK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = 0;
        let mut reading: Option<BoxFuture<'static, Found>> = None;
        while !*stop.borrow() {
            if reading.is_none() && self.look && self.is_trusted() {
                reading = self.read();
            }
            // In this order, what comes seldom first, so that nothing waits for long and a simulated run can be repeated.
            tokio::select! {
                biased;
                gone = stop.changed() => if gone.is_err() { break },
                Some(news) = news.recv() => self.hear(news),
                Ok(()) = self.good.changed() => self.begin_again(),
                _ = tick.tick() => {
                    (self.look, self.look_at_all) = (true, true);
                    self.measure();
                }
                Some(landed) = self.flights.next(), if !self.flights.is_empty() => self.land(landed),
                found = async { reading.as_mut().expect("is there").await }, if reading.is_some() => {
                    reading = None;
                    self.publish(found).await;
                }
                told = self.ledger.changed(seen) => {
                    seen = told.cursor;
                    self.notice(told.grown);
                }
            }
        }
        self.drain().await;
    }

    /// Whether the connection is there and was looked at. Over one that was not, messages would hide that others are
    /// missing, and what was acknowledged may be gone.
    fn is_trusted(&self) -> bool {
        *self.good.borrow() == Some(self.broker.connection()) && self.broker.is_connected()
    }

    /// Some companies have grown, or any may have. Those that are not held are others' business.
    fn notice(&mut self, grown: Grown) {
        match grown {
            Grown::Any => (self.look, self.look_at_all) = (true, true),
            Grown::These(heads) => {
                for (company, head) in heads {
                    if let Some(share) = self.shares.get_mut(&company) {
                        share.head = share.head.max(head.position);
                        self.look |= share.is_behind();
                    }
                }
            }
        }
    }

    fn hear(&mut self, news: News) {
        match news {
            News::Begun(generation) => {
                *self.progress() = Progress { generation, ..Progress::default() };
                self.shares.clear();
            }
            News::Gained(company, start) => {
                self.lives += 1;
                self.shares.insert(company, Share::new(self.lives, start));
                let mut progress = self.progress();
                progress.moved.remove(&company);
                // Where there is a fork, the entry before it is sent first, which is none of what is published.
                progress.published.insert(company, start.after);
                drop(progress);
                (self.look, self.look_at_all) = (true, true);
            }
            News::Lost(company) => {
                self.shares.remove(&company);
                self.progress().published.remove(&company);
            }
        }
        self.metrics.companies.store(self.shares.len() as u64, Ordering::Relaxed);
    }

    /// The connection is another: nobody knows what of that which was on its way has arrived, so it is sent again.
    fn begin_again(&mut self) {
        self.flights.clear();
        for share in self.shares.values_mut() {
            self.lives += 1;
            share.restart(self.lives);
        }
        self.look = true;
    }

    /// Reads what is new of the companies that have room; `None` where no message has.
    fn read(&mut self) -> Option<BoxFuture<'static, Found>> {
        let (free, now) = (WINDOW.saturating_sub(self.flights.len()), Instant::now());
        if free < WINDOW / 4 {
            return None;
        }
        let after = self.turn.map_or(Bound::Unbounded, Bound::Excluded);
        let up_to = self.turn.map_or(Bound::Excluded(CompanyId::default()), Bound::Included);
        let asked = self.shares.range((after, Bound::Unbounded)).chain(self.shares.range((Bound::Unbounded, up_to)));
        let asked = asked.filter(|(_, share)| self.look_at_all || share.is_behind());
        let asked = asked.map(|(company, share)| (*company, share.sent().position, share.room(now)));
        let asked: Vec<_> = asked.filter(|(.., room)| *room >= ROOM / 4).collect();
        (self.look, self.look_at_all) = (false, false);
        if asked.is_empty() {
            return None;
        }
        let (book, ledger) = (self.book.clone(), self.ledger.clone());
        Some(
            async move {
                match book.behind(&asked, free).await {
                    Err(fault) if !fault.passing => Ok(one_by_one(&*ledger, asked, free).await),
                    found => found.map(|behind| (behind, Vec::new())),
                }
            }
            .boxed(),
        )
    }

    async fn publish(&mut self, found: Found) {
        // The leases say so once for all; the next tick looks again.
        let Ok((behind, failed)) = found else { return };
        for (company, fault) in failed {
            self.fail(company, &fault);
        }
        for Behind { company, head, lines } in behind {
            self.turn = Some(company);
            if let Some(share) = self.shares.get_mut(&company) {
                share.head = share.head.max(head);
            }
            for line in lines {
                if !self.send(company, line).await {
                    break;
                }
            }
        }
        let now = Instant::now();
        self.look |= self.shares.values().any(|share| share.is_behind() && share.room(now) >= ROOM / 4);
    }

    /// Sends a line, and says whether the next may follow.
    async fn send(&mut self, company: CompanyId, line: String) -> bool {
        if !self.is_trusted() {
            return false;
        }
        let share = self.shares.get(&company);
        let issue = |position| share.map_or_else(Issue::default, |share| share.issue(position));
        let message = match Message::of(&line, issue) {
            Ok(message) => message,
            Err(malformed) => {
                self.fail(company, &malformed);
                return false;
            }
        };
        let head = message.head;
        // While it was being read the company may have been given back, or begun again.
        let Some(share) = self.shares.get_mut(&company) else { return false };
        let sent = share.sent();
        if message.company != company || head.position != sent.position + 1 {
            return head.position <= sent.position;
        }
        if message.previous != sent.hash {
            self.stray(company);
            return false;
        }
        let (life, id) = (share.life, message.id.clone());
        match self.broker.send(message, line).await {
            Ok(acknowledged) => {
                share.send(head.hash);
                let landing = async move { Landed { company, life, head, id, outcome: acknowledged.await } };
                self.flights.push(landing.boxed());
                true
            }
            Err(error) => {
                self.lament(company, &error);
                false
            }
        }
    }

    /// The ledger does not go on from what was published: nothing more is, until it is known where they have parted.
    fn stray(&mut self, company: CompanyId) {
        self.shares.remove(&company);
        let mut progress = self.progress();
        progress.published.remove(&company);
        progress.moved.remove(&company);
        progress.astray.insert(company);
    }

    fn land(&mut self, Landed { company, life, head, id, outcome }: Landed) {
        let is_trusted = self.is_trusted();
        let Some(share) = self.shares.get_mut(&company).filter(|share| share.life == life) else { return };
        match outcome {
            // The guard looks, and then it is sent again.
            Ok(_) if !is_trusted => {}
            Ok(Acknowledgement { sequence, is_duplicate }) => {
                let is_doubtful = is_duplicate && !share.may_be_published(head.position);
                let (count, published) = share.acknowledge(head.position);
                self.look |= share.is_behind();
                self.metrics.published.fetch_add(count, Ordering::Relaxed);
                {
                    let mut progress = self.progress();
                    if is_doubtful {
                        progress.doubted.entry(company).or_insert(head.position);
                    }
                    // Also of one that waits for those before it: when they come, it is the last that is published.
                    if sequence > progress.tip.sequence {
                        progress.tip = Tip { sequence, message_id: id };
                    }
                    if count > 0 {
                        progress.moved.insert(company, published);
                        progress.published.insert(company, published);
                    }
                }
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!("the broker takes messages again");
                }
            }
            Err(error) => self.lament(company, &error),
        }
    }

    /// A message was not published: perhaps because of what it is, otherwise because of the broker.
    fn lament(&mut self, company: CompanyId, error: &Unpublished) {
        if error.is_too_large {
            return self.fail(company, error);
        }
        self.doubt.notify_one();
        self.metrics.failed.fetch_add(1, Ordering::Relaxed);
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::warn!(%error, "the broker does not take messages; it is tried again");
        }
        self.rest(company);
    }

    /// This company alone does not go on.
    fn fail(&mut self, company: CompanyId, cause: &dyn std::fmt::Display) {
        self.metrics.failed.fetch_add(1, Ordering::Relaxed);
        if self.rest(company) {
            tracing::error!(%company, %cause, "a company's entries cannot be published; it is tried again");
        }
    }

    fn rest(&mut self, company: CompanyId) -> bool {
        self.lives += 1;
        self.shares.get_mut(&company).is_some_and(|share| share.fail(self.lives, Instant::now()))
    }

    fn measure(&self) {
        let lag: u64 = self.shares.values().map(Share::lag).sum();
        self.metrics.lag.store(lag, Ordering::Relaxed);
    }

    async fn drain(&mut self) {
        let landing = async {
            while let Some(landed) = self.flights.next().await {
                self.land(landed);
            }
        };
        // What does not land is sent again by the next relay.
        let _ = tokio::time::timeout(DRAIN, landing).await;
    }

    fn progress(&self) -> std::sync::MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads each company alone, after reading them together failed, so that one that cannot be read holds up no other.
async fn one_by_one(
    ledger: &dyn Feed,
    asked: Vec<(CompanyId, Position, usize)>,
    mut free: usize,
) -> (Vec<Behind>, Vec<(CompanyId, Fault)>) {
    let (mut behind, mut failed) = (Vec::new(), Vec::new());
    for (company, after, room) in asked {
        match ledger.read(company, after, room.min(free)).await {
            Ok(lines) if !lines.is_empty() => {
                free -= lines.len();
                behind.push(Behind { company, head: after + lines.len() as u64, lines });
            }
            Ok(_) => {}
            Err(fault) => failed.push((company, fault)),
        }
        if free == 0 {
            break;
        }
    }
    (behind, failed)
}
