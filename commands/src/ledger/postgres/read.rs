//! Reading ledgers from Postgres.
//!
//! postgres-es can read a stream from `cnc.events` (a test does), but only as parsed JSON: the bytes that the hash is of
//! are gone by then. So lines are selected here, as text.

use cnc_domain::{
    kernel::{CompanyId, Timestamp},
    ledger::{Head, Position, Sequence},
};
use cnc_postgres::Pool;
use futures::TryStreamExt;
use sqlx::{PgExecutor, Postgres, Row, postgres::PgArguments, query::Query};
use uuid::Uuid;

use super::{
    super::{Page, Stored, StoredHead, integer, limited, number, stamp::Tip},
    append::{read_head, subject},
};

pub(super) async fn heads(pool: &Pool) -> sqlx::Result<Vec<(CompanyId, Head)>> {
    let sql = "SELECT company, position, hash, at, facts FROM cnc.heads WHERE moved_to IS NULL ORDER BY company";
    let rows = sqlx::query(sql).fetch_all(pool).await?;
    rows.iter().map(|row| read_head(row).map(|(company, tip)| (company, tip.head))).collect()
}

pub(crate) async fn stored_head(database: impl PgExecutor<'_>, company: CompanyId) -> sqlx::Result<Option<StoredHead>> {
    Ok(tip(database, company).await?.map(StoredHead::from))
}

/// The head rows of all companies that live here, by company.
pub(crate) async fn stored_heads(database: impl PgExecutor<'_>) -> sqlx::Result<Vec<(CompanyId, StoredHead)>> {
    let sql = "SELECT company, position, hash, at, facts FROM cnc.heads WHERE moved_to IS NULL ORDER BY company";
    let rows = sqlx::query(sql).fetch_all(database).await?;
    let read = |row| read_head(row).map(|(company, tip)| (company, StoredHead::from(tip)));
    rows.iter().map(read).collect()
}

pub(super) async fn tip(database: impl PgExecutor<'_>, company: CompanyId) -> sqlx::Result<Option<Tip>> {
    let sql = "SELECT company, position, hash, at, facts FROM cnc.heads WHERE company = $1";
    let row = sqlx::query(sql).bind(company.uuid()).fetch_optional(database).await?;
    row.map(|row| read_head(&row).map(|(_, tip)| tip)).transpose()
}

/// Whether a company's ledger goes on in another database.
pub(super) async fn departed(pool: &Pool, company: CompanyId) -> sqlx::Result<bool> {
    let sql = "SELECT EXISTS (SELECT FROM cnc.heads WHERE company = $1 AND moved_to IS NOT NULL)";
    sqlx::query_scalar(sql).bind(company.uuid()).fetch_one(pool).await
}

pub(super) async fn lines(pool: &Pool, company: CompanyId, after: Position, limit: usize) -> sqlx::Result<Vec<String>> {
    let query = sqlx::query(
        "SELECT metadata::text, payload::text FROM cnc.events WHERE company = $1 AND position > $2
         ORDER BY position LIMIT $3",
    );
    page(pool, query.bind(company.uuid()).bind(integer(after)).bind(limited(limit))).await
}

pub(super) async fn stream_lines(
    pool: &Pool,
    company: CompanyId,
    stream: (&str, Uuid),
    after: Sequence,
    limit: usize,
) -> sqlx::Result<Vec<String>> {
    let query = sqlx::query(
        "SELECT metadata::text, payload::text FROM cnc.events WHERE aggregate_id = $1 AND sequence > $2
         ORDER BY sequence LIMIT $3",
    );
    page(pool, query.bind(subject(company, stream.0, stream.1)).bind(integer(after)).bind(limited(limit))).await
}

async fn page(pool: &Pool, query: Query<'_, Postgres, PgArguments>) -> sqlx::Result<Vec<String>> {
    let mut connection = pool.acquire().await?;
    let mut rows = query.fetch(&mut *connection);
    let mut page = Page::default();
    while let Some(row) = rows.try_next().await? {
        if !page.push(row.try_get(0)?, row.try_get(1)?) {
            break;
        }
    }
    Ok(page.lines)
}

/// Time never runs backwards in a ledger, so that a search by halves finds the place without an index on time.
pub(super) async fn position_at(pool: &Pool, company: CompanyId, at: Timestamp) -> sqlx::Result<Position> {
    let position: i64 = sqlx::query_scalar(
        "WITH RECURSIVE search (low, high) AS (
            SELECT 0::bigint, coalesce((SELECT position FROM cnc.heads WHERE company = $1), 0)
            UNION ALL
            SELECT CASE WHEN e.at <= $2 THEN e.position ELSE low END,
                   CASE WHEN e.at <= $2 THEN high ELSE e.position - 1 END
            FROM search
            JOIN LATERAL (SELECT position, at FROM cnc.events
                          WHERE company = $1 AND position = (low + high + 1) / 2) AS e ON true
            WHERE low < high
         )
         SELECT max(low) FROM search",
    )
    .bind(company.uuid())
    .bind(at.micros())
    .fetch_one(pool)
    .await?;
    Ok(number(position))
}

pub(crate) async fn stored(
    database: impl PgExecutor<'_>,
    company: CompanyId,
    after: Position,
) -> sqlx::Result<Vec<Stored>> {
    const AT_ONCE: usize = 1_000;
    let rows = sqlx::query(
        "SELECT position, aggregate_id, sequence, event_type, event_version, at, hash, metadata::text, payload::text
         FROM cnc.events WHERE company = $1 AND position > $2 ORDER BY position LIMIT $3",
    )
    .bind(company.uuid())
    .bind(integer(after))
    .bind(limited(AT_ONCE))
    .fetch_all(database)
    .await?;
    let read = |row: &sqlx::postgres::PgRow| {
        Ok(Stored {
            position: number(row.try_get(0)?),
            subject: row.try_get(1)?,
            sequence: row.try_get(2)?,
            event: row.try_get(3)?,
            version: row.try_get(4)?,
            at: row.try_get(5)?,
            hash: row.try_get(6)?,
            header: row.try_get(7)?,
            payload: row.try_get(8)?,
        })
    };
    rows.iter().map(read).collect()
}
