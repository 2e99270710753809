//! One company's lines as messages brought them: kept until they are folded, and served only where they continue, hash by
//! hash, what was read before.

use std::collections::BTreeMap;

use cnc_domain::ledger::{Entry, Hash, Head, Position};

/// How many lines of one company are kept.
const LINES_MAX: usize = 4_096;

/// A line that is what its message says.
#[derive(Debug)]
pub(super) struct Line {
    pub head: Head,
    previous: Hash,
    text: String,
}

impl Line {
    /// Checks a message's body. Gives nothing where it is no entry or has another hash than the message's header says.
    pub fn checked(body: &[u8], hash: &str) -> Option<(Entry, Self)> {
        let text = std::str::from_utf8(body).ok()?;
        let entry = Entry::read(text).ok()?;
        let found = Hash::of(text);
        if hash.parse::<Hash>().ok()? != found || entry.position == 0 {
            return None;
        }
        let line = Self {
            head: Head { position: entry.position, hash: found },
            previous: entry.previous,
            text: text.to_owned(),
        };
        Some((entry, line))
    }

    pub fn bytes(&self) -> usize {
        self.text.len()
    }
}

/// The lines of one company.
#[derive(Debug, Default)]
pub(super) struct Lines {
    kept: BTreeMap<Position, Line>,
    bytes: usize,
    /// The last line that was read: what is served next must name its hash.
    tail: Option<Head>,
}

impl Lines {
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps a line, where there is room.
    pub fn keep(&mut self, line: Line, room: usize) {
        if self.kept.len() >= LINES_MAX || line.bytes() > room || self.kept.contains_key(&line.head.position) {
            return;
        }
        self.bytes += line.bytes();
        self.kept.insert(line.head.position, line);
    }

    /// Takes note of what the ledger gave.
    pub fn read(&mut self, tail: Head) {
        if self.tail.is_none_or(|known| known.position <= tail.position) {
            self.tail = Some(tail);
        }
    }

    /// Up to `limit` lines after a position, where that is what was read last and the lines continue it. One that names
    /// another hash is of another history: it and what comes after it are dropped.
    pub fn after(&mut self, after: Position, limit: usize) -> Vec<String> {
        let Some(mut tail) = self.tail.filter(|tail| tail.position == after) else { return Vec::new() };
        let mut served = Vec::new();
        let mut strange = None;
        for (position, line) in self.kept.range(after + 1..).take(limit) {
            if *position != tail.position + 1 {
                break;
            }
            if line.previous != tail.hash {
                strange = Some(*position);
                break;
            }
            tail = line.head;
            served.push(line.text.clone());
        }
        if let Some(from) = strange {
            let dropped = self.kept.split_off(&from);
            self.bytes -= dropped.values().map(Line::bytes).sum::<usize>();
        }
        self.tail = Some(tail);
        served
    }

    /// Drops what came after a position, where the ledger was put back.
    pub fn forget_after(&mut self, position: Position) {
        let gone = self.kept.split_off(&(position + 1));
        self.bytes -= gone.values().map(Line::bytes).sum::<usize>();
        self.tail = self.tail.filter(|tail| tail.position <= position);
    }

    /// Drops what is folded.
    pub fn drop_to(&mut self, position: Position) {
        while let Some(first) = self.kept.first_entry().filter(|first| *first.key() <= position) {
            self.bytes -= first.remove().bytes();
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use cnc_domain::{
        kernel::{Actor, CommandId, CompanyId, Id, Timestamp},
        ledger::Draft,
    };
    use serde_json::value::RawValue;

    use super::*;

    /// A ledger of this length; `mark` makes it another one.
    pub(in crate::feed) fn ledger(length: u64, mark: u128) -> Vec<String> {
        let mut head = Head::default();
        let line = |position| {
            let draft = Draft {
                stream: "till".into(),
                id: uuid::Uuid::nil(),
                sequence: position,
                event: "counted".into(),
                version: 1,
                location: None,
                actor: Actor::tool("test"),
                command: CommandId::number(mark),
                correlation: Id::nil(),
                causation: None,
                payload: RawValue::from_string("{}".into()).expect("is JSON"),
            };
            let header = draft.header(CompanyId::number(1), head, Timestamp::from_seconds(1));
            let line = Entry::line(&header, draft.payload.get());
            head = Head { position, hash: Hash::of(&line) };
            line
        };
        (1..=length).map(line).collect()
    }

    pub(in crate::feed) fn checked(text: &str) -> Line {
        Line::checked(text.as_bytes(), &Hash::of(text).to_string()).expect("is what it says").1
    }

    fn tail(lines: &[String], position: usize) -> Head {
        Head { position: position as u64, hash: Hash::of(&lines[position - 1]) }
    }

    #[test]
    fn a_line_that_is_not_what_its_message_says_is_none() {
        let lines = ledger(2, 1);
        let hash = Hash::of(&lines[0]).to_string();
        assert!(Line::checked(lines[0].as_bytes(), &hash).is_some());
        assert!(Line::checked(lines[1].as_bytes(), &hash).is_none());
        assert!(Line::checked(b"{}", &Hash::of("{}").to_string()).is_none());
        assert!(Line::checked(lines[0].as_bytes(), "").is_none());
    }

    #[test]
    fn lines_are_served_in_order_as_far_as_they_continue_what_was_read() {
        let history = ledger(9, 1);
        let mut lines = Lines::default();
        for position in [8, 4, 3, 6, 5, 3] {
            lines.keep(checked(&history[position - 1]), 1 << 20);
        }
        assert!(lines.after(2, 10).is_empty(), "nothing was read before");
        lines.read(tail(&history, 2));
        assert!(lines.after(1, 10).is_empty(), "that is not where it was read to");
        assert_eq!(lines.after(2, 2), history[2..4]);
        assert_eq!(lines.after(4, 10), history[4..6], "one is missing after it");
        lines.drop_to(6);
        assert_eq!(lines.kept.len(), 1);
        lines.drop_to(9);
        assert_eq!((lines.kept.len(), lines.bytes()), (0, 0));
    }

    #[test]
    fn lines_of_another_history_are_not_served() {
        let (history, other) = (ledger(5, 1), ledger(5, 2));
        let mut lines = Lines::default();
        lines.read(tail(&history, 2));
        lines.keep(checked(&history[2]), 1 << 20);
        lines.keep(checked(&other[3]), 1 << 20);
        lines.keep(checked(&other[4]), 1 << 20);
        assert_eq!(lines.after(2, 10), history[2..3]);
        assert_eq!(lines.bytes(), history[2].len());
    }

    #[test]
    fn a_ledger_that_was_put_back_is_served_as_it_goes_on_from_there() {
        let (history, other) = (ledger(5, 1), ledger(5, 2));
        let mut lines = Lines::default();
        lines.read(tail(&history, 3));
        lines.keep(checked(&history[3]), 1 << 20);
        lines.forget_after(0);
        assert_eq!((lines.kept.len(), lines.bytes()), (0, 0));
        // Without that, what was read first would go further for ever.
        lines.read(tail(&other, 1));
        other[1..].iter().for_each(|line| lines.keep(checked(line), 1 << 20));
        assert_eq!(lines.after(1, 10), other[1..]);
    }

    #[test]
    fn what_has_no_room_is_not_kept() {
        let history = ledger(2, 1);
        let mut lines = Lines::default();
        lines.keep(checked(&history[0]), history[0].len());
        lines.keep(checked(&history[1]), history[1].len() - 1);
        assert_eq!(lines.bytes(), history[0].len());
    }
}
