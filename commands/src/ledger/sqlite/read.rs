//! Reading `ledger.db`.

use cnc_domain::{
    kernel::{CompanyId, Timestamp},
    ledger::{Grown, Head, Position, Sequence},
};
use rusqlite::{Connection, Params, params};
use uuid::Uuid;

use super::{
    super::{Page, Stored, StoredHead, integer, limited, number},
    append::{read_head, read_tip},
};

pub(super) fn heads(connection: &Connection) -> rusqlite::Result<Vec<(CompanyId, Head)>> {
    let mut query = connection.prepare_cached("SELECT company, position, hash FROM heads ORDER BY company")?;
    let read = |row: &rusqlite::Row<'_>| {
        let company: [u8; 16] = row.get(0)?;
        Ok((CompanyId::new(Uuid::from_bytes(company)), read_head(row, 1)?))
    };
    query.query_map([], read)?.collect()
}

/// The head rows of all companies, by company.
pub(crate) fn stored_heads(connection: &Connection) -> rusqlite::Result<Vec<(CompanyId, StoredHead)>> {
    let mut query = connection.prepare("SELECT company, position, hash, at, facts FROM heads ORDER BY company")?;
    let read = |row: &rusqlite::Row<'_>| {
        Ok((CompanyId::new(Uuid::from_bytes(row.get(0)?)), StoredHead::from(read_tip(row, 1)?)))
    };
    query.query_map([], read)?.collect()
}

pub(super) fn lines(
    connection: &Connection,
    company: CompanyId,
    after: Position,
    limit: usize,
) -> rusqlite::Result<Vec<String>> {
    page(
        connection,
        "SELECT metadata, payload FROM events WHERE company = ?1 AND position > ?2 ORDER BY position LIMIT ?3",
        params![company.uuid().as_bytes(), integer(after), limited(limit)],
    )
}

pub(super) fn stream_lines(
    connection: &Connection,
    company: CompanyId,
    stream: (&str, Uuid),
    after: Sequence,
    limit: usize,
) -> rusqlite::Result<Vec<String>> {
    page(
        connection,
        "SELECT metadata, payload FROM events WHERE company = ?1 AND stream = ?2 AND id = ?3 AND sequence > ?4
         ORDER BY sequence LIMIT ?5",
        params![company.uuid().as_bytes(), stream.0, stream.1.as_bytes(), integer(after), limited(limit)],
    )
}

fn page(connection: &Connection, sql: &str, parameters: impl Params) -> rusqlite::Result<Vec<String>> {
    let mut query = connection.prepare_cached(sql)?;
    let mut rows = query.query(parameters)?;
    let mut page = Page::default();
    while let Some(row) = rows.next()? {
        let (header, payload) = (row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_str()?);
        if !page.push(header, payload) {
            break;
        }
    }
    Ok(page.lines)
}

/// Time never runs backwards in a ledger, so that a search by halves finds the place without an index on time.
pub(super) fn position_at(connection: &Connection, company: CompanyId, at: Timestamp) -> rusqlite::Result<Position> {
    let position: i64 = connection
        .prepare_cached(
            "WITH RECURSIVE search (low, high) AS (
                SELECT 0, coalesce((SELECT position FROM heads WHERE company = ?1), 0)
                UNION ALL
                SELECT iif(e.at <= ?2, e.position, low), iif(e.at <= ?2, high, e.position - 1)
                FROM search CROSS JOIN events AS e ON e.company = ?1 AND e.position = (low + high + 1) / 2
                WHERE low < high
             )
             SELECT max(low) FROM search",
        )?
        .query_row(params![company.uuid().as_bytes(), at.micros()], |row| row.get(0))?;
    Ok(number(position))
}

pub(crate) fn stored(connection: &Connection, company: CompanyId, after: Position) -> rusqlite::Result<Vec<Stored>> {
    const AT_ONCE: usize = 1_000;
    let mut query = connection.prepare_cached(
        "SELECT position, stream, id, sequence, event, version, at, hash, metadata, payload FROM events
         WHERE company = ?1 AND position > ?2 ORDER BY position LIMIT ?3",
    )?;
    let rows = query.query_map(params![company.uuid().as_bytes(), integer(after), limited(AT_ONCE)], |row| {
        let (stream, id): (String, [u8; 16]) = (row.get(1)?, row.get(2)?);
        Ok(Stored {
            position: number(row.get(0)?),
            subject: format!("{company}/{stream}/{}", Uuid::from_bytes(id)),
            sequence: row.get(3)?,
            event: row.get(4)?,
            version: row.get::<_, i64>(5)?.to_string(),
            at: row.get(6)?,
            hash: row.get(7)?,
            header: row.get(8)?,
            payload: row.get(9)?,
        })
    })?;
    rows.collect()
}

/// The last row of the entries, and which ledgers have grown since `row` was the last. Rows are only ever added; where
/// there are fewer, or it is not known how many there were, any may have.
pub(super) fn grown(connection: &Connection, row: Option<i64>) -> rusqlite::Result<(i64, Grown)> {
    let last =
        connection.prepare_cached("SELECT coalesce(max(rowid), 0) FROM events")?.query_row([], |row| row.get(0))?;
    let Some(row) = row.filter(|row| *row <= last) else { return Ok((last, Grown::Any)) };
    // Of a group, the columns beside `max` are those of its row.
    let sql = "SELECT company, max(position), hash FROM events WHERE rowid > ?1 AND rowid <= ?2 GROUP BY company";
    let mut query = connection.prepare_cached(sql)?;
    let read = |row: &rusqlite::Row<'_>| Ok((CompanyId::new(Uuid::from_bytes(row.get(0)?)), read_head(row, 1)?));
    let grown = query.query_map(params![row, last], read)?.collect::<rusqlite::Result<_>>()?;
    Ok((last, Grown::These(grown)))
}

/// A number that changes whenever another connection has written.
pub(super) fn data_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA data_version", [], |row| row.get(0))
}

/// The latest time that was recorded or kept.
pub(super) fn last_time(connection: &Connection) -> rusqlite::Result<Option<Timestamp>> {
    let mut query = connection
        .prepare_cached("SELECT max(at) FROM (SELECT max(at) AS at FROM heads UNION ALL SELECT max(at) FROM clock)")?;
    query.query_row([], |row| Ok(row.get::<_, Option<i64>>(0)?.map(Timestamp::from_micros)))
}
