//! A ledger's feed that `JetStream` hurries along.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_nats::{
    connection::State,
    jetstream::{self, AckKind, Context, consumer::Info},
};
use async_trait::async_trait;
use cnc_domain::{
    kernel::{CompanyId, Timestamp},
    ledger::{Entry, Fault, Feed, Grown, Hash, Head, Notification, NotificationLog, Position, Sequence, subject},
};
use futures::StreamExt as _;
use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use super::{
    durable,
    heard::Heard,
    lines::Line,
    waiting::{Answer, Delivered},
};

/// The ledger is asked for its heads at most this often, whatever messages say: a bit more often than folds look.
const HEADS_EVERY: Duration = Duration::from_millis(950);
/// How many messages are asked for at once.
const BATCH: usize = 500;
/// How long one request for messages lasts, and how often the broker shows that it still knows it.
const REQUEST: Duration = Duration::from_secs(30);
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How often it is looked whether the connection is another one.
const GLANCE: Duration = Duration::from_millis(250);
/// How long to wait before what failed is tried again.
const RETRY: Duration = Duration::from_millis(500);
/// How long the broker may take to hear what is given back when the process ends.
const FAREWELL: Duration = Duration::from_secs(1);

/// How a feed listens.
#[derive(Clone, Debug)]
pub struct FeedOptions {
    /// The durable consumers to listen to, one for each role of this process: all processes of a role share one.
    pub durables: Vec<String>,
    /// What is not folded after this long is given back, so that another process may try.
    pub patience: Duration,
    /// How often it is looked whether the durables still fit their stream.
    pub look_every: Duration,
    /// What is not answered after this long was delivered to a process that ended, or its answer was lost with a broker:
    /// it is delivered again. Longer than `patience`. A durable keeps what it was made with.
    pub ack_wait: Duration,
}

impl FeedOptions {
    /// The usual, for these durables.
    pub fn of(durables: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let durables = durables.into_iter().map(Into::into).collect();
        Self {
            durables,
            patience: Duration::from_secs(5),
            look_every: Duration::from_secs(10),
            ack_wait: Duration::from_secs(30),
        }
    }
}

/// The feed of a ledger, told by `JetStream` that there is more.
///
/// The ledger is the truth: a message only says that a company's ledger goes on, and its line is used where it continues,
/// hash by hash, what was read before. A message is acknowledged when its entry is folded and written.
pub struct JetStreamFeed {
    ledger: Arc<dyn Feed>,
    jetstream: Context,
    options: FeedOptions,
    heard: Mutex<Heard>,
    notifications: watch::Sender<NotificationLog>,
    answers: mpsc::UnboundedSender<Answer>,
    unsent: Mutex<Option<mpsc::UnboundedReceiver<Answer>>>,
    asked_at: tokio::sync::Mutex<Option<Instant>>,
    served: AtomicU64,
}

fn fault(cause: impl std::fmt::Display) -> Fault {
    Fault::passing("listening to entries", cause)
}

impl JetStreamFeed {
    /// A feed of this ledger that knows nothing of messages until it is run.
    pub fn new(ledger: Arc<dyn Feed>, jetstream: Context, options: FeedOptions) -> Arc<Self> {
        let (answers, unsent) = mpsc::unbounded_channel();
        Arc::new(Self {
            ledger,
            jetstream,
            options,
            heard: Mutex::default(),
            notifications: watch::Sender::default(),
            answers,
            unsent: Mutex::new(Some(unsent)),
            asked_at: tokio::sync::Mutex::default(),
            served: AtomicU64::new(0),
        })
    }

    /// Listens until `stop` says true. What is not folded then is given back at once.
    pub async fn run(&self, mut stop: watch::Receiver<bool>) {
        let unsent = self.unsent.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(unsent) = unsent else { return };
        let listening = futures::future::join_all(self.options.durables.iter().map(|name| self.listen(name)));
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => {}
            _ = listening => {}
            () = self.answer(unsent) => {}
            () = self.give_back() => {}
        }
        let left = self.heard().give_all_back();
        let farewell = async {
            for answer in left {
                self.send(answer).await;
            }
            self.jetstream.client().flush().await
        };
        // A broker that is away delivers them again by itself.
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
    }

    /// How many messages were delivered here and are not folded yet.
    pub fn waiting(&self) -> usize {
        self.heard().waiting()
    }

    /// How many lines were served from messages, without asking the ledger.
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// Whether there is a connection to a broker.
    pub fn is_connected(&self) -> bool {
        self.jetstream.client().connection_state() == State::Connected
    }

    /// Listens to one durable for ever. Without a broker or a stream it waits quietly: folds look at the ledger meanwhile.
    async fn listen(&self, name: &str) {
        let mut known = None;
        loop {
            let connects = self.connects();
            tokio::select! {
                heard = self.listen_once(name, &mut known) => if let Err(fault) = heard {
                    tracing::debug!(consumer = name, %fault, "no entries are heard of for the moment");
                },
                // What the lost connection was asked is never answered.
                () = self.reconnected(connects) => continue,
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Listens while the durable is the same.
    async fn listen_once(&self, name: &str, known: &mut Option<Info>) -> Result<(), Fault> {
        let Some(consumer) = durable::ready(&self.jetstream, name, self.options.ack_wait).await? else { return Ok(()) };
        let info = consumer.cached_info().clone();
        if known.as_ref().is_some_and(|known| known.created != info.created) {
            // What another consumer delivered cannot be answered: its numbers mean other messages now.
            self.heard().forget_all();
        }
        *known = Some(info.clone());
        let messages = consumer.stream().max_messages_per_batch(BATCH).heartbeat(HEARTBEAT).expires(REQUEST);
        let mut messages = messages.messages().await.map_err(fault)?;
        let taking = async {
            while let Some(message) = messages.next().await {
                self.take(&message.map_err(fault)?);
            }
            Ok(())
        };
        // Beside it: a broker that has just come back may deliver messages and not answer a question from before.
        tokio::select! {
            ended = taking => ended,
            replaced = self.replaced(name, &info) => replaced,
        }
    }

    /// Waits until a durable is gone, or another one.
    async fn replaced(&self, name: &str, known: &Info) -> Result<(), Fault> {
        loop {
            tokio::time::sleep(self.options.look_every).await;
            if !durable::is_same(&self.jetstream, name, known).await? {
                return Ok(());
            }
        }
    }

    /// Waits until the connection is another one.
    async fn reconnected(&self, connects: u64) {
        while self.connects() == connects {
            tokio::time::sleep(GLANCE).await;
        }
    }

    fn connects(&self) -> u64 {
        self.jetstream.client().statistics().connects.load(Ordering::Relaxed)
    }

    fn take(&self, message: &jetstream::Message) {
        let Some(reply) = message.reply.clone() else { return };
        let times = message.info().map_or(1, |info| info.delivered);
        let hash = message.headers.as_ref().and_then(|headers| headers.get(subject::HASH_HEADER));
        let checked = Line::checked(&message.payload, hash.map_or("", |hash| hash.as_str()));
        let Some((entry, line)) = checked.filter(|(entry, _)| *message.subject == *subject::of_entry(entry)) else {
            tracing::warn!(subject = %message.subject, "a message is not the entry that it says to be");
            self.queue([(reply, AckKind::Term)]);
            return;
        };
        let (company, head) = (entry.company, line.head);
        let fork = message.headers.as_ref().and_then(|headers| headers.get(subject::FORK_AFTER_HEADER));
        if let Some(after) = fork.and_then(|after| after.as_str().parse().ok()) {
            tracing::warn!(%company, position = after, "the ledger was put back: what was told of it after is forgotten");
            let gone = self.heard().fork(company, after);
            self.queue(gone);
            self.notifications.send_modify(NotificationLog::note_any);
        }
        let answer = self.heard().take(company, line, Delivered { reply, times });
        match answer {
            Some(answer) => self.queue([answer]),
            None => drop(self.notifications.send_if_modified(|log| log.note(company, head))),
        }
    }

    /// Sends answers as they come.
    async fn answer(&self, mut unsent: mpsc::UnboundedReceiver<Answer>) {
        while let Some(answer) = unsent.recv().await {
            self.send(answer).await;
        }
    }

    async fn send(&self, (reply, kind): Answer) {
        // An answer that is lost has its message delivered again, which is harmless.
        let _ = self.jetstream.client().publish(reply, kind.into()).await;
    }

    async fn give_back(&self) {
        let mut tick = tokio::time::interval(GLANCE);
        loop {
            tick.tick().await;
            let back = self.heard().give_back(self.options.patience);
            self.queue(back);
        }
    }

    fn queue(&self, answers: impl IntoIterator<Item = Answer>) {
        for answer in answers {
            // Nobody takes it where the feed has stopped.
            let _ = self.answers.send(answer);
        }
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Feed for JetStreamFeed {
    async fn heads(&self) -> Result<Vec<(CompanyId, Head)>, Fault> {
        let mut asked_at = self.asked_at.lock().await;
        if asked_at.is_none_or(|at| at.elapsed() >= HEADS_EVERY) {
            let asked = self.heard().ask();
            let heads = self.ledger.heads().await?;
            self.heard().answered(asked, heads);
            *asked_at = Some(Instant::now());
        }
        Ok(self.heard().heads())
    }

    async fn head(&self, company: CompanyId) -> Result<Option<Head>, Fault> {
        self.ledger.head(company).await
    }

    async fn read(&self, company: CompanyId, after: Position, limit: usize) -> Result<Vec<String>, Fault> {
        let served = self.heard().read(company, after, limit);
        if !served.is_empty() {
            self.served.fetch_add(served.len() as u64, Ordering::Relaxed);
            return Ok(served);
        }
        let lines = self.ledger.read(company, after, limit).await?;
        if let Some(last) = lines.last()
            && let Ok(entry) = Entry::read(last)
        {
            self.heard().read_to(company, Head { position: entry.position, hash: Hash::of(last) });
        }
        Ok(lines)
    }

    async fn read_stream(
        &self,
        company: CompanyId,
        stream: &str,
        id: Uuid,
        after: Sequence,
        limit: usize,
    ) -> Result<Vec<String>, Fault> {
        self.ledger.read_stream(company, stream, id, after, limit).await
    }

    async fn position_at(&self, company: CompanyId, at: Timestamp) -> Result<Position, Fault> {
        self.ledger.position_at(company, at).await
    }

    async fn contains(&self, company: CompanyId, head: Head) -> Result<bool, Fault> {
        let contains = self.ledger.contains(company, head).await?;
        self.heard().forget(company);
        Ok(contains)
    }

    async fn changed(&self, cursor: u64) -> Notification {
        let mut more = self.notifications.subscribe();
        let found = more.wait_for(|log| log.is_past(cursor)).await;
        // The sender lives as long as `self`, so that waiting cannot fail.
        found.map_or(Notification { cursor, grown: Grown::Any }, |log| log.since(cursor))
    }

    fn folded(&self, company: CompanyId, position: Position) {
        let answers = self.heard().folded(company, position);
        self.queue(answers);
    }
}
