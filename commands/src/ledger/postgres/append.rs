//! The statements of an append in Postgres: one round trip however large the batch is, where nobody else writes to the
//! same companies, otherwise five.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use cnc_domain::{
    kernel::{CompanyId, Timestamp},
    ledger::{Answered, Fault, Hash, Head, StreamHead},
};
use cnc_postgres::{Pool, PooledConnection, Transaction};
use sqlx::{Error, PgExecutor, Row, postgres::PgRow};
use uuid::Uuid;

use super::{
    super::{
        integer,
        known::Known,
        number,
        recording::{Database, Failed},
        stamp::{Batch, Found, Stamped, Tip, key_id},
    },
    fault::{fault, is_held, is_lost},
};

/// How long a batch waits for heads that somebody else holds. Another process lets go of them in milliseconds; who holds one
/// for longer stops that company alone, and this once those that share a batch with it.
pub(super) const SESSION: [(&str, &str); 2] = [("lock_timeout", "250ms"), ("statement_timeout", "4s")];
/// How long an answer may take before nobody knows whether a batch was recorded, and that is asked on another connection.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The connections that write, and what this process remembers.
#[derive(Clone)]
pub(super) struct Writers {
    pub pool: Pool,
    pub known: Arc<Mutex<Known>>,
}

#[async_trait]
impl Database for Writers {
    type Connection = PooledConnection;
    type Transaction = Transaction;

    fn known(&self) -> &Mutex<Known> {
        &self.known
    }

    async fn connect(&self) -> Result<Self::Connection, Fault> {
        self.pool.acquire().await.map_err(fault("append"))
    }

    async fn write_at_once(&self, mut connection: Self::Connection, stamped: &Stamped<'_>) -> Result<(), Failed> {
        write(&mut *connection, stamped).await.map_err(failed)
    }

    async fn begin(&self) -> Result<Transaction, Fault> {
        self.pool.begin().await.map_err(fault("append"))
    }

    async fn find(&self, tx: &mut Transaction, batch: &Batch<'_>) -> Result<Found, Failed> {
        find(tx, batch).await.map_err(failed)
    }

    async fn held(&self, companies: &[CompanyId]) -> Result<Vec<CompanyId>, Fault> {
        held(&self.pool, companies).await.map_err(fault("append"))
    }

    async fn write(&self, tx: &mut Transaction, stamped: &Stamped<'_>) -> Result<(), Fault> {
        write(&mut **tx, stamped).await.map_err(fault("append"))
    }

    async fn commit(&self, tx: Transaction) -> Result<(), Failed> {
        tx.commit().await.map_err(failed)
    }

    async fn is_recorded(&self, batch: &Batch<'_>, stamped: &Stamped<'_>) -> Result<bool, Failed> {
        ask(&self.pool, batch, stamped).await.map_err(failed)
    }
}

fn failed(error: Error) -> Failed {
    let (is_lost, is_held) = (is_lost(&error), is_held(&error));
    let fault = fault("append")(error);
    match (is_lost, is_held) {
        (true, _) => Failed::Lost(fault),
        (_, true) => Failed::Held(fault),
        _ => Failed::Refused(fault),
    }
}

async fn held(pool: &Pool, companies: &[CompanyId]) -> sqlx::Result<Vec<CompanyId>> {
    let held: Vec<Uuid> = sqlx::query_scalar(
        "WITH free AS MATERIALIZED (SELECT company FROM cnc.heads WHERE company = ANY ($1) FOR UPDATE SKIP LOCKED)
         SELECT company FROM cnc.heads WHERE company = ANY ($1) AND company NOT IN (SELECT company FROM free)",
    )
    .bind(companies.iter().map(|company| company.uuid()).collect::<Vec<_>>())
    .fetch_all(pool)
    .await?;
    Ok(held.into_iter().map(CompanyId::new).collect())
}

/// Locks the heads and looks up what the batch stands on. Two statements: only one that begins after the locks are held
/// sees what their last holder has committed.
async fn find(tx: &mut Transaction, batch: &Batch<'_>) -> sqlx::Result<Found> {
    let mut found = Found::default();
    let companies: Vec<Uuid> = batch.companies.iter().map(|company| company.uuid()).collect();
    let rows = sqlx::query(
        "SELECT company, position, hash, at, facts, moved_to IS NOT NULL FROM cnc.heads WHERE company = ANY ($1)
         ORDER BY company FOR UPDATE",
    )
    .bind(companies)
    .fetch_all(&mut **tx)
    .await?;
    for row in rows {
        let (company, tip) = read_head(&row)?;
        found.tips.insert(company, tip);
        if row.try_get(5)? {
            found.departed.insert(company);
        }
    }
    look_up(tx, batch, &mut found).await?;
    Ok(found)
}

/// Looks up streams and answers in one statement. Lateral, so that every one is an index look-up whatever the planner
/// believes about the tables' sizes.
async fn look_up(tx: &mut Transaction, batch: &Batch<'_>, found: &mut Found) -> sqlx::Result<()> {
    let subjects: Vec<String> =
        batch.streams.iter().map(|(company, stream, id)| subject(*company, stream, *id)).collect();
    let keys: Vec<Uuid> = batch.keys.iter().map(|(company, actor, key)| key_uuid(*company, actor, key)).collect();
    found.streams = vec![StreamHead::default(); subjects.len()];
    found.answers = vec![None; keys.len()];
    let rows = sqlx::query(
        "SELECT false, s.n, e.sequence, e.hash, NULL::text
         FROM unnest($1::text[]) WITH ORDINALITY AS s (id, n)
         CROSS JOIN LATERAL (SELECT sequence, hash FROM cnc.events WHERE aggregate_id = s.id
                             ORDER BY sequence DESC LIMIT 1) AS e
         UNION ALL
         SELECT true, k.n, 0, c.fingerprint, c.answer
         FROM unnest($2::uuid[]) WITH ORDINALITY AS k (id, n)
         CROSS JOIN LATERAL (SELECT fingerprint, answer FROM cnc.commands WHERE id = k.id LIMIT 1) AS c",
    )
    .bind(subjects)
    .bind(keys)
    .fetch_all(&mut **tx)
    .await?;
    for row in rows {
        let place = usize::try_from(row.try_get::<i64, _>(1)? - 1).map_err(|wrong| Error::Decode(wrong.into()))?;
        if row.try_get(0)? {
            found.answers[place] = Some(read_answered(&row, 3)?);
        } else {
            found.streams[place] = StreamHead { sequence: number(row.try_get(2)?), hash: read_hash(&row, 3)? };
        }
    }
    Ok(())
}

/// The one text under which a stream's entries are indexed, as postgres-es knows it.
pub(super) fn subject(company: CompanyId, stream: &str, id: Uuid) -> String {
    format!("{company}/{stream}/{id}")
}

/// Reads a company, its position, hash, time and facts.
pub(super) fn read_head(row: &PgRow) -> sqlx::Result<(CompanyId, Tip)> {
    let company = CompanyId::new(row.try_get(0)?);
    let head = Head { position: number(row.try_get(1)?), hash: read_hash(row, 2)? };
    let at = Timestamp::from_micros(row.try_get(3)?);
    Ok((company, Tip { head, at, facts: read_hash(row, 4)? }))
}

fn read_hash(row: &PgRow, column: usize) -> sqlx::Result<Hash> {
    let hash: &[u8] = row.try_get(column)?;
    hash.try_into().map(Hash).map_err(|_| Error::Decode("a hash has 32 bytes".into()))
}

/// Reads a fingerprint and an answer, from column `first` on.
pub(super) fn read_answered(row: &PgRow, first: usize) -> sqlx::Result<Answered> {
    let fingerprint: &[u8] = row.try_get(first)?;
    let answer: &str = row.try_get(first + 1)?;
    Ok(Answered {
        fingerprint: fingerprint.try_into().map_err(|_| Error::Decode("a fingerprint has 32 bytes".into()))?,
        answer: serde_json::from_str(answer).map_err(|wrong| Error::Decode(wrong.into()))?,
    })
}

/// Writes everything in one statement. JSON goes as text and is cast, since a driver's JSON binding reorders members.
async fn write(connection: impl PgExecutor<'_>, stamped: &Stamped<'_>) -> sqlx::Result<()> {
    let Stamped { rows, moved, remembered, .. } = stamped;
    let hashes: Vec<&[u8]> = rows.iter().map(|row| row.hash.0.as_slice()).collect();
    let head_hashes: Vec<&[u8]> = moved.iter().map(|moved| moved.tip.head.hash.0.as_slice()).collect();
    let facts: Vec<&[u8]> = moved.iter().map(|moved| moved.tip.facts.0.as_slice()).collect();
    let hashes_before: Vec<Option<&[u8]>> =
        moved.iter().map(|moved| moved.before.as_ref().map(|tip| tip.head.hash.0.as_slice())).collect();
    let fingerprints: Vec<&[u8]> = remembered.iter().map(|answer| answer.key.fingerprint.as_slice()).collect();
    sqlx::query(include_str!("write.sql"))
        .bind(rows.iter().map(|row| row.company.uuid()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| integer(row.position)).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| integer(row.draft.sequence)).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.at.micros()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| subject(row.company, &row.draft.stream, row.draft.id)).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.draft.event.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.draft.version.to_string()).collect::<Vec<_>>())
        .bind(hashes)
        .bind(rows.iter().map(|row| row.header.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.draft.payload.get()).collect::<Vec<_>>())
        .bind(moved.iter().map(|moved| moved.company.uuid()).collect::<Vec<_>>())
        .bind(moved.iter().map(|moved| integer(moved.tip.head.position)).collect::<Vec<_>>())
        .bind(moved.iter().map(|moved| moved.tip.at.micros()).collect::<Vec<_>>())
        .bind(head_hashes)
        .bind(moved.iter().map(|moved| moved.before.map(|tip| integer(tip.head.position))).collect::<Vec<_>>())
        .bind(hashes_before)
        .bind(remembered.iter().map(|answer| Uuid::from_bytes(answer.id)).collect::<Vec<_>>())
        .bind(remembered.iter().map(|answer| answer.at.micros()).collect::<Vec<_>>())
        .bind(remembered.iter().map(|answer| answer.key.for_ever).collect::<Vec<_>>())
        .bind(fingerprints)
        .bind(remembered.iter().map(|answer| answer.answer.as_str()).collect::<Vec<_>>())
        .bind(remembered.iter().map(|answer| answer.company.uuid()).collect::<Vec<_>>())
        .bind(facts)
        .execute(connection)
        .await
        .map(|_| ())
}

/// The id under which an answer is kept.
pub(super) fn key_uuid(company: CompanyId, actor: &str, key: &str) -> Uuid {
    Uuid::from_bytes(key_id(company, actor, key))
}

/// Whether all of this was recorded: the last entry of each company, whose hash covers those before it, and every answer. The
/// first entry alone would not do: another process that carries out the same command at the same time records the very
/// same bytes, and then goes on otherwise.
async fn ask(pool: &Pool, batch: &Batch<'_>, stamped: &Stamped<'_>) -> sqlx::Result<bool> {
    let mut tx = pool.begin().await?;
    // The server may still be at it. This waits for whoever holds the heads or is about to make them; it is rolled back.
    sqlx::query(
        "INSERT INTO cnc.heads (company, position, at, hash, facts)
         SELECT company, 0, 0, decode(repeat('00', 32), 'hex'), decode(repeat('00', 32), 'hex') FROM unnest($1::uuid[]) AS c (company)
         ON CONFLICT (company) DO UPDATE SET position = heads.position",
    )
    .bind(batch.companies.iter().map(|company| company.uuid()).collect::<Vec<_>>())
    .execute(&mut *tx)
    .await?;
    let Stamped { moved, remembered, .. } = stamped;
    sqlx::query_scalar(
        "SELECT NOT EXISTS (
                SELECT FROM unnest($1::uuid[], $2::bigint[], $3::bytea[]) AS m (company, position, hash)
                WHERE NOT EXISTS (SELECT FROM cnc.events AS e WHERE e.company = m.company AND e.position = m.position
                                                                AND e.hash = m.hash))
            AND NOT EXISTS (
                SELECT FROM unnest($4::uuid[], $5::text[]) AS r (id, answer)
                WHERE NOT EXISTS (SELECT FROM cnc.commands AS c WHERE c.id = r.id AND c.answer = r.answer))",
    )
    .bind(moved.iter().map(|moved| moved.company.uuid()).collect::<Vec<_>>())
    .bind(moved.iter().map(|moved| integer(moved.tip.head.position)).collect::<Vec<_>>())
    .bind(moved.iter().map(|moved| moved.tip.head.hash.0.as_slice()).collect::<Vec<_>>())
    .bind(remembered.iter().map(|answer| Uuid::from_bytes(answer.id)).collect::<Vec<_>>())
    .bind(remembered.iter().map(|answer| answer.answer.as_str()).collect::<Vec<_>>())
    .fetch_one(&mut *tx)
    .await
}
