//! A company's entries, page by page, verbatim.

use cnc_domain::{
    kernel::CompanyId,
    ledger::{Fault, Position},
};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use super::{TransferError, lost};
use crate::ledger::{Stored, integer, postgres::stored};

/// Up to a thousand entries after a position.
pub(crate) async fn page(
    database: &mut PgConnection,
    company: CompanyId,
    after: Position,
) -> Result<Vec<Stored>, Fault> {
    stored(database, company, after).await.map_err(lost)
}

/// Writes a page and how far the copy is, in one transaction. Refused where the copy is not where `at` says.
pub(super) async fn write(
    target: &mut PgConnection,
    company: CompanyId,
    (id, at): (Uuid, Position),
    page: &[Stored],
) -> Result<(), TransferError> {
    let mut tx = target.begin().await.map_err(lost)?;
    let sql = "UPDATE cnc.arrivals SET position = position + $4
               WHERE company = $1 AND move = $2 AND position = $3 AND arrived_at IS NULL";
    let moved = sqlx::query(sql).bind(company.uuid()).bind(id).bind(integer(at)).bind(integer(page.len() as u64));
    if moved.execute(&mut *tx).await.map_err(lost)?.rows_affected() == 0 {
        return Err(TransferError::Differs("the copy in the target was changed by somebody else"));
    }
    insert(&mut tx, company, page).await?;
    Ok(tx.commit().await.map_err(lost)?)
}

/// Inserts entries, verbatim.
pub(crate) async fn insert(target: &mut PgConnection, company: CompanyId, page: &[Stored]) -> Result<(), Fault> {
    sqlx::query(
        "INSERT INTO cnc.events (company, position, sequence, at, aggregate_id, event_type, event_version, hash,
                                 metadata, payload)
         SELECT $1, e.position, e.sequence, e.at, e.aggregate_id, e.event_type, e.event_version, e.hash,
                e.metadata::json, e.payload::json
         FROM unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::text[], $8::bytea[],
                     $9::text[], $10::text[])
              AS e (position, sequence, at, aggregate_id, event_type, event_version, hash, metadata, payload)",
    )
    .bind(company.uuid())
    .bind(page.iter().map(|row| integer(row.position)).collect::<Vec<_>>())
    .bind(page.iter().map(|row| row.sequence).collect::<Vec<_>>())
    .bind(page.iter().map(|row| row.at).collect::<Vec<_>>())
    .bind(page.iter().map(|row| row.subject.as_str()).collect::<Vec<_>>())
    .bind(page.iter().map(|row| row.event.as_str()).collect::<Vec<_>>())
    .bind(page.iter().map(|row| row.version.as_str()).collect::<Vec<_>>())
    .bind(page.iter().map(|row| row.hash.as_slice()).collect::<Vec<_>>())
    .bind(page.iter().map(|row| row.header.as_str()).collect::<Vec<_>>())
    .bind(page.iter().map(|row| row.payload.as_str()).collect::<Vec<_>>())
    .execute(target)
    .await
    .map_err(lost)
    .map(drop)
}
