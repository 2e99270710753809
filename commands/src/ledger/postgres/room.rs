//! Whether the database takes entries.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use cnc_domain::ledger::Writable;
use cnc_postgres::Pool;

/// Inserted and taken back: as much as any entry may need.
const PROBE: &str =
    "INSERT INTO cnc.events (company, position, sequence, at, aggregate_id, event_type, event_version, hash,
        metadata, payload)
    SELECT gen_random_uuid(), 1, 1, 0, 'probe/' || gen_random_uuid(), 'probe', '1', '', '{}',
           json_agg(gen_random_uuid()) FROM generate_series(1, 500)";

/// What is known of it.
#[derive(Clone)]
pub(super) struct Room {
    risks: Arc<Vec<&'static str>>,
    /// Whether the last append failed, or there was none: then it is tried whether there is room.
    in_doubt: Arc<AtomicBool>,
}

impl Room {
    pub fn new(risks: Vec<&'static str>) -> Self {
        Self { risks: Arc::new(risks), in_doubt: Arc::new(AtomicBool::new(true)) }
    }

    /// Takes note that an append failed.
    pub fn doubt(&self) {
        self.in_doubt.store(true, Ordering::Relaxed);
    }

    pub async fn writable(&self, pool: &Pool) -> sqlx::Result<Writable> {
        let asked = "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on',
                            has_table_privilege('cnc.events', 'INSERT')";
        let (reads_only, appends): (bool, bool) = sqlx::query_as(asked).fetch_one(pool).await?;
        if reads_only {
            return Ok(Writable::No("the database is read-only"));
        }
        // Who may not append need not know.
        if appends && self.in_doubt.load(Ordering::Relaxed) {
            if !has_room(pool).await? {
                return Ok(Writable::No("the database is full"));
            }
            self.in_doubt.store(false, Ordering::Relaxed);
        }
        Ok(self.risks.first().map_or(Writable::Yes, |risk| Writable::AtRisk(risk)))
    }
}

async fn has_room(pool: &Pool) -> sqlx::Result<bool> {
    let mut tx = pool.begin().await?;
    match sqlx::query(PROBE).execute(&mut *tx).await {
        Err(sqlx::Error::Database(error)) if error.code().is_some_and(|code| code == "53100") => Ok(false),
        probed => probed.map(|_| true),
    }
}
