//! Appending in one transaction of `SQLite`.

use cnc_domain::{
    kernel::{CompanyId, Timestamp},
    ledger::{Answered, Append, AppendError, Appended, Fault, Hash, Head},
};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};

use super::{
    super::{
        FORGET_AT_ONCE, integer,
        known::Known,
        number,
        stamp::{Batch, Found, Remembered, Stamped, Tip, key_id},
    },
    connection::fault,
};

type Outcomes = Vec<Result<Appended, AppendError>>;

/// Appends a batch; where it fails for a reason that will not pass, each append alone.
pub(super) fn append(writer: &mut Writer, batch: &[Append]) -> Result<Outcomes, Fault> {
    match together(writer, batch) {
        Err(fault) if !fault.passing && batch.len() > 1 => Ok(batch
            .iter()
            .map(|append| match together(writer, std::slice::from_ref(append)) {
                Ok(mut outcomes) => outcomes.remove(0),
                Err(fault) => Err(fault.into()),
            })
            .collect()),
        Err(fault) if !fault.passing => Ok(vec![Err(fault.into())]),
        outcomes => outcomes,
    }
}

/// The one connection that writes, and what it remembers.
pub(super) struct Writer {
    pub connection: Connection,
    pub known: Known,
}

/// How a batch is recorded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keys {
    /// Idempotency keys are taken to be new, as nearly all are: the database says where one is not.
    New,
    /// They are looked up.
    Sought,
}

fn together(writer: &mut Writer, appends: &[Append]) -> Result<Outcomes, Fault> {
    let batch = Batch::new(appends);
    let recorded = match record(writer, &batch, Keys::New) {
        Err(error) if is_taken(&error) => record(writer, &batch, Keys::Sought),
        recorded => recorded,
    };
    let stamped = recorded.map_err(fault("append"))?;
    writer.known.learn(&stamped);
    Ok(stamped.outcomes)
}

fn record<'a>(writer: &mut Writer, batch: &Batch<'a>, keys: Keys) -> rusqlite::Result<Stamped<'a>> {
    let Writer { connection, known } = writer;
    // Immediate: heads and sequences are read under the lock of the one writer.
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut stamped = batch.stamp(find(&tx, batch, known, keys)?);
    if keys == Keys::New && stamped.refuses() {
        stamped = batch.stamp(find(&tx, batch, known, Keys::Sought)?);
    }
    if !stamped.is_empty() {
        write(&tx, &stamped)?;
        tx.commit()?;
    }
    Ok(stamped)
}

/// Whether a row with the same key stood there.
fn is_taken(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| error.extended_code == rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE)
}

fn find(tx: &Transaction<'_>, batch: &Batch<'_>, known: &Known, keys: Keys) -> rusqlite::Result<Found> {
    let mut found = Found::default();
    for company in &batch.companies {
        if let Some(tip) = tip(tx, company.uuid())? {
            found.tips.insert(*company, tip);
        }
    }
    let mut sequences =
        tx.prepare_cached("SELECT max(sequence) FROM events WHERE company = ?1 AND stream = ?2 AND id = ?3")?;
    for (company, stream, id) in &batch.streams {
        let known = known.sequence(found.tips.get(company), (*company, stream, *id));
        let sequence = if let Some(known) = known {
            known
        } else {
            let (company, id) = (company.uuid(), id.as_bytes());
            let sequence = sequences.query_row(params![company.as_bytes(), stream, id], |row| row.get(0));
            number(sequence.map(Option::unwrap_or_default)?)
        };
        found.sequences.push(sequence);
    }
    for (company, actor, key) in &batch.keys {
        let answer = if keys == Keys::New { None } else { answered(tx, *company, actor, key)? };
        found.answers.push(answer);
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
    company: CompanyId,
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
        .prepare_cached("SELECT fingerprint, answer FROM commands WHERE id = ?1")?
        .query_row(params![key_id(company, actor, key)], read)
        .optional()
}

fn write(tx: &Transaction<'_>, stamped: &Stamped<'_>) -> rusqlite::Result<()> {
    let mut events = tx.prepare_cached(
        "INSERT OR FAIL INTO events (company, position, stream, id, sequence, event, version, at, hash, metadata, payload)
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
        "INSERT INTO commands (id, company, fingerprint, at, for_ever, answer) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for Remembered { company, key, id, at, answer } in &stamped.remembered {
        commands.execute(params![id, company.uuid().as_bytes(), key.fingerprint, at.micros(), key.for_ever, answer])?;
    }
    Ok(())
}

/// Keeps how late it is.
pub(super) fn keep_time(connection: &Connection, now: Timestamp) -> Result<(), Fault> {
    let kept = connection.execute("INSERT OR REPLACE INTO clock (one, at) VALUES (1, ?1)", params![now.micros()]);
    kept.map(drop).map_err(fault("keep the time"))
}

/// Forgets one portion of old answers to people, and says how many.
pub(super) fn forget(connection: &Connection, before: Timestamp) -> Result<usize, Fault> {
    connection
        .execute(
            "DELETE FROM commands WHERE rowid IN
             (SELECT rowid FROM commands WHERE NOT for_ever AND at < ?1 LIMIT ?2)",
            params![before.micros(), FORGET_AT_ONCE],
        )
        .map_err(fault("forget answers"))
}
