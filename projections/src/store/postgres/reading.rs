//! Reading documents from Postgres, each time on one snapshot: a page and its position belong together.

use std::{collections::BTreeMap, sync::Arc};

use cnc_domain::{
    kernel::{CompanyId, LocationId},
    ledger::{Head, Position},
};
use serde_json::Value;
use sqlx::{PgConnection, PgPool, Postgres as Db, QueryBuilder, Result, Row as _, postgres::PgRow};

use super::{
    super::{
        FoldId, FoldRow, Form, LivePosition, Plan, Wanted,
        storage::{CHANGES_MAX, Documents, Loaded, Scope},
        whole,
    },
    builds::{self, int},
    schema,
};
use crate::{Change, Found, Health, Page, Query, QueryError, Row};

const COLUMNS: &str = "key, location::text, position, doc::text, restricted::text";

fn table(plan: &Plan, shelf: usize, version: u32) -> String {
    format!("{}.\"{}\"", super::schema(plan.trigger), plan.table(shelf, version))
}

/// Each shelf's documents come in one statement with where the build stands, and so from one snapshot.
pub(super) async fn load(
    pool: &PgPool,
    plan: &Plan,
    id: &FoldId,
    at: Option<Head>,
    wanted: Vec<Wanted>,
) -> Result<Option<Loaded>> {
    let mut loaded = Vec::new();
    for Wanted { shelf, keys } in wanted {
        let text = format!(
            "SELECT f.position, d.key, d.doc::text, d.restricted::text, f.hash
             FROM {}.folds AS f LEFT JOIN {} AS d ON d.company = f.company AND d.build = f.build AND d.key = ANY ($5)
             WHERE f.company = $1::uuid AND f.fold = $2 AND f.version = $3 AND f.build = $4",
            super::schema(plan.trigger),
            table(plan, shelf, plan.version)
        );
        let query = sqlx::query(&text).bind(id.company.to_string()).bind(&id.fold).bind(i64::from(id.version));
        let rows = query.bind(id.build).bind(keys).fetch_all(pool).await?;
        let stands = rows
            .first()
            .map(|row| Ok::<_, sqlx::Error>(Head { position: position(row, 0)?, hash: builds::hash(row, 4)? }));
        let stands = stands.transpose()?;
        if at.is_some_and(|at| stands != Some(at)) {
            return Ok(None);
        }
        for row in rows {
            let Some(key) = row.try_get(1)? else { continue };
            let restricted: Option<String> = row.try_get(3)?;
            loaded.push((shelf, key, whole(row.try_get(2)?, restricted.as_deref())));
        }
    }
    Ok(Some(loaded))
}

pub(super) async fn page(
    pool: &PgPool,
    plan: &Plan,
    id: &FoldId,
    shelf: usize,
    after: &str,
    limit: usize,
) -> Result<Documents> {
    let text = format!(
        "SELECT {COLUMNS} FROM {} WHERE company = $1::uuid AND build = $2 AND key > $3 ORDER BY key LIMIT $4",
        table(plan, shelf, id.version)
    );
    let query = sqlx::query(&text).bind(id.company.to_string()).bind(id.build).bind(after).bind(int(limit as u64));
    let rows = query.fetch_all(pool).await?;
    let documents = rows.iter().map(|row| {
        let restricted: Option<String> = row.try_get(4)?;
        Ok((row.try_get(0)?, location(row)?, whole(row.try_get(3)?, restricted.as_deref())))
    });
    documents.collect()
}

pub(super) async fn standing(pool: &PgPool, company: Option<CompanyId>, folds: &[String]) -> Result<Vec<LivePosition>> {
    let rows = sqlx::query(
        "SELECT company::text, fold, position, version, build FROM cnc_views.folds
         WHERE standing = 'live' AND ($1::text IS NULL OR company = $1::uuid) AND fold = ANY ($2)",
    )
    .bind(company.map(|company| company.to_string()))
    .bind(folds.to_vec())
    .fetch_all(pool)
    .await?;
    let positions = rows.iter().map(|row| {
        let company = parsed(&row.try_get::<String, _>(0)?)?;
        let version = u32::try_from(row.try_get::<i64, _>(3)?).unwrap_or(u32::MAX);
        Ok(LivePosition {
            company,
            fold: row.try_get(1)?,
            position: position(row, 2)?,
            build: (version, row.try_get(4)?),
        })
    });
    positions.collect()
}

async fn live(connection: &mut PgConnection, plan: &Plan, company: CompanyId) -> Result<Option<FoldRow>> {
    builds::live(connection, super::schema(plan.trigger), company, plan.fold, false).await
}

/// The start of a statement over a build's main documents that a scope may see.
fn select<'q>(columns: &str, plan: &Plan, live: &FoldRow, scope: Scope<'_>) -> QueryBuilder<'q, Db> {
    let mut query =
        QueryBuilder::new(format!("SELECT {columns} FROM {} WHERE company = ", table(plan, 0, live.id.version)));
    query.push_bind(live.id.company.to_string()).push("::uuid AND build = ").push_bind(live.id.build);
    within(&mut query, scope);
    query
}

fn within(query: &mut QueryBuilder<'_, Db>, scope: Scope<'_>) {
    if let Some(scope) = scope {
        let locations: Vec<String> = scope.iter().map(ToString::to_string).collect();
        query.push(" AND (location IS NULL OR location = ANY (").push_bind(locations).push("::text[]::uuid[]))");
    }
}

/// A document and where its view stands; `None` where another version of the view than ours is live.
///
/// One statement, and so one round trip on one snapshot. It says itself what it may see, for its own duration: so nothing of
/// it is left on the connection, and whatever does not say so sees nothing. `OFFSET 0` keeps the part that reads from being
/// merged with the part that says so; as it depends on the other's result, it is done after it.
pub(super) async fn get(
    connection: &mut PgConnection,
    plan: &Plan,
    company: CompanyId,
    key: &str,
    scope: Scope<'_>,
) -> Result<Option<Found>> {
    let mut query = QueryBuilder::new("SELECT found.* FROM (SELECT set_config('cnc.company', ");
    query.push_bind(company.to_string()).push(", true) AS company, set_config('cnc.locations', ");
    query.push_bind(schema::locations(scope)).push(format!(
        ", true)) AS asked CROSS JOIN LATERAL (
             SELECT d.key, d.location::text, d.position, d.doc::text, d.restricted::text, f.position AS at, f.version,
                f.whole_from, f.poison_position, f.skipped
             FROM cnc_views.folds AS f LEFT JOIN {} AS d ON d.company = f.company AND d.build = f.build AND d.key = ",
        table(plan, 0, plan.version)
    ));
    query.push_bind(key);
    within(&mut query, scope);
    query.push(" WHERE f.standing = 'live' AND f.company = asked.company::uuid AND f.fold = ").push_bind(plan.fold);
    query.push(" OFFSET 0) AS found");
    let Some(found) = query.build().fetch_optional(connection).await? else { return Ok(Some(Found::default())) };
    if found.try_get::<i64, _>(6)? != i64::from(plan.version) {
        return Ok(None);
    }
    let there = found.try_get::<Option<&str>, _>(0)?.is_some();
    let row = there.then(|| row(&found)).transpose()?;
    let (at, whole_from) = (position(&found, 5)?, position(&found, 7)?);
    let health = Health {
        rebuilding_until: Some(whole_from).filter(|whole| at < *whole),
        stopped_at: found.try_get::<Option<i64>, _>(8)?.and_then(|at| u64::try_from(at).ok()),
        skipped: position(&found, 9)?,
    };
    Ok(Some(Found { row: row.map(Arc::new), position: at, health }))
}

/// The same of whichever version is live.
pub(super) async fn get_live(
    connection: &mut PgConnection,
    plan: &Plan,
    company: CompanyId,
    key: &str,
    scope: Scope<'_>,
) -> Result<Found> {
    let Some(live) = live(connection, plan, company).await? else { return Ok(Found::default()) };
    let mut query = select(COLUMNS, plan, &live, scope);
    query.push(" AND key = ").push_bind(key);
    let found = query.build().fetch_optional(connection).await?;
    let row = found.as_ref().map(row).transpose()?.map(Arc::new);
    Ok(Found { row, position: live.position, health: live.health() })
}

/// A query with its members looked up and its values read.
pub(super) struct Asked {
    /// Conditions up to what they are compared with.
    filters: Vec<(String, String)>,
    /// The expression that is sorted by, beside the key, and what stands there.
    by: Option<(String, Form)>,
    descending: bool,
    after: Option<(Value, String)>,
}

impl Asked {
    pub fn of(plan: &Plan, query: &Query) -> std::result::Result<Self, QueryError> {
        let filters = query.filters.iter().map(|(name, value)| filter(plan, name, value));
        let by = match &query.sort {
            Some((name, _)) if name != "key" => {
                let sort = plan.tables[0].sorts.iter().find(|sort| sort.name == name);
                let sort = sort.ok_or_else(|| QueryError::UnknownSort(name.clone()))?;
                Some((schema::sorted(sort.name, sort.form), sort.form))
            }
            _ => None,
        };
        Ok(Self {
            filters: filters.collect::<std::result::Result<_, _>>()?,
            by,
            descending: query.sort.as_ref().is_some_and(|(_, descending)| *descending),
            after: query.starts_after(plan.fold)?,
        })
    }

    /// Goes on after the last row of the page before.
    fn go_on(&self, query: &mut QueryBuilder<'_, Db>) {
        let Some((value, key)) = &self.after else { return };
        let than = if self.descending { "<" } else { ">" };
        match &self.by {
            Some((by, Form::Integer)) => {
                query.push(format!(" AND ({by}, key) {than} (")).push_bind(value.as_i64().unwrap_or(0)).push(", ");
            }
            Some((by, _)) => {
                let text = value.as_str().unwrap_or_default().to_owned();
                query.push(format!(" AND ({by}, key) {than} (")).push_bind(text).push(", ");
            }
            None => {
                query.push(format!(" AND (key) {than} ("));
            }
        }
        query.push_bind(key.clone()).push(")");
    }
}

fn filter(plan: &Plan, name: &str, value: &str) -> std::result::Result<(String, String), QueryError> {
    let filter = plan.tables[0].filters.iter().find(|filter| filter.name == name);
    let filter = filter.ok_or_else(|| QueryError::UnknownFilter(name.into()))?;
    let wrong = |form| QueryError::WrongValue { filter: name.into(), form };
    let is = format!("{} = ", schema::member(filter.name));
    Ok(match filter.form {
        Form::Text => (is, value.to_owned()),
        Form::Integer => (is, value.parse::<i64>().map_err(|_| wrong("a whole number"))?.to_string()),
        Form::Boolean => (is, value.parse::<bool>().map_err(|_| wrong("true or false"))?.to_string()),
        Form::List => (format!("{} ? ", schema::list(filter.name)), value.to_owned()),
    })
}

pub(super) async fn query(
    connection: &mut PgConnection,
    plan: &Plan,
    company: CompanyId,
    query: &Query,
    asked: &Asked,
) -> Result<Page> {
    let Some(live) = live(connection, plan, company).await? else { return Ok(Page::default()) };
    let by = asked.by.as_ref().map_or("''::text", |(by, _)| by);
    let mut statement = select(&format!("{COLUMNS}, {by}"), plan, &live, query.scope.as_ref());
    for (condition, value) in &asked.filters {
        statement.push(format!(" AND {condition}")).push_bind(value.clone());
    }
    asked.go_on(&mut statement);
    let order = if asked.descending { "DESC" } else { "ASC" };
    let first = asked.by.as_ref().map_or_else(String::new, |(by, _)| format!("{by} {order}, "));
    statement.push(format!(" ORDER BY {first}key {order} LIMIT {}", query.limit + 1));
    let found = statement.build().fetch_all(connection).await?;
    let more = found.len() > query.limit;
    let mut next = None;
    let mut rows = Vec::with_capacity(query.limit.min(found.len()));
    for found in found.iter().take(query.limit) {
        rows.push(row(found)?);
    }
    if let Some(last) = found.get(query.limit - 1).filter(|_| more) {
        let value = match &asked.by {
            Some((_, Form::Integer)) => last.try_get::<i64, _>(5)?.into(),
            _ => last.try_get::<String, _>(5)?.into(),
        };
        next = rows.last().map(|row| query.cursor_after(plan.fold, value, &row.key));
    }
    Ok(Page { rows, next, position: live.position, health: live.health() })
}

pub(super) async fn changes_since(
    connection: &mut PgConnection,
    plan: &Plan,
    company: CompanyId,
    since: Position,
    scope: Scope<'_>,
) -> Result<Option<Vec<Change>>> {
    let Some(live) = live(connection, plan, company).await? else { return Ok((since == 0).then(Vec::new)) };
    if since < live.horizon || since > live.position || live.health().rebuilding_until.is_some() {
        return Ok(None);
    }
    let change = |key: String, location, row, was_location| Change {
        company,
        view: plan.fold,
        key,
        position: live.position,
        previous: since,
        location,
        row,
        was_location,
        rebuilt: false,
    };
    let limit = CHANGES_MAX + 1;
    let mut changes = BTreeMap::new();
    let mut gone = QueryBuilder::<Db>::new("SELECT key, location::text FROM cnc_views.removals WHERE company = ");
    gone.push_bind(company.to_string()).push("::uuid AND fold = ").push_bind(plan.fold);
    gone.push(" AND position > ").push_bind(int(since));
    within(&mut gone, scope);
    gone.push(format!(" LIMIT {limit}"));
    for row in gone.build().fetch_all(&mut *connection).await? {
        let key: String = row.try_get(0)?;
        changes.insert(key.clone(), change(key, None, None, location(&row)?));
    }
    let mut changed = select(COLUMNS, plan, &live, scope);
    changed.push(" AND position > ").push_bind(int(since)).push(format!(" LIMIT {limit}"));
    for found in changed.build().fetch_all(connection).await? {
        let row = row(&found)?;
        changes.insert(row.key.clone(), change(row.key.clone(), row.location, Some(row), None));
    }
    Ok((changes.len() < limit).then(|| changes.into_values().collect()))
}

fn row(row: &PgRow) -> Result<Row> {
    let json = |text: &str| serde_json::from_str(text).map_err(|wrong| sqlx::Error::Decode(Box::new(wrong)));
    let restricted: Option<String> = row.try_get(4)?;
    Ok(Row {
        key: row.try_get(0)?,
        location: location(row)?,
        position: position(row, 2)?,
        doc: json(&row.try_get::<String, _>(3)?)?,
        restricted: restricted.map(|text| json(&text)).transpose()?,
    })
}

fn location(row: &PgRow) -> Result<Option<LocationId>> {
    row.try_get::<Option<String>, _>(1)?.map(|text| parsed(&text)).transpose()
}

fn position(row: &PgRow, column: usize) -> Result<Position> {
    Ok(u64::try_from(row.try_get::<i64, _>(column)?).unwrap_or(0))
}

fn parsed<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>>(text: &str) -> Result<T> {
    text.parse().map_err(|wrong| sqlx::Error::Decode(Box::new(wrong)))
}
