//! The schema, version by version.

use std::time::Duration;

use cnc_domain::ledger::Fault;
use cnc_postgres::{Pool, Transaction};
use sqlx::Executor as _;

use super::fault::fault;

/// Each version's statements, from 1 on. What was released is never edited; a change is another version.
const VERSIONS: &[&[&str]] = &[
    &[include_str!("schema.sql")],
    &[include_str!("relay.sql")],
    &[include_str!("move.sql")],
    &[include_str!("tip.sql")],
    &[include_str!("facts.sql")],
    &[include_str!("fork.sql")],
];
/// Who may do what.
const ROLES: &str = include_str!("roles.sql");
/// Held while migrating, so that of several processes that start at once one does it and the others wait.
const LOCK: i64 = 0x636e_635f_6c65_6467;
/// How long a step may take, and how long another process' steps are waited for.
const PATIENCE: Duration = Duration::from_mins(10);
const OLDEST: i32 = 150_000;

/// Brings the schema up to date.
pub(super) async fn migrate(pool: &Pool) -> Result<(), Fault> {
    let doing = "migrate the ledger";
    let mut tx = pool.begin().await.map_err(fault(doing))?;
    let server: i32 = sqlx::query_scalar("SELECT current_setting('server_version_num')::int")
        .fetch_one(&mut *tx)
        .await
        .map_err(fault(doing))?;
    if server < OLDEST {
        return Err(Fault::broken(doing, format!("Postgres {} is older than 15", server / 10_000)));
    }
    if is_current(&mut tx).await.map_err(fault(doing))? {
        return Ok(());
    }
    steps(&mut tx).await.map_err(fault(doing))?;
    tx.commit().await.map_err(fault(doing))
}

/// Makes the roles, what they may do and what they see, where any of it is missing.
pub(super) async fn repair_roles(pool: &Pool) -> Result<(), Fault> {
    run(pool, ROLES).await.map_err(fault("repair the roles"))
}

/// Runs statements that only the owner may, all or none, one process after another.
pub(super) async fn run(pool: &Pool, statements: &str) -> sqlx::Result<()> {
    let mut tx = pool.begin().await?;
    lock(&mut tx).await?;
    tx.execute(sqlx::raw_sql(statements)).await?;
    tx.commit().await
}

async fn lock(tx: &mut Transaction) -> sqlx::Result<()> {
    tx.allow(PATIENCE).await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut **tx).await.map(drop)
}

/// Whether nothing is left to be done: seen without an owner's rights, and without waiting for anybody.
async fn is_current(tx: &mut Transaction) -> sqlx::Result<bool> {
    Ok(is_known(tx).await? && usize::try_from(version(tx).await?).is_ok_and(|version| version >= VERSIONS.len()))
}

/// Whether there are versions. By name, a server would go on knowing that they are not there, even when another process
/// has made them while this one waited for the lock.
async fn is_known(tx: &mut Transaction) -> sqlx::Result<bool> {
    let sql = "SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = 'cnc' AND tablename = 'ledger_versions')";
    sqlx::query_scalar(sql).fetch_one(&mut **tx).await
}

async fn version(tx: &mut Transaction) -> sqlx::Result<i32> {
    sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM cnc.ledger_versions").fetch_one(&mut **tx).await
}

async fn steps(tx: &mut Transaction) -> sqlx::Result<()> {
    lock(tx).await?;
    if !is_known(tx).await? {
        let versions = "CREATE SCHEMA IF NOT EXISTS cnc; CREATE TABLE cnc.ledger_versions (version int PRIMARY KEY)";
        tx.execute(sqlx::raw_sql(versions)).await?;
    }
    let current = version(tx).await?;
    for (version, statements) in (1..).zip(VERSIONS).skip(usize::try_from(current).unwrap_or_default()) {
        for statement in *statements {
            tx.execute(sqlx::raw_sql(statement)).await?;
        }
        sqlx::query("INSERT INTO cnc.ledger_versions VALUES ($1)").bind::<i32>(version).execute(&mut **tx).await?;
    }
    tx.execute(sqlx::raw_sql(ROLES)).await.map(drop)
}
