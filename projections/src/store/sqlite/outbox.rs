//! What triggers sent, in SQLite.

use std::time::Duration;

use async_trait::async_trait;
use cnc_domain::{
    kernel::{CommandId, Timestamp},
    ledger::{Fault, Outbox, Parcel, Replied},
};
use rusqlite::{Result, Row, Transaction, params, types::Type};

use super::{
    super::{KeptParcel, latest_retry, put_off, read_parcels, retry_parcel_at},
    Sqlite, writing,
};

/// How many deadlines ring in one transaction.
const RUNG_AT_ONCE: usize = 1_000;
/// How long a filling by another process may go unnoticed.
const FILLED_ELSEWHERE: Duration = Duration::from_secs(1);

#[async_trait]
impl Outbox for Sqlite {
    async fn waiting(&self, now: Timestamp, limit: usize) -> std::result::Result<Vec<Parcel>, Fault> {
        let kept = self.ledger.read("reading the outbox", move |tx| waiting(tx, now, limit)).await?;
        let (parcels, unreadable) = read_parcels(kept);
        self.replied(now, put_off(unreadable)).await?;
        Ok(parcels)
    }

    async fn replied(&self, now: Timestamp, replies: Vec<Replied>) -> std::result::Result<(), Fault> {
        if replies.is_empty() {
            return Ok(());
        }
        self.ledger.write("taking parcels off the outbox", move |tx| replied(tx, now, &replies)).await
    }

    async fn ring(&self, now: Timestamp) -> std::result::Result<(usize, Option<Timestamp>), Fault> {
        // Nothing is written, and nobody waits for the lock, while nothing is due.
        let next = self.ledger.read("reading deadlines", next).await?;
        if next.is_none_or(|next| next > now) {
            return Ok((0, next));
        }
        let rung = self.ledger.write("ringing deadlines", move |tx| ring(tx, now)).await?;
        self.filled.notify_one();
        Ok(rung)
    }

    async fn filled(&self) {
        let _ = tokio::time::timeout(FILLED_ELSEWHERE, self.filled.notified()).await;
    }
}

fn waiting(tx: &Transaction<'_>, now: Timestamp, limit: usize) -> Result<Vec<KeptParcel<CommandId>>> {
    // What waits behind a parcel that failed must not overtake it.
    let mut select = tx.prepare_cached(
        "SELECT company, command, parcel FROM outbox o WHERE NOT (due_at > ?1 AND due_at <= ?3) AND NOT EXISTS
            (SELECT 1 FROM outbox e WHERE e.due_at > ?1 AND e.due_at <= ?3
                AND e.place < o.place AND e.company = o.company
                AND e.parcel ->> '$.also.stream' = o.parcel ->> '$.also.stream'
                AND e.parcel ->> '$.also.id' = o.parcel ->> '$.also.id')
         ORDER BY place LIMIT ?2",
    )?;
    let times = (now.micros(), latest_retry(now).micros());
    let kept = |row: &Row<'_>| Ok(KeptParcel { company: id(row, 0)?, key: id(row, 1)?, text: row.get(2)? });
    let found = select.query_map(params![times.0, limit, times.1], kept)?;
    found.collect()
}

fn id<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>>(row: &Row<'_>, column: usize) -> Result<T> {
    let text: String = row.get(column)?;
    text.parse().map_err(|wrong| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(wrong)))
}

fn replied(tx: &Transaction<'_>, now: Timestamp, replies: &[Replied]) -> Result<()> {
    for reply in replies {
        let (company, command) = (reply.company.to_string(), reply.command.to_string());
        match &reply.outcome {
            Ok(()) => {
                tx.prepare_cached("DELETE FROM outbox WHERE company = ? AND command = ?")?
                    .execute(params![company, command])?;
            }
            Err(fault) => {
                let mut select = tx.prepare_cached("SELECT tries FROM outbox WHERE company = ? AND command = ?")?;
                let tries: Vec<u32> =
                    select.query_map(params![company, command], |row| row.get(0))?.collect::<Result<_>>()?;
                let tries = tries.first().map_or(1, |tries| tries + 1);
                tx.prepare_cached(
                    "UPDATE outbox SET tries = ?, due_at = ?, last_fault = ? WHERE company = ? AND command = ?",
                )?
                .execute(params![
                    tries,
                    retry_parcel_at(tries, now).micros(),
                    fault,
                    company,
                    command
                ])?;
            }
        }
    }
    Ok(())
}

fn ring(tx: &Transaction<'_>, now: Timestamp) -> Result<(usize, Option<Timestamp>)> {
    let key = |row: &Row<'_>| Ok::<_, rusqlite::Error>((row.get(1)?, row.get(2)?));
    let kept = |row: &Row<'_>| Ok(KeptParcel { company: id(row, 0)?, key: key(row)?, text: row.get(3)? });
    let due: Vec<KeptParcel<(String, String)>> = tx
        .prepare_cached(
            "SELECT company, fold, key, parcel FROM deadlines WHERE due_at <= ? ORDER BY due_at, company, key LIMIT ?",
        )?
        .query_map(params![now.micros(), RUNG_AT_ONCE], kept)?
        .collect::<Result<_>>()?;
    let mut clear = tx.prepare_cached("DELETE FROM deadlines WHERE company = ? AND fold = ? AND key = ?")?;
    for KeptParcel { company, key: (fold, key), .. } in &due {
        clear.execute(params![company.to_string(), fold, key])?;
    }
    let (parcels, unreadable) = read_parcels(due);
    writing::parcels(tx, &parcels)?;
    let mut put_back =
        tx.prepare_cached("INSERT INTO deadlines (company, fold, key, due_at, parcel) VALUES (?, ?, ?, ?, ?)")?;
    for (KeptParcel { company, key: (fold, key), text }, _) in unreadable {
        put_back.execute(params![company.to_string(), fold, key, latest_retry(now).micros(), text])?;
    }
    Ok((parcels.len(), next(tx)?))
}

fn next(tx: &Transaction<'_>) -> Result<Option<Timestamp>> {
    tx.prepare_cached("SELECT min(due_at) FROM deadlines")?
        .query_row([], |row| Ok(row.get::<_, Option<i64>>(0)?.map(Timestamp::from_micros)))
}
