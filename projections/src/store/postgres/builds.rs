//! Builds in Postgres: their rows and their ends.

use std::collections::BTreeSet;

use cnc_domain::{
    kernel::{CompanyId, Timestamp},
    ledger::{Hash, Head, Position},
};
use cnc_postgres::{Pool, Session};
use sqlx::{Result, Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{
    super::{
        FoldId, FoldRow, Opened, Plan, Poisoned, Standing,
        storage::{DROPPED_AT_ONCE, now},
    },
    Tx, schema,
    schema::make_tables,
};

const COLUMNS: &str = "company::text, fold, version, build, standing, position, hash, silent_until, \
                       poison_position, poison_reason, poison_attempts, retry_at, touched_at, horizon, whole_from, skipped, \
                       begun::text";
const MINE: &str = "company = $1::uuid AND fold = $2 AND version = $3 AND build = $4";

/// A position or count as the database has it.
pub(super) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn hash(row: &PgRow, column: usize) -> Result<Hash> {
    let bytes: &[u8] = row.try_get(column)?;
    bytes.try_into().map(Hash).map_err(|wrong| sqlx::Error::Decode(Box::new(wrong)))
}

fn read(row: &PgRow) -> Result<FoldRow> {
    let number = |column: usize| Ok::<_, sqlx::Error>(u64::try_from(row.try_get::<i64, _>(column)?).unwrap_or(0));
    let small = |column: usize| Ok::<_, sqlx::Error>(u32::try_from(row.try_get::<i64, _>(column)?).unwrap_or(u32::MAX));
    let company: String = row.try_get(0)?;
    let poisoned = match row.try_get::<Option<i64>, _>(8)? {
        Some(position) => Some(Poisoned {
            position: u64::try_from(position).unwrap_or(0),
            reason: row.try_get::<Option<String>, _>(9)?.unwrap_or_default(),
            attempts: small(10)?,
            retry_at: Timestamp::from_micros(row.try_get(11)?),
        }),
        None => None,
    };
    Ok(FoldRow {
        id: FoldId {
            company: company.parse().map_err(|wrong| sqlx::Error::Decode(Box::new(wrong)))?,
            fold: row.try_get(1)?,
            version: small(2)?,
            build: row.try_get(3)?,
        },
        standing: Standing::named(&row.try_get::<String, _>(4)?),
        position: number(5)?,
        hash: hash(row, 6)?,
        silent_until: number(7)?,
        poisoned,
        touched_at: Timestamp::from_micros(row.try_get(12)?),
        horizon: number(13)?,
        whole_from: number(14)?,
        skipped: number(15)?,
        begun: serde_json::from_str(row.try_get(16)?).unwrap_or_default(),
    })
}

/// The live build of a company's fold, of whatever version.
pub(super) async fn live(
    connection: &mut Session,
    schema: &str,
    company: CompanyId,
    fold: &str,
    lock: bool,
) -> Result<Option<FoldRow>> {
    let lock = if lock { "FOR UPDATE" } else { "" };
    let text = format!(
        "SELECT {COLUMNS} FROM {schema}.folds WHERE company = $1::uuid AND fold = $2 AND standing = 'live' {lock}"
    );
    let row = sqlx::query(&text).bind(company.to_string()).bind(fold).fetch_optional(connection).await?;
    row.as_ref().map(read).transpose()
}

/// The row of a build, locked.
async fn row(tx: &mut Tx, schema: &str, id: &FoldId) -> Result<Option<FoldRow>> {
    let text = format!("SELECT {COLUMNS} FROM {schema}.folds WHERE {MINE} FOR UPDATE");
    let row = sqlx::query(&text)
        .bind(id.company.to_string())
        .bind(&id.fold)
        .bind(i64::from(id.version))
        .bind(id.build)
        .fetch_optional(&mut **tx)
        .await?;
    row.as_ref().map(read).transpose()
}

pub(super) async fn rows(pool: &Pool, schema: &str, company: Option<CompanyId>) -> Result<Vec<FoldRow>> {
    // Who only looks may come before anybody has folded.
    let there = "SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = $1 AND tablename = 'folds')";
    if !sqlx::query_scalar(there).bind(schema).fetch_one(pool).await? {
        return Ok(Vec::new());
    }
    let text = format!(
        "SELECT {COLUMNS} FROM {schema}.folds WHERE $1::text IS NULL OR company = $1::uuid ORDER BY 1, 2, 3, 4"
    );
    let found = sqlx::query(&text).bind(company.map(|company| company.to_string())).fetch_all(pool).await?;
    found.iter().map(read).collect()
}

pub(super) async fn register(tx: &mut Tx, fold: &str, heads: &[(CompanyId, Head)]) -> Result<()> {
    let text = "INSERT INTO cnc.trigger_starts (fold, company, position, hash)
                SELECT $1, c, p, h FROM unnest($2::text[], $3::bigint[], $4::bytea[]) AS u (c, p, h)
                ON CONFLICT DO NOTHING";
    // The row without a company says that the trigger is registered: companies founded later have no row.
    let none = vec![Hash::default().0.to_vec()];
    let first = sqlx::query(text).bind(fold).bind(vec![String::new()]).bind(vec![0_i64]).bind(none);
    if first.execute(&mut **tx).await?.rows_affected() == 0 {
        return Ok(());
    }
    let companies: Vec<String> = heads.iter().map(|(company, _)| company.to_string()).collect();
    let positions: Vec<i64> = heads.iter().map(|(_, head)| int(head.position)).collect();
    let hashes: Vec<Vec<u8>> = heads.iter().map(|(_, head)| head.hash.0.to_vec()).collect();
    let query = sqlx::query(text).bind(fold).bind(companies).bind(positions).bind(hashes);
    query.execute(&mut **tx).await.map(drop)
}

/// The companies in which a version is live.
pub(super) async fn live_in(pool: &Pool, plan: &Plan) -> Result<Vec<CompanyId>> {
    let text = format!(
        "SELECT company::text FROM {}.folds WHERE standing = 'live' AND fold = $1 AND version = $2",
        schema(plan.trigger)
    );
    let query = sqlx::query_scalar(&text).bind(plan.fold).bind(i64::from(plan.version));
    let found: Vec<String> = query.fetch_all(pool).await?;
    found.iter().map(|company| company.parse().map_err(|wrong| sqlx::Error::Decode(Box::new(wrong)))).collect()
}

/// Waits until nobody else makes or replaces a build of a company's fold, and keeps them waiting.
async fn one_at_a_time(tx: &mut Tx, company: CompanyId, fold: &str) -> Result<()> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1 || $2, 0))")
        .bind(company.to_string())
        .bind(fold)
        .execute(&mut **tx)
        .await
        .map(drop)
}

/// Whether a higher version is live or building.
async fn is_outdated(tx: &mut Tx, schema: &str, plan: &Plan, company: CompanyId) -> Result<bool> {
    let text = format!(
        "SELECT EXISTS (SELECT FROM {schema}.folds WHERE company = $1::uuid AND fold = $2 AND version > $3
            AND standing IN ('live', 'building'))"
    );
    let query = sqlx::query_scalar(&text).bind(company.to_string()).bind(plan.fold).bind(i64::from(plan.version));
    query.fetch_one(&mut **tx).await
}

pub(super) async fn open(tx: &mut Tx, plan: &Plan, company: CompanyId) -> Result<Option<Opened>> {
    let schema = schema(plan.trigger);
    let mine = format!(
        "SELECT {COLUMNS} FROM {schema}.folds WHERE company = $1::uuid AND fold = $2 AND version = $3
            AND standing IN ('live', 'building') ORDER BY build DESC LIMIT 1"
    );
    let find = || sqlx::query(&mine).bind(company.to_string()).bind(plan.fold).bind(i64::from(plan.version));
    if let Some(row) = find().fetch_optional(&mut **tx).await? {
        return opened(tx, schema, read(&row)?).await.map(Some);
    }
    one_at_a_time(tx, company, plan.fold).await?;
    if let Some(row) = find().fetch_optional(&mut **tx).await? {
        return opened(tx, schema, read(&row)?).await.map(Some);
    }
    if is_outdated(tx, schema, plan, company).await? {
        return Ok(None);
    }
    let live = live(tx, schema, company, plan.fold, true).await?;
    let silent_until = match (&live, plan.trigger) {
        (_, false) => 0,
        (Some(predecessor), true) => {
            set_standing(tx, schema, &predecessor.id, Standing::Retired).await?;
            predecessor.answered_until()
        }
        (None, true) => registered(tx, plan.fold, company).await?.unwrap_or_default().position,
    };
    let standing = if live.is_some() && !plan.trigger { Standing::Building } else { Standing::Live };
    insert(tx, plan, company, standing, silent_until, now()).await.map(Some)
}

pub(super) async fn insert(
    tx: &mut Tx,
    plan: &Plan,
    company: CompanyId,
    standing: Standing,
    silent: Position,
    now: Timestamp,
) -> Result<Opened> {
    // Another process may have dropped them since this one started.
    make_tables(tx, plan).await?;
    let schema = schema(plan.trigger);
    let text = format!(
        "INSERT INTO {schema}.folds (company, fold, version, build, standing, silent_until, touched_at, skipped)
         SELECT $1::uuid, $2, $3, coalesce(max(build), 0) + 1, $4, $5, $6,
            (SELECT count(*) FROM {schema}.fold_skips WHERE company = $1::uuid AND fold = $2 AND version = $3)
            FROM {schema}.folds WHERE company = $1::uuid AND fold = $2 AND version = $3
         RETURNING {COLUMNS}"
    );
    let row = sqlx::query(&text)
        .bind(company.to_string())
        .bind(plan.fold)
        .bind(i64::from(plan.version))
        .bind(standing.name())
        .bind(int(silent))
        .bind(now.micros())
        .fetch_one(&mut **tx)
        .await?;
    opened(tx, schema, read(&row)?).await
}

async fn opened(tx: &mut Tx, schema: &str, row: FoldRow) -> Result<Opened> {
    let text =
        format!("SELECT position FROM {schema}.fold_skips WHERE company = $1::uuid AND fold = $2 AND version = $3");
    let found: Vec<i64> = sqlx::query_scalar(&text)
        .bind(row.id.company.to_string())
        .bind(&row.id.fold)
        .bind(i64::from(row.id.version))
        .fetch_all(&mut **tx)
        .await?;
    let skipped: BTreeSet<Position> = found.into_iter().filter_map(|position| u64::try_from(position).ok()).collect();
    Ok(Opened { row, skipped })
}

pub(super) async fn registered(connection: &mut Session, fold: &str, company: CompanyId) -> Result<Option<Head>> {
    let query = sqlx::query("SELECT position, hash FROM cnc.trigger_starts WHERE fold = $1 AND company = $2");
    let Some(row) = query.bind(fold).bind(company.to_string()).fetch_optional(connection).await? else {
        return Ok(None);
    };
    let position = u64::try_from(row.try_get::<i64, _>(0)?).unwrap_or(0);
    Ok(Some(Head { position, hash: hash(&row, 1)? }))
}

/// Updates the row of a build. `set` uses $5 and on for the numbers, and what follows them for the text.
async fn update(tx: &mut Tx, schema: &str, id: &FoldId, set: &str, numbers: &[i64], text: Option<&str>) -> Result<()> {
    let statement = format!("UPDATE {schema}.folds SET {set} WHERE {MINE}");
    let mut query =
        sqlx::query(&statement).bind(id.company.to_string()).bind(&id.fold).bind(i64::from(id.version)).bind(id.build);
    for number in numbers {
        query = query.bind(*number);
    }
    if let Some(text) = text {
        query = query.bind(text.to_owned());
    }
    query.execute(&mut **tx).await.map(drop)
}

async fn set_standing(tx: &mut Tx, schema: &str, id: &FoldId, standing: Standing) -> Result<()> {
    update(tx, schema, id, "standing = $5", &[], Some(standing.name())).await
}

pub(super) async fn begin(tx: &mut Tx, schema: &str, id: &FoldId, at: Head, process: Uuid, beat: i64) -> Result<bool> {
    if row(tx, schema, id).await?.is_none_or(|row| row.head() != at) {
        return Ok(false);
    }
    let set = "begun = begun || jsonb_build_object($6::text, $5::bigint)";
    update(tx, schema, id, set, &[beat], Some(&process.to_string())).await?;
    Ok(true)
}

async fn count_swap(tx: &mut Tx) -> Result<()> {
    sqlx::query("UPDATE cnc_views.swaps SET number = number + 1").execute(&mut **tx).await.map(drop)
}

pub(super) async fn replace(
    tx: &mut Tx,
    plan: &Plan,
    forked: &FoldRow,
    whole_from: Position,
    silent_until: Position,
) -> Result<bool> {
    let (schema, company) = (schema(plan.trigger), forked.id.company);
    one_at_a_time(tx, company, plan.fold).await?;
    let stands = row(tx, schema, &forked.id).await?;
    let stands = stands.filter(|row| row.is_served_or_will_be() && row.head() == forked.head());
    let Some(forked) = stands else { return Ok(false) };
    set_standing(tx, schema, &forked.id, Standing::Forked).await?;
    let next = format!(
        "SELECT {COLUMNS} FROM {schema}.folds WHERE company = $1::uuid AND fold = $2 AND version = $3
            AND standing = 'building' FOR UPDATE"
    );
    let next = sqlx::query(&next).bind(company.to_string()).bind(plan.fold).bind(i64::from(plan.version));
    let next = next.fetch_optional(&mut **tx).await?.filter(|_| forked.standing == Standing::Live);
    let built = match next {
        Some(next) => read(&next)?,
        None => insert(tx, plan, company, forked.standing, silent_until, now()).await?.row,
    };
    // Nobody who saw what was there, of whatever position, can be told what changed.
    let horizon = forked.position.max(whole_from) + 1;
    let set = "whole_from = $5, horizon = $6, standing = $7";
    update(tx, schema, &built.id, set, &[int(whole_from), int(horizon)], Some(forked.standing.name())).await?;
    if plan.trigger {
        for (table, fold) in [("outbox", "parcel ->> 'fold'"), ("deadlines", "fold")] {
            let text = format!(
                "DELETE FROM cnc.{table} WHERE company = $1::uuid AND {fold} = $2
                    AND (parcel #>> '{{caused_at,position}}')::bigint > $3"
            );
            let query = sqlx::query(&text).bind(company.to_string()).bind(plan.fold).bind(int(silent_until));
            query.execute(&mut **tx).await?;
        }
    }
    count_swap(tx).await?;
    Ok(true)
}

pub(super) async fn poison(
    tx: &mut Tx,
    schema: &str,
    id: &FoldId,
    position: Position,
    reason: &str,
    now: Timestamp,
) -> Result<Poisoned> {
    let before = row(tx, schema, id).await?.and_then(|row| row.poisoned).filter(|before| before.position == position);
    let poisoned = Poisoned::after(before.map_or(0, |before| before.attempts) + 1, position, reason, now);
    let set = "begun = '{}', poison_position = $5, poison_attempts = $6, retry_at = $7, touched_at = $8, \
               poison_reason = $9";
    let numbers = [int(position), poisoned.attempts.into(), poisoned.retry_at.micros(), now.micros()];
    // The database cannot hold U+0000 in a text.
    let reason = poisoned.reason.replace('\0', " ");
    update(tx, schema, id, set, &numbers, Some(&reason)).await?;
    Ok(poisoned)
}

pub(super) async fn retry(tx: &mut Tx, schema: &str, id: &FoldId) -> Result<()> {
    update(tx, schema, id, "poison_attempts = 0, retry_at = 0, begun = '{}'", &[], None).await
}

pub(super) async fn skip(
    tx: &mut Tx,
    schema: &str,
    id: &FoldId,
    position: Position,
    by: &str,
    now: Timestamp,
) -> Result<bool> {
    let stopped = row(tx, schema, id).await?.and_then(|row| row.poisoned).filter(|found| found.position == position);
    let Some(poisoned) = stopped else { return Ok(false) };
    let text = format!(
        "INSERT INTO {schema}.fold_skips (company, fold, version, position, reason, skipped_by, skipped_at)
         VALUES ($1::uuid, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING"
    );
    sqlx::query(&text)
        .bind(id.company.to_string())
        .bind(&id.fold)
        .bind(i64::from(id.version))
        .bind(int(position))
        .bind(poisoned.reason)
        .bind(by)
        .bind(now.micros())
        .execute(&mut **tx)
        .await?;
    let set = "skipped = skipped + 1, poison_position = NULL, poison_reason = NULL, poison_attempts = 0, begun = '{}'";
    update(tx, schema, id, set, &[], None).await?;
    Ok(true)
}

pub(super) async fn swap(tx: &mut Tx, trigger: bool, id: &FoldId) -> Result<bool> {
    let schema = schema(trigger);
    one_at_a_time(tx, id.company, &id.fold).await?;
    // The live row first, in the order in which all take them.
    let live = live(tx, schema, id.company, &id.fold, true).await?;
    let mine = row(tx, schema, id).await?.filter(|row| !row.is_over());
    let Some(mine) = mine else { return Ok(false) };
    let mut silent_until = mine.silent_until.min(mine.position);
    let replaces = live.is_some();
    if let Some(live) = live {
        if mine.gives_way_to(&live) {
            set_standing(tx, schema, id, Standing::Retired).await?;
            return Ok(false);
        }
        // A trigger must neither answer an entry twice nor leave one out.
        if live.position > mine.position || (trigger && live.position != mine.position) {
            return Ok(false);
        }
        set_standing(tx, schema, &live.id, Standing::Retired).await?;
        silent_until = live.answered_until();
    }
    // Nobody who saw the former documents, also at this position, can be told what changed: who asks since then asks again.
    let set = "standing = 'live', horizon = position + 1, silent_until = $5";
    update(tx, schema, id, set, &[int(silent_until)], None).await?;
    if replaces {
        count_swap(tx).await?;
    }
    Ok(true)
}

/// Drops some documents of a build, then its row. Says whether all is done.
pub(super) async fn drop_some(tx: &mut Tx, schema: &str, id: &FoldId) -> Result<(u64, bool)> {
    set_standing(tx, schema, id, Standing::Retired).await?;
    let text = format!("SELECT document FROM {schema}.fold_tables WHERE fold = $1 AND version = $2");
    let documents: Vec<String> =
        sqlx::query_scalar(&text).bind(&id.fold).bind(i64::from(id.version)).fetch_all(&mut **tx).await?;
    let mut dropped = 0;
    for document in documents {
        let table = format!("{schema}.\"{document}_v{}\"", id.version);
        let text = format!(
            "DELETE FROM {table} WHERE ctid = ANY (ARRAY
                (SELECT ctid FROM {table} WHERE company = $1::uuid AND build = $2 LIMIT {DROPPED_AT_ONCE}))"
        );
        let deleted = sqlx::query(&text).bind(id.company.to_string()).bind(id.build).execute(&mut **tx).await?;
        dropped += deleted.rows_affected();
        if deleted.rows_affected() == DROPPED_AT_ONCE as u64 {
            return Ok((dropped, false));
        }
    }
    let text = format!("DELETE FROM {schema}.folds WHERE {MINE}");
    sqlx::query(&text)
        .bind(id.company.to_string())
        .bind(&id.fold)
        .bind(i64::from(id.version))
        .bind(id.build)
        .execute(&mut **tx)
        .await?;
    Ok((dropped, true))
}

pub(super) async fn forget_removals(tx: &mut Tx, before: Timestamp) -> Result<()> {
    sqlx::query(
        "WITH gone AS (DELETE FROM cnc_views.removals WHERE removed_at < $1 RETURNING company, fold, position),
              last AS (SELECT company, fold, max(position) AS position FROM gone GROUP BY company, fold)
         UPDATE cnc_views.folds f SET horizon = greatest(f.horizon, last.position) FROM last
            WHERE f.company = last.company AND f.fold = last.fold",
    )
    .bind(before.micros())
    .execute(&mut **tx)
    .await
    .map(drop)
}
