//! Whether a database holds an unbroken ledger, and whether its columns say what the entries say.

use std::fmt;

use async_trait::async_trait;
use cnc_domain::{
    kernel::{CompanyId, Timestamp},
    ledger::{Break, Entry, Fault, Hash, Head, Ledger, Position, Verifier, Wrong, check_form, is_company_fact},
};
use serde::Serialize;

use super::stamp::Tip;

/// An entry as it stands in a database: its two texts, and the columns that index them.
#[derive(Clone, Debug)]
pub struct Stored {
    /// By which it is read in order.
    pub position: Position,
    /// `<company>/<stream>/<id>`.
    pub subject: String,
    /// The place in the stream.
    pub sequence: i64,
    /// What happened.
    pub event: String,
    /// The version of the event's shape.
    pub version: String,
    /// When it was recorded, in microseconds.
    pub at: i64,
    /// The hash of its line.
    pub hash: Vec<u8>,
    /// The entry without its payload.
    pub header: String,
    /// The payload.
    pub payload: String,
}

/// A head as it stands in a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredHead {
    /// The last position and hash.
    pub head: Head,
    /// When the entry there was recorded.
    pub at: Timestamp,
    /// The hash of the last entry that is a fact of the company.
    pub facts: Hash,
}

impl From<Tip> for StoredHead {
    fn from(Tip { head, at, facts }: Tip) -> Self {
        Self { head, at, facts }
    }
}

impl fmt::Display for StoredHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}, with the company's facts of {}", self.head, self.at, self.facts)
    }
}

/// The first thing that is wrong with a stored ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(untagged)]
pub enum Flaw {
    /// The lines are not an unbroken chain.
    #[error(transparent)]
    Chain(#[from] Break),
    /// A column does not say what its entry says.
    #[error("position {position}: the column {column} holds {stored}, and the entry says {entry}")]
    Column {
        /// Where.
        position: Position,
        /// Which column.
        column: &'static str,
        /// What it holds.
        stored: String,
        /// What the entry says.
        entry: String,
    },
    /// The head row is not that of the last entry.
    #[error("position {position}: the ledger ends at {last}, and its head row says {stored}")]
    HeadRow {
        /// The last entry's position.
        position: Position,
        /// What the last entry says.
        last: String,
        /// What the row holds.
        stored: String,
    },
}

impl Flaw {
    /// Where the ledger is broken.
    pub fn position(&self) -> Position {
        match self {
            Self::Chain(broken) => broken.position,
            Self::Column { position, .. } | Self::HeadRow { position, .. } => *position,
        }
    }
}

/// A ledger whose stored form can be verified. Sees a ledger that grows meanwhile as unbroken.
#[async_trait]
pub trait Audit: Ledger {
    /// Entries after a position as they are stored, in order of their position column. Empty only at the end.
    async fn stored(&self, company: CompanyId, after: Position) -> Result<Vec<Stored>, Fault>;

    /// The head row.
    async fn stored_head(&self, company: CompanyId) -> Result<Option<StoredHead>, Fault>;

    /// Verifies the chain, that it reaches `expected` where a head was kept, that every column says what its entry
    /// says, and that the head row is the last entry's. `None` where there is nothing of such a company.
    async fn audit(&self, company: CompanyId, expected: Option<Head>) -> Result<Option<Result<Head, Flaw>>, Fault> {
        let mut auditor = Auditor::new(expected);
        loop {
            let rows = self.stored(company, auditor.verifier.head().position).await?;
            let at_end = rows.is_empty();
            for row in &rows {
                if let Err(flaw) = auditor.row(row) {
                    return Ok(Some(Err(flaw)));
                }
            }
            if !at_end {
                continue;
            }
            // Entries and head move together, and the head is read last: it may be ahead of what was read, never behind.
            let stored = self.stored_head(company).await?;
            if stored.is_none() && auditor.verifier.head().position == 0 {
                return Ok(None);
            }
            let grown = stored.as_ref().is_some_and(|stored| stored.head.position > auditor.verifier.head().position);
            if !grown || self.stored(company, auditor.verifier.head().position).await?.is_empty() {
                return Ok(Some(auditor.finish(stored)));
            }
        }
    }
}

/// Verifies a ledger as it is stored, entry by entry.
pub(crate) struct Auditor {
    verifier: Verifier,
    at: Timestamp,
    facts: Hash,
}

impl Auditor {
    pub fn new(expected: Option<Head>) -> Self {
        Self { verifier: Verifier::new(expected), at: Timestamp::default(), facts: Hash::default() }
    }

    /// The hash of the last entry so far that is a fact of the company.
    pub fn facts(&self) -> Hash {
        self.facts
    }

    /// How far it is.
    pub fn position(&self) -> Position {
        self.verifier.head().position
    }

    /// Whether a head row is that of the last entry so far.
    pub fn stands_at(&self, stored: &StoredHead) -> bool {
        *stored == StoredHead { head: self.verifier.head(), at: self.at, facts: self.facts }
    }

    pub fn row(&mut self, row: &Stored) -> Result<(), Flaw> {
        let line = Entry::line(&row.header, &row.payload);
        let position = self.verifier.head().position + 1;
        self.verifier.line(line.as_bytes())?;
        check_form(line.as_bytes()).map_err(|wrong| Break { position, line: position, wrong })?;
        let entry = Entry::read(&line).map_err(|_| Break {
            position,
            line: position,
            wrong: Wrong::Malformed("header or payload"),
        })?;
        self.at = entry.at;
        if is_company_fact(entry.company, (&entry.stream, entry.id), &entry.event) {
            self.facts = self.verifier.head().hash;
        }
        let hash = <[u8; 32]>::try_from(row.hash.as_slice())
            .map_or_else(|_| format!("{} bytes", row.hash.len()), |hash| Hash(hash).to_string());
        let columns = [
            ("position", row.position.to_string(), position.to_string()),
            ("stream", row.subject.clone(), format!("{}/{}/{}", entry.company, entry.stream, entry.id)),
            ("sequence", row.sequence.to_string(), entry.sequence.to_string()),
            ("event", row.event.clone(), entry.event),
            ("version", row.version.clone(), entry.version.to_string()),
            ("at", row.at.to_string(), entry.at.micros().to_string()),
            ("hash", hash, Hash::of(&line).to_string()),
        ];
        match columns.into_iter().find(|(_, stored, entry)| stored != entry) {
            Some((column, stored, entry)) => Err(Flaw::Column { position, column, stored, entry }),
            None => Ok(()),
        }
    }

    pub fn finish(self, stored: Option<StoredHead>) -> Result<Head, Flaw> {
        let Self { verifier, at, facts } = self;
        let last = StoredHead { head: verifier.finish()?, at, facts };
        match stored {
            Some(stored) if stored == last => Ok(last.head),
            Some(StoredHead { head, .. }) if head.position > last.head.position => {
                let position = last.head.position + 1;
                Err(Break { position, line: position, wrong: Wrong::CutOff(head.position) }.into())
            }
            stored => Err(Flaw::HeadRow {
                position: last.head.position,
                last: last.to_string(),
                stored: stored.map_or("nothing".into(), |stored| stored.to_string()),
            }),
        }
    }
}
