//! Moving a company from one Postgres database to another while it works.
//!
//! Keys, entries and answers are copied in rounds while commands go on. Then the source's head is *marked*: from that
//! commit on nothing is recorded there. What came before the mark is copied, and only then does the company get its head
//! in the target, which makes it live there. So at no moment do two databases take entries, and what was acknowledged
//! before the mark is in the target before anybody is answered there.
//!
//! A move that ends anywhere is begun again with the same command. Before the mark it goes on from the last page that was
//! committed in the target; after it the source stands still, and the rest is copied and compared. The mark and the copy
//! bear the same id, so that no other copy can be made live.

pub(crate) mod answers;
pub(crate) mod entries;
pub(crate) mod keys;
pub(crate) mod rows;

use std::{
    collections::BTreeMap,
    str::FromStr as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use cnc_domain::{
    kernel::CompanyId,
    ledger::{Fault, Head},
};
use futures::{Stream, TryStreamExt as _};
use sqlx::{Connection as _, PgConnection, Row as _, postgres::PgConnectOptions};
use uuid::Uuid;

use crate::ledger::{
    Auditor, Flaw, StoredHead, number,
    postgres::{announce_heads, fault, stored_head},
};

/// A round that brings fewer entries than this is the last one before the mark.
const FEW: u64 = 500;
/// Under a load that never lets a round be small, the mark comes after so many.
const ROUNDS: usize = 12;

/// Why a company was not moved. Nothing that is said here has changed the source, unless it is marked already.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The source has no such company.
    #[error("no such company")]
    NoCompany,
    /// The target has it already.
    #[error("the target has this company, or something of it, already")]
    AlreadyThere,
    /// It was moved to another target.
    #[error("the company was moved to {0} before")]
    MovedElsewhere(String),
    /// Somebody else moves it.
    #[error("another process is moving this company to this target now")]
    UnderWay,
    /// What was copied is not what the source holds.
    #[error("{0}")]
    Differs(&'static str),
    /// The source's ledger is broken.
    #[error("the source's ledger is broken: {0}")]
    Broken(#[from] Flaw),
    /// A database failed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// How far a move is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The source takes commands.
    Copying,
    /// The source is marked; nobody takes commands.
    Departed,
    /// The target takes commands.
    Arrived,
}

/// One company's move.
pub struct Transfer {
    company: CompanyId,
    id: Uuid,
    name: String,
    stage: Stage,
    source: PgConnection,
    target: PgConnection,
    /// Has taken all that the target holds.
    auditor: Auditor,
    copied: Arc<AtomicU64>,
}

fn lost(error: sqlx::Error) -> Fault {
    fault("move a company")(error)
}

/// The rows of a query, so many at once.
fn pages<T>(
    rows: impl Stream<Item = Result<T, sqlx::Error>>,
    at_once: usize,
) -> impl Stream<Item = Result<Vec<T>, Fault>> {
    rows.try_chunks(at_once).map_err(|broken| lost(broken.1))
}

async fn connect(url: &str) -> Result<PgConnection, Fault> {
    let options = PgConnectOptions::from_str(url).map_err(lost)?.application_name("cnc move");
    PgConnection::connect_with(&options).await.map_err(lost)
}

impl Transfer {
    /// Begins a move, or goes on with one. Both databases have their tables already. `name` is what the source's mark
    /// says; nothing secret.
    pub async fn begin(from: &str, to: &str, company: CompanyId, name: &str) -> Result<Self, TransferError> {
        let (mut source, mut target) = (connect(from).await?, connect(to).await?);
        let sql = "SELECT moved_to, move FROM cnc.heads WHERE company = $1";
        let head = sqlx::query(sql).bind(company.uuid()).fetch_optional(&mut source).await.map_err(lost)?;
        let head = head.ok_or(TransferError::NoCompany)?;
        let marked: Option<(String, Uuid)> =
            head.try_get::<Option<String>, _>(0).map_err(lost)?.zip(head.try_get(1).map_err(lost)?);
        // Held as long as the connection lives.
        let alone = "SELECT pg_try_advisory_lock(hashtextextended('move ' || $1::text, 0))";
        if !sqlx::query_scalar(alone).bind(company.to_string()).fetch_one(&mut target).await.map_err(lost)? {
            return Err(TransferError::UnderWay);
        }
        let sql = "SELECT move, arrived_at IS NOT NULL FROM cnc.arrivals WHERE company = $1";
        let arrival: Option<(Uuid, bool)> =
            sqlx::query_as(sql).bind(company.uuid()).fetch_optional(&mut target).await.map_err(lost)?;
        let (id, stage) = match (marked, arrival) {
            (Some((_, mark)), Some((id, arrived))) if mark == id => {
                (id, if arrived { Stage::Arrived } else { Stage::Departed })
            }
            (Some((elsewhere, _)), _) => return Err(TransferError::MovedElsewhere(elsewhere)),
            (None, Some((id, false))) => (id, Stage::Copying),
            (None, Some((_, true))) => return Err(TransferError::AlreadyThere),
            (None, None) => (announce(&mut target, company).await?, Stage::Copying),
        };
        let (auditor, copied) = (Auditor::new(None), Arc::default());
        Ok(Self { company, id, name: name.into(), stage, source, target, auditor, copied })
    }

    /// A database's host and name, without its secrets.
    pub fn place(url: &str) -> Result<String, Fault> {
        let options = PgConnectOptions::from_str(url).map_err(lost)?;
        let database = options.get_database().unwrap_or(options.get_username());
        Ok(format!("{}:{}/{database}", options.get_host(), options.get_port()))
    }

    /// How far it is.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// How many entries have been copied or compared; for whoever shows progress.
    pub fn copied(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.copied)
    }

    /// Where the source's ledger ends now.
    pub async fn source_head(&mut self) -> Result<StoredHead, TransferError> {
        let stored = stored_head(&mut self.source, self.company).await.map_err(lost)?;
        stored.ok_or(TransferError::NoCompany)
    }

    /// Copies while the source works, until little is left.
    pub async fn copy(&mut self) -> Result<(), TransferError> {
        keys::company(&mut self.source, &mut self.target, self.company).await?;
        keys::rest(&mut self.source, &mut self.target, self.company).await?;
        self.check_copied().await?;
        if self.stage != Stage::Copying {
            return Ok(());
        }
        self.copy_entries().await?;
        let mut since = self.copy_answers(0).await?;
        for _ in 0..ROUNDS {
            if self.copy_entries().await? < FEW {
                break;
            }
            since = self.copy_answers(since).await?;
        }
        Ok(())
    }

    /// Marks the source: from here on it records nothing of this company.
    pub async fn depart(&mut self) -> Result<(), TransferError> {
        if self.stage == Stage::Copying {
            let sql = "UPDATE cnc.heads SET moved_to = $2, move = $3 WHERE company = $1 AND moved_to IS NULL";
            let mark = sqlx::query(sql).bind(self.company.uuid()).bind(&self.name).bind(self.id);
            if mark.execute(&mut self.source).await.map_err(lost)?.rows_affected() == 0 {
                return Err(TransferError::MovedElsewhere("another database".into()));
            }
            self.stage = Stage::Departed;
        }
        Ok(())
    }

    /// Copies what was recorded between the last round and the mark, and compares. Returns where the ledger ends.
    pub async fn complete(&mut self) -> Result<Head, TransferError> {
        while self.copy_entries().await? > 0 {}
        keys::rest(&mut self.source, &mut self.target, self.company).await?;
        keys::gone(&mut self.source, &mut self.target, self.company).await?;
        answers::missing(&mut self.source, &mut self.target, self.company).await?;
        let stored = self.source_head().await?;
        if !self.auditor.stands_at(&stored) {
            return Err(TransferError::Differs("the copy does not end where the source does"));
        }
        Ok(stored.head)
    }

    /// Makes the company live in the target.
    pub async fn arrive(mut self) -> Result<Head, TransferError> {
        let stored = self.source_head().await?;
        if self.stage == Stage::Arrived {
            return Ok(stored.head);
        }
        let mut tx = self.target.begin().await.map_err(lost)?;
        let sql = "WITH arrived AS (UPDATE cnc.arrivals SET arrived_at = now()
                        WHERE company = $1 AND move = $2 AND position = $3 AND arrived_at IS NULL RETURNING company)
                   INSERT INTO cnc.heads (company, position, at, hash, facts) SELECT company, $3, $4, $5, $6 FROM arrived";
        let head = sqlx::query(sql).bind(self.company.uuid()).bind(self.id);
        let head = head.bind(crate::ledger::integer(stored.head.position)).bind(stored.at.micros());
        let made = head
            .bind(stored.head.hash.0.as_slice())
            .bind(stored.facts.0.as_slice())
            .execute(&mut *tx)
            .await
            .map_err(lost)?;
        if made.rows_affected() == 0 {
            return Err(TransferError::Differs("the copy was changed by somebody else"));
        }
        tx.commit().await.map_err(lost)?;
        let heads = BTreeMap::from([(self.company, stored.head)]);
        if let Err(error) = announce_heads(&mut self.target, &heads).await {
            tracing::debug!(%error, "who arrived is not told; others see it when they compare heads");
        }
        Ok(stored.head)
    }

    /// Takes what the target holds already, entry by entry.
    async fn check_copied(&mut self) -> Result<(), TransferError> {
        loop {
            let after = self.auditor.position();
            let page = entries::page(&mut self.target, self.company, after).await?;
            if page.is_empty() {
                break;
            }
            for row in &page {
                self.auditor.row(row)?;
            }
            self.copied.store(self.auditor.position(), Ordering::Relaxed);
        }
        let sql = "SELECT position FROM cnc.arrivals WHERE company = $1";
        let position: i64 =
            sqlx::query_scalar(sql).bind(self.company.uuid()).fetch_one(&mut self.target).await.map_err(lost)?;
        if number(position) == self.auditor.position() {
            Ok(())
        } else {
            Err(TransferError::Differs("the copy in the target was changed by somebody else"))
        }
    }

    async fn copy_entries(&mut self) -> Result<u64, TransferError> {
        let before = self.auditor.position();
        loop {
            let after = self.auditor.position();
            let page = entries::page(&mut self.source, self.company, after).await?;
            if page.is_empty() {
                return Ok(after - before);
            }
            for row in &page {
                self.auditor.row(row)?;
            }
            entries::write(&mut self.target, self.company, (self.id, after), &page).await?;
            self.copied.store(self.auditor.position(), Ordering::Relaxed);
        }
    }

    async fn copy_answers(&mut self, since: i64) -> Result<i64, TransferError> {
        Ok(answers::since(&mut self.source, &mut self.target, self.company, since).await?)
    }
}

/// Says in the target that the company is on its way; refused where there is anything of it.
async fn announce(target: &mut PgConnection, company: CompanyId) -> Result<Uuid, TransferError> {
    let sql = "SELECT EXISTS (SELECT FROM cnc.heads WHERE company = $1)
                   OR EXISTS (SELECT FROM cnc.events WHERE company = $1)
                   OR EXISTS (SELECT FROM cnc_keys.companies WHERE company = $2)
                   OR EXISTS (SELECT FROM cnc_keys.subjects WHERE company = $2)
                   OR EXISTS (SELECT FROM cnc_keys.prints WHERE company = $2)
                   OR EXISTS (SELECT FROM cnc_keys.destroyed_keys WHERE company = $2)";
    let found = sqlx::query_scalar(sql).bind(company.uuid()).bind(company.uuid().as_bytes().to_vec());
    if found.fetch_one(&mut *target).await.map_err(lost)? {
        return Err(TransferError::AlreadyThere);
    }
    let id = Uuid::now_v7();
    let sql = "INSERT INTO cnc.arrivals (company, move) VALUES ($1, $2)";
    sqlx::query(sql).bind(company.uuid()).bind(id).execute(target).await.map_err(lost)?;
    Ok(id)
}
