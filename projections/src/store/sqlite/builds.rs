//! Builds in SQLite: their rows, their tables, their ends.

use std::collections::BTreeSet;

use cnc_domain::{
    kernel::{CompanyId, Timestamp},
    ledger::{Hash, Head, Position},
};
use rusqlite::{OptionalExtension, Result, Row as SqlRow, Transaction, params, types::Type};
use uuid::Uuid;

use super::super::{
    FoldId, FoldRow, Form, Opened, Plan, Poisoned, Standing, Table,
    storage::{DROPPED_AT_ONCE, now},
};

const COLUMNS: &str = "company, fold, version, build, standing, position, hash, silent_until, poison_position, \
                       poison_reason, poison_attempts, retry_at, touched_at, horizon, whole_from, skipped, begun";

/// Makes the tables of a fold.
pub(super) fn prepare(tx: &Transaction<'_>, plan: &Plan) -> Result<()> {
    for (shelf, table) in plan.tables.iter().enumerate() {
        let name = plan.table(shelf, plan.version);
        tx.execute_batch(&format!(
            "CREATE TABLE IF NOT EXISTS \"{name}\" (company TEXT NOT NULL, build INTEGER NOT NULL, key TEXT NOT NULL,
                location TEXT, position INTEGER NOT NULL, doc TEXT NOT NULL, restricted TEXT,
                PRIMARY KEY (company, build, key));
             CREATE INDEX IF NOT EXISTS \"{name}_position\" ON \"{name}\" (company, build, position);"
        ))?;
        index(tx, &name, table)?;
        tx.execute(
            "INSERT OR IGNORE INTO fold_tables (fold, version, document) VALUES (?, ?, ?)",
            params![plan.fold, plan.version, table.document],
        )?;
    }
    Ok(())
}

fn index(tx: &Transaction<'_>, name: &str, table: &Table) -> Result<()> {
    for filter in table.filters.iter().filter(|filter| filter.form != Form::List) {
        let (column, by) = (filter.name.replace('.', "_"), member(filter.name));
        tx.execute_batch(&format!(
            "CREATE INDEX IF NOT EXISTS \"{name}_is_{column}\" ON \"{name}\" (company, build, {by}, key)"
        ))?;
    }
    for sort in &table.sorts {
        let (column, by) = (sort.name.replace('.', "_"), sorted(sort.name, sort.form));
        tx.execute_batch(&format!(
            "CREATE INDEX IF NOT EXISTS \"{name}_by_{column}\" ON \"{name}\" (company, build, {by}, key)"
        ))?;
    }
    Ok(())
}

/// The expression of a member, as indexes and queries must both write it.
pub(super) fn member(path: &str) -> String {
    format!("json_extract(doc, '$.{path}')")
}

/// The expression that a member is sorted by: what is absent comes last among numbers and first among texts.
pub(super) fn sorted(path: &str, form: Form) -> String {
    let absent = if form == Form::Integer { "9223372036854775807" } else { "''" };
    format!("coalesce({}, {absent})", member(path))
}

pub(super) fn register(tx: &Transaction<'_>, fold: &str, heads: &[(CompanyId, Head)]) -> Result<()> {
    let mut insert =
        tx.prepare_cached("INSERT OR IGNORE INTO trigger_starts (fold, company, position, hash) VALUES (?, ?, ?, ?)")?;
    // The row without a company says that the trigger is registered: companies founded later have no row.
    if insert.execute(params![fold, "", 0, Hash::default().0])? == 0 {
        return Ok(());
    }
    for (company, head) in heads {
        insert.execute(params![fold, company.to_string(), head.position, head.hash.0])?;
    }
    Ok(())
}

/// The companies in which a version is live.
pub(super) fn live_in(tx: &Transaction<'_>, plan: &Plan) -> Result<Vec<CompanyId>> {
    let mut select =
        tx.prepare_cached("SELECT company FROM folds WHERE standing = 'live' AND fold = ? AND version = ?")?;
    let found = select.query_map(params![plan.fold, plan.version], |row| company(&row.get::<_, String>(0)?))?;
    found.collect()
}

pub(super) fn open(tx: &Transaction<'_>, plan: &Plan, company: CompanyId) -> Result<Option<Opened>> {
    let name = company.to_string();
    let mine = "standing IN ('live', 'building') AND version = ?3 ORDER BY build DESC";
    if let Some(row) = find(tx, mine, params![name, plan.fold, plan.version])? {
        return opened(tx, row).map(Some);
    }
    let higher = "standing IN ('live', 'building') AND version > ?3";
    if find(tx, higher, params![name, plan.fold, plan.version])?.is_some() {
        return Ok(None);
    }
    let live = find(tx, "standing = 'live'", params![name, plan.fold])?;
    let silent_until = match (&live, plan.trigger) {
        (_, false) => 0,
        (Some(predecessor), true) => {
            set_standing(tx, &predecessor.id, Standing::Retired)?;
            predecessor.answered_until()
        }
        (None, true) => registered(tx, plan.fold, company)?.unwrap_or_default().position,
    };
    let standing = if live.is_some() && !plan.trigger { Standing::Building } else { Standing::Live };
    let row = insert(tx, plan, company, standing, silent_until)?;
    opened(tx, row).map(Some)
}

pub(super) fn beside(tx: &Transaction<'_>, plan: &Plan, company: CompanyId) -> Result<Opened> {
    let silent = Position::try_from(i64::MAX).unwrap_or_default();
    let row = insert(tx, plan, company, Standing::Scratch, silent)?;
    opened(tx, row)
}

fn insert(
    tx: &Transaction<'_>,
    plan: &Plan,
    company: CompanyId,
    standing: Standing,
    silent: Position,
) -> Result<FoldRow> {
    // Another process may have dropped them since this one started.
    prepare(tx, plan)?;
    let name = company.to_string();
    let build: i64 = tx.query_row(
        "SELECT coalesce(max(build), 0) + 1 FROM folds WHERE company = ? AND fold = ? AND version = ?",
        params![name, plan.fold, plan.version],
        |row| row.get(0),
    )?;
    tx.execute(
        "INSERT INTO folds (company, fold, version, build, standing, silent_until, touched_at, skipped)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7,
            (SELECT count(*) FROM fold_skips WHERE company = ?1 AND fold = ?2 AND version = ?3))",
        params![name, plan.fold, plan.version, build, standing.name(), silent, now().micros()],
    )?;
    let row = find(tx, "version = ?3 AND build = ?4", params![name, plan.fold, plan.version, build])?;
    row.ok_or(rusqlite::Error::QueryReturnedNoRows)
}

fn opened(tx: &Transaction<'_>, row: FoldRow) -> Result<Opened> {
    let mut select =
        tx.prepare_cached("SELECT position FROM fold_skips WHERE company = ? AND fold = ? AND version = ?")?;
    let found = select.query_map(params![row.id.company.to_string(), row.id.fold, row.id.version], |row| row.get(0))?;
    let skipped = found.collect::<Result<BTreeSet<Position>>>()?;
    Ok(Opened { row, skipped })
}

pub(super) fn registered(tx: &Transaction<'_>, fold: &str, company: CompanyId) -> Result<Option<Head>> {
    let text = "SELECT position, hash FROM trigger_starts WHERE fold = ? AND company = ?";
    let head = |row: &SqlRow<'_>| Ok(Head { position: row.get(0)?, hash: Hash(row.get(1)?) });
    tx.prepare_cached(text)?.query_row(params![fold, company.to_string()], head).optional()
}

/// The first row of a company's fold for which `such` holds.
pub(super) fn find(tx: &Transaction<'_>, such: &str, values: impl rusqlite::Params) -> Result<Option<FoldRow>> {
    let text = format!("SELECT {COLUMNS} FROM folds WHERE company = ?1 AND fold = ?2 AND {such}");
    tx.prepare_cached(&text)?.query_row(values, read).optional()
}

/// The row of a build.
pub(super) fn row(tx: &Transaction<'_>, id: &FoldId) -> Result<Option<FoldRow>> {
    find(tx, "version = ?3 AND build = ?4", params![id.company.to_string(), id.fold, id.version, id.build])
}

pub(super) fn rows(tx: &Transaction<'_>, company: Option<CompanyId>) -> Result<Vec<FoldRow>> {
    // Who only looks may come before anybody has folded.
    if !tx.query_row("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'folds')", [], |row| row.get(0))? {
        return Ok(Vec::new());
    }
    let text = format!("SELECT {COLUMNS} FROM folds WHERE ?1 IS NULL OR company = ?1 ORDER BY 1, 2, 3, 4");
    let mut select = tx.prepare_cached(&text)?;
    let found = select.query_map(params![company.map(|company| company.to_string())], read)?;
    found.collect()
}

fn company(text: &str) -> Result<CompanyId> {
    text.parse().map_err(|wrong| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(wrong)))
}

fn read(row: &SqlRow<'_>) -> Result<FoldRow> {
    let company = company(&row.get::<_, String>(0)?)?;
    let poison: Option<Position> = row.get(8)?;
    let poisoned = match poison {
        Some(position) => Some(Poisoned {
            position,
            reason: row.get::<_, Option<String>>(9)?.unwrap_or_default(),
            attempts: row.get(10)?,
            retry_at: Timestamp::from_micros(row.get(11)?),
        }),
        None => None,
    };
    Ok(FoldRow {
        id: FoldId { company, fold: row.get(1)?, version: row.get(2)?, build: row.get(3)? },
        standing: Standing::named(&row.get::<_, String>(4)?),
        position: row.get(5)?,
        hash: Hash(row.get(6)?),
        silent_until: row.get(7)?,
        poisoned,
        touched_at: Timestamp::from_micros(row.get(12)?),
        horizon: row.get(13)?,
        whole_from: row.get(14)?,
        skipped: row.get(15)?,
        begun: serde_json::from_str(row.get_ref(16)?.as_str()?).unwrap_or_default(),
    })
}

/// Updates the row of a build. `set` uses ?5 and on.
fn update(tx: &Transaction<'_>, id: &FoldId, set: &str, more: &[&dyn rusqlite::ToSql]) -> Result<()> {
    let text = format!("UPDATE folds SET {set} WHERE company = ?1 AND fold = ?2 AND version = ?3 AND build = ?4");
    let company = id.company.to_string();
    let mut values: Vec<&dyn rusqlite::ToSql> = vec![&company, &id.fold, &id.version, &id.build];
    values.extend(more);
    tx.prepare_cached(&text)?.execute(values.as_slice())?;
    Ok(())
}

fn set_standing(tx: &Transaction<'_>, id: &FoldId, standing: Standing) -> Result<()> {
    update(tx, id, "standing = ?5", &[&standing.name()])
}

pub(super) fn begin(tx: &Transaction<'_>, id: &FoldId, at: Head, process: Uuid, beat: i64) -> Result<bool> {
    if row(tx, id)?.is_none_or(|row| row.head() != at) {
        return Ok(false);
    }
    update(tx, id, "begun = json_set(begun, '$.\"' || ?5 || '\"', ?6)", &[&process.to_string(), &beat])?;
    Ok(true)
}

/// Moves a build to `to`. What stopped it before is behind it then.
pub(super) fn advance(tx: &Transaction<'_>, id: &FoldId, to: Head, now: Timestamp) -> Result<()> {
    let set = "position = ?5, hash = ?7, touched_at = ?6, begun = '{}', \
               poison_reason = CASE WHEN poison_position <= ?5 THEN NULL ELSE poison_reason END, \
               poison_attempts = CASE WHEN poison_position <= ?5 THEN 0 ELSE poison_attempts END, \
               poison_position = CASE WHEN poison_position <= ?5 THEN NULL ELSE poison_position END";
    update(tx, id, set, &[&to.position, &now.micros(), &to.hash.0])
}

pub(super) fn poison(
    tx: &Transaction<'_>,
    id: &FoldId,
    position: Position,
    reason: &str,
    now: Timestamp,
) -> Result<Poisoned> {
    let before = row(tx, id)?.and_then(|row| row.poisoned).filter(|poisoned| poisoned.position == position);
    let poisoned = Poisoned::after(before.map_or(0, |before| before.attempts) + 1, position, reason, now);
    update(
        tx,
        id,
        "begun = '{}', poison_position = ?5, poison_reason = ?6, poison_attempts = ?7, retry_at = ?8, touched_at = ?9",
        &[&position, &poisoned.reason, &poisoned.attempts, &poisoned.retry_at.micros(), &now.micros()],
    )?;
    Ok(poisoned)
}

pub(super) fn retry(tx: &Transaction<'_>, id: &FoldId) -> Result<()> {
    update(tx, id, "poison_attempts = 0, retry_at = 0, begun = '{}'", &[])
}

pub(super) fn skip(tx: &Transaction<'_>, id: &FoldId, position: Position, by: &str, now: Timestamp) -> Result<bool> {
    let stopped = row(tx, id)?.and_then(|row| row.poisoned).filter(|poisoned| poisoned.position == position);
    let Some(poisoned) = stopped else { return Ok(false) };
    tx.execute(
        "INSERT OR IGNORE INTO fold_skips (company, fold, version, position, reason, skipped_by, skipped_at)
         VALUES (?, ?, ?, ?, ?, ?, ?)",
        params![id.company.to_string(), id.fold, id.version, position, poisoned.reason, by, now.micros()],
    )?;
    let set = "skipped = skipped + 1, poison_position = NULL, poison_reason = NULL, poison_attempts = 0, begun = '{}'";
    update(tx, id, set, &[])?;
    Ok(true)
}

pub(super) fn swap(tx: &Transaction<'_>, trigger: bool, id: &FoldId) -> Result<bool> {
    let Some(mine) = row(tx, id)?.filter(|row| !row.is_over()) else { return Ok(false) };
    let live = find(tx, "standing = 'live'", params![id.company.to_string(), id.fold])?;
    let mut silent_until = mine.silent_until.min(mine.position);
    if let Some(live) = live {
        if mine.gives_way_to(&live) {
            set_standing(tx, id, Standing::Retired)?;
            return Ok(false);
        }
        // A trigger must neither answer an entry twice nor leave one out.
        if live.position > mine.position || (trigger && live.position != mine.position) {
            return Ok(false);
        }
        set_standing(tx, &live.id, Standing::Retired)?;
        count_swap(tx)?;
        silent_until = live.answered_until();
    }
    // Nobody who saw the former documents, also at this position, can be told what changed: who asks since then asks again.
    update(tx, id, "standing = 'live', horizon = position + 1, silent_until = ?5", &[&silent_until])?;
    Ok(true)
}

fn count_swap(tx: &Transaction<'_>) -> Result<()> {
    tx.prepare_cached("UPDATE swaps SET number = number + 1")?.execute([]).map(drop)
}

pub(super) fn replace(
    tx: &Transaction<'_>,
    plan: &Plan,
    forked: &FoldRow,
    whole_from: Position,
    silent_until: Position,
) -> Result<bool> {
    let stands = row(tx, &forked.id)?.filter(|row| row.is_served_or_will_be() && row.head() == forked.head());
    let Some(forked) = stands else { return Ok(false) };
    set_standing(tx, &forked.id, Standing::Forked)?;
    count_swap(tx)?;
    let company = forked.id.company;
    let next = "standing = 'building' AND version = ?3";
    let next = find(tx, next, params![company.to_string(), plan.fold, plan.version])?;
    let built = match next.filter(|_| forked.standing == Standing::Live) {
        Some(next) => next,
        None => insert(tx, plan, company, forked.standing, silent_until)?,
    };
    // Nobody who saw what was there, of whatever position, can be told what changed.
    let horizon = forked.position.max(whole_from) + 1;
    let set = "standing = ?5, whole_from = ?6, horizon = ?7";
    update(tx, &built.id, set, &[&forked.standing.name(), &whole_from, &horizon])?;
    if plan.trigger {
        for (table, place) in [("outbox", "parcel ->> '$.fold'"), ("deadlines", "fold")] {
            let text = format!(
                "DELETE FROM {table} WHERE company = ? AND {place} = ? AND parcel ->> '$.caused_at.position' > ?"
            );
            tx.execute(&text, params![company.to_string(), plan.fold, silent_until])?;
        }
    }
    Ok(true)
}

/// Drops some documents of a build, then its row. Says whether all is done.
pub(super) fn drop_some(tx: &Transaction<'_>, id: &FoldId) -> Result<(u64, bool)> {
    set_standing(tx, id, Standing::Retired)?;
    let tables: Vec<String> = {
        let mut select = tx.prepare_cached("SELECT document FROM fold_tables WHERE fold = ? AND version = ?")?;
        let found = select.query_map(params![id.fold, id.version], |row| row.get::<_, String>(0))?;
        found.map(|document| Ok(format!("{}_v{}", document?, id.version))).collect::<Result<_>>()?
    };
    let company = id.company.to_string();
    let mut dropped = 0;
    for table in &tables {
        let text = format!(
            "DELETE FROM \"{table}\" WHERE rowid IN
                (SELECT rowid FROM \"{table}\" WHERE company = ? AND build = ? LIMIT {DROPPED_AT_ONCE})"
        );
        let deleted = tx.execute(&text, params![company, id.build])?;
        dropped += deleted as u64;
        if deleted == DROPPED_AT_ONCE {
            return Ok((dropped, false));
        }
    }
    tx.execute(
        "DELETE FROM folds WHERE company = ? AND fold = ? AND version = ? AND build = ?",
        params![company, id.fold, id.version, id.build],
    )?;
    Ok((dropped, true))
}

/// Drops the tables of versions that no build uses, but for those of `known`.
pub(super) fn drop_tables(tx: &Transaction<'_>, known: &[(&'static str, u32)]) -> Result<u64> {
    let unused: Vec<(String, u32, String)> = tx
        .prepare(
            "SELECT fold, version, document FROM fold_tables t WHERE NOT EXISTS
                (SELECT 1 FROM folds f WHERE f.fold = t.fold AND f.version = t.version)",
        )?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<Result<_>>()?;
    let mut dropped = 0;
    for (fold, version, document) in unused {
        if !known.contains(&(fold.as_str(), version)) {
            tx.execute_batch(&format!("DROP TABLE IF EXISTS \"{document}_v{version}\""))?;
            let forget = "DELETE FROM fold_tables WHERE fold = ? AND version = ? AND document = ?";
            tx.execute(forget, params![fold, version, document])?;
            dropped += 1;
        }
    }
    Ok(dropped)
}

pub(super) fn forget_removals(tx: &Transaction<'_>, before: Timestamp) -> Result<()> {
    tx.execute(
        "UPDATE folds SET horizon = max(horizon, (SELECT max(position) FROM removals
            WHERE removals.company = folds.company AND removals.fold = folds.fold AND removed_at < ?1))
         WHERE EXISTS (SELECT 1 FROM removals
            WHERE removals.company = folds.company AND removals.fold = folds.fold AND removed_at < ?1)",
        params![before.micros()],
    )?;
    tx.execute("DELETE FROM removals WHERE removed_at < ?", params![before.micros()])?;
    Ok(())
}
