//! Transactions, which are rolled back unless they are committed.

use std::{
    ops::{Deref, DerefMut},
    time::Duration,
};

use sqlx::Result;

use crate::{PooledConnection, Session};

/// A transaction that is open. Dropped, it is rolled back.
#[derive(Debug)]
pub struct Transaction(PooledConnection);

impl Transaction {
    /// Opens one by a statement that begins it, and perhaps others.
    pub(crate) async fn begin(mut connection: PooledConnection, statement: &str) -> Result<Self> {
        connection.set_in_transaction(true);
        connection.run(statement).await?;
        Ok(Self(connection))
    }

    /// Lets statements and waits for locks of this transaction take so long: for what is seldom and large.
    pub async fn allow(&mut self, within: Duration) -> Result<()> {
        let server = within.as_millis();
        let allow = format!("SET LOCAL statement_timeout = {server}; SET LOCAL lock_timeout = {server}");
        self.0.run(&allow).await?;
        self.0.allow(within + crate::ANSWER_WITHIN);
        Ok(())
    }

    /// Makes what was done last. Where its answer is not heard, it may have been done or not.
    pub async fn commit(mut self) -> Result<()> {
        self.0.run("COMMIT").await?;
        self.0.set_in_transaction(false);
        Ok(())
    }
}

impl Deref for Transaction {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.0
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut Session {
        &mut self.0
    }
}
