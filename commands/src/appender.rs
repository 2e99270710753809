//! Group commit: a task takes all appends that wait and records them in one durable transaction. While one batch is on
//! its way to the disk, the next collects.

mod apart;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use self::apart::Apart;
use cnc_domain::ledger::{Append, AppendError, Appended, Fault, Ledger};
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    task::JoinSet,
};

/// How many appends may wait before those who bring more wait themselves.
const QUEUE: usize = 8_192;
/// A batch takes no more payload bytes than this, so that a transaction stays short.
const BATCH_BYTES: usize = 4 << 20;

type Reply = oneshot::Sender<Result<Appended, AppendError>>;

enum Task {
    Append(Box<Append>, Reply),
    Stop,
}

/// What is said of an append that waited for its company's head for too long.
pub(crate) fn held() -> Fault {
    Fault::passing("append", "somebody else holds the head of the company")
}

/// How many transactions were made since the start, and of how many appends.
#[derive(Default)]
pub struct Made {
    /// Transactions.
    pub batches: AtomicU64,
    /// Appends in them.
    pub appends: AtomicU64,
}

/// The way into a ledger. It has several lanes where the back end records several batches at once; a company's appends
/// all take the same one.
pub struct Appender {
    /// What it has done so far.
    pub made: Arc<Made>,
    lanes: Vec<mpsc::Sender<Task>>,
    running: Mutex<JoinSet<()>>,
}

impl Appender {
    /// Starts its tasks. A batch takes at most `batch` appends.
    pub fn start(ledger: Arc<dyn Ledger>, batch: usize) -> Self {
        let (made, mut running) = (Arc::<Made>::default(), JoinSet::new());
        let lanes = (0..ledger.lanes().max(1)).map(|_| {
            let (queue, waiting) = mpsc::channel(QUEUE);
            running.spawn(run(ledger.clone(), waiting, batch.max(1), made.clone()));
            queue
        });
        Self { lanes: lanes.collect(), made, running: Mutex::new(running) }
    }

    /// Records one append with whatever else waits.
    pub async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        let (reply, answer) = oneshot::channel();
        let stopped = || AppendError::Fault(Fault::passing("append", "the appender has stopped"));
        // The last bytes of an id are its random ones.
        let lane = usize::from(append.company.uuid().as_bytes()[15]) % self.lanes.len();
        self.lanes[lane].send(Task::Append(Box::new(append), reply)).await.map_err(|_| stopped())?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Records what waits, and takes no more.
    pub async fn stop(&self) {
        let mut running = self.running.lock().await;
        for lane in &self.lanes {
            // A task that has ended cannot be told, and need not be.
            let _ = lane.send(Task::Stop).await;
        }
        while running.join_next().await.is_some() {}
    }
}

async fn run(ledger: Arc<dyn Ledger>, mut waiting: mpsc::Receiver<Task>, limit: usize, made: Arc<Made>) {
    let mut apart = Apart::new(ledger.clone());
    // A closed queue still gives what waits in it, and then ends the loop by itself.
    while let Some(first) = waiting.recv().await {
        gather(&waiting).await;
        let (mut batch, mut replies, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut next = Some(first);
        while let Some(task) = next {
            match task {
                Task::Append(append, reply) => {
                    if let Some((append, reply)) = apart.take(append, reply) {
                        bytes += append.drafts.iter().map(|draft| draft.payload.get().len()).sum::<usize>();
                        batch.push(*append);
                        replies.push(reply);
                    }
                }
                Task::Stop => waiting.close(),
            }
            next = if batch.len() < limit && bytes < BATCH_BYTES { waiting.try_recv().ok() } else { None };
        }
        if !batch.is_empty() {
            made.batches.fetch_add(1, Ordering::Relaxed);
            made.appends.fetch_add(batch.len() as u64, Ordering::Relaxed);
            apart.set(record(&ledger, batch, replies).await);
        }
    }
    apart.end().await;
}

/// Lets those who were just answered come with their next append, as long as more come: one of them alone would cost as
/// much as all.
async fn gather(waiting: &mpsc::Receiver<Task>) {
    let mut before = 0;
    loop {
        tokio::task::yield_now().await;
        match waiting.len() {
            more if more > before => before = more,
            _ => return,
        }
    }
}

/// Records a batch in a task of its own, so that a panic in a back end fails this batch and not all that come after. Gives back
/// what belongs to companies whose heads somebody else holds.
async fn record(ledger: &Arc<dyn Ledger>, batch: Vec<Append>, replies: Vec<Reply>) -> Vec<(Box<Append>, Reply)> {
    let ledger = Arc::clone(ledger);
    let size = batch.len();
    let outcome = match tokio::spawn(async move { ledger.append(batch).await }).await {
        Ok(Ok(results)) if results.len() == size => Ok(results),
        Ok(Ok(results)) => Err(Fault::broken("append", format!("{} answers to a batch of {size}", results.len()))),
        Ok(Err(fault)) => Err(fault),
        Err(panic) => Err(Fault::broken("append", panic)),
    };
    match outcome {
        Ok(results) => {
            let mut held = Vec::new();
            for (reply, result) in replies.into_iter().zip(results) {
                match result {
                    Err(AppendError::Held(append)) => held.push((append, reply)),
                    // Who asked may have gone; what is recorded stays so.
                    result => drop(reply.send(result)),
                }
            }
            held
        }
        Err(fault) => {
            tracing::error!(%fault, appends = size, "a batch was not recorded");
            for reply in replies {
                let _ = reply.send(Err(AppendError::Fault(fault.clone())));
            }
            Vec::new()
        }
    }
}
