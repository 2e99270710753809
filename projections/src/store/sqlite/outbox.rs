//! What triggers sent, in SQLite.

use std::time::Duration;

use async_trait::async_trait;
use cnc_domain::{
    kernel::Timestamp,
    ledger::{Fault, Outbox, Parcel, Replied},
};
use rusqlite::{Result, Transaction, params, types::Type};

use super::{
    super::{latest_retry, retry_parcel_at},
    Sqlite, writing,
};

/// How many deadlines ring in one transaction.
const RUNG_AT_ONCE: usize = 1_000;
/// How long a filling by another process may go unnoticed.
const FILLED_ELSEWHERE: Duration = Duration::from_secs(1);

#[async_trait]
impl Outbox for Sqlite {
    async fn waiting(&self, now: Timestamp, limit: usize) -> std::result::Result<Vec<Parcel>, Fault> {
        self.ledger.read("reading the outbox", move |tx| waiting(tx, now, limit)).await
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

fn waiting(tx: &Transaction<'_>, now: Timestamp, limit: usize) -> Result<Vec<Parcel>> {
    // What waits behind a parcel that failed must not overtake it.
    let mut select = tx.prepare_cached(
        "SELECT parcel FROM outbox o WHERE NOT (due_at > ?1 AND due_at <= ?3) AND NOT EXISTS
            (SELECT 1 FROM outbox e WHERE e.due_at > ?1 AND e.due_at <= ?3
                AND e.place < o.place AND e.company = o.company
                AND e.parcel ->> '$.also.stream' = o.parcel ->> '$.also.stream'
                AND e.parcel ->> '$.also.id' = o.parcel ->> '$.also.id')
         ORDER BY place LIMIT ?2",
    )?;
    let times = (now.micros(), latest_retry(now).micros());
    let found = select.query_map(params![times.0, limit, times.1], |row| parcel(&row.get::<_, String>(0)?))?;
    found.collect()
}

fn parcel(text: &str) -> Result<Parcel> {
    serde_json::from_str(text)
        .map_err(|wrong| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(wrong)))
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
    let due: Vec<(String, String, String, String)> = tx
        .prepare_cached(
            "SELECT company, fold, key, parcel FROM deadlines WHERE due_at <= ? ORDER BY due_at, company, key LIMIT ?",
        )?
        .query_map(params![now.micros(), RUNG_AT_ONCE], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?
        .collect::<Result<_>>()?;
    for (company, fold, key, text) in &due {
        writing::parcels(tx, &[parcel(text)?])?;
        tx.prepare_cached("DELETE FROM deadlines WHERE company = ? AND fold = ? AND key = ?")?
            .execute(params![company, fold, key])?;
    }
    Ok((due.len(), next(tx)?))
}

fn next(tx: &Transaction<'_>) -> Result<Option<Timestamp>> {
    tx.prepare_cached("SELECT min(due_at) FROM deadlines")?
        .query_row([], |row| Ok(row.get::<_, Option<i64>>(0)?.map(Timestamp::from_micros)))
}
