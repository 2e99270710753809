//! Writing a batch in SQLite: documents, what is sent, and the position, in one transaction.

use cnc_domain::{
    kernel::{self, Deadline, LocationId, Timestamp},
    ledger::Parcel,
};
use rusqlite::{Error, OptionalExtension, Result, Transaction, params};

use super::{
    super::{Commit, FoldRow, Standing, Write, Written},
    builds,
};

pub(super) fn commit(tx: &Transaction<'_>, now: Timestamp, writes: &[Write]) -> Result<Commit> {
    writes.iter().map(|write| one(tx, now, write)).collect()
}

fn one(tx: &Transaction<'_>, now: Timestamp, write: &Write) -> Result<Option<Written>> {
    let row = builds::row(tx, &write.id)?;
    let Some(row) = row.filter(|row| !row.is_over() && row.head() == write.expected) else {
        return Ok(None);
    };
    let mut were = Vec::new();
    for (shelf, changes) in &write.changes {
        let table = write.plan.table(*shelf, write.plan.version);
        if *shelf == 0 && row.standing == Standing::Live && !write.plan.trigger {
            were = former(tx, &table, &row, changes)?;
            remember(tx, now, write, changes, &were)?;
        }
        documents(tx, &table, &row, write, changes)?;
    }
    parcels(tx, &write.parcels)?;
    deadlines(tx, write)?;
    builds::advance(tx, &write.id, write.to, now)?;
    Ok(Some(Written { were }))
}

fn documents(
    tx: &Transaction<'_>,
    table: &str,
    row: &FoldRow,
    write: &Write,
    changes: &[kernel::Change],
) -> Result<()> {
    let mut put = tx.prepare_cached(&format!(
        "INSERT INTO \"{table}\" (company, build, key, location, position, doc, restricted)
         VALUES (?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (company, build, key) DO UPDATE SET location = excluded.location, position = excluded.position,
            doc = excluded.doc, restricted = excluded.restricted"
    ))?;
    let mut remove =
        tx.prepare_cached(&format!("DELETE FROM \"{table}\" WHERE company = ? AND build = ? AND key = ?"))?;
    let company = row.id.company.to_string();
    for change in changes {
        match &change.doc {
            Some(doc) => put.execute(params![
                company,
                row.id.build,
                change.key,
                change.location.map(|location| location.to_string()),
                write.to.position,
                doc,
                change.restricted
            ])?,
            None => remove.execute(params![company, row.id.build, change.key])?,
        };
    }
    Ok(())
}

/// The branches that changed documents had, where the documents were there.
fn former(
    tx: &Transaction<'_>,
    table: &str,
    row: &FoldRow,
    changes: &[kernel::Change],
) -> Result<Vec<(String, Option<LocationId>)>> {
    let mut select =
        tx.prepare_cached(&format!("SELECT location FROM \"{table}\" WHERE company = ? AND build = ? AND key = ?"))?;
    let company = row.id.company.to_string();
    let mut were = Vec::new();
    for change in changes {
        let found = select
            .query_row(params![company, row.id.build, change.key], |row| row.get::<_, Option<String>>(0))
            .optional()?;
        if let Some(location) = found {
            were.push((change.key.clone(), location.and_then(|location| location.parse().ok())));
        }
    }
    Ok(were)
}

/// Remembers for whom a document is gone: for all, or for those who see only the branch that it left.
fn remember(
    tx: &Transaction<'_>,
    now: Timestamp,
    write: &Write,
    changes: &[kernel::Change],
    were: &[(String, Option<LocationId>)],
) -> Result<()> {
    let mut insert = tx.prepare_cached(
        "INSERT OR REPLACE INTO removals (company, fold, position, key, location, removed_at)
         VALUES (?, ?, ?, ?, ?, ?)",
    )?;
    let mut were = were.iter().peekable();
    for change in changes {
        // Both are in the order of keys.
        let Some((key, location)) = were.next_if(|(key, _)| *key == change.key) else { continue };
        if change.doc.is_none() || (change.location != *location && change.location.is_some()) {
            let (company, location) = (write.id.company.to_string(), location.map(|location| location.to_string()));
            insert.execute(params![company, write.id.fold, write.to.position, key, location, now.micros()])?;
        }
    }
    Ok(())
}

/// Puts parcels in the outbox, due at once by every clock.
pub(super) fn parcels(tx: &Transaction<'_>, parcels: &[Parcel]) -> Result<()> {
    let mut insert =
        tx.prepare_cached("INSERT OR IGNORE INTO outbox (company, command, parcel, due_at) VALUES (?, ?, ?, 0)")?;
    for parcel in parcels {
        let (company, command) = (parcel.company.to_string(), parcel.command.to_string());
        insert.execute(params![company, command, text(parcel)?])?;
    }
    Ok(())
}

fn deadlines(tx: &Transaction<'_>, write: &Write) -> Result<()> {
    let company = write.id.company.to_string();
    for deadline in &write.deadlines {
        match deadline {
            Deadline::Set(due) => tx
                .prepare_cached(
                    "INSERT INTO deadlines (company, fold, key, due_at, parcel) VALUES (?, ?, ?, ?, ?)
                 ON CONFLICT (company, fold, key) DO UPDATE SET due_at = excluded.due_at, parcel = excluded.parcel",
                )?
                .execute(params![company, write.id.fold, due.key, due.at.micros(), text(&due.parcel)?])?,
            Deadline::Cleared(key) => tx
                .prepare_cached("DELETE FROM deadlines WHERE company = ? AND fold = ? AND key = ?")?
                .execute(params![company, write.id.fold, key])?,
        };
    }
    Ok(())
}

fn text(parcel: &Parcel) -> Result<String> {
    serde_json::to_string(parcel).map_err(|wrong| Error::ToSqlConversionFailure(Box::new(wrong)))
}
