//! Ledgers in memory, recorded as on Postgres: many processes write, the head row decides, and each statement is a step
//! that a simulation may hold up, refuse, answer in vain, or be the last of a process. What the server was told to do it
//! does, whoever is still there to hear of it.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use cnc_domain::{
    kernel::{CompanyId, Timestamp},
    ledger::{
        Answer, Answered, Append, AppendError, Appended, Entry, Fault, Feed, Hash, Head, Ledger, LedgerTime,
        Notification, NotificationLog, Position, Sequence, StreamHead, Weather,
    },
};
use tokio::sync::{Notify, OwnedMutexGuard};
use uuid::Uuid;

use super::{
    known::Known,
    recording::{self, Database, Failed},
    stamp::{Batch, Found, Stamped, Tip, key_id},
};

/// Fewer lines than what folds would read or fold in a thread of its own: a thread's time cannot be simulated.
const PAGE_LINES: usize = 48;

/// A server's tables, which outlive the processes that use them.
#[derive(Clone)]
pub struct Server {
    inner: Arc<Inner>,
}

struct Inner {
    rows: Mutex<Rows>,
    /// How long the server takes.
    weather: Arc<dyn Weather>,
    notified: Notify,
}

#[derive(Default)]
struct Rows {
    ledgers: BTreeMap<CompanyId, Stored>,
    answers: BTreeMap<[u8; 16], Remembered>,
    locks: BTreeMap<CompanyId, Arc<tokio::sync::Mutex<()>>>,
    notifications: NotificationLog,
}

#[derive(Clone, Default)]
struct Stored {
    tip: Tip,
    lines: Vec<Line>,
}

#[derive(Clone)]
struct Line {
    stream: String,
    id: Uuid,
    sequence: Sequence,
    at: Timestamp,
    hash: Hash,
    text: String,
}

#[derive(Clone)]
struct Remembered {
    answered: Answered,
    at: Timestamp,
    for_ever: bool,
}

/// The ledgers and answers of a [`Server`], as they stood once.
pub struct Snapshot {
    ledgers: BTreeMap<CompanyId, Stored>,
    answers: BTreeMap<[u8; 16], Remembered>,
}

/// What one transaction writes.
struct Change {
    lines: Vec<(CompanyId, Line)>,
    heads: Vec<(CompanyId, Option<Tip>, Tip)>,
    answers: Vec<([u8; 16], Remembered)>,
}

impl Change {
    fn of(stamped: &Stamped<'_>) -> Result<Self, Fault> {
        let line = |row: &super::stamp::Row<'_>| {
            let draft = row.draft;
            let text = Entry::line(&row.header, draft.payload.get());
            let (stream, id, sequence) = (draft.stream.clone(), draft.id, draft.sequence);
            (row.company, Line { stream, id, sequence, at: row.at, hash: row.hash, text })
        };
        let answers = stamped.remembered.iter().map(|remembered| {
            let answer: Answer = serde_json::from_str(&remembered.answer)?;
            let answered = Answered { fingerprint: remembered.key.fingerprint, answer };
            Ok((remembered.id, Remembered { answered, at: remembered.at, for_ever: remembered.key.for_ever }))
        });
        let answers: Result<_, serde_json::Error> = answers.collect();
        Ok(Self {
            lines: stamped.rows.iter().map(line).collect(),
            heads: stamped.moved.iter().map(|moved| (moved.company, moved.before, moved.tip)).collect(),
            answers: answers.map_err(|cause| Fault::broken("append", cause))?,
        })
    }
}

/// Locked head rows.
type Locks = Vec<OwnedMutexGuard<()>>;

/// A transaction: it holds its locks until it ends, and has changed nothing before.
#[derive(Default)]
pub struct Transaction(Arc<Mutex<Open>>);

#[derive(Default)]
struct Open {
    locks: Locks,
    change: Option<Change>,
    /// Its process has ended, so that it is rolled back.
    is_cut: bool,
}

impl Transaction {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn share(&self) -> Self {
        Self(self.0.clone())
    }

    /// Holds more locks until it ends.
    fn hold(&self, locks: Locks) {
        let mut open = self.open();
        if !open.is_cut {
            open.locks.extend(locks);
        }
    }
}

impl Server {
    /// Without ledgers.
    pub fn new(weather: Arc<dyn Weather>) -> Self {
        Self { inner: Arc::new(Inner { rows: Mutex::default(), weather, notified: Notify::new() }) }
    }

    /// The ledgers as one process sees them.
    pub fn ledger(&self, weather: Arc<dyn Weather>) -> MemoryLedger {
        let (known, begun, deaf_to) = (Mutex::default(), Mutex::default(), AtomicU64::new(0));
        MemoryLedger { server: self.clone(), weather, known, begun, deaf_to }
    }

    /// What it holds.
    pub fn snapshot(&self) -> Snapshot {
        let rows = self.rows();
        Snapshot { ledgers: rows.ledgers.clone(), answers: rows.answers.clone() }
    }

    /// Puts back what it held, under those who use it: as a restored database does, or a standby that takes over without the
    /// last that was recorded.
    pub fn restore(&self, snapshot: Snapshot) {
        let mut rows = self.rows();
        (rows.ledgers, rows.answers) = (snapshot.ledgers, snapshot.answers);
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.inner.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks head rows, in their order; also such as are only about to be made where `new` says so.
    async fn lock(&self, companies: &[CompanyId], new: bool) -> Locks {
        // The server takes its time, as long as it likes.
        let _ = self.inner.weather.before("work").await;
        let mut locks = Locks::new();
        for company in companies {
            let lock = {
                let mut rows = self.rows();
                let is_there = new || rows.ledgers.contains_key(company);
                is_there.then(|| rows.locks.entry(*company).or_default().clone())
            };
            if let Some(lock) = lock {
                locks.push(lock.lock_owned().await);
            }
        }
        locks
    }

    fn find(&self, batch: &Asked) -> Found {
        let rows = self.rows();
        let mut found = Found::default();
        for company in &batch.companies {
            if let Some(stored) = rows.ledgers.get(company) {
                found.tips.insert(*company, stored.tip);
            }
        }
        let last = |(company, stream, id): &(CompanyId, String, Uuid)| {
            let lines = rows.ledgers.get(company).map_or(&[][..], |stored| &stored.lines);
            let last = lines.iter().rev().find(|line| line.id == *id && line.stream == *stream);
            last.map_or_else(StreamHead::default, |line| StreamHead { sequence: line.sequence, hash: line.hash })
        };
        found.streams = batch.streams.iter().map(last).collect();
        found.answers =
            batch.keys.iter().map(|key| rows.answers.get(key).map(|there| there.answered.clone())).collect();
        found
    }

    /// What the database would not have of a change.
    fn refuses(&self, change: &Change) -> Option<&'static str> {
        let rows = self.rows();
        let tip = |company: &CompanyId| rows.ledgers.get(company).map(|stored| stored.tip);
        if change.heads.iter().any(|(company, before, _)| tip(company) != *before) {
            return Some("a head does not stand where the batch follows it");
        }
        if change.answers.iter().any(|(id, _)| rows.answers.contains_key(id)) {
            return Some("an answer is remembered under the same key");
        }
        let taken = |(company, line): &(CompanyId, Line)| {
            let lines = rows.ledgers.get(company).map_or(&[][..], |stored| &stored.lines);
            lines
                .iter()
                .any(|there| there.id == line.id && there.sequence == line.sequence && there.stream == line.stream)
        };
        change.lines.iter().any(taken).then_some("the sequence of a stream is taken")
    }

    fn apply(&self, change: Change) -> Result<(), Fault> {
        if let Some(wrong) = self.refuses(&change) {
            return Err(Fault::broken("append", wrong));
        }
        let mut rows = self.rows();
        for (company, _, tip) in change.heads {
            rows.ledgers.entry(company).or_default().tip = tip;
            rows.notifications.note(company, tip.head);
        }
        for (company, line) in change.lines {
            rows.ledgers.entry(company).or_default().lines.push(line);
        }
        rows.answers.extend(change.answers);
        drop(rows);
        self.inner.notified.notify_waiters();
        Ok(())
    }
}

/// The ledgers of a [`Server`], as one process sees them.
pub struct MemoryLedger {
    server: Server,
    weather: Arc<dyn Weather>,
    known: Mutex<Known>,
    /// The transactions that may be open.
    begun: Mutex<Vec<Weak<Mutex<Open>>>>,
    /// A notification that this process did not get.
    deaf_to: AtomicU64,
}

/// What a batch looks up, on its way to the server.
struct Asked {
    companies: Vec<CompanyId>,
    streams: Vec<(CompanyId, String, Uuid)>,
    keys: Vec<[u8; 16]>,
}

impl Asked {
    fn by(batch: &Batch<'_>) -> Self {
        let stream = |(company, stream, id): &(CompanyId, &str, Uuid)| (*company, (*stream).to_owned(), *id);
        Self {
            companies: batch.companies.clone(),
            streams: batch.streams.iter().map(stream).collect(),
            keys: batch.keys.iter().map(|(company, actor, key)| key_id(*company, actor, key)).collect(),
        }
    }
}

impl MemoryLedger {
    /// The process has ended: the server rolls back what it had begun.
    pub fn disconnect(&self) {
        let begun = std::mem::take(&mut *self.begun.lock().unwrap_or_else(PoisonError::into_inner));
        for open in begun.iter().filter_map(Weak::upgrade) {
            *Transaction(open).open() = Open { is_cut: true, ..Open::default() };
        }
    }

    /// Has the server do something. It does so even if nobody waits for it any more.
    async fn tell<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl Future<Output = Result<T, Fault>> + Send + 'static,
    ) -> Result<T, Failed> {
        self.weather.before(doing).await.map_err(Failed::Lost)?;
        let work = tokio::spawn(work);
        self.weather.after(doing).await.map_err(Failed::Lost)?;
        let done = work.await.map_err(|died| Failed::Refused(Fault::broken(doing, died)))?;
        done.map_err(Failed::Refused)
    }

    async fn read<T>(&self, doing: &'static str, work: impl FnOnce(&Rows) -> T + Send) -> Result<T, Fault> {
        self.weather.before(doing).await?;
        let read = work(&self.server.rows());
        self.weather.after(doing).await?;
        Ok(read)
    }
}

#[async_trait]
impl Database for MemoryLedger {
    type Connection = ();
    type Transaction = Transaction;

    fn known(&self) -> &Mutex<Known> {
        &self.known
    }

    async fn connect(&self) -> Result<(), Fault> {
        Ok(())
    }

    async fn write_at_once(&self, (): (), stamped: &Stamped<'_>) -> Result<(), Failed> {
        let (server, change) = (self.server.clone(), Change::of(stamped).map_err(Failed::Refused)?);
        let work = async move {
            let companies: Vec<_> = change.heads.iter().map(|(company, ..)| *company).collect();
            let _locks = server.lock(&companies, true).await;
            server.apply(change)
        };
        self.tell("append at once", work).await
    }

    async fn begin(&self) -> Result<Transaction, Fault> {
        let tx = Transaction::default();
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.retain(|open| open.strong_count() > 0);
        begun.push(Arc::downgrade(&tx.0));
        Ok(tx)
    }

    async fn find(&self, tx: &mut Transaction, batch: &Batch<'_>) -> Result<Found, Failed> {
        let (server, tx, asked) = (self.server.clone(), tx.share(), Asked::by(batch));
        let work = async move {
            tx.hold(server.lock(&asked.companies, false).await);
            Ok(server.find(&asked))
        };
        self.tell("lock heads", work).await
    }

    async fn write(&self, tx: &mut Transaction, stamped: &Stamped<'_>) -> Result<(), Fault> {
        let (server, tx, change) = (self.server.clone(), tx.share(), Change::of(stamped)?);
        let work = async move {
            let new: Vec<_> = change.heads.iter().filter(|head| head.1.is_none()).map(|head| head.0).collect();
            tx.hold(server.lock(&new, true).await);
            if let Some(wrong) = server.refuses(&change) {
                return Err(Fault::broken("append", wrong));
            }
            tx.open().change = Some(change);
            Ok(())
        };
        self.tell("append", work).await.map_err(Failed::into_fault)
    }

    async fn commit(&self, tx: Transaction) -> Result<(), Failed> {
        let server = self.server.clone();
        let work = async move {
            let _ = server.inner.weather.before("commit").await;
            // The locks are held until the change is made.
            let Open { locks: _locks, change, is_cut } = std::mem::take(&mut *tx.open());
            match change {
                Some(change) => server.apply(change),
                None if is_cut => Err(Fault::passing("append", "the transaction was rolled back")),
                None => Ok(()),
            }
        };
        self.tell("commit", work).await
    }

    async fn is_recorded(&self, batch: &Batch<'_>, stamped: &Stamped<'_>) -> Result<bool, Failed> {
        let (server, companies) = (self.server.clone(), batch.companies.clone());
        let tips: Vec<_> = stamped.moved.iter().map(|moved| (moved.company, moved.tip.head.hash)).collect();
        let answers: Vec<_> = stamped.remembered.iter().map(|answer| answer.id).collect();
        let work = async move {
            let _locks = server.lock(&companies, true).await;
            let rows = server.rows();
            let is_there = |(company, hash): &(CompanyId, Hash)| {
                rows.ledgers.get(company).is_some_and(|stored| stored.lines.iter().any(|line| line.hash == *hash))
            };
            Ok(tips.iter().all(is_there) && answers.iter().all(|id| rows.answers.contains_key(id)))
        };
        self.tell("ask whether it was recorded", work).await
    }
}

#[async_trait]
impl Feed for MemoryLedger {
    async fn heads(&self) -> Result<Vec<(CompanyId, Head)>, Fault> {
        let heads = |rows: &Rows| rows.ledgers.iter().map(|(company, stored)| (*company, stored.tip.head)).collect();
        self.read("read the heads", heads).await
    }

    async fn head(&self, company: CompanyId) -> Result<Option<Head>, Fault> {
        self.read("read a head", |rows| rows.ledgers.get(&company).map(|stored| stored.tip.head)).await
    }

    async fn read(&self, company: CompanyId, after: Position, limit: usize) -> Result<Vec<String>, Fault> {
        let after = usize::try_from(after).unwrap_or(usize::MAX);
        let lines = |rows: &Rows| {
            let lines = rows.ledgers.get(&company).map_or(&[][..], |stored| &stored.lines);
            lines.iter().skip(after).take(limit.min(PAGE_LINES)).map(|line| line.text.clone()).collect()
        };
        self.read("read the ledger", lines).await
    }

    async fn read_stream(
        &self,
        company: CompanyId,
        stream: &str,
        id: Uuid,
        after: Sequence,
        limit: usize,
    ) -> Result<Vec<String>, Fault> {
        let lines = |rows: &Rows| {
            let lines = rows.ledgers.get(&company).map_or(&[][..], |stored| &stored.lines);
            let own = lines.iter().filter(|line| line.id == id && line.stream == stream && line.sequence > after);
            own.take(limit).map(|line| line.text.clone()).collect()
        };
        self.read("read a stream", lines).await
    }

    async fn position_at(&self, company: CompanyId, at: Timestamp) -> Result<Position, Fault> {
        let last = |rows: &Rows| {
            let lines = rows.ledgers.get(&company).map_or(&[][..], |stored| &stored.lines);
            lines.iter().filter(|line| line.at <= at).count() as Position
        };
        self.read("find a position by time", last).await
    }

    async fn changed(&self, cursor: u64) -> Notification {
        loop {
            let mut notified = std::pin::pin!(self.server.inner.notified.notified());
            notified.as_mut().enable();
            let told = self.server.rows().notifications.since(cursor);
            if told.cursor != cursor && told.cursor != self.deaf_to.load(Ordering::Relaxed) {
                if self.weather.after("hear of a change").await.is_ok() {
                    return told;
                }
                self.deaf_to.store(told.cursor, Ordering::Relaxed);
            }
            notified.await;
        }
    }
}

#[async_trait]
impl Ledger for MemoryLedger {
    async fn append(&self, batch: Vec<Append>) -> Result<Vec<Result<Appended, AppendError>>, Fault> {
        recording::append(self, &batch).await
    }

    fn lanes(&self) -> usize {
        2
    }

    async fn facts(&self, company: CompanyId) -> Result<Option<Hash>, Fault> {
        self.read("read a head", |rows| rows.ledgers.get(&company).map(|stored| stored.tip.facts)).await
    }

    async fn answered(&self, company: CompanyId, actor: &str, key: &str) -> Result<Option<Answered>, Fault> {
        let id = key_id(company, actor, key);
        self.read("read an answer", |rows| rows.answers.get(&id).map(|there| there.answered.clone())).await
    }

    async fn forget_answers(&self, before: Timestamp) -> Result<u64, Fault> {
        self.weather.before("forget answers").await?;
        let mut rows = self.server.rows();
        let kept = rows.answers.len();
        rows.answers.retain(|_, there| there.for_ever || there.at >= before);
        Ok((kept - rows.answers.len()) as u64)
    }

    async fn time(&self) -> Result<LedgerTime, Fault> {
        let server = self.server.inner.weather.clone();
        self.read("ask for the time", |_| LedgerTime::Now(server.now())).await
    }
}
