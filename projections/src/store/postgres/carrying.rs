//! What triggers of a company still have to do, carried to another database when the company moves there.
//!
//! In the target they are silent up to where they stood in the source, as a changed trigger is up to where its
//! predecessor was; what they had sent and nobody had carried out, and their deadlines, come along as they are. The
//! source's ledger has ended by then, so that whatever a trigger there still sends can be recorded nowhere.

use cnc_domain::{
    kernel::CompanyId,
    ledger::{Fault, Position},
};
use sqlx::{Connection as _, Executor as _, PgConnection, Result, Row as _, postgres::PgRow};

use super::{builds::int, fault};

const DOING: &str = "carrying what triggers have to do to another database";

/// Everything as text, so that JSON stays the bytes that it is.
#[derive(Default)]
struct Carried {
    starts: Vec<(String, i64)>,
    deadlines: Vec<(String, String, i64, String)>,
    parcels: Vec<(String, String, i64)>,
    skips: Vec<Skip>,
}

struct Skip {
    schema: &'static str,
    fold: String,
    version: i64,
    position: i64,
    reason: String,
    by: String,
    at: i64,
}

/// Whether a database holds folds of a company.
pub async fn holds_folds(url: &str, company: CompanyId) -> std::result::Result<bool, Fault> {
    let mut connection = PgConnection::connect(url).await.map_err(fault(DOING))?;
    let sql = "SELECT EXISTS (SELECT FROM cnc.folds WHERE company = $1::uuid)
                   OR EXISTS (SELECT FROM cnc_views.folds WHERE company = $1::uuid)";
    let found = sqlx::query_scalar(sql).bind(company.to_string()).fetch_one(&mut connection).await;
    found.map_err(fault(DOING))
}

/// Carries what the triggers of a company have to do from one database to another, where its ledger ends at `head` and
/// nobody folds it yet. Done again, it begins anew. Returns how many commands and deadlines wait.
pub async fn carry_triggers(
    from: &str,
    to: &str,
    company: CompanyId,
    head: Position,
) -> std::result::Result<usize, Fault> {
    let mut source = PgConnection::connect(from).await.map_err(fault(DOING))?;
    let mut target = PgConnection::connect(to).await.map_err(fault(DOING))?;
    let company = company.to_string();
    let carried = read(&mut source, &company).await.map_err(fault(DOING))?;
    write(&mut target, &company, &carried, head).await.map_err(fault(DOING))?;
    Ok(carried.parcels.len() + carried.deadlines.len())
}

/// Reads it all in one snapshot: positions, parcels and deadlines belong together.
async fn read(source: &mut PgConnection, company: &str) -> Result<Carried> {
    let mut tx = source.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    let starts = "SELECT r.fold, greatest(f.position, f.silent_until, s.position, 0)
                  FROM cnc.trigger_starts AS r
                  LEFT JOIN cnc.folds AS f ON f.company = $1::uuid AND f.fold = r.fold AND f.standing = 'live'
                  LEFT JOIN cnc.trigger_starts AS s ON s.company = $1 AND s.fold = r.fold
                  WHERE r.company = ''";
    let deadlines = "SELECT fold, key, due_at, parcel::text FROM cnc.deadlines WHERE company = $1::uuid";
    let parcels = "SELECT command::text, parcel::text, due_at FROM cnc.outbox WHERE company = $1::uuid ORDER BY place";
    let mut carried = Carried {
        starts: sqlx::query_as(starts).bind(company).fetch_all(&mut *tx).await?,
        deadlines: sqlx::query_as(deadlines).bind(company).fetch_all(&mut *tx).await?,
        parcels: sqlx::query_as(parcels).bind(company).fetch_all(&mut *tx).await?,
        skips: Vec::new(),
    };
    for schema in ["cnc", "cnc_views"] {
        let sql = format!(
            "SELECT fold, version, position, reason, skipped_by, skipped_at FROM {schema}.fold_skips
             WHERE company = $1::uuid"
        );
        for row in sqlx::query(&sql).bind(company).fetch_all(&mut *tx).await? {
            carried.skips.push(skip(schema, &row)?);
        }
    }
    tx.commit().await?;
    Ok(carried)
}

fn skip(schema: &'static str, row: &PgRow) -> Result<Skip> {
    let (fold, version, position) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    Ok(Skip { schema, fold, version, position, reason: row.try_get(3)?, by: row.try_get(4)?, at: row.try_get(5)? })
}

async fn write(target: &mut PgConnection, company: &str, carried: &Carried, head: Position) -> Result<()> {
    let mut tx = target.begin().await?;
    for table in ["cnc.deadlines", "cnc.outbox", "cnc.fold_skips", "cnc_views.fold_skips", "cnc.trigger_starts"] {
        tx.execute(sqlx::query(&format!("DELETE FROM {table} WHERE company::text = $1")).bind(company)).await?;
    }
    let (folds, positions): (Vec<_>, Vec<_>) = carried.starts.iter().cloned().unzip();
    sqlx::query(
        "INSERT INTO cnc.trigger_starts (fold, company, position, hash)
         SELECT f, $1::text, p, coalesce(e.hash, decode(repeat('00', 32), 'hex'))
         FROM unnest($2::text[], $3::bigint[]) AS u (f, p)
         LEFT JOIN cnc.events AS e ON e.company = $1::text::uuid AND e.position = p",
    )
    .bind(company)
    .bind(folds)
    .bind(positions)
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
    for (fold, key, due_at, parcel) in &carried.deadlines {
        let sql =
            "INSERT INTO cnc.deadlines (company, fold, key, due_at, parcel) VALUES ($1::uuid, $2, $3, $4, $5::json)";
        sqlx::query(sql).bind(company).bind(fold).bind(key).bind(due_at).bind(parcel).execute(&mut *tx).await?;
    }
    for (command, parcel, due_at) in &carried.parcels {
        let sql = "INSERT INTO cnc.outbox (company, command, parcel, due_at) VALUES ($1::uuid, $2::uuid, $3::json, $4)";
        sqlx::query(sql).bind(company).bind(command).bind(parcel).bind(due_at).execute(&mut *tx).await?;
    }
    for Skip { schema, fold, version, position, reason, by, at } in &carried.skips {
        let sql = format!("INSERT INTO {schema}.fold_skips VALUES ($1::uuid, $2, $3, $4, $5, $6, $7)");
        let query = sqlx::query(&sql).bind(company).bind(fold).bind(version).bind(position);
        query.bind(reason).bind(by).bind(at).execute(&mut *tx).await?;
    }
    tx.commit().await
}
