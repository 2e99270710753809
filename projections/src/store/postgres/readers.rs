//! Connections that only read, as `cnc_read`. A pool would ask each one that comes back whether it still lives, which is
//! a round trip as dear as the read itself; here one comes back only after a read that was whole, and any other is closed.

use std::{
    collections::BTreeSet,
    ops::{Deref, DerefMut},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cnc_domain::kernel::{CompanyId, LocationId};
use sqlx::{
    ConnectOptions as _, Connection as _, Error, Executor as _, PgConnection, Postgres as Db, Result, Transaction,
    postgres::PgConnectOptions,
};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout},
};

use super::{ASKED_AFTER, PATIENCE, schema};

/// How many at once.
const CONNECTIONS: usize = 16;
/// One that nobody used for so long is closed.
const IDLE_MAX: Duration = Duration::from_mins(10);
/// One that is older is closed, so that what a server keeps for it does not grow for ever.
const AGE_MAX: Duration = Duration::from_mins(30);

/// Connections that read.
pub(super) struct Readers {
    options: PgConnectOptions,
    /// Whether there is a role to read as.
    role: bool,
    places: Semaphore,
    /// Those that nobody uses, the one that was used last at the end.
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    connection: PgConnection,
    opened: Instant,
    since: Instant,
}

/// A connection in use. Unless it is kept, it is closed when it is dropped: nobody knows what was under way on it.
pub(super) struct Reader<'a> {
    readers: &'a Readers,
    connection: PgConnection,
    opened: Instant,
    _place: SemaphorePermit<'a>,
}

impl Readers {
    pub fn new(options: PgConnectOptions, role: bool) -> Self {
        Self { options, role, places: Semaphore::new(CONNECTIONS), idle: Mutex::default() }
    }

    /// How many there are, and how many of them nobody uses.
    pub fn open_and_idle(&self) -> (usize, usize) {
        let idle = self.idle().len();
        (CONNECTIONS - self.places.available_permits() + idle, idle)
    }

    /// A connection that lives, as far as anybody knows.
    pub async fn take(&self) -> Result<Reader<'_>> {
        let taken = timeout(PATIENCE, async {
            let place = self.places.acquire().await.map_err(|_| Error::PoolClosed)?;
            while let Some(Idle { mut connection, opened, since }) = self.last() {
                if since.elapsed() < ASKED_AFTER || connection.ping().await.is_ok() {
                    return Ok(Reader { readers: self, connection, opened, _place: place });
                }
            }
            let mut connection = self.options.connect().await?;
            if self.role {
                connection.execute("SET ROLE cnc_read").await?;
            }
            Ok(Reader { readers: self, connection, opened: Instant::now(), _place: place })
        });
        taken.await.unwrap_or(Err(Error::PoolTimedOut))
    }

    fn last(&self) -> Option<Idle> {
        self.idle().pop()
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader<'_> {
    /// Begins a snapshot for reads of several statements, which sees only this company and these locations.
    pub async fn snapshot(
        &mut self,
        company: CompanyId,
        scope: Option<&BTreeSet<LocationId>>,
    ) -> Result<Transaction<'_, Db>> {
        self.connection.begin_with(schema::begin_reading(company, scope)).await
    }

    /// Gives the connection back after a read that was whole.
    pub fn keep(self) {
        let now = Instant::now();
        let mut idle = self.readers.idle();
        if now.duration_since(self.opened) < AGE_MAX {
            idle.push(Idle { connection: self.connection, opened: self.opened, since: now });
        }
        if idle.first().is_some_and(|first| now.duration_since(first.since) >= IDLE_MAX) {
            idle.remove(0);
        }
    }
}

impl Deref for Reader<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Reader<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}
