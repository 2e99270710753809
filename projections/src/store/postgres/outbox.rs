//! What triggers sent, in Postgres.

use std::time::Duration;

use async_trait::async_trait;
use cnc_domain::{
    kernel::Timestamp,
    ledger::{Fault, Outbox, Parcel, Replied},
};
use sqlx::{Result, Row as _};

use super::{
    super::{latest_retry, retry_parcel_at},
    Postgres, Tx,
    builds::int,
    fault, writing,
};

/// How many deadlines ring in one transaction.
const RUNG_AT_ONCE: i64 = 1_000;
/// How long a filling by another process may go unnoticed.
const FILLED_ELSEWHERE: Duration = Duration::from_secs(1);

#[async_trait]
impl Outbox for Postgres {
    async fn waiting(&self, now: Timestamp, limit: usize) -> std::result::Result<Vec<Parcel>, Fault> {
        // What waits behind a parcel that failed must not overtake it.
        let query = sqlx::query_scalar(
            "SELECT parcel::text FROM cnc.outbox o WHERE NOT (due_at > $1 AND due_at <= $3) AND NOT EXISTS
                (SELECT 1 FROM cnc.outbox e WHERE e.due_at > $1 AND e.due_at <= $3
                    AND e.place < o.place AND e.company = o.company
                    AND e.parcel #>> '{also,stream}' = o.parcel #>> '{also,stream}'
                    AND e.parcel #>> '{also,id}' = o.parcel #>> '{also,id}')
             ORDER BY place LIMIT $2",
        );
        let query = query.bind(now.micros()).bind(int(limit as u64)).bind(latest_retry(now).micros());
        let found: Result<Vec<String>> = query.fetch_all(&self.pool).await;
        let read = found.and_then(|found| found.iter().map(|text| parcel(text)).collect());
        read.map_err(fault("reading the outbox"))
    }

    async fn replied(&self, now: Timestamp, replies: Vec<Replied>) -> std::result::Result<(), Fault> {
        if replies.is_empty() {
            return Ok(());
        }
        let doing = "taking parcels off the outbox";
        let mut tx = self.begin(doing).await?;
        replied(&mut tx, now, &replies).await.map_err(fault(doing))?;
        tx.commit().await.map_err(fault(doing))
    }

    async fn ring(&self, now: Timestamp) -> std::result::Result<(usize, Option<Timestamp>), Fault> {
        let doing = "ringing deadlines";
        let mut tx = self.begin(doing).await?;
        let rung = ring(&mut tx, now).await.map_err(fault(doing))?;
        tx.commit().await.map_err(fault(doing))?;
        if rung.0 > 0 {
            self.filled.notify_one();
        }
        Ok(rung)
    }

    async fn filled(&self) {
        let _ = tokio::time::timeout(FILLED_ELSEWHERE, self.filled.notified()).await;
    }
}

fn parcel(text: &str) -> Result<Parcel> {
    serde_json::from_str(text).map_err(|wrong| sqlx::Error::Decode(Box::new(wrong)))
}

/// Locks parcels in the one order in which all do: workers do not claim what they carry out, so that two may have done the
/// same, each in an order of its own.
async fn lock(tx: &mut Tx, replies: &[Replied]) -> Result<()> {
    sqlx::query(
        "SELECT FROM cnc.outbox o JOIN unnest($1::text[], $2::text[]) AS u (c, i)
            ON o.company = u.c::uuid AND o.command = u.i::uuid ORDER BY o.company, o.command FOR UPDATE OF o",
    )
    .bind(replies.iter().map(|reply| reply.company.to_string()).collect::<Vec<_>>())
    .bind(replies.iter().map(|reply| reply.command.to_string()).collect::<Vec<_>>())
    .execute(&mut **tx)
    .await
    .map(drop)
}

async fn replied(tx: &mut Tx, now: Timestamp, replies: &[Replied]) -> Result<()> {
    lock(tx, replies).await?;
    let (done, failed): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.outcome.is_ok());
    sqlx::query(
        "DELETE FROM cnc.outbox o USING unnest($1::text[], $2::text[]) AS u (c, i)
            WHERE o.company = u.c::uuid AND o.command = u.i::uuid",
    )
    .bind(done.iter().map(|reply| reply.company.to_string()).collect::<Vec<_>>())
    .bind(done.iter().map(|reply| reply.command.to_string()).collect::<Vec<_>>())
    .execute(&mut **tx)
    .await?;
    for reply in failed {
        let (company, command) = (reply.company.to_string(), reply.command.to_string());
        let tries: Option<i64> = sqlx::query_scalar(
            "UPDATE cnc.outbox SET tries = tries + 1 WHERE company = $1::uuid AND command = $2::uuid RETURNING tries",
        )
        .bind(&company)
        .bind(&command)
        .fetch_optional(&mut **tx)
        .await?;
        let tries = u32::try_from(tries.unwrap_or(1)).unwrap_or(u32::MAX);
        let text = "UPDATE cnc.outbox SET due_at = $3, last_fault = $4 WHERE company = $1::uuid AND command = $2::uuid";
        sqlx::query(text)
            .bind(&company)
            .bind(&command)
            .bind(retry_parcel_at(tries, now).micros())
            .bind(reply.outcome.as_ref().err())
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

async fn ring(tx: &mut Tx, now: Timestamp) -> Result<(usize, Option<Timestamp>)> {
    let due = sqlx::query(
        "DELETE FROM cnc.deadlines WHERE (company, fold, key) IN
            (SELECT company, fold, key FROM cnc.deadlines WHERE due_at <= $1
                ORDER BY due_at, company, key LIMIT $2 FOR UPDATE SKIP LOCKED)
         RETURNING parcel::text",
    )
    .bind(now.micros())
    .bind(RUNG_AT_ONCE)
    .fetch_all(&mut **tx)
    .await?;
    let parcels: Vec<Parcel> = due.iter().map(|row| parcel(&row.try_get::<String, _>(0)?)).collect::<Result<_>>()?;
    writing::parcels(tx, &parcels).await?;
    let next: Option<i64> = sqlx::query_scalar("SELECT min(due_at) FROM cnc.deadlines").fetch_one(&mut **tx).await?;
    Ok((parcels.len(), next.map(Timestamp::from_micros)))
}
