//! Tables, indexes, the role that reads, and row security.

use std::{collections::BTreeSet, fmt::Write as _, sync::Arc, time::Duration};

use cnc_domain::kernel::{CompanyId, LocationId};
use cnc_postgres::Pool;
use sqlx::{Executor, Result};

use super::{
    super::{Form, Generation, Plan, Table},
    Tx, schema,
};

/// Taken while tables are made, so that processes that start at once do not get in each other's way.
const MAKING: i64 = 0x636e_635f_666f_6c64;

/// How long it may take to make tables, and how long others who make some are waited for.
const PATIENCE: Duration = Duration::from_mins(1);

/// The role may be another's to make, or made by another at this moment; without it, readers read as who connects. From
/// Postgres 16 on, who makes a role is a member of it and may not yet become it.
const READER: &str = "DO $$
DECLARE newer constant boolean := current_setting('server_version_num')::int >= 160000;
BEGIN
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'cnc_read') THEN CREATE ROLE cnc_read NOLOGIN; END IF;
    IF NOT pg_has_role(current_user, 'cnc_read', CASE WHEN newer THEN 'SET' ELSE 'MEMBER' END) THEN
        EXECUTE format('GRANT cnc_read TO %I', current_user) || CASE WHEN newer THEN ' WITH SET TRUE' ELSE '' END;
    END IF;
EXCEPTION WHEN insufficient_privilege OR duplicate_object OR unique_violation THEN NULL; END $$";

/// The version of `tables.sql`, of the tables of documents, and of what secures them.
const VERSION: i32 = 4;

/// Where documents were kept without columns for what is asked of them. They are folded again.
const UNFOLD: &str = "DO $$
DECLARE made text;
BEGIN
    FOR made IN SELECT format('cnc_views.%I', document || '_v' || version) FROM cnc_views.fold_tables LOOP
        EXECUTE 'DROP TABLE IF EXISTS ' || made;
    END LOOP;
    DELETE FROM cnc_views.fold_tables;
    DELETE FROM cnc_views.folds;
END $$";

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
pub(super) async fn make(pool: &Pool) -> Result<()> {
    let mut tx = pool.begin().await?;
    lock(&mut tx).await?;
    let made = made(&mut tx).await?;
    if made >= VERSION {
        return Ok(());
    }
    if made < 1 {
        make_shared(&mut tx).await?;
    } else if made < 3 {
        tx.execute(UNFOLD).await?;
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
pub(super) async fn generation(pool: &Pool) -> Result<Generation> {
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
        drop_table(tx, schema, &format!("{document}_v{version}")).await?;
        let forget = format!("DELETE FROM {schema}.fold_tables WHERE fold = $1 AND version = $2 AND document = $3");
        sqlx::query(&forget).bind(fold).bind(version).bind(document).execute(&mut **tx).await?;
        dropped += 1;
    }
    Ok(dropped)
}

/// Drops a table of documents and those of its lists, whichever the version had.
async fn drop_table(tx: &mut Tx, schema: &str, name: &str) -> Result<()> {
    let lists = "SELECT tablename FROM pg_tables WHERE schemaname = $1 AND starts_with(tablename, $2 || '_has_')";
    let lists: Vec<String> = sqlx::query_scalar(lists).bind(schema).bind(name).fetch_all(&mut **tx).await?;
    tx.execute(format!("DROP TABLE IF EXISTS {schema}.\"{name}\"").as_str()).await?;
    for list in lists {
        let drop = format!("DROP TABLE {schema}.\"{list}\"; DROP FUNCTION {schema}.\"{list}\"()");
        tx.execute(sqlx::raw_sql(&drop)).await?;
    }
    Ok(())
}

async fn lock(tx: &mut Tx) -> Result<()> {
    tx.allow(PATIENCE).await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(MAKING).execute(&mut **tx).await.map(drop)
}

/// The statements that make a table of documents.
///
/// What a view may be asked for stands in columns of its own. An index on an expression would do for an owner; under row
/// security a condition may use an index only where nothing in it could tell of rows that are not to be seen
/// ("leakproof"), and of all that could be asked, only comparisons of plain columns are.
fn ddl(schema: &str, name: &str, table: &Table, served: bool) -> String {
    let (mut columns, mut indexes, mut lists) = (String::new(), String::new(), String::new());
    let asked = if served { (&table.filters[..], &table.sorts[..]) } else { Default::default() };
    for filter in asked.0 {
        let column = is(filter.name);
        if filter.form == Form::List {
            let list = format!("(doc #> '{{{}}}')::jsonb", filter.name.replace('.', ","));
            let list = format!("CASE jsonb_typeof({list}) WHEN 'array' THEN {list} END");
            let _ = write!(columns, "{column} jsonb GENERATED ALWAYS AS ({list}) STORED, ");
            lists += &list_ddl(schema, name, filter.name);
        } else {
            let member = member(filter.name);
            let _ = write!(columns, "{column} text COLLATE \"C\" GENERATED ALWAYS AS ({member}) STORED, ");
            indexes += &index(schema, name, &column);
        }
    }
    for sort in asked.1 {
        let (column, kind, value) = (by(sort.name), kind(sort.form), sorted(sort.name, sort.form));
        let _ = write!(columns, "{column} {kind} NOT NULL GENERATED ALWAYS AS ({value}) STORED, ");
        indexes += &index(schema, name, &column);
    }
    let secured = if served { secure(&format!("{schema}.\"{name}\""), true) } else { String::new() };
    format!(
        "CREATE TABLE IF NOT EXISTS {schema}.\"{name}\" (company uuid NOT NULL, build bigint NOT NULL,
            key text COLLATE \"C\" NOT NULL, location uuid, position bigint NOT NULL, doc json NOT NULL, restricted json,
            {columns}PRIMARY KEY (company, build, key));
         CREATE INDEX IF NOT EXISTS \"{name}_position\" ON {schema}.\"{name}\" (company, build, position);
         {indexes}{lists}{secured}"
    )
}

/// An index of a build's documents by one column.
fn index(schema: &str, name: &str, column: &str) -> String {
    format!("CREATE INDEX IF NOT EXISTS \"{name}_{column}\" ON {schema}.\"{name}\" (company, build, {column}, key);")
}

/// A table of the values that stand in a list, one row each, and the trigger that keeps it: no operator on lists is
/// leakproof.
fn list_ddl(schema: &str, name: &str, filter: &str) -> String {
    let (column, values) = (is(filter), format!("{schema}.\"{}\"", has(name, filter)));
    let insert = format!(
        "INSERT INTO {values} (company, build, value, key, location)
            SELECT DISTINCT new.company, new.build, v, new.key, new.location
            FROM jsonb_array_elements_text(new.{column}) AS l (v)"
    );
    let delete = format!("DELETE FROM {values} WHERE company = old.company AND build = old.build AND key = old.key");
    let on = format!("ON {schema}.\"{name}\" FOR EACH ROW");
    format!(
        "CREATE TABLE {values} (company uuid NOT NULL, build bigint NOT NULL, value text COLLATE \"C\" NOT NULL,
            key text COLLATE \"C\" NOT NULL, location uuid, PRIMARY KEY (company, build, value, key));
         CREATE INDEX ON {values} (company, build, key);
         CREATE OR REPLACE FUNCTION {values}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF TG_OP <> 'INSERT' THEN {delete}; END IF;
            IF TG_OP <> 'DELETE' THEN {insert}; END IF;
            RETURN NULL;
         END $$;
         CREATE TRIGGER {column}_put AFTER INSERT {on} WHEN (new.{column} <> '[]') EXECUTE FUNCTION {values}();
         CREATE TRIGGER {column}_changed AFTER UPDATE {on}
            WHEN (old.{column} IS DISTINCT FROM new.{column} OR old.location IS DISTINCT FROM new.location)
            EXECUTE FUNCTION {values}();
         CREATE TRIGGER {column}_removed AFTER DELETE {on} WHEN (old.{column} <> '[]') EXECUTE FUNCTION {values}();
         {}",
        secure(&values, true)
    )
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

/// Whether who connects may become `cnc_read`. Before Postgres 16 every member could.
pub(super) async fn has_reader(pool: &Pool) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'cnc_read' AND pg_has_role(oid,
            CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END))";
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

/// The column of a member that is filtered by.
pub(super) fn is(path: &str) -> String {
    format!("is_{}", path.replace('.', "_"))
}

/// The column of a member that is sorted by.
pub(super) fn by(path: &str) -> String {
    format!("by_{}", path.replace('.', "_"))
}

/// The table of the values of a member that is a list.
pub(super) fn has(table: &str, path: &str) -> String {
    format!("{table}_has_{}", path.replace('.', "_"))
}

fn member(path: &str) -> String {
    format!("(doc #>> '{{{}}}')", path.replace('.', ","))
}

/// What a member is sorted by: what is absent comes last among numbers and first among texts.
fn sorted(path: &str, form: Form) -> String {
    if form == Form::Integer {
        format!("coalesce({}::bigint, 9223372036854775807)", member(path))
    } else {
        format!("coalesce({}, '')", member(path))
    }
}

fn kind(form: Form) -> &'static str {
    if form == Form::Integer { "bigint" } else { "text COLLATE \"C\"" }
}
