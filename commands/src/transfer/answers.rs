//! What commands were answered with. Their times are those of the deciding processes' clocks and say only roughly what is
//! new: so rounds go by time, and after the mark, when no more come, every id is compared.

use cnc_domain::{kernel::CompanyId, ledger::Fault};
use futures::TryStreamExt as _;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{lost, pages};

/// How many are written at once.
const AT_ONCE: usize = 2_000;
/// Answers may be recorded this much later, in microseconds, than others that bear a later time.
const LATE: i64 = 60_000_000;

/// Id, time, whether it is kept for ever, fingerprint and answer.
type Answer = (Uuid, i64, bool, Vec<u8>, String);

/// Copies answers since about this time. Returns since when the next round copies.
pub(super) async fn since(
    source: &mut PgConnection,
    target: &mut PgConnection,
    company: CompanyId,
    since: i64,
) -> Result<i64, Fault> {
    let sql = "SELECT id, at, for_ever, fingerprint, answer FROM cnc.commands WHERE company = $1 AND at >= $2";
    let rows = sqlx::query_as::<_, Answer>(sql).bind(company.uuid()).bind(since).fetch(source);
    let mut pages = std::pin::pin!(pages(rows, AT_ONCE));
    let mut last = since;
    while let Some(page) = pages.try_next().await? {
        last = page.iter().map(|answer| answer.1).fold(last, i64::max);
        write(target, company, page).await?;
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
        let sql = "SELECT id, at, for_ever, fingerprint, answer FROM cnc.commands WHERE id = ANY ($1)";
        let page: Vec<Answer> = sqlx::query_as(sql).bind(ids).fetch_all(&mut *source).await.map_err(lost)?;
        write(target, company, page).await?;
    }
    Ok(())
}

async fn write(target: &mut PgConnection, company: CompanyId, page: Vec<Answer>) -> Result<(), Fault> {
    let (ids, times, for_ever, fingerprints, answers): (Vec<_>, Vec<_>, Vec<_>, Vec<_>, Vec<_>) =
        page.into_iter().collect();
    sqlx::query(
        "INSERT INTO cnc.commands (id, company, at, for_ever, fingerprint, answer)
         SELECT c.id, $1, c.at, c.for_ever, c.fingerprint, c.answer
         FROM unnest($2::uuid[], $3::bigint[], $4::bool[], $5::bytea[], $6::text[])
              AS c (id, at, for_ever, fingerprint, answer)
         ON CONFLICT (id) DO NOTHING",
    )
    .bind(company.uuid())
    .bind(ids)
    .bind(times)
    .bind(for_ever)
    .bind(fingerprints)
    .bind(answers)
    .execute(target)
    .await
    .map_err(lost)
    .map(drop)
}
