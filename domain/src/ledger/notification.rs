//! Which ledgers have grown: what a feed tells those who wait for more, and what processes tell each other.

use std::collections::{BTreeMap, VecDeque};

use super::{Head, subject};
use crate::kernel::CompanyId;

/// So much growth is remembered; who asks later than that is told that any ledger may have grown.
const NOTICED_MAX: usize = 4_096;

/// Which ledgers a feed has noticed to have grown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Up to where this notification goes: what the caller passes the next time.
    pub cursor: u64,
    /// Which ledgers.
    pub grown: Grown,
}

/// Which ledgers have grown. What is said here may be late, or of a ledger that was put back since: it is where to look,
/// never what to believe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grown {
    /// These, each up to this head.
    These(Vec<(CompanyId, Head)>),
    /// It is not known which: all heads are to be compared.
    Any,
}

/// What a feed has noticed lately.
#[derive(Clone, Debug)]
pub struct NotificationLog {
    /// Counts what was ever noticed.
    cursor: u64,
    /// The last of it, up to `cursor`.
    noticed: VecDeque<(CompanyId, Head)>,
    /// The head that was noticed last, of the companies among them.
    last: BTreeMap<CompanyId, Head>,
}

impl Default for NotificationLog {
    /// Nothing was noticed yet, and so any ledger may have grown.
    fn default() -> Self {
        Self { cursor: 1, noticed: VecDeque::new(), last: BTreeMap::new() }
    }
}

impl NotificationLog {
    /// Takes note that a ledger has grown. Says whether that is new.
    pub fn note(&mut self, company: CompanyId, head: Head) -> bool {
        if self.last.insert(company, head) == Some(head) {
            return false;
        }
        if self.noticed.len() >= NOTICED_MAX
            && let Some((company, head)) = self.noticed.pop_front()
            && self.last.get(&company) == Some(&head)
        {
            self.last.remove(&company);
        }
        self.cursor += 1;
        self.noticed.push_back((company, head));
        true
    }

    /// Takes note that any ledger may have grown, such as while nobody listened.
    pub fn note_any(&mut self) {
        *self = Self { cursor: self.cursor + 1, ..Self::default() };
    }

    /// Whether there is something that a caller with this cursor was not told.
    pub fn is_past(&self, cursor: u64) -> bool {
        self.cursor != cursor
    }

    /// What was noticed since a cursor, each company once and as far as it was said to be: what comes from several processes
    /// comes in any order. A cursor of another log is one that knows nothing.
    pub fn since(&self, cursor: u64) -> Notification {
        let more = self.cursor.checked_sub(cursor).and_then(|more| usize::try_from(more).ok());
        let Some(first) = more.and_then(|more| self.noticed.len().checked_sub(more)) else {
            return Notification { cursor: self.cursor, grown: Grown::Any };
        };
        let mut heads: BTreeMap<CompanyId, Head> = BTreeMap::new();
        for (company, head) in self.noticed.range(first..) {
            let furthest = heads.entry(*company).or_default();
            if furthest.position <= head.position {
                *furthest = *head;
            }
        }
        Notification { cursor: self.cursor, grown: Grown::These(heads.into_iter().collect()) }
    }
}

/// Heads as messages of at most `bytes_max` bytes: what one process tells others when it has recorded something.
pub fn announcements(heads: &BTreeMap<CompanyId, Head>, bytes_max: usize) -> Vec<String> {
    let mut messages: Vec<String> = Vec::new();
    for (company, head) in heads {
        let told = subject::message_id(*company, *head);
        match messages.last_mut().filter(|last| last.len() + 1 + told.len() <= bytes_max) {
            Some(last) => {
                last.push(' ');
                last.push_str(&told);
            }
            None => messages.push(told),
        }
    }
    messages
}

/// The heads that an announcement tells of; `None` where it is none.
pub fn announced(message: &str) -> Option<Vec<(CompanyId, Head)>> {
    message.split(' ').map(subject::read_message_id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Hash;

    fn head(position: u64) -> Head {
        Head { position, hash: Hash::of(position.to_string()) }
    }

    fn company(number: usize) -> CompanyId {
        CompanyId::number(number as u128)
    }

    #[test]
    fn who_asks_is_told_what_grew_since_it_last_asked_each_company_once() {
        let mut log = NotificationLog::default();
        let first = log.since(0);
        assert_eq!(first.grown, Grown::Any);
        assert!(!log.is_past(first.cursor));
        assert!(log.note(company(1), head(1)) && log.note(company(2), head(1)) && log.note(company(1), head(2)));
        assert!(!log.note(company(1), head(2)), "that is known");
        let all = log.since(first.cursor);
        assert_eq!(all.grown, Grown::These(vec![(company(1), head(2)), (company(2), head(1))]));
        assert!(log.note(company(2), head(7)));
        assert_eq!(log.since(all.cursor).grown, Grown::These(vec![(company(2), head(7))]));
        log.note_any();
        assert_eq!(log.since(all.cursor).grown, Grown::Any);
        assert_eq!(log.since(u64::MAX).grown, Grown::Any, "a cursor of another log");
    }

    #[test]
    fn what_comes_late_does_not_hide_what_came_before_it_and_a_ledger_may_be_put_back() {
        let mut log = NotificationLog::default();
        let first = log.since(0).cursor;
        assert!(log.note(company(1), head(6)) && log.note(company(1), head(5)));
        let told = log.since(first);
        assert_eq!(told.grown, Grown::These(vec![(company(1), head(6))]));
        assert!(log.note(company(1), head(3)));
        assert_eq!(log.since(told.cursor).grown, Grown::These(vec![(company(1), head(3))]));
    }

    #[test]
    fn what_is_not_remembered_any_more_may_be_anything() {
        let mut log = NotificationLog::default();
        let cursor = log.since(0).cursor;
        for number in 0..=NOTICED_MAX {
            log.note(company(number), head(1));
        }
        assert_eq!((log.noticed.len(), log.last.len()), (NOTICED_MAX, NOTICED_MAX));
        assert_eq!(log.since(cursor).grown, Grown::Any);
        let Grown::These(later) = log.since(cursor + 1).grown else { panic!("the rest is remembered") };
        assert_eq!(later.len(), NOTICED_MAX);
    }

    #[test]
    fn announcements_are_bounded_and_read_again() {
        let heads: BTreeMap<_, _> = (0..200).map(|number| (company(number), head(number as u64 + 1))).collect();
        let messages = announcements(&heads, 8_000);
        assert_eq!(messages.len(), 3);
        assert!(messages.iter().all(|message| message.len() <= 8_000));
        let read: Option<Vec<_>> = messages.iter().map(|message| announced(message)).collect();
        assert_eq!(read.expect("reads").concat(), heads.into_iter().collect::<Vec<_>>());
        assert!(announced("").is_none() && announced("nonsense").is_none());
        assert!(announcements(&BTreeMap::new(), 8_000).is_empty());
    }
}
