//! Where ledgers are kept: in one `SQLite` file, or in Postgres. Each back end speaks its database's own SQL and keeps
//! bytes; it never decides, links or hashes. All that is one shared pure file, `stamp`.

mod audit;
mod known;
#[cfg(feature = "simulation")]
pub mod memory;
mod notify;
pub(crate) mod postgres;
mod recording;
pub(crate) mod sqlite;
mod stamp;

pub(crate) use audit::Auditor;
pub use audit::{Audit, Flaw, Stored, StoredHead};
use cnc_domain::ledger::Entry;
pub use postgres::PostgresLedger;
pub use sqlite::SqliteLedger;

/// How many bytes of lines one reading returns at most (and at least one line).
const PAGE_BYTES: usize = 8 << 20;
/// How many lines one reading returns at most, whatever was asked for.
const PAGE_LINES: usize = 10_000;
/// How many answers are forgotten in one transaction, so that appends never wait long for it.
const FORGET_AT_ONCE: i64 = 5_000;

/// Lines being read, until there are enough.
#[derive(Default)]
struct Page {
    lines: Vec<String>,
    bytes: usize,
}

impl Page {
    /// Takes an entry, and says whether there is room for another.
    fn push(&mut self, header: &str, payload: &str) -> bool {
        let line = Entry::line(header, payload);
        self.bytes += line.len();
        self.lines.push(line);
        self.bytes < PAGE_BYTES
    }
}

/// As a database's integer. What is recorded is at most 2^53; a greater number only ever comes from a caller that asks
/// for what lies after it, where there is nothing.
pub(crate) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// From a database's integer. A negative one is damage, which an audit reports; here it is read as none.
pub(crate) fn number(integer: i64) -> u64 {
    u64::try_from(integer).unwrap_or_default()
}

/// As a database's limit.
fn limited(limit: usize) -> i64 {
    integer(limit.min(PAGE_LINES) as u64)
}
