//! One company in a relay's hands: what was sent, and what of it the broker has acknowledged.

use std::{collections::VecDeque, time::Duration};

use cnc_domain::ledger::{Hash, Head, Position};
use tokio::time::Instant;

use super::{fork::Start, message::Issue};

/// How many messages of one company may be on their way, so that it leaves room for others.
pub(super) const ROOM: usize = 128;
/// How long a company that fails is left alone, the first time and at most.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Sent messages are numbered by position from `published` on to `sent`; `flight` says which entries they are, and which are
/// acknowledged.
#[derive(Debug)]
pub(super) struct Share {
    /// Which of its lives this is: acknowledgements of an earlier one count no more.
    pub(super) life: u64,
    /// The last position known of its ledger.
    pub(super) head: Position,
    start: Start,
    published: Head,
    flight: VecDeque<(Hash, bool)>,
    failures: u32,
    paused_until: Option<Instant>,
}

impl Share {
    pub(super) fn new(life: u64, start: Start) -> Self {
        // With a fork there is something to send, also where the ledger has grown no further.
        let head = start.fork.map_or(start.after.position, |_| start.after.position + 1);
        Self { life, head, start, published: start.after, flight: VecDeque::new(), failures: 0, paused_until: None }
    }

    /// The last entry that was sent.
    pub(super) fn sent(&self) -> Head {
        let position = self.published.position + self.flight.len() as u64;
        self.flight.back().map_or(self.published, |(hash, _)| Head { position, hash: *hash })
    }

    /// How the entry at a position is to be sent.
    pub(super) fn issue(&self, position: Position) -> Issue {
        let fork = self.start.fork.filter(|_| position == self.start.after.position + 1);
        let reissue = self.start.reissue.filter(|reissue| position <= reissue.to);
        Issue {
            fork_after: fork.map(|fork| fork.after),
            again: fork.map(|fork| fork.sequence).or(reissue.map(|reissue| reissue.sequence)),
        }
    }

    /// Whether it is no surprise that the broker has the entry at a position.
    pub(super) fn may_be_published(&self, position: Position) -> bool {
        position <= self.start.published_to
    }

    /// How many more may be sent now.
    pub(super) fn room(&self, now: Instant) -> usize {
        if self.paused_until.is_some_and(|until| until > now) { 0 } else { ROOM - self.flight.len().min(ROOM) }
    }

    /// Whether there is more to send.
    pub(super) fn is_behind(&self) -> bool {
        self.head > self.sent().position
    }

    /// How many entries the broker has not acknowledged.
    pub(super) fn lag(&self) -> u64 {
        self.head.max(self.sent().position) - self.published.position
    }

    /// The next was sent.
    pub(super) fn send(&mut self, hash: Hash) {
        self.flight.push_back((hash, false));
    }

    /// The broker has this one. Says how many more are published without a gap, and up to which.
    pub(super) fn acknowledge(&mut self, position: Position) -> (u64, Head) {
        let place = position.checked_sub(self.published.position + 1).and_then(|place| usize::try_from(place).ok());
        if let Some(sent) = place.and_then(|place| self.flight.get_mut(place)) {
            sent.1 = true;
        }
        let before = self.published.position;
        while let Some((hash, _)) = self.flight.front().copied().filter(|(_, acknowledged)| *acknowledged) {
            self.flight.pop_front();
            self.published = Head { position: self.published.position + 1, hash };
        }
        if self.published.position > before {
            self.failures = 0;
        }
        (self.published.position - before, self.published)
    }

    /// Begins again after what is published without a gap: another life.
    pub(super) fn restart(&mut self, life: u64) {
        self.start.published_to = self.start.published_to.max(self.sent().position);
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
    use super::{
        super::fork::{Fork, Reissue},
        *,
    };

    fn start() -> Start {
        Start { after: head(10), published_to: 10, fork: None, reissue: None }
    }

    fn head(position: Position) -> Head {
        Head { position, hash: Hash::of(position.to_string()) }
    }

    fn sent(count: u64) -> Share {
        let mut share = Share::new(1, start());
        share.head = 10 + count;
        (11..=10 + count).for_each(|position| share.send(head(position).hash));
        share
    }

    #[test]
    fn only_what_is_acknowledged_without_a_gap_is_published() {
        let mut share = sent(3);
        assert_eq!((share.sent(), share.lag(), share.is_behind()), (head(13), 3, false));
        assert_eq!(share.acknowledge(12), (0, head(10)));
        assert_eq!(share.acknowledge(11), (2, head(12)));
        // Repeated or of others: nothing changes.
        assert_eq!(share.acknowledge(11), (0, head(12)));
        assert_eq!(share.acknowledge(99), (0, head(12)));
        assert_eq!(share.lag(), 1);
    }

    #[test]
    fn after_a_failure_it_sends_the_first_that_was_not_published_again() {
        let (mut share, now) = (sent(3), Instant::now());
        share.acknowledge(11);
        share.acknowledge(13);
        assert!(share.fail(2, now));
        assert_eq!((share.life, share.sent(), share.room(now)), (2, head(11), 0));
        assert_eq!(share.room(now + PAUSE), ROOM);
        assert!(!share.fail(3, now));
        assert_eq!(share.room(now + PAUSE), 0);
        assert_eq!(share.room(now + PAUSE_MAX), ROOM);
        // It works again.
        share.send(head(12).hash);
        share.acknowledge(12);
        assert!(share.fail(4, now));
    }

    #[test]
    fn what_was_sent_before_may_be_in_the_stream_and_nothing_else() {
        let mut share = sent(3);
        assert!(share.may_be_published(10) && !share.may_be_published(11));
        share.restart(2);
        assert!(share.may_be_published(13) && !share.may_be_published(14));
    }

    #[test]
    fn the_first_message_after_a_fork_says_so_until_it_is_published() {
        let fork = Some(Fork { after: 11, sequence: 7 });
        let mut share = Share::new(1, Start { fork, ..start() });
        assert!(share.is_behind());
        assert_eq!(share.issue(11), Issue { fork_after: Some(11), again: Some(7) });
        assert_eq!(share.issue(12), Issue::default());
        share.send(head(11).hash);
        share.restart(2);
        assert_eq!(share.issue(share.sent().position + 1).fork_after, Some(11));
        let reissue = Some(Reissue { to: 12, sequence: 8 });
        let share = Share::new(1, Start { reissue, ..start() });
        assert_eq!(share.issue(12), Issue { fork_after: None, again: Some(8) });
        assert_eq!(share.issue(13), Issue::default());
    }

    #[test]
    fn one_company_leaves_room_for_others() {
        let share = sent(ROOM as u64);
        assert_eq!(share.room(Instant::now()), 0);
    }
}
