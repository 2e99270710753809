//! Which failures of Postgres may pass.

use cnc_domain::ledger::Fault;
use sqlx::Error;

/// A fault of the database. One that may pass: the connection is lost, or the server is out of something.
pub(crate) fn fault(doing: &'static str) -> impl Fn(Error) -> Fault {
    move |error| {
        let passing = is_lost(&error) || state(&error).is_some_and(|state| state.starts_with("53"));
        Fault { doing, cause: error.to_string(), passing }
    }
}

/// Whether the connection is gone, so that the server's last word was not heard.
pub(super) fn is_lost(error: &Error) -> bool {
    match error {
        Error::Io(_)
        | Error::Tls(_)
        | Error::Protocol(_)
        | Error::PoolTimedOut
        | Error::PoolClosed
        | Error::WorkerCrashed => true,
        // Connection exceptions, a server that shuts down, crashed or starts, and one that waited too long for us.
        _ => state(error).is_some_and(|state| state.starts_with("08") || state.starts_with("57P") || state == "25P03"),
    }
}

fn state(error: &Error) -> Option<String> {
    error.as_database_error()?.code().map(std::borrow::Cow::into_owned)
}
