//! A company's keys, as they are: wrapped by the master key, which both installations have.

use cnc_domain::{kernel::CompanyId, ledger::Fault};
use futures::TryStreamExt as _;
use sqlx::PgConnection;

use super::{TransferError, lost, pages};

const AT_ONCE: usize = 2_000;

/// What is compared: a table of `cnc_keys`, and the column by which its rows are known.
#[derive(Clone, Copy)]
struct Kind {
    table: &'static str,
    key: &'static str,
}

const SUBJECTS: Kind = Kind { table: "subjects", key: "id" };
const PRINTS: Kind = Kind { table: "prints", key: "tag" };

fn bytes(company: CompanyId) -> Vec<u8> {
    company.uuid().as_bytes().to_vec()
}

/// Copies the company's own key: before anything else, so that nobody makes another one in the target.
pub(super) async fn company(
    source: &mut PgConnection,
    target: &mut PgConnection,
    company: CompanyId,
) -> Result<(), TransferError> {
    let find = || sqlx::query_scalar("SELECT secret FROM cnc_keys.companies WHERE company = $1").bind(bytes(company));
    let Some(secret): Option<Vec<u8>> = find().fetch_optional(source).await.map_err(lost)? else { return Ok(()) };
    let put = sqlx::query("INSERT INTO cnc_keys.companies VALUES ($1, $2) ON CONFLICT DO NOTHING");
    put.bind(bytes(company)).bind(&secret).execute(&mut *target).await.map_err(lost)?;
    let there: Vec<u8> = find().fetch_one(target).await.map_err(lost)?;
    if there == secret { Ok(()) } else { Err(TransferError::Differs("the target holds another key of this company")) }
}

/// Copies the keys and prints that the target has not.
pub(super) async fn rest(
    source: &mut PgConnection,
    target: &mut PgConnection,
    company: CompanyId,
) -> Result<(), Fault> {
    for ids in only_in(source, target, company, SUBJECTS).await?.chunks(AT_ONCE) {
        copy_subjects(source, target, company, ids).await?;
    }
    for tags in only_in(source, target, company, PRINTS).await?.chunks(AT_ONCE) {
        copy_prints(source, target, company, tags).await?;
    }
    Ok(())
}

/// Drops keys that the source has no more: what was erased there meanwhile stays erased.
pub(super) async fn gone(
    source: &mut PgConnection,
    target: &mut PgConnection,
    company: CompanyId,
) -> Result<(), Fault> {
    for kind in [SUBJECTS, PRINTS] {
        let erased = only_in(target, source, company, kind).await?;
        let sql = format!("DELETE FROM cnc_keys.{} WHERE company = $1 AND {} = ANY ($2)", kind.table, kind.key);
        sqlx::query(&sql).bind(bytes(company)).bind(erased).execute(&mut *target).await.map_err(lost)?;
    }
    Ok(())
}

/// The keys that `here` has and `there` has not.
async fn only_in(
    here: &mut PgConnection,
    there: &mut PgConnection,
    company: CompanyId,
    Kind { table, key }: Kind,
) -> Result<Vec<Vec<u8>>, Fault> {
    let all = format!("SELECT {key} FROM cnc_keys.{table} WHERE company = $1");
    let missing = format!(
        "SELECT k FROM unnest($2::bytea[]) AS u (k)
         WHERE NOT EXISTS (SELECT FROM cnc_keys.{table} WHERE company = $1 AND {key} = u.k)"
    );
    let rows = sqlx::query_scalar::<_, Vec<u8>>(&all).bind(bytes(company)).fetch(here);
    let mut pages = std::pin::pin!(pages(rows, AT_ONCE));
    let mut only = Vec::new();
    while let Some(page) = pages.try_next().await? {
        let asked = sqlx::query_scalar::<_, Vec<u8>>(&missing).bind(bytes(company)).bind(page);
        only.extend(asked.fetch_all(&mut *there).await.map_err(lost)?);
    }
    Ok(only)
}

async fn copy_subjects(
    source: &mut PgConnection,
    target: &mut PgConnection,
    company: CompanyId,
    ids: &[Vec<u8>],
) -> Result<(), Fault> {
    let sql = "SELECT subject, id, secret FROM cnc_keys.subjects WHERE company = $1 AND id = ANY ($2)";
    let rows: Vec<(Vec<u8>, Vec<u8>, Vec<u8>)> =
        sqlx::query_as(sql).bind(bytes(company)).bind(ids).fetch_all(source).await.map_err(lost)?;
    let (subjects, ids, secrets): (Vec<_>, Vec<_>, Vec<_>) = rows.into_iter().collect();
    // A subject whose key was destroyed and made anew has another id.
    sqlx::query(
        "INSERT INTO cnc_keys.subjects (company, subject, id, secret)
         SELECT $1, k.subject, k.id, k.secret
         FROM unnest($2::bytea[], $3::bytea[], $4::bytea[]) AS k (subject, id, secret)
         ON CONFLICT (company, subject) DO UPDATE SET id = excluded.id, secret = excluded.secret",
    )
    .bind(bytes(company))
    .bind(subjects)
    .bind(ids)
    .bind(secrets)
    .execute(target)
    .await
    .map_err(lost)
    .map(drop)
}

async fn copy_prints(
    source: &mut PgConnection,
    target: &mut PgConnection,
    company: CompanyId,
    tags: &[Vec<u8>],
) -> Result<(), Fault> {
    let sql = "SELECT tag, token FROM cnc_keys.prints WHERE company = $1 AND tag = ANY ($2)";
    let rows: Vec<(Vec<u8>, String)> =
        sqlx::query_as(sql).bind(bytes(company)).bind(tags).fetch_all(source).await.map_err(lost)?;
    let (tags, tokens): (Vec<_>, Vec<_>) = rows.into_iter().collect();
    sqlx::query(
        "INSERT INTO cnc_keys.prints (company, tag, token)
         SELECT $1, p.tag, p.token FROM unnest($2::bytea[], $3::text[]) AS p (tag, token)
         ON CONFLICT (company, tag) DO UPDATE SET token = excluded.token",
    )
    .bind(bytes(company))
    .bind(tags)
    .bind(tokens)
    .execute(target)
    .await
    .map_err(lost)
    .map(drop)
}
