//! One company in a relay's hands: what was sent, and what of it the broker has acknowledged.

use std::{collections::VecDeque, time::Duration};

use cnc_domain::ledger::Position;
use tokio::time::Instant;

/// How many messages of one company may be on their way, so that it leaves room for others.
pub(super) const ROOM: usize = 128;
/// How long a company that fails is left alone, the first time and at most.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Sent messages are numbered by position from `published + 1` to `sent`; `flight` says which are acknowledged.
#[derive(Debug)]
pub(super) struct Share {
    /// Which of its lives this is: acknowledgements of an earlier one count no more.
    pub(super) life: u64,
    /// The last position known of its ledger.
    pub(super) head: Position,
    published: Position,
    flight: VecDeque<bool>,
    failures: u32,
    paused_until: Option<Instant>,
}

impl Share {
    pub(super) fn new(life: u64, published: Position) -> Self {
        let (head, flight) = (published, VecDeque::new());
        Self { life, head, published, flight, failures: 0, paused_until: None }
    }

    /// The last position that was sent.
    pub(super) fn sent(&self) -> Position {
        self.published + self.flight.len() as u64
    }

    /// How many more may be sent now.
    pub(super) fn room(&self, now: Instant) -> usize {
        if self.paused_until.is_some_and(|until| until > now) { 0 } else { ROOM - self.flight.len().min(ROOM) }
    }

    /// Whether there is more to send.
    pub(super) fn is_behind(&self) -> bool {
        self.head > self.sent()
    }

    /// How many entries the broker has not acknowledged.
    pub(super) fn lag(&self) -> u64 {
        self.head.max(self.sent()) - self.published
    }

    /// The next was sent.
    pub(super) fn send(&mut self) {
        self.flight.push_back(false);
    }

    /// The broker has this one. Says how many more are published without a gap, and up to where.
    pub(super) fn acknowledge(&mut self, position: Position) -> (u64, Position) {
        let place = position.checked_sub(self.published + 1).and_then(|place| usize::try_from(place).ok());
        if let Some(acknowledged) = place.and_then(|place| self.flight.get_mut(place)) {
            *acknowledged = true;
        }
        let before = self.published;
        while self.flight.front() == Some(&true) {
            self.flight.pop_front();
            self.published += 1;
        }
        if self.published > before {
            self.failures = 0;
        }
        (self.published - before, self.published)
    }

    /// Begins again after what is published without a gap: another life.
    pub(super) fn restart(&mut self, life: u64) {
        self.life = life;
        self.flight.clear();
        self.paused_until = None;
    }

    /// One could not be sent or was not acknowledged: begins again after a while, longer each time. Says whether this is
    /// the first failure since it last worked.
    pub(super) fn fail(&mut self, life: u64, now: Instant) -> bool {
        self.restart(life);
        self.paused_until = Some(now + PAUSE.saturating_mul(1 << self.failures.min(16)).min(PAUSE_MAX));
        self.failures += 1;
        self.failures == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(count: usize) -> Share {
        let mut share = Share::new(1, 10);
        share.head = 10 + count as u64;
        (0..count).for_each(|_| share.send());
        share
    }

    #[test]
    fn only_what_is_acknowledged_without_a_gap_is_published() {
        let mut share = sent(3);
        assert_eq!((share.sent(), share.lag(), share.is_behind()), (13, 3, false));
        assert_eq!(share.acknowledge(12), (0, 10));
        assert_eq!(share.acknowledge(11), (2, 12));
        // Repeated or of others: nothing changes.
        assert_eq!(share.acknowledge(11), (0, 12));
        assert_eq!(share.acknowledge(99), (0, 12));
        assert_eq!(share.lag(), 1);
    }

    #[test]
    fn after_a_failure_it_sends_the_first_that_was_not_published_again() {
        let (mut share, now) = (sent(3), Instant::now());
        share.acknowledge(11);
        share.acknowledge(13);
        assert!(share.fail(2, now));
        assert_eq!((share.life, share.sent(), share.room(now)), (2, 11, 0));
        assert_eq!(share.room(now + PAUSE), ROOM);
        assert!(!share.fail(3, now));
        assert_eq!(share.room(now + PAUSE), 0);
        assert_eq!(share.room(now + PAUSE_MAX), ROOM);
        // It works again.
        share.send();
        share.acknowledge(12);
        assert!(share.fail(4, now));
    }

    #[test]
    fn one_company_leaves_room_for_others() {
        let share = sent(ROOM);
        assert_eq!(share.room(Instant::now()), 0);
    }
}
