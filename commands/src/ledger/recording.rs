//! How a process records a batch over a database that others write to as well: in one statement, on the guess that heads
//! stand where it left them; else under lock. Which statements those are, each [`Database`] says.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use cnc_domain::ledger::{Append, AppendError, Appended, Fault};
use tokio::time::Instant;

use super::{
    known::Known,
    stamp::{Batch, Found, Stamped},
};

pub(super) type Outcomes = Vec<Result<Appended, AppendError>>;

/// How long it is tried to learn whether a commit came through whose connection was lost.
const ASK_FOR: Duration = Duration::from_secs(10);
/// How long to wait between two such questions.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// Why a statement was not answered well.
#[derive(Debug)]
pub(super) enum Failed {
    /// The database says that nothing of it was done.
    Refused(Fault),
    /// Its answer was not heard: it may have been done, or be done yet.
    Lost(Fault),
}

impl Failed {
    pub fn into_fault(self) -> Fault {
        let (Self::Refused(fault) | Self::Lost(fault)) = self;
        fault
    }
}

/// What recording asks of a database.
#[async_trait]
pub(super) trait Database: Send + Sync {
    /// A connection on which nothing is under way.
    type Connection: Send;
    /// A transaction, which is rolled back when it is dropped.
    type Transaction: Send;

    /// What this process remembers of the database.
    fn known(&self) -> &Mutex<Known>;

    async fn connect(&self) -> Result<Self::Connection, Fault>;

    /// Writes everything in one statement that is a transaction of its own. It undoes itself where a head does not stand
    /// where the batch was stamped to follow it, or what it inserts is there.
    async fn write_at_once(&self, connection: Self::Connection, stamped: &Stamped<'_>) -> Result<(), Failed>;

    async fn begin(&self) -> Result<Self::Transaction, Fault>;

    /// Locks the heads and looks up what the batch stands on.
    async fn find(&self, tx: &mut Self::Transaction, batch: &Batch<'_>) -> Result<Found, Fault>;

    async fn write(&self, tx: &mut Self::Transaction, stamped: &Stamped<'_>) -> Result<(), Fault>;

    async fn commit(&self, tx: Self::Transaction) -> Result<(), Failed>;

    /// Whether this was recorded. Waits for whoever may still be at it.
    async fn is_recorded(&self, batch: &Batch<'_>, stamped: &Stamped<'_>) -> Result<bool, Failed>;
}

/// Appends a batch; where it fails for a reason that will not pass, each append alone.
pub(super) async fn append(database: &impl Database, batch: &[Append]) -> Result<Outcomes, Fault> {
    match together(database, batch).await {
        Err(fault) if !fault.passing && batch.len() > 1 => {
            let mut outcomes = Outcomes::with_capacity(batch.len());
            for append in batch {
                outcomes.push(match together(database, std::slice::from_ref(append)).await {
                    Ok(mut alone) => alone.remove(0),
                    Err(fault) => Err(fault.into()),
                });
            }
            Ok(outcomes)
        }
        Err(fault) if !fault.passing => Ok(vec![Err(fault.into())]),
        outcomes => outcomes,
    }
}

fn known(database: &impl Database) -> MutexGuard<'_, Known> {
    database.known().lock().unwrap_or_else(PoisonError::into_inner)
}

async fn together(database: &impl Database, appends: &[Append]) -> Result<Outcomes, Fault> {
    let batch = Batch::new(appends);
    let guess = known(database).guess(&batch);
    if let Some(guess) = guess
        && let Some(outcomes) = at_once(database, &batch, guess).await?
    {
        return Ok(outcomes);
    }
    under_lock(database, &batch).await
}

/// Appends in one statement, on the guess that heads stand where this process left them. Nothing where they do not, or a
/// key was used before, or the guess cannot tell.
async fn at_once(database: &impl Database, batch: &Batch<'_>, guess: Found) -> Result<Option<Outcomes>, Fault> {
    let stamped = batch.stamp(guess);
    // Only a head that moves is compared, and only what is found under lock is refused.
    if stamped.moved.len() < batch.companies.len() || stamped.refuses() {
        return Ok(None);
    }
    let connection = database.connect().await?;
    match database.write_at_once(connection, &stamped).await {
        Ok(()) => {}
        Err(Failed::Lost(lost)) => {
            known(database).unlearn(&batch.companies);
            came_through(database, batch, &stamped, lost).await?;
        }
        Err(Failed::Refused(wrong)) => {
            tracing::debug!(%wrong, "an append is tried again under lock");
            known(database).unlearn(&batch.companies);
            return Ok(None);
        }
    }
    known(database).learn(&stamped);
    Ok(Some(stamped.outcomes))
}

/// Appends on what is found while the heads are locked.
async fn under_lock(database: &impl Database, batch: &Batch<'_>) -> Result<Outcomes, Fault> {
    let mut tx = database.begin().await?;
    let found = database.find(&mut tx, batch).await?;
    let stamped = batch.stamp(found);
    if !stamped.is_empty() {
        database.write(&mut tx, &stamped).await?;
        match database.commit(tx).await {
            Ok(()) => {}
            Err(Failed::Lost(lost)) => came_through(database, batch, &stamped, lost).await?,
            Err(Failed::Refused(fault)) => return Err(fault),
        }
    }
    known(database).learn(&stamped);
    Ok(stamped.outcomes)
}

/// Learns whether a transaction was committed whose answer was lost; where it was not, that is the fault.
async fn came_through(
    database: &impl Database,
    batch: &Batch<'_>,
    stamped: &Stamped<'_>,
    lost: Fault,
) -> Result<(), Fault> {
    let started = Instant::now();
    loop {
        match database.is_recorded(batch, stamped).await {
            Err(Failed::Lost(_)) if started.elapsed() < ASK_FOR => tokio::time::sleep(ASK_EVERY).await,
            Ok(true) => return Ok(()),
            Ok(false) => return Err(lost),
            Err(failed) => {
                let cause = failed.into_fault();
                return Err(Fault { doing: "learn whether an append was recorded", ..cause });
            }
        }
    }
}
