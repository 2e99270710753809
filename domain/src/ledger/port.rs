//! The ports: what the other rooms may ask of a ledger and of an outbox.
//!
//! [`Feed`] only reads, so whoever holds one cannot append. [`Ledger`] appends. [`Outbox`] is what a fold engine fills
//! and a worker drains. Back ends implement them natively; what an entry is and when an append conflicts is said here
//! and tested by one contract suite.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Draft, Entry, Hash, Head, Notification, Position, Sequence, StreamHead};
use crate::kernel::{Also, CommandId, CompanyId, Id, Rejection, Timestamp, marker};

/// The system failed, not the caller: a 5xx. Holds what a log needs and nothing that an answer may show.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{doing}: {cause}")]
pub struct Fault {
    /// What was being done.
    pub doing: &'static str,
    /// What went wrong, with its causes.
    pub cause: String,
    /// Whether the same may work if tried again soon (a lost connection, a full disk), as opposed to a broken promise.
    pub passing: bool,
}

impl Fault {
    /// A fault that may pass by itself.
    pub fn passing(doing: &'static str, cause: impl std::fmt::Display) -> Self {
        Self { doing, cause: cause.to_string(), passing: true }
    }

    /// A broken promise: data that should not be so.
    pub fn broken(doing: &'static str, cause: impl std::fmt::Display) -> Self {
        Self { doing, cause: cause.to_string(), passing: false }
    }
}

/// Reading ledgers, and being told that there is more to read.
#[async_trait]
pub trait Feed: Send + Sync {
    /// The heads of all companies' ledgers, by company.
    async fn heads(&self) -> Result<Vec<(CompanyId, Head)>, Fault>;

    /// The head of one company's ledger; `None` where there is no such company.
    async fn head(&self, company: CompanyId) -> Result<Option<Head>, Fault>;

    /// Up to `limit` lines (and some megabytes) of a company after a position, in order, without newlines. Empty only at
    /// the end.
    async fn read(&self, company: CompanyId, after: Position, limit: usize) -> Result<Vec<String>, Fault>;

    /// The same of one stream, after a sequence. Lines of other streams are not among them.
    async fn read_stream(
        &self,
        company: CompanyId,
        stream: &str,
        id: Uuid,
        after: Sequence,
        limit: usize,
    ) -> Result<Vec<String>, Fault>;

    /// The last position recorded at or before `at`, 0 where there is none.
    async fn position_at(&self, company: CompanyId, at: Timestamp) -> Result<Position, Fault>;

    /// Whether the ledger itself has this entry at this position: what was remembered with a place may be of a history that
    /// is no more, where a database was restored or a standby took over. A feed forgets what it was told of one that is not.
    async fn contains(&self, company: CompanyId, head: Head) -> Result<bool, Fault> {
        let Some(before) = head.position.checked_sub(1) else { return Ok(head == Head::default()) };
        let lines = self.read(company, before, 1).await?;
        // What cannot be read may have been skipped, and stands where its hash says.
        let stands = |line: &String| Entry::read(line).map_or(true, |entry| entry.position == head.position);
        Ok(lines.iter().any(|line| Hash::of(line) == head.hash && stands(line)))
    }

    /// Waits until this feed has noticed more growth than up to `cursor`, and says of which ledgers. A caller starts with
    /// 0 and passes the cursor of the last call, taken before it read: so it misses nothing that happens while it reads.
    /// May return for nothing, and should not be relied on to return at all: callers also compare all heads once a second.
    async fn changed(&self, cursor: u64) -> Notification;

    /// Everything of this company up to `position` is folded and written: what the feed has told up to there, it need
    /// not tell again. Feeds that only wake have nothing to do.
    fn folded(&self, _company: CompanyId, _position: Position) {}
}

/// Whether a ledger takes entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writable {
    /// It does.
    Yes,
    /// It does, and a setting of its database puts them at risk: the reason, for an operator.
    AtRisk(&'static str),
    /// It does not: the reason, for an operator.
    No(&'static str),
}

/// Appending.
#[async_trait]
pub trait Ledger: Feed {
    /// Appends each of these or refuses it, all that succeed in one durable transaction, and answers in the same order.
    /// A fault means that nothing of the batch was recorded; only where the connection was lost while the database was
    /// committing, and it cannot be asked any more, may it have been: the same idempotency key then finds the answer.
    async fn append(&self, batch: Vec<Append>) -> Result<Vec<Result<Appended, AppendError>>, Fault>;

    /// Whether it takes entries, asked anew.
    async fn writable(&self) -> Result<Writable, Fault> {
        self.head(CompanyId::nil()).await.map(|_| Writable::Yes)
    }

    /// How many batches of different companies it records at once; more only wait for each other.
    fn lanes(&self) -> usize {
        1
    }

    /// The last of the company's facts, as [`Append::facts`] names it; `None` where there is no such company.
    async fn facts(&self, company: CompanyId) -> Result<Option<Hash>, Fault>;

    /// What was answered under an idempotency key, if it still is remembered.
    async fn answered(&self, company: CompanyId, actor: &str, key: &str) -> Result<Option<Answered>, Fault>;

    /// Whether a company's ledger goes on in another database, so that this one takes nothing of it any more.
    async fn departed(&self, _company: CompanyId) -> Result<bool, Fault> {
        Ok(false)
    }

    /// Forgets the answers to people given before `before`. Answers to triggers and deadlines are kept for ever.
    async fn forget_answers(&self, before: Timestamp) -> Result<u64, Fault>;

    /// What its database knows of the time.
    async fn time(&self) -> Result<LedgerTime, Fault>;

    /// Says that it is so late now, where nothing else may be recorded for long; only for one without a clock.
    async fn keep_time(&self, _now: Timestamp) -> Result<(), Fault> {
        Ok(())
    }
}

/// What a ledger's database knows of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LedgerTime {
    /// The time by its own clock, at some moment while it was asked.
    Now(Timestamp),
    /// It has no clock; this is the latest time that it was told, where there is any.
    Last(Option<Timestamp>),
}

/// The wish to record what one command decided.
#[derive(Clone, Debug)]
pub struct Append {
    /// Whose ledger.
    pub company: CompanyId,
    /// Whether this may be the first of its ledger. Only the founding of a company sets it.
    pub founds: bool,
    /// The time of the decision. The entries' `at` is the later of it and of the entry before.
    pub now: Timestamp,
    /// The company's facts that this was decided on: the hash of the last entry that is [one](super::is_company_fact),
    /// zeros where there is none. They must still be the last.
    pub facts: Hash,
    /// Every stream that was consulted, with the entry that it was seen at. All must still stand there. The first is the
    /// addressed one, whose sequence the answer names.
    pub checks: Vec<Check>,
    /// What to record, in order. Sequences follow the checks'.
    pub drafts: Vec<Draft>,
    /// Under which key to remember the answer.
    pub idempotency: Option<Idempotency>,
    /// The answer to remember; its position and sequence are filled in by the append.
    pub answer: Answer,
}

/// A stream as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The kind of aggregate.
    pub stream: String,
    /// Which one.
    pub id: Uuid,
    /// Its last entry.
    pub seen: StreamHead,
}

/// An idempotency key, whose it is, and what it was used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// The actor, as a text that is the same for every command of theirs.
    pub actor: String,
    /// Whether the answer is kept for ever (triggers, deadlines, tools) or for 30 days (people).
    pub for_ever: bool,
    /// Whether a refusal is an answer to keep too (triggers, deadlines), or leaves the key free (people, tools): what was
    /// refused may be right once something else has happened.
    pub refusals: bool,
    /// The key.
    pub key: String,
    /// A keyed hash of route and of what the clear body means: the same key with another is refused.
    pub fingerprint: [u8; 32],
}

/// What a command was answered with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Answer {
    /// The command.
    pub command: CommandId,
    /// The company's position after it: wait for this in a view to read your own write.
    pub position: Position,
    /// The addressed stream's sequence after it: the `ETag`.
    pub sequence: Sequence,
    /// How many entries it recorded, in all streams.
    pub recorded: usize,
    /// Why it was refused, where it was.
    pub rejection: Option<Rejection>,
    /// Whether it was given before, under the same key, and nothing was done now.
    #[serde(skip)]
    pub replayed: bool,
}

/// An answer that was given before.
#[derive(Clone, Debug)]
pub struct Answered {
    /// What the key was used for.
    pub fingerprint: [u8; 32],
    /// The answer.
    pub answer: Answer,
}

/// What an append recorded.
#[derive(Clone, Debug)]
pub struct Appended {
    /// The head after it.
    pub head: Head,
    /// The stamp of its entries.
    pub at: Timestamp,
    /// The hashes of its entries, in the order of the drafts.
    pub hashes: Vec<Hash>,
    /// The answer with its position.
    pub answer: Answer,
}

/// Why one append of a batch was not recorded. Its neighbours are not touched by it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    /// A consulted stream has moved on.
    #[error("stream {stream} {id} stands at {found}, not at {expected}")]
    Conflict {
        /// The kind of aggregate.
        stream: String,
        /// Which one.
        id: Uuid,
        /// Where it was seen.
        expected: StreamHead,
        /// Where it stands.
        found: StreamHead,
    },
    /// The company's standing, settings or plan are no longer those that this was decided on.
    #[error("the company's facts have changed")]
    FactsChanged,
    /// The idempotency key was used before; this is what was answered then.
    #[error("the idempotency key was used before")]
    Repeated(Box<Answered>),
    /// There is no such company (or, for a founding, there already is).
    #[error("no such company")]
    NoCompany,
    /// The company's ledger goes on in another database; nothing is recorded here any more.
    #[error("the company has moved to another database")]
    Departed,
    /// Somebody else holds the company's head: nothing of it was done, and it can be tried again.
    #[error("somebody else holds the head of the company")]
    Held(Box<Append>),
    /// This one could not be recorded.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// A command that a trigger or a deadline gives.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Parcel {
    /// Whose.
    pub company: CompanyId,
    /// The command's id, which follows from what caused it: given twice, it acts once.
    pub command: CommandId,
    /// The fold that gives it.
    pub fold: String,
    /// Whether a deadline that ran out gives it.
    pub deadline: bool,
    /// The correlation of the entry that caused it.
    pub correlation: Id<marker::Correlation>,
    /// The entry that caused it.
    pub causation: Uuid,
    /// Where that entry stands, and its hash: in a ledger that has another entry there, nothing caused this.
    #[serde(default)]
    pub caused_at: Head,
    /// The command itself and whom it is for.
    pub also: Also,
}

/// When a deadline runs out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Due {
    /// Which of the fold's deadlines; another with the same key takes its place.
    pub key: String,
    /// When.
    pub at: Timestamp,
    /// What is given then.
    pub parcel: Parcel,
}

/// What became of a parcel.
#[derive(Clone, Debug)]
pub struct Replied {
    /// Whose.
    pub company: CompanyId,
    /// Which.
    pub command: CommandId,
    /// Done (accepted or refused by a rule: both are final), or the fault because of which it is tried again later.
    pub outcome: Result<(), String>,
}

/// Commands that folds have given and nobody has carried out yet.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// Up to `limit` parcels that wait, oldest first; those that failed wait longer each time.
    async fn waiting(&self, now: Timestamp, limit: usize) -> Result<Vec<Parcel>, Fault>;

    /// Says what became of parcels: the done are removed, the failed are put back with a delay.
    async fn replied(&self, now: Timestamp, replies: Vec<Replied>) -> Result<(), Fault>;

    /// Turns deadlines that ran out by `now` into parcels, each once. Returns how many, and when the next runs out.
    async fn ring(&self, now: Timestamp) -> Result<(usize, Option<Timestamp>), Fault>;

    /// Waits until there may be something new.
    async fn filled(&self);
}
