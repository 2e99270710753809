//! A connection of which every answer comes within a time, or not at all.

use std::time::Duration;

use futures::{
    FutureExt as _, StreamExt as _, TryStreamExt as _,
    future::{self, BoxFuture},
    stream::{self, BoxStream},
};
use sqlx::{
    Connection as _, Describe, Either, Error, Execute, Executor, PgConnection, Postgres, Result,
    postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};
use tokio::time::timeout;

use crate::options::silent;

/// How long an answer may take, or the next part of one, where nothing else is said.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long it may take to end what nobody waits for any more, or to say that a connection lives.
pub(crate) const SETTLE_WITHIN: Duration = Duration::from_secs(2);

/// A connection. Statements run on it as on any other of sqlx.
#[derive(Debug)]
pub struct Session {
    connection: PgConnection,
    /// How long an answer may take as a rule, and now.
    usual: Duration,
    within: Duration,
    state: State,
    /// Whether a transaction is open.
    in_transaction: bool,
}

/// What is known of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing is under way.
    Idle,
    /// A statement is under way, or was, and nobody has heard its end.
    Busy,
    /// Nobody can tell what was done on it.
    Lost,
}

impl State {
    fn after(error: &Error) -> Self {
        match error {
            Error::Io(_) | Error::Tls(_) | Error::Protocol(_) | Error::WorkerCrashed => Self::Lost,
            _ => Self::Idle,
        }
    }
}

impl Session {
    pub(crate) fn new(connection: PgConnection, usual: Duration) -> Self {
        Self { connection, usual, within: usual, state: State::Idle, in_transaction: false }
    }

    /// Gives answers so long from now on, until the transaction that is open ends.
    pub(crate) fn allow(&mut self, within: Duration) {
        self.within = within;
    }

    /// A transaction was opened, or has ended.
    pub(crate) fn set_in_transaction(&mut self, is_open: bool) {
        self.in_transaction = is_open;
        self.within = self.usual;
    }

    /// Whether it can be given to somebody else as it is.
    pub(crate) fn is_idle(&self) -> bool {
        self.state == State::Idle && !self.in_transaction
    }

    /// Whether it lives.
    pub(crate) async fn lives(&mut self) -> bool {
        matches!(timeout(SETTLE_WITHIN, self.connection.ping()).await, Ok(Ok(())))
    }

    /// Ends what is under way. Says whether it can be given to somebody else.
    pub(crate) async fn settle(&mut self) -> bool {
        if self.state == State::Lost {
            return false;
        }
        // The answer to what was under way is passed over first.
        self.within = SETTLE_WITHIN;
        let is_well = if self.in_transaction { self.run("ROLLBACK").await.is_ok() } else { self.lives().await };
        self.set_in_transaction(false);
        self.state = if is_well { State::Idle } else { State::Lost };
        is_well
    }

    /// Runs statements one after another.
    pub(crate) fn run<'e>(&'e mut self, statements: &'e str) -> BoxFuture<'e, Result<()>> {
        self.many(sqlx::raw_sql(statements)).try_for_each(|_| future::ready(Ok(()))).boxed()
    }

    // Beside the trait, whose types say too little for a pool to be built on them.

    pub(crate) fn many<'e, 'q: 'e, E: Execute<'q, Postgres> + 'q>(
        &'e mut self,
        query: E,
    ) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>>> {
        let Session { connection, within, state, .. } = self;
        let within = *within;
        *state = State::Busy;
        let answers = connection.fetch_many(query);
        let bounded = stream::unfold(Some((answers, state)), move |under_way| async move {
            let (mut answers, state) = under_way?;
            match timeout(within, answers.next()).await {
                Ok(Some(Ok(answer))) => Some((Ok(answer), Some((answers, state)))),
                Ok(Some(Err(error))) => {
                    *state = State::after(&error);
                    Some((Err(error), None))
                }
                Ok(None) => {
                    *state = State::Idle;
                    None
                }
                Err(_) => {
                    *state = State::Lost;
                    Some((Err(silent()), None))
                }
            }
        });
        bounded.boxed()
    }

    pub(crate) fn optional<'e, 'q: 'e, E: Execute<'q, Postgres> + 'q>(
        &'e mut self,
        query: E,
    ) -> BoxFuture<'e, Result<Option<PgRow>>> {
        let Session { connection, within, state, .. } = self;
        bounded(*within, state, connection.fetch_optional(query)).boxed()
    }

    pub(crate) fn prepared<'e, 'q: 'e>(
        &'e mut self,
        sql: &'q str,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement<'q>>> {
        let Session { connection, within, state, .. } = self;
        bounded(*within, state, connection.prepare_with(sql, parameters)).boxed()
    }

    pub(crate) fn described<'e, 'q: 'e>(&'e mut self, sql: &'q str) -> BoxFuture<'e, Result<Describe<Postgres>>> {
        let Session { connection, within, state, .. } = self;
        bounded(*within, state, connection.describe(sql)).boxed()
    }
}

/// Waits for one answer.
async fn bounded<T>(within: Duration, state: &mut State, answer: BoxFuture<'_, Result<T>>) -> Result<T> {
    *state = State::Busy;
    let answered = timeout(within, answer).await.unwrap_or_else(|_| Err(silent()));
    *state = answered.as_ref().err().map_or(State::Idle, State::after);
    answered
}

impl<'c> Executor<'c> for &'c mut Session {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        self.many(query)
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        self.optional(query)
    }

    fn prepare_with<'e, 'q: 'e>(
        self,
        sql: &'q str,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement<'q>>>
    where
        'c: 'e,
    {
        self.prepared(sql, parameters)
    }

    fn describe<'e, 'q: 'e>(self, sql: &'q str) -> BoxFuture<'e, Result<Describe<Postgres>>>
    where
        'c: 'e,
    {
        self.described(sql)
    }
}
