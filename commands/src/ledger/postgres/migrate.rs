//! The schema, version by version.

use cnc_domain::ledger::Fault;
use sqlx::{Executor as _, PgPool, Postgres, Transaction};

use super::fault::fault;

/// Each version's statements, from 1 on. What was released is never edited; a change is another version.
const VERSIONS: &[&[&str]] = &[
    &[include_str!("schema.sql"), include_str!("roles.sql")],
    &[include_str!("relay.sql")],
    &[include_str!("move.sql")],
    &[include_str!("tip.sql")],
];
/// Held while migrating, so that of several processes that start at once one does it and the others wait.
const LOCK: i64 = 0x636e_635f_6c65_6467;
const OLDEST: i32 = 150_000;

/// Brings the schema up to date.
pub(super) async fn migrate(pool: &PgPool) -> Result<(), Fault> {
    let doing = "migrate the ledger";
    let mut tx = pool.begin().await.map_err(fault(doing))?;
    let server: i32 = sqlx::query_scalar("SELECT current_setting('server_version_num')::int")
        .fetch_one(&mut *tx)
        .await
        .map_err(fault(doing))?;
    if server < OLDEST {
        return Err(Fault::broken(doing, format!("Postgres {} is older than 15", server / 10_000)));
    }
    steps(&mut tx).await.map_err(fault(doing))?;
    tx.commit().await.map_err(fault(doing))
}

async fn steps(tx: &mut Transaction<'_, Postgres>) -> sqlx::Result<()> {
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut **tx).await?;
    let known: bool =
        sqlx::query_scalar("SELECT to_regclass('cnc.ledger_versions') IS NOT NULL").fetch_one(&mut **tx).await?;
    if !known {
        let versions = "CREATE SCHEMA IF NOT EXISTS cnc; CREATE TABLE cnc.ledger_versions (version int PRIMARY KEY)";
        tx.execute(sqlx::raw_sql(versions)).await?;
    }
    let current: i32 =
        sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM cnc.ledger_versions").fetch_one(&mut **tx).await?;
    for (version, statements) in (1..).zip(VERSIONS).skip(usize::try_from(current).unwrap_or_default()) {
        for statement in *statements {
            tx.execute(sqlx::raw_sql(statement)).await?;
        }
        sqlx::query("INSERT INTO cnc.ledger_versions VALUES ($1)").bind::<i32>(version).execute(&mut **tx).await?;
    }
    Ok(())
}
