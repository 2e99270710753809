//! Tables, indexes, the role that reads, and row security.

use std::{collections::BTreeSet, fmt::Write as _, sync::Arc};

use cnc_domain::kernel::{CompanyId, LocationId};
use sqlx::{Executor, PgPool, Result};

use super::{
    super::{Form, Generation, Plan, Table},
    Tx, schema,
};

/// Taken while tables are made, so that processes that start at once do not get in each other's way.
const MAKING: i64 = 0x636e_635f_666f_6c64;

/// The role may be another's to make, or made by another at this moment; without it, readers read as who connects.
const READER: &str = "DO $$ BEGIN
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'cnc_read') THEN CREATE ROLE cnc_read NOLOGIN; END IF;
    IF NOT pg_has_role(current_user, 'cnc_read', 'MEMBER') THEN EXECUTE format('GRANT cnc_read TO %I', current_user); END IF;
EXCEPTION WHEN insufficient_privilege OR duplicate_object OR unique_violation THEN NULL; END $$";

/// The version of `tables.sql` and of what secures it.
const VERSION: i32 = 3;

/// A number that is gone after whatever may lose commits of views: a table without a log is emptied when a server recovers
/// from a crash, of the machine or of one of its processes, and is empty on a standby that takes over.
const GENERATION: &str = "CREATE UNLOGGED TABLE IF NOT EXISTS cnc_views.generation
    (one boolean PRIMARY KEY DEFAULT true CHECK (one), number bigint NOT NULL)";

/// Counts how often a view's live build gave way to another.
const SWAPS: &str = "CREATE TABLE cnc_views.swaps
    (one boolean PRIMARY KEY DEFAULT true CHECK (one), number bigint NOT NULL);
    INSERT INTO cnc_views.swaps (number) VALUES (0)";

/// Makes what all folds share, once: every process asks for it when it starts, and to secure a table anew would lock out
/// those who work on it.
pub(super) async fn make(pool: &PgPool) -> Result<()> {
    let mut tx = pool.begin().await?;
    lock(&mut tx).await?;
    let made = made(&mut tx).await?;
    if made >= VERSION {
        return Ok(());
    }
    if made < 1 {
        make_shared(&mut tx).await?;
    }
    tx.execute(GENERATION).await?;
    for trigger in [false, true] {
        tx.execute(include_str!("history.sql").replace("{schema}", schema(trigger)).as_str()).await?;
    }
    tx.execute(SWAPS).await?;
    sqlx::query("INSERT INTO cnc_views.versions VALUES ($1)").bind(VERSION).execute(&mut *tx).await?;
    tx.commit().await
}

async fn make_shared(tx: &mut Tx) -> Result<()> {
    tx.execute(READER).await?;
    for trigger in [false, true] {
        let text = include_str!("tables.sql").replace("{schema}", schema(trigger));
        tx.execute(text.as_str()).await?;
    }
    tx.execute(secure("cnc_views.folds", false).as_str()).await?;
    tx.execute(secure("cnc_views.removals", true).as_str()).await.map(drop)
}

/// See [`Storage::generation`](super::Storage::generation). Who finds none begins one.
pub(super) async fn generation(pool: &PgPool) -> Result<Generation> {
    let known = "SELECT g.number, s.number FROM cnc_views.generation AS g CROSS JOIN cnc_views.swaps AS s";
    let begin = "INSERT INTO cnc_views.generation (number) VALUES ((random() * 9e15)::bigint) ON CONFLICT DO NOTHING";
    let mut found = sqlx::query_as(known).fetch_optional(pool).await?;
    if found.is_none() {
        sqlx::query(begin).execute(pool).await?;
        found = Some(sqlx::query_as(known).fetch_one(pool).await?);
    }
    let (losses, swaps) = found.unwrap_or_default();
    Ok(Generation { losses, swaps })
}

/// The version that is there; 0 where there is none.
async fn made(tx: &mut Tx) -> Result<i32> {
    let there: bool =
        sqlx::query_scalar("SELECT to_regclass('cnc_views.versions') IS NOT NULL").fetch_one(&mut **tx).await?;
    if !there {
        let versions =
            "CREATE SCHEMA IF NOT EXISTS cnc_views; CREATE TABLE cnc_views.versions (version int PRIMARY KEY)";
        tx.execute(sqlx::raw_sql(versions)).await?;
    }
    sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM cnc_views.versions").fetch_one(&mut **tx).await
}

/// Makes the tables of these folds.
pub(super) async fn prepare(tx: &mut Tx, plans: &[Arc<Plan>]) -> Result<()> {
    for plan in plans {
        make_tables(tx, plan).await?;
    }
    Ok(())
}

/// Makes the tables of a fold where they are missing.
pub(super) async fn make_tables(tx: &mut Tx, plan: &Plan) -> Result<()> {
    lock(tx).await?;
    let schema = schema(plan.trigger);
    for (shelf, table) in plan.tables.iter().enumerate() {
        let known = sqlx::query(&format!(
            "INSERT INTO {schema}.fold_tables (fold, version, document) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
        ))
        .bind(plan.fold)
        .bind(i64::from(plan.version))
        .bind(table.document)
        .execute(&mut **tx)
        .await?;
        if known.rows_affected() > 0 {
            tx.execute(ddl(schema, &plan.table(shelf, plan.version), table, !plan.trigger).as_str()).await?;
        }
    }
    Ok(())
}

/// Drops the tables of versions that no build uses, but for those of `known`. Nobody starts a build meanwhile.
pub(super) async fn drop_tables(tx: &mut Tx, schema: &str, known: &[(&'static str, u32)]) -> Result<u64> {
    lock(tx).await?;
    let unused: Vec<(String, i64, String)> = sqlx::query_as(&format!(
        "SELECT fold, version, document FROM {schema}.fold_tables t WHERE NOT EXISTS
            (SELECT 1 FROM {schema}.folds f WHERE f.fold = t.fold AND f.version = t.version)"
    ))
    .fetch_all(&mut **tx)
    .await?;
    let mut dropped = 0;
    for (fold, version, document) in unused {
        if known.iter().any(|(name, known)| *name == fold && i64::from(*known) == version) {
            continue;
        }
        tx.execute(format!("DROP TABLE IF EXISTS {schema}.\"{document}_v{version}\"").as_str()).await?;
        let forget = format!("DELETE FROM {schema}.fold_tables WHERE fold = $1 AND version = $2 AND document = $3");
        sqlx::query(&forget).bind(fold).bind(version).bind(document).execute(&mut **tx).await?;
        dropped += 1;
    }
    Ok(dropped)
}

async fn lock(tx: &mut Tx) -> Result<()> {
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(MAKING).execute(&mut **tx).await.map(drop)
}

fn ddl(schema: &str, name: &str, table: &Table, served: bool) -> String {
    let mut text = format!(
        "CREATE TABLE IF NOT EXISTS {schema}.\"{name}\" (company uuid NOT NULL, build bigint NOT NULL,
            key text COLLATE \"C\" NOT NULL, location uuid, position bigint NOT NULL, doc json NOT NULL, restricted json,
            PRIMARY KEY (company, build, key));
         CREATE INDEX IF NOT EXISTS \"{name}_position\" ON {schema}.\"{name}\" (company, build, position);"
    );
    for filter in &table.filters {
        let column = filter.name.replace('.', "_");
        let _ = match filter.form {
            Form::List => write!(
                text,
                "CREATE INDEX IF NOT EXISTS \"{name}_is_{column}\" ON {schema}.\"{name}\" USING gin ({});",
                list(filter.name)
            ),
            _ => write!(
                text,
                "CREATE INDEX IF NOT EXISTS \"{name}_is_{column}\" ON {schema}.\"{name}\" (company, build, {}, key);",
                member(filter.name)
            ),
        };
    }
    for sort in &table.sorts {
        let column = sort.name.replace('.', "_");
        let by = sorted(sort.name, sort.form);
        let _ = write!(
            text,
            "CREATE INDEX IF NOT EXISTS \"{name}_by_{column}\" ON {schema}.\"{name}\" (company, build, {by}, key);"
        );
    }
    if served {
        text += &secure(&format!("{schema}.\"{name}\""), true);
    }
    text
}

/// Forces row security: the reading role sees one company and some locations of it, others are held by their grants.
fn secure(table: &str, by_location: bool) -> String {
    let location = if by_location {
        "AND (location IS NULL OR current_setting('cnc.locations', true) = '*'
            OR location::text = ANY (string_to_array(current_setting('cnc.locations', true), ',')))"
    } else {
        ""
    };
    format!(
        "ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
         ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
         DROP POLICY IF EXISTS folding ON {table};
         CREATE POLICY folding ON {table} USING (current_user <> 'cnc_read') WITH CHECK (current_user <> 'cnc_read');
         DROP POLICY IF EXISTS reading ON {table};
         CREATE POLICY reading ON {table} FOR SELECT USING (current_user = 'cnc_read'
            AND company = nullif(current_setting('cnc.company', true), '')::uuid {location});
         DO $$ BEGIN
            IF EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'cnc_read') THEN
                GRANT USAGE ON SCHEMA cnc_views TO cnc_read;
                GRANT SELECT ON {table} TO cnc_read;
            END IF;
         END $$;"
    )
}

/// Whether who connects may read as `cnc_read`.
pub(super) async fn has_reader(pool: &PgPool) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'cnc_read' AND pg_has_role(oid, 'MEMBER'))";
    sqlx::query_scalar(sql).fetch_one(pool).await
}

/// Begins a snapshot of only this company and these locations, for who reads as `cnc_read`. One text; it is made of ids
/// alone.
pub(super) fn begin_reading(company: CompanyId, scope: Option<&BTreeSet<LocationId>>) -> String {
    let locations = locations(scope);
    format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
         SET LOCAL cnc.company = '{company}'; SET LOCAL cnc.locations = '{locations}'"
    )
}

/// What `cnc.locations` is for a reader who may see these, as [`secure`] reads it.
pub(super) fn locations(scope: Option<&BTreeSet<LocationId>>) -> String {
    let Some(scope) = scope else { return "*".into() };
    scope.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// The expression of a member, as indexes and queries must both write it.
pub(super) fn member(path: &str) -> String {
    format!("(doc #>> '{{{}}}')", path.replace('.', ","))
}

/// The expression of a member that is a list.
pub(super) fn list(path: &str) -> String {
    format!("((doc #> '{{{}}}')::jsonb)", path.replace('.', ","))
}

/// The expression that a member is sorted by: what is absent comes last among numbers and first among texts.
pub(super) fn sorted(path: &str, form: Form) -> String {
    if form == Form::Integer {
        format!("coalesce({}::bigint, 9223372036854775807)", member(path))
    } else {
        format!("(coalesce({}, '') COLLATE \"C\")", member(path))
    }
}
