//! Messages that were delivered and are not folded yet. Each is answered once: acknowledged when it is folded, or given
//! back when that takes too long.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::{Duration, Instant},
};

use async_nats::{Subject, jetstream::AckKind};
use cnc_domain::{kernel::CompanyId, ledger::Position};

/// How long a message that is given back stays away at first, and at most.
const AWAY_FIRST: Duration = Duration::from_secs(2);
const AWAY_LONGEST: Duration = Duration::from_mins(1);

/// An answer to a message.
pub(super) type Answer = (Subject, AckKind);

/// A delivered message, as far as it is needed to answer it.
#[derive(Debug)]
pub(super) struct Delivered {
    /// Where to answer.
    pub reply: Subject,
    /// How often it was delivered, this time included.
    pub times: i64,
}

/// All delivered messages without an answer.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    companies: HashMap<CompanyId, BTreeMap<Position, Vec<Delivered>>>,
    arrived: VecDeque<(Instant, CompanyId, Position)>,
}

impl Waiting {
    pub fn add(&mut self, company: CompanyId, position: Position, delivered: Delivered, now: Instant) {
        self.companies.entry(company).or_default().entry(position).or_default().push(delivered);
        self.arrived.push_back((now, company, position));
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.companies.values().flat_map(BTreeMap::values).map(Vec::len).sum()
    }

    /// Acknowledges what is folded.
    pub fn folded(&mut self, company: CompanyId, position: Position) -> Vec<Answer> {
        let Some(waiting) = self.companies.get_mut(&company) else { return Vec::new() };
        let later = waiting.split_off(&(position + 1));
        let folded = std::mem::replace(waiting, later);
        self.acknowledge(company, folded)
    }

    /// Acknowledges what comes after a position, and will never be folded.
    pub fn after(&mut self, company: CompanyId, position: Position) -> Vec<Answer> {
        let Some(waiting) = self.companies.get_mut(&company) else { return Vec::new() };
        let gone = waiting.split_off(&(position + 1));
        self.acknowledge(company, gone)
    }

    fn acknowledge(&mut self, company: CompanyId, delivered: BTreeMap<Position, Vec<Delivered>>) -> Vec<Answer> {
        if self.companies.get(&company).is_some_and(BTreeMap::is_empty) {
            self.companies.remove(&company);
        }
        delivered.into_values().flatten().map(|delivered| (delivered.reply, AckKind::Ack)).collect()
    }

    /// Gives back what has waited since before `since`, for longer each time, so that another process may try, and a
    /// company that stands still does not come again and again.
    pub fn give_back(&mut self, since: Instant) -> Vec<(CompanyId, Position, Answer)> {
        let mut back = Vec::new();
        while let Some((_, company, position)) = self.arrived.front().filter(|(arrived, ..)| *arrived <= since) {
            let waiting = self.companies.get_mut(company);
            if let Some(delivered) = waiting.and_then(|waiting| waiting.remove(position)) {
                back.extend(delivered.into_iter().map(|delivered| {
                    let doubled = u32::try_from(delivered.times.clamp(1, 6) - 1).unwrap_or(0);
                    let away = (AWAY_FIRST * 2_u32.pow(doubled)).min(AWAY_LONGEST);
                    (*company, *position, (delivered.reply, AckKind::Nak(Some(away))))
                }));
            }
            self.arrived.pop_front();
        }
        self.companies.retain(|_, waiting| !waiting.is_empty());
        back
    }

    /// Gives back everything at once: this process ends, or the consumer that delivered it is gone.
    pub fn give_all_back(&mut self) -> Vec<Answer> {
        self.arrived.clear();
        let all = std::mem::take(&mut self.companies).into_values().flat_map(BTreeMap::into_values).flatten();
        all.map(|delivered| (delivered.reply, AckKind::Nak(None))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: CompanyId = CompanyId::number(1);
    const OTHER: CompanyId = CompanyId::number(2);

    fn delivered(reply: &'static str, times: i64) -> Delivered {
        Delivered { reply: reply.into(), times }
    }

    fn text(answers: Vec<Answer>) -> Vec<String> {
        answers.into_iter().map(|(reply, kind)| format!("{reply} {kind:?}")).collect()
    }

    #[test]
    fn what_is_folded_is_acknowledged_and_nothing_else() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        for (position, reply) in [(3, "c"), (1, "a"), (2, "b"), (1, "a2")] {
            waiting.add(ONE, position, delivered(reply, 1), now);
        }
        waiting.add(OTHER, 1, delivered("other", 1), now);
        assert_eq!(text(waiting.folded(ONE, 2)), ["a Ack", "a2 Ack", "b Ack"]);
        assert!(waiting.folded(ONE, 2).is_empty());
        assert_eq!(waiting.len(), 2);
    }

    #[test]
    fn what_waits_too_long_is_given_back_for_longer_each_time() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        waiting.add(ONE, 1, delivered("first", 1), now);
        waiting.add(ONE, 2, delivered("third", 3), now);
        waiting.add(ONE, 3, delivered("hundredth", 100), now);
        waiting.add(ONE, 4, delivered("late", 1), now + Duration::from_secs(1));
        let back = waiting.give_back(now).into_iter().map(|(_, _, answer)| answer).collect();
        assert_eq!(text(back), ["first Nak(Some(2s))", "third Nak(Some(8s))", "hundredth Nak(Some(60s))"]);
        assert!(waiting.give_back(now).is_empty());
        assert_eq!(text(waiting.give_all_back()), ["late Nak(None)"]);
        assert_eq!(waiting.len(), 0);
    }
}
