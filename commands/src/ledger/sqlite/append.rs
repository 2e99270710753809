//! The statements of an append in `SQLite`. Each runs to its end in the thread that asks for it; only for the one
//! connection that writes may it wait.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use cnc_domain::{
    kernel::{CompanyId, Timestamp},
    ledger::{Answered, Fault, Hash, Head, StreamHead},
};
use rusqlite::{Connection, OptionalExtension, Row, params};
use tokio::sync::OwnedMutexGuard;

use super::{
    super::{
        FORGET_AT_ONCE, integer,
        known::Known,
        number,
        recording::{Database, Failed},
        stamp::{Batch, Found, Moved, Remembered, Stamped, Stream, Tip, key_id},
    },
    connection::{fault, truncate_log},
};

/// The one connection that writes, and what this process remembers.
pub(super) struct Writer {
    connection: Arc<tokio::sync::Mutex<Connection>>,
    known: Mutex<Known>,
}

/// The write lock. What was done under it is undone unless it is committed.
pub(super) struct Transaction(OwnedMutexGuard<Connection>);

impl Transaction {
    /// Immediate: heads and streams are read under the lock of the one writer.
    fn begin(connection: OwnedMutexGuard<Connection>) -> rusqlite::Result<Self> {
        connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(Self(connection))
    }

    fn commit(self) -> rusqlite::Result<()> {
        self.0.prepare_cached("COMMIT")?.execute([]).map(|_| ())
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        // Where even this fails, the next transaction cannot begin, and says so.
        if !self.0.is_autocommit() {
            let _ = self.0.execute_batch("ROLLBACK");
        }
    }
}

impl Writer {
    pub fn new(connection: Connection) -> Self {
        Self { connection: Arc::new(tokio::sync::Mutex::new(connection)), known: Mutex::default() }
    }

    /// Leaves nothing in the log beside the file. Blocks.
    pub fn truncate_log(&self) -> Result<(), Fault> {
        truncate_log(&self.connection.blocking_lock()).map_err(fault("close the ledger"))
    }

    /// Keeps how late it is. Blocks.
    pub fn keep_time(&self, now: Timestamp) -> Result<(), Fault> {
        let sql = "INSERT OR REPLACE INTO clock (one, at) VALUES (1, ?1)";
        let kept = self.connection.blocking_lock().execute(sql, params![now.micros()]);
        kept.map(drop).map_err(fault("keep the time"))
    }

    /// Forgets one portion of old answers to people, and says how many. Blocks.
    pub fn forget(&self, before: Timestamp) -> Result<usize, Fault> {
        let sql = "DELETE FROM commands WHERE rowid IN
                   (SELECT rowid FROM commands WHERE NOT for_ever AND at < ?1 LIMIT ?2)";
        let connection = self.connection.blocking_lock();
        connection.execute(sql, params![before.micros(), FORGET_AT_ONCE]).map_err(fault("forget answers"))
    }
}

#[async_trait]
impl Database for Writer {
    type Connection = Transaction;
    type Transaction = Transaction;

    fn known(&self) -> &Mutex<Known> {
        &self.known
    }

    async fn connect(&self) -> Result<Transaction, Fault> {
        self.begin().await
    }

    async fn write_at_once(&self, tx: Transaction, stamped: &Stamped<'_>) -> Result<(), Failed> {
        write(&tx.0, stamped).map_err(Failed::Refused)?;
        tx.commit().map_err(|error| Failed::Lost(fault("append")(error)))
    }

    async fn begin(&self) -> Result<Transaction, Fault> {
        Transaction::begin(self.connection.clone().lock_owned().await).map_err(fault("append"))
    }

    async fn find(&self, tx: &mut Transaction, batch: &Batch<'_>) -> Result<Found, Failed> {
        find(&tx.0, batch).map_err(|error| Failed::Refused(fault("append")(error)))
    }

    async fn write(&self, tx: &mut Transaction, stamped: &Stamped<'_>) -> Result<(), Fault> {
        write(&tx.0, stamped)
    }

    async fn commit(&self, tx: Transaction) -> Result<(), Failed> {
        tx.commit().map_err(|error| Failed::Lost(fault("append")(error)))
    }

    async fn is_recorded(&self, _: &Batch<'_>, stamped: &Stamped<'_>) -> Result<bool, Failed> {
        let connection = self.connection.lock().await;
        is_recorded(&connection, stamped).map_err(|error| Failed::Refused(fault("append")(error)))
    }
}

fn find(connection: &Connection, batch: &Batch<'_>) -> rusqlite::Result<Found> {
    let mut found = Found::default();
    for company in &batch.companies {
        if let Some(tip) = tip(connection, company.uuid())? {
            found.tips.insert(*company, tip);
        }
    }
    for stream in &batch.streams {
        found.streams.push(last_of(connection, *stream)?);
    }
    for (company, actor, key) in &batch.keys {
        found.answers.push(answered(connection, *company, actor, key)?);
    }
    Ok(found)
}

/// The last entry of a stream.
fn last_of(connection: &Connection, (company, stream, id): Stream<'_>) -> rusqlite::Result<StreamHead> {
    let last = connection
        .prepare_cached(
            "SELECT sequence, hash FROM events WHERE company = ?1 AND stream = ?2 AND id = ?3
             ORDER BY sequence DESC LIMIT 1",
        )?
        .query_row(params![company.uuid().as_bytes(), stream, id.as_bytes()], |row| {
            Ok(StreamHead { sequence: number(row.get(0)?), hash: Hash(row.get(1)?) })
        });
    last.optional().map(Option::unwrap_or_default)
}

/// The end of a ledger.
pub(super) fn tip(connection: &Connection, company: uuid::Uuid) -> rusqlite::Result<Option<Tip>> {
    connection
        .prepare_cached("SELECT position, hash, at, facts FROM heads WHERE company = ?1")?
        .query_row(params![company.as_bytes()], |row| read_tip(row, 0))
        .optional()
}

/// A position and a hash, which stand from column `first` on.
pub(super) fn read_head(row: &Row<'_>, first: usize) -> rusqlite::Result<Head> {
    Ok(Head { position: number(row.get(first)?), hash: Hash(row.get(first + 1)?) })
}

/// A head row's position, hash, time and facts, which stand from column `first` on.
pub(super) fn read_tip(row: &Row<'_>, first: usize) -> rusqlite::Result<Tip> {
    let at = Timestamp::from_micros(row.get(first + 2)?);
    Ok(Tip { head: read_head(row, first)?, at, facts: Hash(row.get(first + 3)?) })
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

/// Writes everything. Refused where a head does not stand where the batch was stamped to follow it, or what it inserts is
/// there.
fn write(connection: &Connection, stamped: &Stamped<'_>) -> Result<(), Fault> {
    let doing = "append";
    if !move_heads(connection, &stamped.moved).map_err(fault(doing))? {
        return Err(Fault::passing(doing, "another process has moved a head"));
    }
    insert(connection, stamped).map_err(fault(doing))
}

/// Whether all stood where they were to be moved from.
fn move_heads(connection: &Connection, moved: &[Moved]) -> rusqlite::Result<bool> {
    let found = "INSERT OR IGNORE INTO heads (company, position, hash, at, facts) VALUES (?1, ?2, ?3, ?4, ?5)";
    let follow = "UPDATE heads SET position = ?2, hash = ?3, at = ?4, facts = ?5
                  WHERE company = ?1 AND position = ?6 AND hash = ?7";
    for Moved { company, tip: Tip { head, at, facts }, before } in moved {
        let company = company.uuid();
        let (company, position, at) = (company.as_bytes(), integer(head.position), at.micros());
        let rows = match before {
            None => connection.prepare_cached(found)?.execute(params![company, position, head.hash.0, at, facts.0])?,
            Some(Tip { head: before, .. }) => connection.prepare_cached(follow)?.execute(params![
                company,
                position,
                head.hash.0,
                at,
                facts.0,
                integer(before.position),
                before.hash.0
            ])?,
        };
        if rows == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

fn insert(connection: &Connection, stamped: &Stamped<'_>) -> rusqlite::Result<()> {
    let mut events = connection.prepare_cached(
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
    let mut commands = connection.prepare_cached(
        "INSERT INTO commands (id, company, fingerprint, at, for_ever, answer) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for Remembered { company, key, id, at, answer } in &stamped.remembered {
        commands.execute(params![id, company.uuid().as_bytes(), key.fingerprint, at.micros(), key.for_ever, answer])?;
    }
    Ok(())
}

/// Whether all of this was recorded: the last entry of each company, whose hash covers those before it, and every answer.
fn is_recorded(connection: &Connection, stamped: &Stamped<'_>) -> rusqlite::Result<bool> {
    let mut entry =
        connection.prepare_cached("SELECT 1 FROM events WHERE company = ?1 AND position = ?2 AND hash = ?3")?;
    for Moved { company, tip, .. } in &stamped.moved {
        let head = tip.head;
        if !entry.exists(params![company.uuid().as_bytes(), integer(head.position), head.hash.0])? {
            return Ok(false);
        }
    }
    let mut remembered = connection.prepare_cached("SELECT 1 FROM commands WHERE id = ?1 AND answer = ?2")?;
    for Remembered { id, answer, .. } in &stamped.remembered {
        if !remembered.exists(params![id, answer])? {
            return Ok(false);
        }
    }
    Ok(true)
}
