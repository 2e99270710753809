//! Connections that are used again.
//!
//! sqlx' pool asks each connection that comes back whether it still lives, which is a round trip as dear as a read, and waits
//! for the answer for ever. Here one comes back as it is where nothing is under way on it, and else is settled first, or
//! closed.

use std::{
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{
    FutureExt as _, StreamExt as _, TryStreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use sqlx::{
    Describe, Either, Error, Execute, Executor, Postgres, Result,
    postgres::{PgConnectOptions, PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

use crate::{ANSWER_WITHIN, Session, Transaction, options::open};

/// How long it may take until there is a free connection.
const TURN_WITHIN: Duration = Duration::from_secs(10);
/// A connection that was idle for longer is asked whether it still lives before it is used.
const ASKED_AFTER: Duration = Duration::from_secs(1);
/// One that nobody used for so long is closed.
const IDLE_MAX: Duration = Duration::from_mins(10);
/// One that is older is closed, so that what a server keeps for it does not grow for ever.
const AGE_MAX: Duration = Duration::from_mins(30);

/// Some connections. Statements run on a pool as on a connection, each on any.
#[derive(Clone, Debug)]
pub struct Pool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: PgConnectOptions,
    /// What is said on each new connection.
    setup: Option<&'static str>,
    /// How long an answer may take.
    within: Duration,
    /// How many there may be.
    connections: usize,
    places: Arc<Semaphore>,
    /// Those that nobody uses, the one that was used last at the end.
    idle: Mutex<Vec<Idle>>,
}

#[derive(Debug)]
struct Idle {
    session: Session,
    opened: Instant,
    since: Instant,
}

/// A connection in use. It goes back when it is dropped.
#[derive(Debug)]
pub struct PooledConnection {
    /// There is one until this is dropped.
    session: Option<Session>,
    opened: Instant,
    pool: Arc<Inner>,
    place: Option<OwnedSemaphorePermit>,
}

impl Pool {
    /// At most so many connections, made when they are needed.
    pub fn new(options: PgConnectOptions, connections: usize) -> Self {
        Self::with(options, connections, ANSWER_WITHIN, None)
    }

    /// The same where answers may take so long, with a statement that is run on each new connection.
    pub fn with(options: PgConnectOptions, connections: usize, within: Duration, setup: Option<&'static str>) -> Self {
        let places = Arc::new(Semaphore::new(connections));
        Self(Arc::new(Inner { options, setup, within, connections, places, idle: Mutex::default() }))
    }

    /// A connection that lives, as far as anybody knows.
    pub async fn acquire(&self) -> Result<PooledConnection> {
        let turn = timeout(TURN_WITHIN, self.0.places.clone().acquire_owned()).await;
        let place = turn.map_err(|_| Error::PoolTimedOut)?.map_err(|_| Error::PoolClosed)?;
        let connection = |session, opened| PooledConnection {
            session: Some(session),
            opened,
            pool: self.0.clone(),
            place: Some(place),
        };
        if let Some(Idle { mut session, opened, since }) = self.0.last() {
            if since.elapsed() < ASKED_AFTER || session.lives().await {
                return Ok(connection(session, opened));
            }
            // What silenced one has silenced the others.
            self.0.idle().retain(|idle| idle.since.elapsed() < ASKED_AFTER);
        }
        let session = open(&self.0.options, self.0.setup, self.0.within).await?;
        Ok(connection(session, Instant::now()))
    }

    /// How many connections there are, and how many of them nobody uses.
    pub fn open_and_idle(&self) -> (usize, usize) {
        let idle = self.0.idle().len();
        (self.0.connections - self.0.places.available_permits() + idle, idle)
    }

    /// Opens a transaction.
    pub async fn begin(&self) -> Result<Transaction> {
        self.begin_with("BEGIN").await
    }

    /// Opens a transaction by a statement that begins it, and perhaps others.
    pub async fn begin_with(&self, statement: &str) -> Result<Transaction> {
        Transaction::begin(self.acquire().await?, statement).await
    }
}

impl Inner {
    fn last(&self) -> Option<Idle> {
        self.idle().pop()
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes back a connection on which nothing is under way.
    fn put_back(&self, session: Session, opened: Instant) {
        let now = Instant::now();
        let mut idle = self.idle();
        if now.duration_since(opened) < AGE_MAX {
            idle.push(Idle { session, opened, since: now });
        }
        if idle.first().is_some_and(|first| now.duration_since(first.since) >= IDLE_MAX) {
            idle.remove(0);
        }
    }
}

impl Deref for PooledConnection {
    type Target = Session;

    fn deref(&self) -> &Session {
        self.session.as_ref().expect("there is one until it is dropped")
    }
}

impl DerefMut for PooledConnection {
    fn deref_mut(&mut self) -> &mut Session {
        self.session.as_mut().expect("there is one until it is dropped")
    }
}

impl Drop for PooledConnection {
    fn drop(&mut self) {
        let (Some(mut session), place) = (self.session.take(), self.place.take()) else { return };
        if session.is_idle() {
            self.pool.put_back(session, self.opened);
            return;
        }
        // Where nothing runs any more, it is closed.
        let Ok(runtime) = Handle::try_current() else { return };
        let (pool, opened) = (self.pool.clone(), self.opened);
        runtime.spawn(async move {
            if session.settle().await {
                pool.put_back(session, opened);
            }
            drop(place);
        });
    }
}

impl<'c> Executor<'c> for &'c Pool {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        // Gathered, since a stream cannot hold the connection that it reads from: whoever reads much acquires one.
        let gathered = async move {
            let mut connection = self.acquire().await?;
            let answers: Vec<_> = connection.many(query).try_collect().await?;
            Ok::<_, Error>(stream::iter(answers).map(Ok))
        };
        stream::once(gathered).try_flatten().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        async move { self.acquire().await?.optional(query).await }.boxed()
    }

    fn prepare_with<'e, 'q: 'e>(
        self,
        sql: &'q str,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement<'q>>>
    where
        'c: 'e,
    {
        async move { self.acquire().await?.prepared(sql, parameters).await }.boxed()
    }

    fn describe<'e, 'q: 'e>(self, sql: &'q str) -> BoxFuture<'e, Result<Describe<Postgres>>>
    where
        'c: 'e,
    {
        async move { self.acquire().await?.described(sql).await }.boxed()
    }
}
