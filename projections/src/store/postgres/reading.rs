//! Reading documents from Postgres, each time on one snapshot: a page and its position belong together.

use std::{collections::BTreeMap, sync::Arc};

use cnc_domain::{
    kernel::{CompanyId, LocationId},
    ledger::{Head, Position},
};
use cnc_postgres::{Pool, Session};
use serde_json::Value;
use sqlx::{Postgres as Db, QueryBuilder, Result, Row as _, postgres::PgRow};

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
    pool: &Pool,
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
    pool: &Pool,
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

pub(super) async fn standing(pool: &Pool, company: Option<CompanyId>, folds: &[String]) -> Result<Vec<LivePosition>> {
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

async fn live(connection: &mut Session, plan: &Plan, company: CompanyId) -> Result<Option<FoldRow>> {
    builds::live(connection, super::schema(plan.trigger), company, plan.fold, false).await
}

/// The start of a statement over a build's main documents that a scope may see.
fn select(query: &mut QueryBuilder<'_, Db>, columns: &str, plan: &Plan, live: &FoldRow, scope: Scope<'_>) {
    query.push(format!("SELECT {columns} FROM {} WHERE company = ", table(plan, 0, live.id.version)));
    query.push_bind(live.id.company.to_string()).push("::uuid AND build = ").push_bind(live.id.build);
    within(query, scope);
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
    connection: &mut Session,
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
    connection: &mut Session,
    plan: &Plan,
    company: CompanyId,
    key: &str,
    scope: Scope<'_>,
) -> Result<Found> {
    let Some(live) = live(connection, plan, company).await? else { return Ok(Found::default()) };
    let mut query = QueryBuilder::new("");
    select(&mut query, COLUMNS, plan, &live, scope);
    query.push(" AND key = ").push_bind(key);
    let found = query.build().fetch_optional(connection).await?;
    let row = found.as_ref().map(row).transpose()?.map(Arc::new);
    Ok(Found { row, position: live.position, health: live.health() })
}

/// A query with its members looked up and its values read.
pub(super) struct Asked {
    filters: Vec<Filter>,
    /// The column that is sorted by, beside the key, and what stands there.
    by: Option<(String, Form)>,
    descending: bool,
    /// Where the page before ended: what it is sorted by, and the key.
    after: Option<(Value, String)>,
}

/// A member and what it must be, or have where it is a list.
struct Filter {
    name: &'static str,
    is_list: bool,
    value: String,
}

/// Which part of a page is read: one statement on an index reads only what is on the page where all of it is either behind
/// a key, or behind what is sorted by.
#[derive(Clone, Copy)]
enum Part<'a> {
    /// From the beginning.
    First,
    /// What is sorted by the same, behind a key.
    Same(&'a Value, &'a str),
    /// What is sorted by more, or less where the largest comes first.
    Beyond(&'a Value),
    /// Sorted by nothing else, behind a key.
    Behind(&'a str),
}

impl Asked {
    pub fn of(plan: &Plan, query: &Query) -> std::result::Result<Self, QueryError> {
        let filters = query.filters.iter().map(|(name, value)| filter(plan, name, value));
        let by = match &query.sort {
            Some((name, _)) if name != "key" => {
                let sort = plan.tables[0].sorts.iter().find(|sort| sort.name == name);
                let sort = sort.ok_or_else(|| QueryError::UnknownSort(name.clone()))?;
                Some((schema::by(sort.name), sort.form))
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

    /// The parts of the page, in their order. Together they are what comes after `(by, key)`: as one condition that would
    /// compare two columns at once, which is not leakproof.
    fn parts(&self) -> Vec<Part<'_>> {
        match (&self.after, &self.by) {
            (None, _) => vec![Part::First],
            (Some((_, key)), None) => vec![Part::Behind(key)],
            (Some((value, key)), Some(_)) => vec![Part::Same(value, key), Part::Beyond(value)],
        }
    }

    /// Adds the conditions of one part, its order and its limit.
    fn bound(&self, query: &mut QueryBuilder<'_, Db>, part: Part<'_>, limit: usize) {
        let (than, order) = if self.descending { ("<", "DESC") } else { (">", "ASC") };
        if let (Some((by, form)), Part::Same(value, _) | Part::Beyond(value)) = (&self.by, part) {
            let compared = if matches!(part, Part::Same(..)) { "=" } else { than };
            query.push(format!(" AND {by} {compared} "));
            match form {
                Form::Integer => query.push_bind(value.as_i64().unwrap_or(0)),
                _ => query.push_bind(value.as_str().unwrap_or_default().to_owned()),
            };
        }
        if let Part::Same(_, key) | Part::Behind(key) = part {
            query.push(format!(" AND key {than} ")).push_bind(key.to_owned());
        }
        query.push(format!(" ORDER BY {}key {order} LIMIT {limit}", self.first_order()));
    }

    /// What is ordered by before the key.
    fn first_order(&self) -> String {
        let order = if self.descending { "DESC" } else { "ASC" };
        self.by.as_ref().map_or_else(String::new, |(by, _)| format!("{by} {order}, "))
    }
}

fn filter(plan: &Plan, name: &str, value: &str) -> std::result::Result<Filter, QueryError> {
    let filter = plan.tables[0].filters.iter().find(|filter| filter.name == name);
    let filter = filter.ok_or_else(|| QueryError::UnknownFilter(name.into()))?;
    let wrong = |form| QueryError::WrongValue { filter: name.into(), form };
    let value = match filter.form {
        Form::Text | Form::List => value.to_owned(),
        Form::Integer => value.parse::<i64>().map_err(|_| wrong("a whole number"))?.to_string(),
        Form::Boolean => value.parse::<bool>().map_err(|_| wrong("true or false"))?.to_string(),
    };
    Ok(Filter { name: filter.name, is_list: filter.form == Form::List, value })
}

impl Filter {
    fn bound(&self, query: &mut QueryBuilder<'_, Db>, plan: &Plan, live: &FoldRow) {
        if !self.is_list {
            query.push(format!(" AND {} = ", schema::is(self.name))).push_bind(self.value.clone());
            return;
        }
        let values = schema::has(&plan.table(0, live.id.version), self.name);
        query.push(format!(" AND key IN (SELECT key FROM cnc_views.\"{values}\" WHERE company = "));
        query.push_bind(live.id.company.to_string()).push("::uuid AND build = ").push_bind(live.id.build);
        query.push(" AND value = ").push_bind(self.value.clone()).push(")");
    }
}

/// The statement of a page.
fn page_of<'q>(plan: &Plan, live: &FoldRow, query: &Query, asked: &Asked) -> QueryBuilder<'q, Db> {
    let by = asked.by.as_ref().map_or("''::text", |(by, _)| by);
    let mut statement = QueryBuilder::new("");
    let parts = asked.parts();
    let several = parts.len() > 1;
    for (nth, part) in parts.into_iter().enumerate() {
        statement.push(if nth > 0 {
            ") UNION ALL ("
        } else if several {
            "("
        } else {
            ""
        });
        select(&mut statement, &format!("{COLUMNS}, {by}"), plan, live, query.scope.as_ref());
        for filter in &asked.filters {
            filter.bound(&mut statement, plan, live);
        }
        asked.bound(&mut statement, part, query.limit + 1);
    }
    if several {
        let order = if asked.descending { "DESC" } else { "ASC" };
        statement.push(format!(") ORDER BY 6 {order}, 1 {order} LIMIT {}", query.limit + 1));
    }
    statement
}

pub(super) async fn query(
    connection: &mut Session,
    plan: &Plan,
    company: CompanyId,
    query: &Query,
    asked: &Asked,
) -> Result<Page> {
    let Some(live) = live(connection, plan, company).await? else { return Ok(Page::default()) };
    let mut statement = page_of(plan, &live, query, asked);
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
    connection: &mut Session,
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
    let mut changed = QueryBuilder::new("");
    select(&mut changed, COLUMNS, plan, &live, scope);
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
