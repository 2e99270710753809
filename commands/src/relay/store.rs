//! What relays keep in the database: who lives, who holds which company, and how far each was published.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use cnc_domain::{
    kernel::CompanyId,
    ledger::{Entry, Fault, Hash, Head, Position},
};
use cnc_postgres::{Pool, Session};
use sqlx::{Row, postgres::PgRow};
use uuid::Uuid;

use super::{
    ports::{Behind, Book, DurableConsumer, Held},
    shortfall::{Found, Known, Shortfall, Tip},
};
use crate::ledger::{integer, number, postgres::fault};

/// One relay's view of the tables.
#[derive(Clone)]
pub(super) struct Store {
    pool: Pool,
    relay: Uuid,
}

impl Store {
    pub(super) fn new(pool: Pool) -> Self {
        Self { pool, relay: Uuid::now_v7() }
    }

    async fn try_renew(&self, lease: Duration) -> sqlx::Result<Held> {
        let mut tx = self.pool.begin().await?;
        sqlx::query(
            "WITH gone AS (DELETE FROM cnc.relays WHERE alive_until < now() - interval '1 minute' AND relay <> $1)
             INSERT INTO cnc.relays (relay, alive_until) VALUES ($1, now() + $2 * interval '1 millisecond')
             ON CONFLICT (relay) DO UPDATE SET alive_until = excluded.alive_until",
        )
        .bind(self.relay)
        .bind(i64::try_from(lease.as_millis()).unwrap_or(i64::MAX))
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "INSERT INTO cnc.relay (company) SELECT company FROM cnc.heads AS h
             WHERE NOT EXISTS (SELECT FROM cnc.relay AS r WHERE r.company = h.company) ON CONFLICT DO NOTHING",
        )
        .execute(&mut *tx)
        .await?;
        self.balance(&mut tx).await?;
        let rows = sqlx::query(
            "SELECT s.generation, r.company, r.published, r.published_hash FROM cnc.relay_stream AS s
             LEFT JOIN cnc.relay AS r ON r.holder = $1",
        )
        .bind(self.relay)
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        let mut held = Held { generation: 0, companies: BTreeMap::new() };
        for row in &rows {
            held.generation = row.try_get(0)?;
            if row.try_get::<Option<Uuid>, _>(1)?.is_some() {
                held.companies.insert(company(row, 1)?, head(row, 2)?);
            }
        }
        Ok(held)
    }

    /// Nobody waits for a company that another relay is at: it is skipped, and looked at again the next time.
    async fn balance(&self, tx: &mut Session) -> sqlx::Result<()> {
        let row = sqlx::query(
            "SELECT (SELECT count(*) FROM cnc.relay), (SELECT count(*) FROM cnc.relay WHERE holder = $1),
                    (SELECT count(*) FROM cnc.relays WHERE alive_until > now())",
        )
        .bind(self.relay)
        .fetch_one(&mut *tx)
        .await?;
        let (all, mine, relays) = (row.try_get::<i64, _>(0)?, row.try_get::<i64, _>(1)?, row.try_get::<i64, _>(2)?);
        let relays = relays.max(1);
        let fair = (all + relays - 1) / relays;
        let sql = if mine < fair {
            "UPDATE cnc.relay SET holder = $1 WHERE company IN (
                 SELECT company FROM cnc.relay AS r
                 WHERE NOT EXISTS (SELECT FROM cnc.relays AS l WHERE l.relay = r.holder AND l.alive_until > now())
                 LIMIT $2 FOR UPDATE OF r SKIP LOCKED)"
        } else {
            "UPDATE cnc.relay SET holder = NULL WHERE company IN (
                 SELECT company FROM cnc.relay WHERE holder = $1 LIMIT $2 FOR UPDATE SKIP LOCKED)"
        };
        if mine != fair {
            sqlx::query(sql).bind(self.relay).bind((fair - mine).abs()).execute(tx).await?;
        }
        Ok(())
    }

    async fn try_begin(&self, known: &Known, found: &Found, shortfall: Shortfall) -> sqlx::Result<bool> {
        let mut tx = self.pool.begin().await?;
        // In doubt, what was recorded since `known` may be what is in doubt.
        let begun = sqlx::query(
            "UPDATE cnc.relay_stream SET generation = generation + 1
             WHERE generation = $1 AND (acknowledged = $2 OR NOT $3)",
        )
        .bind(known.generation)
        .bind(integer(known.tip.sequence))
        .bind(shortfall == Shortfall::Perhaps)
        .execute(&mut *tx)
        .await?;
        if begun.rows_affected() == 0 {
            return Ok(false);
        }
        let again = match shortfall {
            // What is recorded, the stream has; relays begin anew from there.
            Shortfall::Perhaps => return tx.commit().await.map(|()| true),
            Shortfall::Lost => {
                "UPDATE cnc.relay SET published = NULL, published_hash = NULL, safe = NULL, safe_hash = NULL, mark = NULL,
                                      mark_hash = NULL, marked_at = now()"
            }
            // What was published long before the last acknowledgement was on the broker's disk.
            Shortfall::Behind => {
                "UPDATE cnc.relay SET published = safe, published_hash = safe_hash, mark = safe, mark_hash = safe_hash,
                                      marked_at = now()
                 WHERE published_at > (SELECT acknowledged_at - interval '10 minutes' FROM cnc.relay_stream)"
            }
        };
        sqlx::query(again).execute(&mut *tx).await?;
        sqlx::query(
            "UPDATE cnc.relay_stream
             SET created = $1, acknowledged = $2, tip = 0, acknowledged_at = now()",
        )
        .bind(&found.created)
        .bind(integer(found.last))
        .execute(&mut *tx)
        .await?;
        tx.commit().await.map(|()| true)
    }

    /// What was recorded before is left where it goes further, unless the ledger does not have it. Whether an entry is there
    /// is asked for each by itself: a plan that joins would read them all.
    async fn try_record(&self, generation: i64, moved: &[(CompanyId, Head)], tip: Tip) -> sqlx::Result<Vec<CompanyId>> {
        let (companies, positions, hashes) = columns(moved);
        let recording = sqlx::query(
            "WITH stream AS (
                 UPDATE cnc.relay_stream
                 SET acknowledged = greatest(acknowledged, $5), acknowledged_at = now(),
                     tip = CASE WHEN $5 > acknowledged THEN $5 ELSE tip END,
                     tip_id = CASE WHEN $5 > acknowledged THEN $6 ELSE tip_id END
                 WHERE generation = $4 RETURNING generation
             ), moved AS MATERIALIZED (
                 SELECT k.company, k.position, k.hash,
                        coalesce((SELECT e.hash FROM cnc.events AS e
                                  WHERE e.company = k.company AND e.position = k.position) = k.hash, false) AS stands
                 FROM unnest($1::uuid[], $2::bigint[], $3::bytea[]) AS k (company, position, hash), stream
             ), recorded AS (
                 UPDATE cnc.relay AS r
                 SET published = k.position, published_hash = k.hash, published_at = now(),
                     safe = CASE WHEN r.marked_at < now() - interval '10 minutes' THEN r.mark ELSE r.safe END,
                     safe_hash = CASE WHEN r.marked_at < now() - interval '10 minutes' THEN r.mark_hash ELSE r.safe_hash END,
                     mark = CASE WHEN r.marked_at < now() - interval '10 minutes' THEN r.published ELSE r.mark END,
                     mark_hash = CASE WHEN r.marked_at < now() - interval '10 minutes' THEN r.published_hash
                                      ELSE r.mark_hash END,
                     marked_at = CASE WHEN r.marked_at < now() - interval '10 minutes' THEN now() ELSE r.marked_at END
                 FROM moved AS k
                 WHERE r.company = k.company AND k.stands
                   AND NOT (coalesce(r.published > k.position, false)
                            AND coalesce((SELECT e.hash FROM cnc.events AS e
                                          WHERE e.company = r.company AND e.position = r.published) = r.published_hash,
                                         false))
             )
             SELECT company FROM moved WHERE NOT stands",
        );
        let recording = recording.bind(companies).bind(positions).bind(hashes).bind(generation);
        let rows = recording.bind(integer(tip.sequence)).bind(tip.message_id).fetch_all(&self.pool).await?;
        rows.iter().map(|row| company(row, 0)).collect()
    }

    async fn try_astray(&self, published: &[(CompanyId, Head)]) -> sqlx::Result<Vec<CompanyId>> {
        let (companies, positions, hashes) = columns(published);
        // Most stand at their heads, which are together.
        let comparing = sqlx::query(
            "SELECT k.company FROM unnest($1::uuid[], $2::bigint[], $3::bytea[]) AS k (company, position, hash)
             WHERE k.position > 0
               AND NOT coalesce((SELECT h.hash FROM cnc.heads AS h
                                 WHERE h.company = k.company AND h.position = k.position) = k.hash, false)
               AND NOT coalesce((SELECT e.hash FROM cnc.events AS e
                                 WHERE e.company = k.company AND e.position = k.position) = k.hash, false)",
        );
        let rows = comparing.bind(companies).bind(positions).bind(hashes).fetch_all(&self.pool).await?;
        rows.iter().map(|row| company(row, 0)).collect()
    }

    async fn try_remembered_consumers(&self) -> sqlx::Result<Vec<DurableConsumer>> {
        let sql = "SELECT name, stream, config FROM cnc.relay_consumers ORDER BY name";
        let rows = sqlx::query(sql).fetch_all(&self.pool).await?;
        let read = |row: &PgRow| {
            Ok(DurableConsumer { name: row.try_get(0)?, stream: row.try_get(1)?, config: row.try_get(2)? })
        };
        rows.iter().map(read).collect()
    }

    async fn try_known(&self) -> sqlx::Result<Known> {
        let row = sqlx::query(
            "SELECT generation, created, acknowledged, CASE WHEN tip = acknowledged THEN tip_id ELSE '' END
             FROM cnc.relay_stream",
        )
        .fetch_one(&self.pool)
        .await?;
        let tip = Tip { sequence: number(row.try_get(2)?), message_id: row.try_get(3)? };
        Ok(Known { generation: row.try_get(0)?, created: row.try_get(1)?, tip })
    }

    async fn try_behind(&self, asked: &[(CompanyId, Position, usize)], limit: usize) -> sqlx::Result<Vec<Behind>> {
        let rows = sqlx::query(
            "SELECT k.company, h.position, e.metadata::text, e.payload::text
             FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS k (company, position, room)
             JOIN cnc.heads AS h ON h.company = k.company AND h.position > k.position
             CROSS JOIN LATERAL (SELECT metadata, payload FROM cnc.events
                                 WHERE company = h.company AND position > k.position
                                 ORDER BY position LIMIT k.room) AS e
             LIMIT $4",
        )
        .bind(asked.iter().map(|(company, ..)| company.uuid()).collect::<Vec<_>>())
        .bind(asked.iter().map(|(_, position, _)| integer(*position)).collect::<Vec<_>>())
        .bind(asked.iter().map(|(.., room)| integer(*room as u64)).collect::<Vec<_>>())
        .bind(integer(limit as u64))
        .fetch_all(&self.pool)
        .await?;
        let mut behind: Vec<Behind> = Vec::new();
        for row in &rows {
            let company = company(row, 0)?;
            if behind.last().is_none_or(|last| last.company != company) {
                behind.push(Behind { company, head: number(row.try_get(1)?), lines: Vec::new() });
            }
            if let Some(last) = behind.last_mut() {
                last.lines.push(Entry::line(row.try_get(2)?, row.try_get(3)?));
            }
        }
        Ok(behind)
    }
}

#[async_trait]
impl Book for Store {
    async fn renew(&self, lease: Duration) -> Result<Held, Fault> {
        self.try_renew(lease).await.map_err(fault("renew a relay's leases"))
    }

    async fn leave(&self) -> Result<(), Fault> {
        let leaving = sqlx::query("DELETE FROM cnc.relays WHERE relay = $1").bind(self.relay);
        leaving.execute(&self.pool).await.map(|_| ()).map_err(fault("give a relay's leases back"))
    }

    async fn record(&self, generation: i64, moved: &[(CompanyId, Head)], tip: Tip) -> Result<Vec<CompanyId>, Fault> {
        self.try_record(generation, moved, tip).await.map_err(fault("record what was published"))
    }

    async fn astray(&self, published: &[(CompanyId, Head)]) -> Result<Vec<CompanyId>, Fault> {
        self.try_astray(published).await.map_err(fault("compare what was published with the ledgers"))
    }

    async fn known(&self) -> Result<Known, Fault> {
        self.try_known().await.map_err(fault("look up the stream"))
    }

    async fn begin(&self, known: &Known, found: &Found, shortfall: Shortfall) -> Result<bool, Fault> {
        self.try_begin(known, found, shortfall).await.map_err(fault("begin a generation of the stream"))
    }

    async fn behind(&self, asked: &[(CompanyId, Position, usize)], limit: usize) -> Result<Vec<Behind>, Fault> {
        self.try_behind(asked, limit).await.map_err(fault("read what is to be published"))
    }

    async fn remember_consumers(&self, consumers: &[DurableConsumer]) -> Result<(), Fault> {
        let column = |of: fn(&DurableConsumer) -> &String| consumers.iter().map(of).cloned().collect::<Vec<_>>();
        let remembering = sqlx::query(
            "INSERT INTO cnc.relay_consumers (name, stream, config)
             SELECT unnest($1::text[]), unnest($2::text[]), unnest($3::text[])
             ON CONFLICT (name) DO UPDATE SET stream = excluded.stream, config = excluded.config",
        );
        let remembering = remembering.bind(column(|consumer| &consumer.name)).bind(column(|consumer| &consumer.stream));
        let remembered = remembering.bind(column(|consumer| &consumer.config)).execute(&self.pool).await;
        remembered.map(|_| ()).map_err(fault("remember consumers that are made anew"))
    }

    async fn remembered_consumers(&self) -> Result<Vec<DurableConsumer>, Fault> {
        self.try_remembered_consumers().await.map_err(fault("read which consumers are made anew"))
    }

    async fn forget_consumer(&self, consumer: &DurableConsumer) -> Result<(), Fault> {
        let sql = "DELETE FROM cnc.relay_consumers WHERE name = $1 AND stream = $2 AND config = $3";
        let forgetting = sqlx::query(sql).bind(&consumer.name).bind(&consumer.stream).bind(&consumer.config);
        forgetting.execute(&self.pool).await.map(|_| ()).map_err(fault("forget a consumer that is made anew"))
    }
}

/// Companies, positions and hashes, each as a column.
fn columns(heads: &[(CompanyId, Head)]) -> (Vec<Uuid>, Vec<i64>, Vec<&[u8]>) {
    let companies = heads.iter().map(|(company, _)| company.uuid()).collect();
    let positions = heads.iter().map(|(_, head)| integer(head.position)).collect();
    (companies, positions, heads.iter().map(|(_, head)| head.hash.0.as_slice()).collect())
}

/// Reads a position and the hash there; a position without one is not known.
fn head(row: &PgRow, column: usize) -> sqlx::Result<Option<Head>> {
    let (position, hash) = (row.try_get::<Option<i64>, _>(column)?, row.try_get::<Option<&[u8]>, _>(column + 1)?);
    let hash = hash.and_then(|hash| hash.try_into().ok()).map(Hash);
    Ok(position.zip(hash).map(|(position, hash)| Head { position: number(position), hash }))
}

fn company(row: &PgRow, column: usize) -> sqlx::Result<CompanyId> {
    row.try_get(column).map(CompanyId::new)
}
