//! How many files the process may have open: each connection and each database file is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::limits::Limits;

/// Files that are none of a client's: databases, logs, connections to other servers.
const OWN: u64 = 512;

/// Raises how many files may be open as far as the system lets the process, and takes no more connections than there are files
/// for.
pub(crate) fn allow(limits: &mut Limits) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    let files = if raised.is_ok() { maximum } else { current };
    fit(limits, files);
}

/// Takes no more connections and sockets than so many files are enough for; where nothing is said there is no bound.
fn fit(limits: &mut Limits, files: Option<u64>) {
    let Some(files) = files else { return };
    // A socket that was upgraded has left its place among the connections.
    let wanted = (limits.connections + limits.sockets) as u64 + OWN;
    if files >= wanted {
        return;
    }
    tracing::warn!(files, wanted, "few files may be open (ulimit -n), so that fewer clients are served at once");
    let room = usize::try_from(files.saturating_sub(OWN).max(files / 2)).unwrap_or(usize::MAX);
    limits.sockets = limits.sockets.min(room / 3);
    limits.connections = limits.connections.min(room - limits.sockets).max(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_as_many_as_there_are_files_for() {
        let fitted = |files| {
            let mut limits = Limits::default();
            fit(&mut limits, files);
            (limits.connections, limits.sockets)
        };
        let usual = (Limits::default().connections, Limits::default().sockets);
        assert_eq!(fitted(None), usual);
        assert_eq!(fitted(Some(1 << 20)), usual);
        assert_eq!(fitted(Some(4_096)), (2_390, 1_194));
        assert_eq!(fitted(Some(256)), (86, 42));
    }

    #[test]
    fn a_server_has_as_many_files_as_it_may_have() {
        allow(&mut Limits::default());
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
    }
}
