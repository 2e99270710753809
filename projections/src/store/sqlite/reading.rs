//! Reading documents from SQLite, each time on one snapshot: a page and its position belong together.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use cnc_domain::{
    kernel::{CompanyId, LocationId},
    ledger::Position,
};
use rusqlite::{
    Error, Result, Row as SqlRow, Transaction, params, params_from_iter,
    types::{Type, Value as Sql},
};
use serde_json::Value;

use super::{
    super::{
        FoldId, FoldRow, Form, LivePosition, Plan, Wanted,
        storage::{CHANGES_MAX, Documents, Loaded},
        whole,
    },
    builds,
};
use crate::{Change, Found, Page, Query, QueryError, Row};

const COLUMNS: &str = "key, location, position, doc, restricted";
const IN_SCOPE: &str = "(location IS NULL OR location IN (SELECT value FROM json_each(?)))";

/// A scope as a JSON list of ids, `None` where it is unlimited.
pub(super) type Scope = Option<String>;

pub(super) fn scope(scope: Option<&BTreeSet<LocationId>>) -> Scope {
    scope.map(|scope| serde_json::to_string(scope).unwrap_or_default())
}

pub(super) fn load(tx: &Transaction<'_>, plan: &Plan, id: &FoldId, wanted: &[Wanted]) -> Result<Loaded> {
    let company = id.company.to_string();
    let mut loaded = Vec::new();
    for Wanted { shelf, keys } in wanted {
        let table = plan.table(*shelf, plan.version);
        let mut select = tx.prepare_cached(&format!(
            "SELECT key, doc, restricted FROM \"{table}\"
             WHERE company = ? AND build = ? AND key IN (SELECT value FROM json_each(?))"
        ))?;
        let keys = serde_json::to_string(keys).unwrap_or_default();
        let mut rows = select.query(params![company, id.build, keys])?;
        while let Some(row) = rows.next()? {
            let restricted: Option<String> = row.get(2)?;
            loaded.push((*shelf, row.get(0)?, whole(row.get(1)?, restricted.as_deref())));
        }
    }
    Ok(loaded)
}

pub(super) fn page(
    tx: &Transaction<'_>,
    plan: &Plan,
    id: &FoldId,
    shelf: usize,
    after: &str,
    limit: usize,
) -> Result<Documents> {
    let table = plan.table(shelf, id.version);
    let mut select = tx.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM \"{table}\" WHERE company = ? AND build = ? AND key > ? ORDER BY key LIMIT ?"
    ))?;
    let found = select.query_map(params![id.company.to_string(), id.build, after, limit], |row| {
        let restricted: Option<String> = row.get(4)?;
        Ok((row.get(0)?, location(row, 1)?, whole(row.get(3)?, restricted.as_deref())))
    })?;
    found.collect()
}

pub(super) fn standing(
    tx: &Transaction<'_>,
    company: Option<CompanyId>,
    folds: &[String],
) -> Result<Vec<LivePosition>> {
    let mut select = tx.prepare_cached(
        "SELECT company, fold, position, version, build FROM folds WHERE standing = 'live' AND (?1 IS NULL OR company = ?1)
            AND fold IN (SELECT value FROM json_each(?2))",
    )?;
    let folds = serde_json::to_string(folds).unwrap_or_default();
    let found = select.query_map(params![company.map(|company| company.to_string()), folds], |row| {
        let (company, build) = (parsed(&row.get::<_, String>(0)?)?, (row.get(3)?, row.get(4)?));
        Ok(LivePosition { company, fold: row.get(1)?, position: row.get(2)?, build })
    })?;
    found.collect()
}

/// The live build, of whatever version: until a new one has caught up, the old one is served.
fn live(tx: &Transaction<'_>, plan: &Plan, company: CompanyId) -> Result<Option<FoldRow>> {
    builds::find(tx, "standing = 'live'", params![company.to_string(), plan.fold])
}

pub(super) fn get(tx: &Transaction<'_>, plan: &Plan, company: CompanyId, key: &str, scope: &Scope) -> Result<Found> {
    let Some(live) = live(tx, plan, company)? else { return Ok(Found::default()) };
    let table = plan.table(0, live.id.version);
    let mut values = vec![Sql::Text(company.to_string()), Sql::Integer(live.id.build), Sql::Text(key.to_owned())];
    values.extend(scope.clone().map(Sql::Text));
    let scoped = if scope.is_some() { format!("AND {IN_SCOPE}") } else { String::new() };
    let text = format!("SELECT {COLUMNS} FROM \"{table}\" WHERE company = ? AND build = ? AND key = ? {scoped}");
    let mut select = tx.prepare_cached(&text)?;
    let mut rows = select.query(params_from_iter(values))?;
    let row = rows.next()?.map(row).transpose()?.map(Arc::new);
    Ok(Found { row, position: live.position, health: live.health() })
}

/// A query with its members looked up and its values read.
pub(super) struct Asked {
    /// Conditions and what they are compared with.
    filters: Vec<(String, Sql)>,
    /// The expression that is sorted by, beside the key.
    by: Option<String>,
    descending: bool,
    after: Option<(Sql, String)>,
}

impl Asked {
    pub fn of(plan: &Plan, query: &Query) -> std::result::Result<Self, QueryError> {
        let filters = query
            .filters
            .iter()
            .map(|(name, value)| filter(plan, name, value))
            .collect::<std::result::Result<_, _>>()?;
        let by = match &query.sort {
            Some((name, _)) if name != "key" => {
                let sort = plan.tables[0].sorts.iter().find(|sort| sort.name == name);
                let sort = sort.ok_or_else(|| QueryError::UnknownSort(name.clone()))?;
                Some(builds::sorted(sort.name, sort.form))
            }
            _ => None,
        };
        let after = query.starts_after(plan.fold)?.map(|(value, key)| {
            let value = match value {
                Value::Number(number) => number.as_i64().map_or(Sql::Null, Sql::Integer),
                Value::String(text) => Sql::Text(text),
                _ => Sql::Null,
            };
            (value, key)
        });
        Ok(Self { filters, by, descending: query.sort.as_ref().is_some_and(|(_, descending)| *descending), after })
    }
}

fn filter(plan: &Plan, name: &str, value: &str) -> std::result::Result<(String, Sql), QueryError> {
    let filter = plan.tables[0].filters.iter().find(|filter| filter.name == name);
    let filter = filter.ok_or_else(|| QueryError::UnknownFilter(name.into()))?;
    let wrong = |form| QueryError::WrongValue { filter: name.into(), form };
    let is = format!("{} = ?", builds::member(filter.name));
    Ok(match filter.form {
        Form::Text => (is, Sql::Text(value.into())),
        Form::Integer => (is, Sql::Integer(value.parse().map_err(|_| wrong("a whole number"))?)),
        Form::Boolean => (is, Sql::Integer(value.parse::<bool>().map_err(|_| wrong("true or false"))?.into())),
        Form::List => (
            format!("EXISTS (SELECT 1 FROM json_each(doc, '$.{}') WHERE value = ?)", filter.name),
            Sql::Text(value.into()),
        ),
    })
}

pub(super) fn query(
    tx: &Transaction<'_>,
    plan: &Plan,
    company: CompanyId,
    query: &Query,
    asked: &Asked,
) -> Result<Page> {
    let Some(live) = live(tx, plan, company)? else { return Ok(Page::default()) };
    let table = plan.table(0, live.id.version);
    let by = asked.by.as_deref().unwrap_or("''");
    let mut text = format!("SELECT {COLUMNS}, {by} FROM \"{table}\" WHERE company = ? AND build = ?");
    let mut values = vec![Sql::Text(company.to_string()), Sql::Integer(live.id.build)];
    let mut and = |condition: &str, more: Vec<Sql>| {
        text.push_str(" AND ");
        text.push_str(condition);
        values.extend(more);
    };
    for (condition, value) in &asked.filters {
        and(condition, vec![value.clone()]);
    }
    if let Some(scope) = scope(query.scope.as_ref()) {
        and(IN_SCOPE, vec![Sql::Text(scope)]);
    }
    let (order, than) = if asked.descending { ("DESC", "<") } else { ("ASC", ">") };
    match &asked.after {
        Some((value, key)) if asked.by.is_some() => {
            and(&format!("({by}, key) {than} (?, ?)"), vec![value.clone(), Sql::Text(key.clone())]);
        }
        Some((_, key)) => and(&format!("key {than} ?"), vec![Sql::Text(key.clone())]),
        None => {}
    }
    let first = if asked.by.is_some() { format!("{by} {order}, ") } else { String::new() };
    let text = format!("{text} ORDER BY {first}key {order} LIMIT {}", query.limit + 1);
    let mut select = tx.prepare_cached(&text)?;
    let found = select.query_map(params_from_iter(values), |found| Ok((row(found)?, sort_value(found)?)))?;
    Ok(paged(plan, query, found.collect::<Result<_>>()?, &live))
}

fn sort_value(row: &SqlRow<'_>) -> Result<Value> {
    Ok(match row.get::<_, Sql>(5)? {
        Sql::Integer(number) => number.into(),
        Sql::Text(text) => text.into(),
        _ => Value::Null,
    })
}

/// Makes a page of one row more than its limit.
fn paged(plan: &Plan, query: &Query, mut found: Vec<(Row, Value)>, live: &FoldRow) -> Page {
    let more = found.len() > query.limit;
    found.truncate(query.limit);
    let next = found.last().filter(|_| more).map(|(row, value)| query.cursor_after(plan.fold, value.clone(), &row.key));
    let rows = found.into_iter().map(|(row, _)| row).collect();
    Page { rows, next, position: live.position, health: live.health() }
}

pub(super) fn changes_since(
    tx: &Transaction<'_>,
    plan: &Plan,
    company: CompanyId,
    since: Position,
    scope: &Scope,
) -> Result<Option<Vec<Change>>> {
    let Some(live) = live(tx, plan, company)? else { return Ok((since == 0).then(Vec::new)) };
    if since < live.horizon || since > live.position || live.health().rebuilding_until.is_some() {
        return Ok(None);
    }
    let mut changes = BTreeMap::new();
    let (fold, build) = (Sql::Text(plan.fold.to_owned()), Sql::Integer(live.id.build));
    let gone = moved(tx, "SELECT key, location FROM removals", "fold", (company, fold, since, scope), |row| {
        Ok((row.get::<_, String>(0)?, location(row, 1)?))
    })?;
    for (key, was_location) in gone {
        changes.insert(key.clone(), removed(company, plan, &live, since, key, was_location));
    }
    let select = format!("SELECT {COLUMNS} FROM \"{}\"", plan.table(0, live.id.version));
    for row in moved(tx, &select, "build", (company, build, since, scope), row)? {
        let change = removed(company, plan, &live, since, row.key.clone(), None);
        changes.insert(row.key.clone(), Change { location: row.location, row: Some(row), ..change });
    }
    Ok((changes.len() <= CHANGES_MAX).then(|| changes.into_values().collect()))
}

/// Rows of a company, of one fold or build, that were written after a position and are in a scope.
fn moved<T>(
    tx: &Transaction<'_>,
    select: &str,
    of: &str,
    (company, which, since, scope): (CompanyId, Sql, Position, &Scope),
    read: impl FnMut(&SqlRow<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    let scoped = if scope.is_some() { format!("AND {IN_SCOPE}") } else { String::new() };
    let text = format!("{select} WHERE company = ? AND {of} = ? AND position > ? {scoped} LIMIT {}", CHANGES_MAX + 1);
    let mut values = vec![Sql::Text(company.to_string()), which, Sql::Integer(since.cast_signed())];
    values.extend(scope.clone().map(Sql::Text));
    let mut select = tx.prepare_cached(&text)?;
    let found = select.query_map(params_from_iter(values), read)?;
    found.collect()
}

fn removed(
    company: CompanyId,
    plan: &Plan,
    live: &FoldRow,
    since: Position,
    key: String,
    was_location: Option<LocationId>,
) -> Change {
    let (view, position) = (plan.fold, live.position);
    Change { company, view, key, position, previous: since, location: None, row: None, was_location, rebuilt: false }
}

fn row(row: &SqlRow<'_>) -> Result<Row> {
    let json = |place: usize, text: &str| {
        serde_json::from_str(text).map_err(|wrong| Error::FromSqlConversionFailure(place, Type::Text, Box::new(wrong)))
    };
    let restricted: Option<String> = row.get(4)?;
    Ok(Row {
        key: row.get(0)?,
        location: location(row, 1)?,
        position: row.get(2)?,
        doc: json(3, row.get_ref(3)?.as_str()?)?,
        restricted: restricted.map(|text| json(4, &text)).transpose()?,
    })
}

fn location(row: &SqlRow<'_>, place: usize) -> Result<Option<LocationId>> {
    row.get::<_, Option<String>>(place)?.map(|text| parsed(&text)).transpose()
}

fn parsed<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>>(text: &str) -> Result<T> {
    text.parse().map_err(|wrong| Error::FromSqlConversionFailure(0, Type::Text, Box::new(wrong)))
}
