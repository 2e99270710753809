//! What triggers have to do, read from Postgres and written to it.

use cnc_domain::{
    kernel::CompanyId,
    ledger::{Fault, Position},
};
use serde_json::value::RawValue;
use sqlx::{Connection as _, Executor as _, PgConnection, Result, Row as _, postgres::PgRow};

use super::{
    super::carrying::{CarriedCommand, CarriedDeadline, Skip, Start, TriggerState},
    builds::int,
    fault, schema,
};

const DOING: &str = "carrying what triggers have to do to another database";

/// Whether a database holds folds of a company.
pub async fn holds_folds(url: &str, company: CompanyId) -> std::result::Result<bool, Fault> {
    let mut connection = connect(url).await?;
    let sql = "SELECT EXISTS (SELECT FROM cnc.folds WHERE company = $1::uuid)
                   OR EXISTS (SELECT FROM cnc_views.folds WHERE company = $1::uuid)";
    let found = sqlx::query_scalar(sql).bind(company.to_string()).fetch_one(&mut connection).await;
    found.map_err(fault(DOING))
}

pub async fn connect(url: &str) -> std::result::Result<PgConnection, Fault> {
    PgConnection::connect(url).await.map_err(fault(DOING))
}

/// One snapshot for all that is read: positions, parcels and deadlines belong together.
pub async fn snapshot(url: &str) -> std::result::Result<PgConnection, Fault> {
    let mut connection = connect(url).await?;
    // The snapshot is taken by the first statement that reads.
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT 1";
    connection.execute(sqlx::raw_sql(begin)).await.map_err(fault(DOING))?;
    Ok(connection)
}

pub async fn read(source: &mut PgConnection, company: CompanyId) -> std::result::Result<TriggerState, Fault> {
    read_all(source, company).await.map_err(fault(DOING))
}

async fn read_all(source: &mut PgConnection, company: CompanyId) -> Result<TriggerState> {
    let mut state = TriggerState::nothing(company);
    let company = company.to_string();
    let made =
        "SELECT to_regclass('cnc.trigger_starts') IS NOT NULL AND to_regclass('cnc_views.fold_skips') IS NOT NULL";
    if !sqlx::query_scalar(made).fetch_one(&mut *source).await? {
        return Ok(state);
    }
    let starts = "SELECT r.fold, greatest(f.position, f.silent_until, s.position, 0)
                  FROM cnc.trigger_starts AS r
                  LEFT JOIN cnc.folds AS f ON f.company = $1::uuid AND f.fold = r.fold AND f.standing = 'live'
                  LEFT JOIN cnc.trigger_starts AS s ON s.company = $1 AND s.fold = r.fold
                  WHERE r.company = ''";
    let deadlines = "SELECT fold, key, due_at, parcel::text FROM cnc.deadlines WHERE company = $1::uuid";
    let parcels = "SELECT command::text, due_at, parcel::text FROM cnc.outbox WHERE company = $1::uuid ORDER BY place";
    for row in sqlx::query(starts).bind(&company).fetch_all(&mut *source).await? {
        state.starts.push(Start { fold: row.try_get(0)?, position: row.try_get(1)? });
    }
    for row in sqlx::query(deadlines).bind(&company).fetch_all(&mut *source).await? {
        let (fold, key, due_at) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        state.deadlines.push(CarriedDeadline { fold, key, due_at, parcel: json(&row, 3)? });
    }
    for row in sqlx::query(parcels).bind(&company).fetch_all(&mut *source).await? {
        let (command, due_at) = (row.try_get(0)?, row.try_get(1)?);
        state.outbox.push(CarriedCommand { command, due_at, parcel: json(&row, 2)? });
    }
    for trigger in [true, false] {
        let sql = format!(
            "SELECT fold, version, position, reason, skipped_by, skipped_at FROM {}.fold_skips WHERE company = $1::uuid",
            schema(trigger)
        );
        for row in sqlx::query(&sql).bind(&company).fetch_all(&mut *source).await? {
            state.skips.push(skip(trigger, &row)?);
        }
    }
    Ok(state)
}

/// Text that stays the bytes that it is.
fn json(row: &PgRow, column: usize) -> Result<Box<RawValue>> {
    RawValue::from_string(row.try_get(column)?).map_err(|wrong| sqlx::Error::Decode(wrong.into()))
}

fn skip(trigger: bool, row: &PgRow) -> Result<Skip> {
    let (fold, version, position, reason) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
    Ok(Skip { trigger, fold, version, position, reason, skipped_by: row.try_get(4)?, skipped_at: row.try_get(5)? })
}

pub async fn write(target: &mut PgConnection, state: &TriggerState, head: Position) -> std::result::Result<(), Fault> {
    write_all(target, state, head).await.map_err(fault(DOING))
}

async fn write_all(target: &mut PgConnection, state: &TriggerState, head: Position) -> Result<()> {
    let company = state.company.to_string();
    let company = company.as_str();
    let mut tx = target.begin().await?;
    for table in ["cnc.deadlines", "cnc.outbox", "cnc.fold_skips", "cnc_views.fold_skips", "cnc.trigger_starts"] {
        tx.execute(sqlx::query(&format!("DELETE FROM {table} WHERE company::text = $1")).bind(company)).await?;
    }
    sqlx::query(
        "INSERT INTO cnc.trigger_starts (fold, company, position, hash)
         SELECT f, $1::text, p, coalesce(e.hash, decode(repeat('00', 32), 'hex'))
         FROM unnest($2::text[], $3::bigint[]) AS u (f, p)
         LEFT JOIN cnc.events AS e ON e.company = $1::text::uuid AND e.position = p",
    )
    .bind(company)
    .bind(state.starts.iter().map(|start| start.fold.as_str()).collect::<Vec<_>>())
    .bind(state.starts.iter().map(|start| start.position).collect::<Vec<_>>())
    .execute(&mut *tx)
    .await?;
    // A trigger that only the target knows begins here, as it began for the companies that were there before it.
    sqlx::query(
        "INSERT INTO cnc.trigger_starts (fold, company, position, hash)
         SELECT s.fold, $1::text, $2, coalesce(e.hash, s.hash) FROM cnc.trigger_starts AS s
         LEFT JOIN cnc.events AS e ON e.company = $1::text::uuid AND e.position = $2
         WHERE s.company = '' ON CONFLICT DO NOTHING",
    )
    .bind(company)
    .bind(int(head))
    .execute(&mut *tx)
    .await?;
    for CarriedDeadline { fold, key, due_at, parcel } in &state.deadlines {
        let sql =
            "INSERT INTO cnc.deadlines (company, fold, key, due_at, parcel) VALUES ($1::uuid, $2, $3, $4, $5::json)";
        let query = sqlx::query(sql).bind(company).bind(fold).bind(key).bind(due_at);
        query.bind(parcel.get()).execute(&mut *tx).await?;
    }
    for CarriedCommand { command, due_at, parcel } in &state.outbox {
        let sql = "INSERT INTO cnc.outbox (company, command, parcel, due_at) VALUES ($1::uuid, $2::uuid, $3::json, $4)";
        let query = sqlx::query(sql).bind(company).bind(command).bind(parcel.get());
        query.bind(due_at).execute(&mut *tx).await?;
    }
    for Skip { trigger, fold, version, position, reason, skipped_by, skipped_at } in &state.skips {
        let sql = format!("INSERT INTO {}.fold_skips VALUES ($1::uuid, $2, $3, $4, $5, $6, $7)", schema(*trigger));
        let query = sqlx::query(&sql).bind(company).bind(fold).bind(version).bind(position);
        query.bind(reason).bind(skipped_by).bind(skipped_at).execute(&mut *tx).await?;
    }
    tx.commit().await
}
