//! What a trigger sends, and what it will send unless something comes in time. An engine empties it in the same
//! transaction as the trigger's documents and position.

use super::{Aggregate, Also, CommandId, Id, Timestamp};
use crate::ledger::{Due, Entry, Hash, Head, Parcel};

/// A trigger's commands and deadlines of the batch being folded.
#[derive(Debug, Default)]
pub struct Outbox {
    fold: &'static str,
    /// The hash of the entry that is being folded.
    hash: Hash,
    /// The position whose commands are being counted, and how many it has.
    nth: (u64, u32),
    sent: Vec<Parcel>,
    deadlines: Vec<Deadline>,
}

/// A change to a trigger's deadlines, in the order that they were made.
#[derive(Clone, Debug)]
pub enum Deadline {
    /// Set, or moved if there was one under the key.
    Set(Due),
    /// Taken back, if there was one.
    Cleared(String),
}

/// What a batch has sent.
#[derive(Debug, Default)]
pub struct Sent {
    /// Commands, in order. Each one's causation is the entry that it answers.
    pub parcels: Vec<Parcel>,
    /// Changes to deadlines, in order.
    pub deadlines: Vec<Deadline>,
}

impl Outbox {
    /// Says whose it is; done once, when the trigger is started.
    pub(super) fn name(&mut self, fold: &'static str) {
        self.fold = fold;
    }

    /// Says the hash of the entry that is folded next.
    pub(super) fn answers(&mut self, hash: Hash) {
        self.hash = hash;
    }

    /// Gives `command` to the aggregate `id` in answer to `entry`. Its command id follows from trigger, company, position,
    /// the entry's hash and count, so that folding the entry again acts once, and another entry that came to stand in its
    /// place, where a database was restored or a standby took over, is acted on for itself.
    pub fn send<A: Aggregate>(&mut self, entry: &Entry, id: Id<A>, command: A::Command) {
        self.nth = if self.nth.0 == entry.position { (entry.position, self.nth.1 + 1) } else { (entry.position, 0) };
        let command_id = CommandId::derived(&[
            b"trigger",
            self.fold.as_bytes(),
            entry.company.uuid().as_bytes(),
            &entry.position.to_be_bytes(),
            &self.hash.0,
            &self.nth.1.to_be_bytes(),
        ]);
        self.sent.push(self.parcel(entry, command_id, false, Also::to(id, command)));
    }

    /// Gives `command` at `at`, unless the deadline under `key` is cleared or set anew before. Its command id follows from
    /// trigger, company, key and time.
    pub fn set_deadline<A: Aggregate>(
        &mut self,
        entry: &Entry,
        key: impl ToString,
        at: Timestamp,
        id: Id<A>,
        command: A::Command,
    ) {
        let key = key.to_string();
        let command_id = CommandId::derived(&[
            b"deadline",
            self.fold.as_bytes(),
            entry.company.uuid().as_bytes(),
            key.as_bytes(),
            &at.micros().to_be_bytes(),
        ]);
        let parcel = self.parcel(entry, command_id, true, Also::to(id, command));
        self.deadlines.push(Deadline::Set(Due { key, at, parcel }));
    }

    /// Takes the deadline under `key` back.
    pub fn clear_deadline(&mut self, key: impl ToString) {
        self.deadlines.push(Deadline::Cleared(key.to_string()));
    }

    /// Empties it.
    pub fn take(&mut self) -> Sent {
        self.nth = (0, 0);
        Sent { parcels: std::mem::take(&mut self.sent), deadlines: std::mem::take(&mut self.deadlines) }
    }

    fn parcel(&self, entry: &Entry, command: CommandId, deadline: bool, also: Also) -> Parcel {
        Parcel {
            company: entry.company,
            command,
            fold: self.fold.into(),
            deadline,
            correlation: entry.correlation,
            causation: entry.entry_id(),
            caused_at: Head { position: entry.position, hash: self.hash },
            also,
        }
    }
}
