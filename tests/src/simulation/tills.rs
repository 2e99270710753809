//! What the simulated company does: money moves between tills, a view keeps sums, and a trigger has every till counted.

use cnc_domain::{
    kernel::{
        Aggregate, Also, Context, Decision, Docs, Document, Fold, Folded, Id, Message, Module, On, Outbox, Seconds,
        Shelf, aggregate,
    },
    ledger::Entry,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A till with money in it.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Till {
    /// What is in it.
    pub sum: i64,
}

/// What a till may be asked.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Put money in.
    PutIn {
        /// How much.
        amount: i64,
    },
    /// Move money to others, the same amount to each; refused where there is not enough.
    Share {
        /// To which.
        to: Vec<Id<Till>>,
        /// How much each.
        amount: i64,
    },
    /// Take out all that is in it, if there is any.
    Empty,
    /// Count it: the trigger asks, whenever money was put in.
    Count,
    /// Look after it: the deadline asks, a while after money was last put in.
    Lock,
}

/// What has happened to a till.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Money came in.
    CameIn {
        /// How much.
        amount: i64,
    },
    /// Money went out.
    WentOut {
        /// How much.
        amount: i64,
    },
    /// It was counted.
    Counted,
    /// It was locked.
    Locked,
}

/// Why a till says no.
#[derive(Debug, Serialize, JsonSchema, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// There is not enough in it.
    #[error("there is only {sum}")]
    TooLittle {
        /// What is in it.
        sum: i64,
    },
}

impl Aggregate for Till {
    const STREAM: &'static str = "till";
    const INTERNAL: &'static [&'static str] = &["count", "lock"];
    const BEGINNING: &'static [&'static str] = &["count", "empty", "lock", "put_in", "share"];
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn decide(&self, command: Command, _: &Context) -> Result<Decision<Event>, Refusal> {
        match command {
            Command::PutIn { amount } => Ok(Event::CameIn { amount }.into()),
            Command::Share { to, amount } => {
                let all = amount * i64::try_from(to.len()).unwrap_or(i64::MAX);
                if all > self.sum {
                    return Err(Refusal::TooLittle { sum: self.sum });
                }
                let put_in = to.into_iter().map(|id| Also::to::<Self>(id, Command::PutIn { amount }));
                Ok(Decision::from(Event::WentOut { amount: all }).also(put_in))
            }
            Command::Empty if self.sum == 0 => Ok(Decision::nothing()),
            Command::Empty => Ok(Event::WentOut { amount: self.sum }.into()),
            Command::Count => Ok(Event::Counted.into()),
            Command::Lock => Ok(Event::Locked.into()),
        }
    }

    fn evolve(&mut self, event: Event) {
        match event {
            Event::CameIn { amount } => self.sum += amount,
            Event::WentOut { amount } => self.sum -= amount,
            Event::Counted | Event::Locked => {}
        }
    }
}

/// A company that is nothing but there. That of the product has many forms, which every process would compile anew.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct Firm;

/// What a company may be asked.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Founding {
    /// Be there.
    Found,
}

/// What has happened to a company.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Founded {
    /// It is there.
    Founded,
}

/// A company is never refused.
#[derive(Debug, Serialize, JsonSchema, thiserror::Error)]
#[error("never")]
pub enum Never {}

impl Aggregate for Firm {
    const STREAM: &'static str = "company";
    const INTERNAL: &'static [&'static str] = &["found"];
    const BEGINNING: &'static [&'static str] = &["found"];
    type Command = Founding;
    type Event = Founded;
    type Refusal = Never;

    fn decide(&self, Founding::Found: Founding, _: &Context) -> Result<Decision<Founded>, Never> {
        Ok(Founded::Founded.into())
    }

    fn evolve(&mut self, Founded::Founded: Founded) {}
}

/// The only module.
pub static TILLS: Module = Module {
    name: "tills",
    about: "For simulation.",
    aggregates: &[aggregate::<Firm>(), aggregate::<Till>()],
    triggers: &[],
};

/// What is in each till, as a view.
#[derive(Default)]
pub struct Sums {
    sums: Docs<Sum>,
}

/// A till in the view.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sum {
    /// What is in it.
    pub sum: i64,
    /// How many entries it has.
    pub entries: u64,
}

impl Document for Sum {
    const NAME: &'static str = "till_sums";
}

impl Fold for Sums {
    const NAME: &'static str = "till_sums";
    type Reads = (Till,);

    fn shelves(&mut self) -> Vec<&mut dyn Shelf> {
        vec![&mut self.sums]
    }
}

impl On<Till> for Sums {
    fn on(&mut self, till: Id<Till>, event: &Event, _: &Entry) -> Folded {
        self.sums.edit_or(till, Sum::default, |sum| {
            sum.entries += 1;
            match event {
                Event::CameIn { amount } => sum.sum += amount,
                Event::WentOut { amount } => sum.sum -= amount,
                Event::Counted | Event::Locked => {}
            }
        })
    }
}

/// Has a till counted when money comes in, and locked a while after.
#[derive(Default)]
pub struct Counting {
    seen: Docs<Seen>,
    outbox: Outbox,
}

/// A till as the trigger knows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Seen {
    /// How often money came in.
    pub times: u64,
}

impl Document for Seen {
    const NAME: &'static str = "till_counting";
}

/// After how long a till is locked.
pub const OPEN_FOR: Seconds = Seconds(30);

impl Fold for Counting {
    const NAME: &'static str = "counting";
    type Reads = (Till,);

    fn shelves(&mut self) -> Vec<&mut dyn Shelf> {
        vec![&mut self.seen]
    }
    fn outbox(&mut self) -> Option<&mut Outbox> {
        Some(&mut self.outbox)
    }
}

impl On<Till> for Counting {
    fn on(&mut self, till: Id<Till>, event: &Event, entry: &Entry) -> Folded {
        if matches!(event, Event::CameIn { .. }) {
            self.seen.edit_or(till, Seen::default, |seen| seen.times += 1)?;
            self.outbox.send(entry, till, Command::Count);
            self.outbox.set_deadline(entry, till, entry.at.plus(OPEN_FOR), till, Command::Lock);
        }
        Ok(())
    }
}

/// An event of a till, where an entry is one.
pub fn event(entry: &Entry) -> Option<Event> {
    (entry.stream == Till::STREAM).then(|| Message::join(&entry.event, entry.payload.get()).ok()).flatten()
}
