//! Connections to Postgres on which nothing takes for ever: what all rooms share that keep something there.
//!
//! A server that stands still, or a wire that carries nothing any more, says nothing: only whoever waits can end the
//! waiting. So here every connection, statement and wait for a turn has an end on this side, after which the connection is
//! thrown away. The server is told to end what it does for us too, and to notice when we are gone.

mod listener;
mod options;
mod pool;
mod session;
mod transaction;

pub use listener::Listener;
pub use options::{options, risks};
pub use pool::{Pool, PooledConnection};
pub use session::{ANSWER_WITHIN, Session};
pub use transaction::Transaction;
