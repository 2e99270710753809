//! How connections are made, and what a server must be like.

use std::{io, str::FromStr as _, time::Duration};

use sqlx::{ConnectOptions as _, Error, Result, Row as _, postgres::PgConnectOptions};
use tokio::time::timeout;

use crate::Session;

/// How long it may take to connect.
pub const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// What the server is told of all our sessions. It gives up a statement, and a wait for a lock, before we do, so that its
/// answer is heard; it ends a transaction in which nobody says anything, so that a process that stands still while it holds
/// a lock does not hold up all others; and it notices in seconds when whoever asked is gone.
const SESSION: [(&str, &str); 9] = [
    ("client_connection_check_interval", "5s"),
    ("idle_in_transaction_session_timeout", "10s"),
    ("jit", "off"),
    ("lock_timeout", "5s"),
    ("statement_timeout", "8s"),
    ("tcp_keepalives_count", "3"),
    ("tcp_keepalives_idle", "5"),
    ("tcp_keepalives_interval", "2"),
    ("tcp_user_timeout", "10s"),
];

/// What is asked of each new connection, and said to it. Nothing that is acknowledged may be lost, whatever the database's own
/// setting is; what need not last says so itself.
const GREETING: &str = "SELECT current_setting('server_encoding'), set_config('synchronous_commit',
    CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, false)";

/// How to connect to an address, `postgres://user:password@host/database`.
pub fn options(url: &str) -> Result<PgConnectOptions> {
    Ok(PgConnectOptions::from_str(url)?.application_name("cnc").options(SESSION))
}

/// Connects, and refuses what cannot hold every text.
pub(crate) async fn open(options: &PgConnectOptions, setup: Option<&'static str>, within: Duration) -> Result<Session> {
    let opened = async {
        let mut session = Session::new(options.connect().await?, within);
        let greeted = session.optional(sqlx::query(GREETING)).await?.ok_or(Error::RowNotFound)?;
        let encoding: String = greeted.try_get(0)?;
        if encoding != "UTF8" {
            let refused = format!(
                "the database's encoding is {encoding}, in which not every name can be written; make one with \
                 CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0, and move what it holds there"
            );
            return Err(Error::Configuration(refused.into()));
        }
        if let Some(setup) = setup {
            session.run(setup).await?;
        }
        Ok(session)
    };
    timeout(CONNECT_WITHIN, opened).await.unwrap_or_else(|_| Err(silent()))
}

/// What a server's settings put at risk, in words for its operator.
pub async fn risks(session: &mut Session) -> Result<Vec<&'static str>> {
    let asked = "SELECT current_setting('fsync') = 'off', current_setting('full_page_writes') = 'off'";
    let row = session.optional(sqlx::query(asked)).await?.ok_or(Error::RowNotFound)?;
    let fsync =
        row.try_get::<bool, _>(0)?.then_some("fsync is off: what is acknowledged is lost when the machine fails");
    let pages = "full_page_writes is off: unless the disk writes whole pages, a failing machine destroys some";
    let pages = row.try_get::<bool, _>(1)?.then_some(pages);
    Ok(fsync.into_iter().chain(pages).collect())
}

/// Nothing was heard in time.
pub(crate) fn silent() -> Error {
    Error::Io(io::Error::new(io::ErrorKind::TimedOut, "the database does not answer"))
}
