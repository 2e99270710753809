//! What triggers sent, in Postgres.

use std::time::Duration;

use async_trait::async_trait;
use cnc_domain::{
    kernel::{CommandId, Timestamp},
    ledger::{Fault, Outbox, Parcel, Replied},
};
use sqlx::{Result, Row as _, postgres::PgRow};

use super::{
    super::{KeptParcel, latest_retry, put_off, read_parcels, retry_parcel_at},
    Postgres, Tx,
    builds::int,
    fault, writing,
};

/// How many deadlines ring in one transaction.
const RUNG_AT_ONCE: i64 = 1_000;
/// How long a filling by another process may go unnoticed.
const FILLED_ELSEWHERE: Duration = Duration::from_secs(1);

/// That a row's company is commanded in this database. What one that has moved away has left behind stays until it is dropped:
/// a move that was interrupted takes it along when it goes on.
const IS_HERE: &str = "NOT EXISTS (SELECT FROM cnc.heads h WHERE h.company = o.company AND h.moved_to IS NOT NULL)";

#[async_trait]
impl Outbox for Postgres {
    async fn waiting(&self, now: Timestamp, limit: usize) -> std::result::Result<Vec<Parcel>, Fault> {
        // What waits behind a parcel that failed must not overtake it.
        let sql = format!(
            "SELECT company::text, command::text, parcel::text FROM cnc.outbox o WHERE {IS_HERE}
                AND NOT (due_at > $1 AND due_at <= $3) AND NOT EXISTS
                (SELECT 1 FROM cnc.outbox e WHERE e.due_at > $1 AND e.due_at <= $3
                    AND e.place < o.place AND e.company = o.company
                    AND e.parcel #>> '{{also,stream}}' = o.parcel #>> '{{also,stream}}'
                    AND e.parcel #>> '{{also,id}}' = o.parcel #>> '{{also,id}}')
             ORDER BY place LIMIT $2"
        );
        let query = sqlx::query(&sql);
        let query = query.bind(now.micros()).bind(int(limit as u64)).bind(latest_retry(now).micros());
        let found = query.fetch_all(&self.pool).await;
        let kept = found.and_then(|found| found.iter().map(kept).collect::<Result<Vec<_>>>());
        let (parcels, unreadable) = read_parcels(kept.map_err(fault("reading the outbox"))?);
        self.replied(now, put_off(unreadable)).await?;
        Ok(parcels)
    }

    async fn replied(&self, now: Timestamp, replies: Vec<Replied>) -> std::result::Result<(), Fault> {
        if replies.is_empty() {
            return Ok(());
        }
        let doing = "taking parcels off the outbox";
        let mut tx = self.transaction(doing).await?;
        replied(&mut tx, now, &replies).await.map_err(fault(doing))?;
        tx.commit().await.map_err(fault(doing))
    }

    async fn ring(&self, now: Timestamp) -> std::result::Result<(usize, Option<Timestamp>), Fault> {
        let doing = "ringing deadlines";
        let mut tx = self.transaction(doing).await?;
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

/// Whose it is, its command and its text.
fn kept(row: &PgRow) -> Result<KeptParcel<CommandId>> {
    Ok(KeptParcel { company: id(row, 0)?, key: id(row, 1)?, text: row.try_get(2)? })
}

fn id<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>>(row: &PgRow, column: usize) -> Result<T> {
    row.try_get::<&str, _>(column)?.parse().map_err(|wrong| sqlx::Error::Decode(Box::new(wrong)))
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

/// Has a deadline run out later.
async fn put_back(tx: &mut Tx, deadline: KeptParcel<(String, String)>, due_at: Timestamp) -> Result<()> {
    let KeptParcel { company, key: (fold, key), text } = deadline;
    let insert =
        "INSERT INTO cnc.deadlines (company, fold, key, due_at, parcel) VALUES ($1::uuid, $2, $3, $4, $5::json)";
    let insert = sqlx::query(insert).bind(company.to_string()).bind(fold).bind(key).bind(due_at.micros()).bind(text);
    insert.execute(&mut **tx).await.map(drop)
}

async fn ring(tx: &mut Tx, now: Timestamp) -> Result<(usize, Option<Timestamp>)> {
    let sql = format!(
        "DELETE FROM cnc.deadlines WHERE (company, fold, key) IN
            (SELECT company, fold, key FROM cnc.deadlines o WHERE due_at <= $1 AND {IS_HERE}
                ORDER BY due_at, company, key LIMIT $2 FOR UPDATE OF o SKIP LOCKED)
         RETURNING company::text, fold, key, parcel::text"
    );
    let due = sqlx::query(&sql).bind(now.micros()).bind(RUNG_AT_ONCE).fetch_all(&mut **tx).await?;
    let key = |row: &PgRow| Ok::<_, sqlx::Error>((row.try_get(1)?, row.try_get(2)?));
    let due = due.iter().map(|row| Ok(KeptParcel { company: id(row, 0)?, key: key(row)?, text: row.try_get(3)? }));
    let (parcels, unreadable) = read_parcels(due.collect::<Result<_>>()?);
    writing::parcels(tx, &parcels).await?;
    for (deadline, _) in unreadable {
        put_back(tx, deadline, latest_retry(now)).await?;
    }
    let next = format!("SELECT due_at FROM cnc.deadlines o WHERE {IS_HERE} ORDER BY due_at LIMIT 1");
    let next: Option<i64> = sqlx::query_scalar(&next).fetch_optional(&mut **tx).await?;
    Ok((parcels.len(), next.map(Timestamp::from_micros)))
}
