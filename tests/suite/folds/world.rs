//! A ledger in memory, an aggregate to fill it with, folds to read it.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use async_trait::async_trait;
use cnc_domain::{
    kernel::{
        Actor, Aggregate, CommandId, CompanyId, Context, Decision, Docs, Document, Fold, Folded, Id, LocationId,
        Message, Minutes, On, Outbox, Shelf, Stop, Timestamp,
    },
    ledger::{Draft, Entry, Fault, Feed, Hash, Head, Notification, NotificationLog, Position, Sequence},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use uuid::Uuid;

/// A till: what is put in is added up.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Till;

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Money came in, at a branch.
    PutIn { amount: i64, location: Option<LocationId>, tag: String },
    /// The till was taken away.
    TakenAway,
    /// No fold can take this.
    Torn,
    /// A fold panics at this.
    Exploded,
    /// The process ends at this.
    Deadly,
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Count it.
    Count { total: i64 },
}

#[derive(Debug, Serialize, JsonSchema, thiserror::Error)]
#[error("never")]
pub enum Refusal {}

impl Aggregate for Till {
    const STREAM: &'static str = "till";
    const BEGINNING: &'static [&'static str] = &["count"];
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn decide(&self, _: Command, _: &Context) -> Result<Decision<Event>, Refusal> {
        Ok(Decision::from(Vec::new()))
    }
    fn evolve(&mut self, _: Event) {}
}

/// The sums of tills; version 2 counts in cents.
#[derive(Default)]
pub struct Sums<const VERSION: u32> {
    sums: Docs<Sum>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sum {
    /// The branch.
    pub location: Option<LocationId>,
    /// All that was put in.
    pub total: i64,
    /// Whether it is much.
    pub much: bool,
    /// What was said.
    pub tags: Vec<String>,
    /// The last amount, which few may see.
    pub last: i64,
}

impl Document for Sum {
    const NAME: &'static str = "sums";
    const FILTERS: &'static [&'static str] = &["tags", "much", "total", "location"];
    const SORTS: &'static [&'static str] = &["total"];
    const RESTRICTED: &'static [&'static str] = &["last"];

    fn location(&self) -> Option<LocationId> {
        self.location
    }
}

impl<const VERSION: u32> Fold for Sums<VERSION> {
    const NAME: &'static str = "sums";
    const VERSION: u32 = VERSION;
    type Reads = (Till,);

    fn shelves(&mut self) -> Vec<&mut dyn Shelf> {
        vec![&mut self.sums]
    }
}

impl<const VERSION: u32> On<Till> for Sums<VERSION> {
    fn on(&mut self, till: Id<Till>, event: &Event, _: &Entry) -> Folded {
        match event {
            Event::PutIn { amount, location, tag } => {
                let blank = || Sum { location: None, total: 0, much: false, tags: Vec::new(), last: 0 };
                let amount = if VERSION == 1 { *amount } else { amount * 100 };
                self.sums.edit_or(till, blank, |sum| {
                    sum.location = location.or(sum.location);
                    sum.total += amount;
                    sum.much = sum.total >= 100;
                    sum.last = amount;
                    if !sum.tags.contains(tag) {
                        sum.tags.push(tag.clone());
                    }
                })
            }
            Event::TakenAway => self.sums.remove(till),
            Event::Torn => Err(Stop::Unfoldable("it is torn".into())),
            Event::Exploded => panic!("it exploded"),
            Event::Deadly => std::process::abort(),
        }
    }
}

/// Counts what comes in, whatever it is.
#[derive(Default)]
pub struct Counts {
    counts: Docs<Count>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Count {
    /// How often.
    pub times: u64,
}

impl Document for Count {
    const NAME: &'static str = "counts";
}

impl Fold for Counts {
    const NAME: &'static str = "counts";
    type Reads = (Till,);

    fn shelves(&mut self) -> Vec<&mut dyn Shelf> {
        vec![&mut self.counts]
    }
}

impl On<Till> for Counts {
    fn on(&mut self, _: Id<Till>, _: &Event, _: &Entry) -> Folded {
        self.counts.edit_or("all", Count::default, |count| count.times += 1)
    }
}

/// Has a till counted when money comes in, and again an hour later unless it is taken away.
#[derive(Default)]
pub struct Counting<const VERSION: u32> {
    seen: Docs<Seen>,
    outbox: Outbox,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Seen {
    /// How much.
    pub total: i64,
}

impl Document for Seen {
    const NAME: &'static str = "counting_seen";
}

impl<const VERSION: u32> Fold for Counting<VERSION> {
    const NAME: &'static str = "counting";
    const VERSION: u32 = VERSION;
    type Reads = (Till,);

    fn shelves(&mut self) -> Vec<&mut dyn Shelf> {
        vec![&mut self.seen]
    }
    fn outbox(&mut self) -> Option<&mut Outbox> {
        Some(&mut self.outbox)
    }
}

impl<const VERSION: u32> On<Till> for Counting<VERSION> {
    fn on(&mut self, till: Id<Till>, event: &Event, entry: &Entry) -> Folded {
        match event {
            Event::PutIn { amount, .. } => {
                self.seen.edit_or(till, Seen::default, |seen| seen.total += amount)?;
                self.outbox.send(entry, till, Command::Count { total: *amount });
                self.outbox.set_deadline(entry, till, entry.at.plus(Minutes(60)), till, Command::Count { total: -1 });
                Ok(())
            }
            Event::TakenAway => {
                self.outbox.clear_deadline(till);
                self.seen.remove(till)
            }
            Event::Torn | Event::Exploded | Event::Deadly => Ok(()),
        }
    }
}

/// Ledgers in memory.
pub struct Ledgers {
    lines: Mutex<BTreeMap<CompanyId, (Head, Vec<String>)>>,
    notifications: watch::Sender<NotificationLog>,
    /// How many more readings panic.
    pub panics: AtomicU32,
}

impl Default for Ledgers {
    fn default() -> Self {
        Self { lines: Mutex::default(), notifications: watch::Sender::default(), panics: AtomicU32::new(0) }
    }
}

/// When the entry at a position is recorded.
pub fn time(position: Position) -> Timestamp {
    Timestamp::from_seconds(1_700_000_000 + position.cast_signed())
}

impl Ledgers {
    pub fn tell(&self, company: CompanyId, till: Id<Till>, event: Event) -> Position {
        self.record(company, "till", till.uuid(), Message::split(&event))
    }

    /// An entry of a stream that nobody listens to.
    pub fn aside(&self, company: CompanyId) -> Position {
        let payload = serde_json::value::RawValue::from_string("{}".into()).expect("is JSON");
        self.record(company, "other", Uuid::nil(), Message { name: "happened".into(), fields: payload })
    }

    /// Loses all entries of a company after a position, as a database does that is restored, or a standby that takes over.
    pub fn restore(&self, company: CompanyId, to: Position) {
        let mut lines = self.lines.lock().expect("whole");
        let (head, lines) = lines.get_mut(&company).expect("there is one");
        lines.truncate(usize::try_from(to).expect("fits"));
        *head = Head { position: to, hash: lines.last().map(Hash::of).unwrap_or_default() };
    }

    /// Records an entry that says to follow another one than it does.
    pub fn forge(&self, company: CompanyId, till: Id<Till>, after: Head) {
        self.lines.lock().expect("whole").entry(company).or_default().0 = after;
        self.tell(company, till, Event::TakenAway);
    }

    /// All lines of a company.
    pub fn lines(&self, company: CompanyId) -> Vec<String> {
        self.lines.lock().expect("whole").get(&company).map_or_else(Vec::new, |(_, lines)| lines.clone())
    }

    fn record(&self, company: CompanyId, stream: &str, id: Uuid, Message { name, fields }: Message) -> Position {
        let mut lines = self.lines.lock().expect("whole");
        let (head, lines) = lines.entry(company).or_default();
        let draft = Draft {
            stream: stream.into(),
            id,
            sequence: head.position + 1,
            event: name,
            version: 1,
            location: None,
            actor: Actor::tool("test"),
            command: CommandId::number(u128::from(head.position)),
            correlation: Id::nil(),
            causation: None,
            payload: fields,
        };
        let line = Entry::line(&draft.header(company, *head, time(head.position + 1)), draft.payload.get());
        *head = Head { position: head.position + 1, hash: Hash::of(&line) };
        lines.push(line);
        self.notifications.send_if_modified(|log| log.note(company, *head));
        head.position
    }
}

#[async_trait]
impl Feed for Ledgers {
    async fn heads(&self) -> Result<Vec<(CompanyId, Head)>, Fault> {
        Ok(self.lines.lock().expect("whole").iter().map(|(company, (head, _))| (*company, *head)).collect())
    }
    async fn head(&self, company: CompanyId) -> Result<Option<Head>, Fault> {
        Ok(self.lines.lock().expect("whole").get(&company).map(|(head, _)| *head))
    }
    async fn read(&self, company: CompanyId, after: Position, limit: usize) -> Result<Vec<String>, Fault> {
        let due = self.panics.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        assert!(due.is_err(), "the feed panics");
        let lines = self.lines.lock().expect("whole");
        let lines = lines.get(&company).map_or(&[][..], |(_, lines)| lines);
        // A feed may give again what is known.
        let from = usize::try_from(after).expect("fits").saturating_sub(1);
        Ok(lines.iter().skip(from).take(limit.min(40) + 1).cloned().collect())
    }
    async fn read_stream(&self, _: CompanyId, _: &str, _: Uuid, _: Sequence, _: usize) -> Result<Vec<String>, Fault> {
        Ok(Vec::new())
    }
    async fn position_at(&self, company: CompanyId, at: Timestamp) -> Result<Position, Fault> {
        let head = self.head(company).await?.unwrap_or_default().position;
        Ok((1..=head).rev().find(|position| time(*position) <= at).unwrap_or(0))
    }
    async fn changed(&self, cursor: u64) -> Notification {
        let mut notifications = self.notifications.subscribe();
        let more = notifications.wait_for(|log| log.is_past(cursor)).await;
        more.expect("the sender lives").since(cursor)
    }
}
