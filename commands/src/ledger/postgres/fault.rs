//! Which failures of Postgres may pass.

use cnc_domain::ledger::Fault;
use sqlx::Error;

/// A fault of the database. One that may pass: the connection is lost, somebody holds a lock, a statement took too long, or the
/// server is out of something or a standby.
pub(crate) fn fault(doing: &'static str) -> impl Fn(Error) -> Fault {
    move |error| {
        let passing = is_lost(&error) || is_held(&error) || state(&error).is_some_and(|state| passes(&state));
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

/// Whether somebody else held a lock for too long.
pub(super) fn is_held(error: &Error) -> bool {
    state(error).is_some_and(|state| state == "55P03")
}

/// Out of something; cancelled after its time; only reads are allowed.
fn passes(state: &str) -> bool {
    state.starts_with("53") || state == "57014" || state == "25006"
}

fn state(error: &Error) -> Option<String> {
    error.as_database_error()?.code().map(std::borrow::Cow::into_owned)
}
