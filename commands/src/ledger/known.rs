//! What a process remembers of the ledgers that it appends to. A stream grows only with its company's head, so what is
//! known of a company's streams holds for exactly as long as the head stands where this process left it: that one
//! comparison, under lock, spares a look-up for each stream. Pure.

use std::collections::HashMap;

use cnc_domain::{kernel::CompanyId, ledger::StreamHead};
use uuid::Uuid;

use super::stamp::{Batch, Found, Stamped, Stream, Tip};

/// More streams than this are not remembered: all are forgotten, and known again as they are met.
const STREAMS_MAX: usize = 100_000;
/// After another process has moved a company's head, this many batches take its lock before the head is guessed again.
const WARY_FOR: u32 = 16;

/// Ends of ledgers, and of the streams in them.
#[derive(Debug, Default)]
pub(super) struct Known {
    ledgers: HashMap<CompanyId, Ledger>,
    streams: usize,
}

#[derive(Debug, Default)]
struct Ledger {
    tip: Tip,
    /// By id, since an id is hardly ever used in two kinds of streams; where it is, the last one is known.
    heads: HashMap<Uuid, (Box<str>, StreamHead)>,
    /// For so many batches the head is not guessed.
    wary: u32,
}

impl Known {
    /// A stream's last entry, where the stream is known.
    fn last_of(&self, (company, stream, id): Stream<'_>) -> Option<StreamHead> {
        let known = self.ledgers.get(&company)?.heads.get(&id)?;
        (*known.0 == *stream).then_some(known.1)
    }

    /// All that a batch stands on, if nobody else has moved its companies' heads. Nothing where that is not known, or
    /// was wrong lately. Streams that are not known are taken to be new: that one is not, the database finds when the
    /// same sequence is inserted twice.
    pub fn guess(&self, batch: &Batch<'_>) -> Option<Found> {
        let mut found = Found { answers: vec![None; batch.keys.len()], ..Found::default() };
        for company in &batch.companies {
            let ledger = self.ledgers.get(company).filter(|ledger| ledger.wary == 0)?;
            found.tips.insert(*company, ledger.tip);
        }
        let mut beginning = None;
        for stream in &batch.streams {
            let mut begins = || beginning.get_or_insert_with(|| batch.beginning()).contains(stream);
            let new = || begins().then(StreamHead::default);
            found.streams.push(self.last_of(*stream).or_else(new)?);
        }
        Some(found)
    }

    /// Takes in what was recorded.
    pub fn learn(&mut self, stamped: &Stamped<'_>) {
        for (company, (before, after)) in &stamped.tips {
            let ledger = self.ledgers.entry(*company).or_default();
            if ledger.tip == *before {
                ledger.wary = ledger.wary.saturating_sub(1);
            } else if ledger.tip.head.position >= after.head.position {
                continue;
            } else {
                self.streams -= ledger.heads.len();
                let wary = if ledger.tip == Tip::default() { ledger.wary } else { WARY_FOR };
                *ledger = Ledger { wary, ..Ledger::default() };
            }
            ledger.tip = *after;
        }
        for ((company, stream, id), last) in &stamped.streams {
            let after = stamped.tips.get(company).map(|(_, after)| after);
            if let Some(ledger) = self.ledgers.get_mut(company).filter(|ledger| Some(&ledger.tip) == after) {
                let before = ledger.heads.insert(*id, ((*stream).into(), *last));
                self.streams += usize::from(before.is_none());
            }
        }
        if self.streams > STREAMS_MAX {
            *self = Self::default();
        }
    }

    /// What was guessed of these companies was wrong.
    pub fn unlearn(&mut self, companies: &[CompanyId]) {
        for company in companies {
            let ledger = Ledger { wary: WARY_FOR, ..Ledger::default() };
            let gone = self.ledgers.insert(*company, ledger);
            self.streams -= gone.map_or(0, |ledger| ledger.heads.len());
        }
    }
}
