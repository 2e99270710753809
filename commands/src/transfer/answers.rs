//! What commands were answered with. Their times are those of the deciding processes' clocks and say only roughly what is
//! new: so rounds go by time, and after the mark, when no more come, every id is compared.

use cnc_domain::{kernel::CompanyId, ledger::Fault};
use futures::TryStreamExt as _;
use serde_json::value::RawValue;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    lost, pages,
    rows::{AnswerRow, Bytes},
};

/// How many are written at once.
const AT_ONCE: usize = 2_000;
/// Answers may be recorded this much later, in microseconds, than others that bear a later time.
const LATE: i64 = 60_000_000;

/// Company, id, time, whether it is kept for ever, fingerprint and answer.
type Columns = (Uuid, Uuid, i64, bool, Vec<u8>, String);
const COLUMNS: &str = "company, id, at, for_ever, fingerprint, answer";

fn row((company, id, at, for_ever, fingerprint, answer): Columns) -> sqlx::Result<AnswerRow> {
    let answer = RawValue::from_string(answer).map_err(|wrong| sqlx::Error::Decode(wrong.into()))?;
    Ok(AnswerRow { company: CompanyId::new(company), id, at, for_ever, fingerprint: Bytes(fingerprint), answer })
}

fn rows(page: Vec<Columns>) -> sqlx::Result<Vec<AnswerRow>> {
    page.into_iter().map(row).collect()
}

/// Answers of all companies after an id, in the order of ids.
pub(crate) async fn page(source: &mut PgConnection, after: Uuid) -> sqlx::Result<Vec<AnswerRow>> {
    let sql = format!("SELECT {COLUMNS} FROM cnc.commands WHERE id > $1 ORDER BY id LIMIT {AT_ONCE}");
    rows(sqlx::query_as(&sql).bind(after).fetch_all(source).await?)
}

/// Copies answers since about this time. Returns since when the next round copies.
pub(super) async fn since(
    source: &mut PgConnection,
    target: &mut PgConnection,
    company: CompanyId,
    since: i64,
) -> Result<i64, Fault> {
    let sql = format!("SELECT {COLUMNS} FROM cnc.commands WHERE company = $1 AND at >= $2");
    let found = sqlx::query_as::<_, Columns>(&sql).bind(company.uuid()).bind(since).fetch(source);
    let mut pages = std::pin::pin!(pages(found, AT_ONCE));
    let mut last = since;
    while let Some(page) = pages.try_next().await? {
        let page = rows(page).map_err(lost)?;
        last = page.iter().map(|answer| answer.at).fold(last, i64::max);
        write(target, &page).await?;
    }
    Ok(last.saturating_sub(LATE).max(since))
}

/// Copies every answer that the target has not.
pub(super) async fn missing(
    source: &mut PgConnection,
    target: &mut PgConnection,
    company: CompanyId,
) -> Result<(), Fault> {
    let mut wanted: Vec<Uuid> = Vec::new();
    {
        let all = "SELECT id FROM cnc.commands WHERE company = $1";
        let rows = sqlx::query_scalar::<_, Uuid>(all).bind(company.uuid()).fetch(&mut *source);
        let mut pages = std::pin::pin!(pages(rows, 10 * AT_ONCE));
        while let Some(page) = pages.try_next().await? {
            let sql = "SELECT i FROM unnest($1::uuid[]) AS u (i)
                       WHERE NOT EXISTS (SELECT FROM cnc.commands AS c WHERE c.id = u.i)";
            wanted.extend(sqlx::query_scalar::<_, Uuid>(sql).bind(page).fetch_all(&mut *target).await.map_err(lost)?);
        }
    }
    for ids in wanted.chunks(AT_ONCE) {
        let sql = format!("SELECT {COLUMNS} FROM cnc.commands WHERE id = ANY ($1)");
        let page = sqlx::query_as(&sql).bind(ids).fetch_all(&mut *source).await.map_err(lost)?;
        write(target, &rows(page).map_err(lost)?).await?;
    }
    Ok(())
}

/// Writes answers that are not there.
pub(crate) async fn write(target: &mut PgConnection, page: &[AnswerRow]) -> Result<(), Fault> {
    sqlx::query(
        "INSERT INTO cnc.commands (company, id, at, for_ever, fingerprint, answer)
         SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bool[], $5::bytea[], $6::text[])
         ON CONFLICT (id) DO NOTHING",
    )
    .bind(page.iter().map(|row| row.company.uuid()).collect::<Vec<_>>())
    .bind(page.iter().map(|row| row.id).collect::<Vec<_>>())
    .bind(page.iter().map(|row| row.at).collect::<Vec<_>>())
    .bind(page.iter().map(|row| row.for_ever).collect::<Vec<_>>())
    .bind(page.iter().map(|row| row.fingerprint.0.as_slice()).collect::<Vec<_>>())
    .bind(page.iter().map(|row| row.answer.get()).collect::<Vec<_>>())
    .execute(target)
    .await
    .map_err(lost)
    .map(drop)
}
