//! What messages and the ledger have said, of all companies.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use cnc_domain::{
    kernel::CompanyId,
    ledger::{Head, Position},
};

use super::{
    lines::{Line, Lines},
    waiting::{Answer, Delivered, Waiting},
};

/// How much text is kept of all companies together.
const TEXT_MAX: usize = 64 << 20;

/// What was heard.
#[derive(Debug, Default)]
pub(super) struct Heard {
    companies: HashMap<CompanyId, Company>,
    waiting: Waiting,
    bytes: usize,
    /// How often the ledger was asked for its heads.
    asked: u64,
}

#[derive(Debug, Default)]
struct Company {
    /// What the ledger said last.
    head: Head,
    /// The furthest that a message said, and when: before which question to the ledger.
    told: Option<(Head, u64)>,
    folded: Position,
    lines: Lines,
}

impl Heard {
    /// Takes a message. Gives the answer where it is folded already; otherwise it waits for it.
    pub fn take(&mut self, company: CompanyId, line: Line, delivered: Delivered) -> Option<Answer> {
        let (head, asked) = (line.head, self.asked);
        let known = self.companies.entry(company).or_default();
        if head.position <= known.folded {
            return Some((delivered.reply, async_nats::jetstream::AckKind::Ack));
        }
        if known.told.is_none_or(|(told, _)| told.position <= head.position) {
            known.told = Some((head, asked));
        }
        self.waiting.add(company, head.position, delivered, Instant::now());
        let before = known.lines.bytes();
        known.lines.keep(line, TEXT_MAX.saturating_sub(self.bytes));
        self.bytes += known.lines.bytes() - before;
        None
    }

    /// The ledger was put back: what came after this position is no more. What waits of it need not be folded, and is answered.
    pub fn fork(&mut self, company: CompanyId, after: Position) -> Vec<Answer> {
        if let Some(known) = self.companies.get_mut(&company) {
            let before = known.lines.bytes();
            known.lines.forget_after(after);
            self.bytes -= before - known.lines.bytes();
            known.told = known.told.filter(|(told, _)| told.position <= after);
            known.folded = known.folded.min(after);
        }
        self.waiting.after(company, after)
    }

    /// The ledger is about to be asked for its heads.
    pub fn ask(&mut self) -> u64 {
        self.asked += 1;
        self.asked
    }

    /// What the ledger answered. It knows all that messages had said before it was asked: if it says less, they were
    /// wrong.
    pub fn answered(&mut self, asked: u64, heads: Vec<(CompanyId, Head)>) {
        for known in self.companies.values_mut() {
            known.head = Head::default();
            known.told = known.told.filter(|(_, at)| *at >= asked);
        }
        for (company, head) in heads {
            self.companies.entry(company).or_default().head = head;
        }
    }

    /// The heads of all companies.
    pub fn heads(&self) -> Vec<(CompanyId, Head)> {
        let head = |(company, known): (&CompanyId, &Company)| {
            let told = known.told.map(|(told, _)| told).filter(|told| told.position > known.head.position);
            (*company, told.unwrap_or(known.head))
        };
        self.companies.iter().map(head).filter(|(_, head)| head.position > 0).collect()
    }

    /// Lines after a position, where messages brought them.
    pub fn read(&mut self, company: CompanyId, after: Position, limit: usize) -> Vec<String> {
        let Some(known) = self.companies.get_mut(&company) else { return Vec::new() };
        let before = known.lines.bytes();
        let lines = known.lines.after(after, limit);
        self.bytes -= before - known.lines.bytes();
        lines
    }

    /// Takes note of the last line that the ledger gave.
    pub fn read_to(&mut self, company: CompanyId, tail: Head) {
        self.companies.entry(company).or_default().lines.read(tail);
    }

    /// Forgets what messages brought of a company: the ledger was asked, and may be another one than they were of.
    pub fn forget(&mut self, company: CompanyId) {
        if let Some(known) = self.companies.get_mut(&company) {
            self.bytes -= known.lines.bytes();
            (known.lines, known.told) = (Lines::default(), None);
        }
    }

    /// Everything up to here is folded: what waited for it is acknowledged.
    pub fn folded(&mut self, company: CompanyId, position: Position) -> Vec<Answer> {
        let known = self.companies.entry(company).or_default();
        known.folded = position;
        self.forget_lines(company, position);
        self.waiting.folded(company, position)
    }

    /// Gives back what has waited for so long. Its lines are read from the ledger when their time comes.
    pub fn give_back(&mut self, patience: Duration) -> Vec<Answer> {
        let Some(since) = Instant::now().checked_sub(patience) else { return Vec::new() };
        let back = self.waiting.give_back(since);
        back.into_iter()
            .map(|(company, position, answer)| {
                self.forget_lines(company, position);
                answer
            })
            .collect()
    }

    /// Gives everything back.
    pub fn give_all_back(&mut self) -> Vec<Answer> {
        self.waiting.give_all_back()
    }

    /// Forgets what waits, without an answer.
    pub fn forget_all(&mut self) {
        self.waiting = Waiting::default();
    }

    /// How many messages wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn forget_lines(&mut self, company: CompanyId, position: Position) {
        if let Some(known) = self.companies.get_mut(&company) {
            let before = known.lines.bytes();
            known.lines.drop_to(position);
            self.bytes -= before - known.lines.bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use async_nats::jetstream::AckKind;
    use cnc_domain::ledger::Hash;

    use super::*;
    use crate::feed::lines::tests::{checked, ledger};

    const COMPANY: CompanyId = CompanyId::number(1);

    #[test]
    fn what_waits_of_a_ledger_that_was_put_back_is_answered_and_told_no_more() {
        let (history, mut heard) = (ledger(5, 1), Heard::default());
        let asked = heard.ask();
        let head = Head { position: 3, hash: Hash::of(&history[2]) };
        heard.answered(asked, vec![(COMPANY, head)]);
        assert!(heard.folded(COMPANY, 3).is_empty());
        for line in &history[3..] {
            let delivered = Delivered { reply: "reply".into(), times: 1 };
            assert!(heard.take(COMPANY, checked(line), delivered).is_none());
        }
        assert_eq!((heard.waiting(), heard.heads()[0].1.position), (2, 5));
        let answers = heard.fork(COMPANY, 3);
        assert!(answers.len() == 2 && answers.iter().all(|(_, kind)| matches!(kind, AckKind::Ack)));
        assert_eq!((heard.waiting(), heard.heads(), heard.bytes), (0, vec![(COMPANY, head)], 0));
    }
}
