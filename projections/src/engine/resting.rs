//! Standing back where another process folds the same: who lost a row looks at it again soon after there is news, goes on
//! resting where it has moved, and takes over where it has not.

use std::time::Duration;

use cnc_domain::ledger::Position;
use tokio::time::Instant;

/// How long the other process is given at first. Shorter than anybody notices, longer than a small batch takes.
const FIRST: Duration = Duration::from_millis(5);
/// How long at most, while the row moves on and there still is news.
const LONGEST: Duration = Duration::from_millis(80);

/// A fold that another process folds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rest {
    /// Where the row stood at the last look.
    seen: Position,
    wait: Duration,
    /// When it is looked at again; `None` while there is no news.
    due: Option<Instant>,
}

impl Rest {
    /// Lost while the row stands here.
    pub fn at(seen: Position) -> Self {
        Self { seen, wait: FIRST, due: None }
    }

    /// When to look at the row, where the company's ledger has this head.
    pub fn look(&mut self, head: Position) -> Option<Instant> {
        if self.seen >= head {
            self.due = None;
            return None;
        }
        Some(*self.due.get_or_insert_with(|| Instant::now() + self.wait))
    }

    /// Whether it is time to look.
    pub fn is_due(&self) -> bool {
        self.due.is_some_and(|due| due <= Instant::now())
    }

    /// The row was found at `now_at`. Gives nothing where it did not move though there is news: nobody else is at work.
    pub fn looked(self, now_at: Position, head: Position) -> Option<Self> {
        if now_at >= head {
            return Some(Self::at(now_at));
        }
        (now_at != self.seen).then(|| Self { seen: now_at, wait: (self.wait * 2).min(LONGEST), due: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_rests_looks_only_where_there_is_news_and_takes_over_only_where_nothing_moved() {
        let mut rest = Rest::at(5);
        assert!(rest.look(5).is_none() && !rest.is_due());
        let due = rest.look(6).expect("there is news");
        assert_eq!(rest.look(9), Some(due), "more news puts it off no further");
        let moved = rest.looked(6, 9).expect("somebody is at work");
        assert_eq!((moved.seen, moved.wait), (6, FIRST * 2));
        assert!(moved.looked(6, 9).is_none(), "nobody is");
        let mut even = moved.looked(9, 9).expect("all is folded");
        assert!(even.look(9).is_none() && even.wait == FIRST);
    }

    #[test]
    fn the_wait_is_bounded() {
        let rest = (1..50).try_fold(Rest::at(0), |rest, at| rest.looked(at, 100)).expect("it moves each time");
        assert_eq!(rest.wait, LONGEST);
    }
}
