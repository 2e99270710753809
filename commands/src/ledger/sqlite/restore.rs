//! Writing entries as they were stored elsewhere, verified before. Only a restore does.

use cnc_domain::{kernel::CompanyId, ledger::Head};
use rusqlite::{Connection, params};
use uuid::Uuid;

use super::super::{Stored, StoredHead, integer};

/// Inserts entries, verbatim.
pub(crate) fn insert_stored(ledger: &Connection, company: CompanyId, page: &[Stored]) -> rusqlite::Result<()> {
    let mut insert = ledger.prepare_cached(
        "INSERT INTO events (company, position, stream, id, sequence, event, version, at, hash, metadata, payload)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?;
    for row in page {
        let (stream, id) = subject(&row.subject).ok_or(rusqlite::Error::InvalidQuery)?;
        let version: i64 = row.version.parse().map_err(|_| rusqlite::Error::InvalidQuery)?;
        insert.execute(params![
            company.uuid().as_bytes(),
            integer(row.position),
            stream,
            id.as_bytes(),
            row.sequence,
            row.event,
            version,
            row.at,
            row.hash,
            row.header,
            row.payload,
        ])?;
    }
    Ok(())
}

/// The stream and the id of `company/stream/id`.
fn subject(text: &str) -> Option<(&str, Uuid)> {
    let (_, rest) = text.split_once('/')?;
    let (stream, id) = rest.split_once('/')?;
    Some((stream, id.parse().ok()?))
}

/// Gives a company its head: from then on it is one.
pub(crate) fn insert_head(ledger: &Connection, company: CompanyId, stored: &StoredHead) -> rusqlite::Result<()> {
    let StoredHead { head: Head { position, hash }, at, facts } = stored;
    let sql = "INSERT INTO heads (company, position, hash, at, facts) VALUES (?1, ?2, ?3, ?4, ?5)";
    ledger.execute(sql, params![company.uuid().as_bytes(), integer(*position), hash.0, at.micros(), facts.0]).map(drop)
}
