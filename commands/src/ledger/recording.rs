//! How a process records a batch over a database that others write to as well: in one statement, on the guess that heads
//! stand where it left them; else under lock. Which statements those are, each [`Database`] says.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use cnc_domain::{
    kernel::CompanyId,
    ledger::{Append, AppendError, Appended, Fault},
};
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
    /// Nothing of it was done, since somebody else holds the head of one of its companies.
    Held(Fault),
}

impl Failed {
    pub fn into_fault(self) -> Fault {
        let (Self::Refused(fault) | Self::Lost(fault) | Self::Held(fault)) = self;
        fault
    }
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        Self::Refused(fault)
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
    async fn find(&self, tx: &mut Self::Transaction, batch: &Batch<'_>) -> Result<Found, Failed>;

    /// Those of the companies whose heads somebody else holds now: none where there is one lock for all.
    async fn held(&self, _companies: &[CompanyId]) -> Result<Vec<CompanyId>, Fault> {
        Ok(Vec::new())
    }

    async fn write(&self, tx: &mut Self::Transaction, stamped: &Stamped<'_>) -> Result<(), Fault>;

    async fn commit(&self, tx: Self::Transaction) -> Result<(), Failed>;

    /// Whether this was recorded. Waits for whoever may still be at it.
    async fn is_recorded(&self, batch: &Batch<'_>, stamped: &Stamped<'_>) -> Result<bool, Failed>;
}

/// Appends a batch; where it fails for a reason that will not pass, each append alone. What belongs to a company whose head
/// somebody else holds is given back, so that no other company waits for it.
pub(super) async fn append(database: &impl Database, batch: &[Append]) -> Result<Outcomes, Fault> {
    match together(database, batch).await {
        Err(Failed::Held(_)) => beside_held(database, batch).await,
        outcomes => apart_from_bad(database, batch, outcomes).await,
    }
}

async fn apart_from_bad(
    database: &impl Database,
    batch: &[Append],
    outcomes: Result<Outcomes, Failed>,
) -> Result<Outcomes, Fault> {
    match outcomes.map_err(Failed::into_fault) {
        Err(fault) if !fault.passing && batch.len() > 1 => {
            let mut outcomes = Outcomes::with_capacity(batch.len());
            for append in batch {
                outcomes.push(match together(database, std::slice::from_ref(append)).await {
                    Ok(mut alone) => alone.remove(0),
                    Err(Failed::Held(_)) => Err(held(append)),
                    Err(failed) => Err(failed.into_fault().into()),
                });
            }
            Ok(outcomes)
        }
        Err(fault) if !fault.passing => Ok(vec![Err(fault.into())]),
        outcomes => outcomes,
    }
}

fn held(append: &Append) -> AppendError {
    AppendError::Held(Box::new(append.clone()))
}

/// Appends what belongs to companies whose heads nobody else holds.
async fn beside_held(database: &impl Database, batch: &[Append]) -> Result<Outcomes, Fault> {
    let mut companies: Vec<CompanyId> = batch.iter().map(|append| append.company).collect();
    companies.sort_unstable();
    companies.dedup();
    let stuck = database.held(&companies).await?;
    let free: Vec<Append> = batch.iter().filter(|append| !stuck.contains(&append.company)).cloned().collect();
    let outcomes = match together(database, &free).await {
        // Somebody took another one meanwhile.
        Err(Failed::Held(_)) => free.iter().map(|append| Err(held(append))).collect(),
        outcomes => apart_from_bad(database, &free, outcomes).await?,
    };
    let mut outcomes = outcomes.into_iter();
    let of = |append: &Append| {
        let outcome = if stuck.contains(&append.company) { None } else { outcomes.next() };
        outcome.unwrap_or_else(|| Err(held(append)))
    };
    Ok(batch.iter().map(of).collect())
}

fn known(database: &impl Database) -> MutexGuard<'_, Known> {
    database.known().lock().unwrap_or_else(PoisonError::into_inner)
}

async fn together(database: &impl Database, appends: &[Append]) -> Result<Outcomes, Failed> {
    if appends.is_empty() {
        return Ok(Outcomes::new());
    }
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
async fn at_once(database: &impl Database, batch: &Batch<'_>, guess: Found) -> Result<Option<Outcomes>, Failed> {
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
        Err(Failed::Held(held)) => return Err(Failed::Held(held)),
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
async fn under_lock(database: &impl Database, batch: &Batch<'_>) -> Result<Outcomes, Failed> {
    let mut tx = database.begin().await?;
    let found = database.find(&mut tx, batch).await?;
    let stamped = batch.stamp(found);
    if !stamped.is_empty() {
        database.write(&mut tx, &stamped).await?;
        match database.commit(tx).await {
            Ok(()) => {}
            Err(Failed::Lost(lost)) => came_through(database, batch, &stamped, lost).await?,
            Err(failed) => return Err(failed),
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
            Err(Failed::Lost(_) | Failed::Held(_)) if started.elapsed() < ASK_FOR => {
                tokio::time::sleep(ASK_EVERY).await;
            }
            Ok(true) => return Ok(()),
            Ok(false) => return Err(lost),
            Err(failed) => {
                let cause = failed.into_fault();
                return Err(Fault { doing: "learn whether an append was recorded", ..cause });
            }
        }
    }
}
