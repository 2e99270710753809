//! Appending in one transaction of `SQLite`.

use cnc_domain::{
    kernel::Timestamp,
    ledger::{Answered, Append, AppendError, Appended, Fault, Hash, Head},
};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};

use super::{
    super::{
        FORGET_AT_ONCE, integer, number,
        stamp::{Batch, Found, Stamped, Tip},
    },
    connection::fault,
};

type Outcomes = Vec<Result<Appended, AppendError>>;

/// Appends a batch; where it fails for a reason that will not pass, each append alone.
pub(super) fn append(connection: &mut Connection, batch: &[Append]) -> Result<Outcomes, Fault> {
    match together(connection, batch) {
        Err(fault) if !fault.passing && batch.len() > 1 => Ok(batch
            .iter()
            .map(|append| match together(connection, std::slice::from_ref(append)) {
                Ok(mut outcomes) => outcomes.remove(0),
                Err(fault) => Err(fault.into()),
            })
            .collect()),
        Err(fault) if !fault.passing => Ok(vec![Err(fault.into())]),
        outcomes => outcomes,
    }
}

fn together(connection: &mut Connection, appends: &[Append]) -> Result<Outcomes, Fault> {
    let batch = Batch::new(appends);
    let mut record = || {
        // Immediate: heads and sequences are read under the lock of the one writer.
        let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let stamped = batch.stamp(find(&tx, &batch)?);
        if !stamped.is_empty() {
            write(&tx, &stamped)?;
            tx.commit()?;
        }
        Ok(stamped.outcomes)
    };
    record().map_err(fault("append"))
}

fn find(tx: &Transaction<'_>, batch: &Batch<'_>) -> rusqlite::Result<Found> {
    let mut found = Found::default();
    for company in &batch.companies {
        if let Some(tip) = tip(tx, company.uuid())? {
            found.tips.insert(*company, tip);
        }
    }
    let mut sequences =
        tx.prepare_cached("SELECT max(sequence) FROM events WHERE company = ?1 AND stream = ?2 AND id = ?3")?;
    for (company, stream, id) in &batch.streams {
        let company = company.uuid();
        let sequence: Option<i64> =
            sequences.query_row(params![company.as_bytes(), stream, id.as_bytes()], |row| row.get(0))?;
        found.sequences.push(number(sequence.unwrap_or_default()));
    }
    for (company, actor, key) in &batch.keys {
        found.answers.push(answered(tx, company.uuid(), actor, key)?);
    }
    Ok(found)
}

/// The end of a ledger.
pub(super) fn tip(connection: &Connection, company: uuid::Uuid) -> rusqlite::Result<Option<Tip>> {
    connection
        .prepare_cached("SELECT position, hash, at FROM heads WHERE company = ?1")?
        .query_row(params![company.as_bytes()], |row| read_tip(row, 0))
        .optional()
}

/// A head row's position, hash and time, which stand from column `first` on.
pub(super) fn read_tip(row: &Row<'_>, first: usize) -> rusqlite::Result<Tip> {
    let position = number(row.get(first)?);
    let hash = Hash(row.get(first + 1)?);
    Ok(Tip { head: Head { position, hash }, at: Timestamp::from_micros(row.get(first + 2)?) })
}

/// What was answered under a key.
pub(super) fn answered(
    connection: &Connection,
    company: uuid::Uuid,
    actor: &str,
    key: &str,
) -> rusqlite::Result<Option<Answered>> {
    let read = |row: &Row<'_>| {
        let answer: String = row.get(1)?;
        let answer = serde_json::from_str(&answer).map_err(|unreadable| {
            rusqlite::Error::FromSqlConversionFailure(1, rusqlite::types::Type::Text, unreadable.into())
        })?;
        Ok(Answered { fingerprint: row.get(0)?, answer })
    };
    connection
        .prepare_cached("SELECT fingerprint, answer FROM commands WHERE company = ?1 AND actor = ?2 AND key = ?3")?
        .query_row(params![company.as_bytes(), actor, key], read)
        .optional()
}

fn write(tx: &Transaction<'_>, stamped: &Stamped<'_>) -> rusqlite::Result<()> {
    let mut events = tx.prepare_cached(
        "INSERT INTO events (company, position, stream, id, sequence, event, version, at, hash, metadata, payload)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?;
    for row in &stamped.rows {
        let draft = row.draft;
        events.execute(params![
            row.company.uuid().as_bytes(),
            integer(row.position),
            draft.stream,
            draft.id.as_bytes(),
            integer(draft.sequence),
            draft.event,
            draft.version,
            row.at.micros(),
            row.hash.0,
            row.header,
            draft.payload.get(),
        ])?;
    }
    let mut heads = tx.prepare_cached(
        "INSERT INTO heads (company, position, hash, at) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (company) DO UPDATE SET position = excluded.position, hash = excluded.hash, at = excluded.at",
    )?;
    for moved in &stamped.moved {
        let (head, at) = (moved.tip.head, moved.tip.at.micros());
        heads.execute(params![moved.company.uuid().as_bytes(), integer(head.position), head.hash.0, at])?;
    }
    let mut commands = tx.prepare_cached(
        "INSERT INTO commands (company, actor, key, fingerprint, at, for_ever, answer)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    for remembered in &stamped.remembered {
        let (company, key, at) = (remembered.company.uuid(), remembered.key, remembered.at.micros());
        let company = company.as_bytes();
        commands.execute(params![company, key.actor, key.key, key.fingerprint, at, key.for_ever, remembered.answer])?;
    }
    Ok(())
}

/// Forgets one portion of old answers to people, and says how many.
pub(super) fn forget(connection: &Connection, before: Timestamp) -> Result<usize, Fault> {
    connection
        .execute(
            "DELETE FROM commands WHERE (company, actor, key) IN
             (SELECT company, actor, key FROM commands WHERE NOT for_ever AND at < ?1 LIMIT ?2)",
            params![before.micros(), FORGET_AT_ONCE],
        )
        .map_err(fault("forget answers"))
}
