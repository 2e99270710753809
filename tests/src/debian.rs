//! What a fresh Debian machine lacks for these tests, brought in from its packages.

use std::{
    process::Command,
    sync::{Mutex, PoisonError},
};

/// One installation at a time: the package manager holds a lock.
static INSTALLING: Mutex<()> = Mutex::new(());

/// Makes sure that `is_there` holds, by installing `package` where it does not. Only root can install; others are told
/// what to ask for.
pub fn need(package: &str, is_there: impl Fn() -> bool) {
    let _turn = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    if is_there() {
        return;
    }
    let asked = format!("these tests need the package {package}: apt-get install {package}");
    assert!(is_root(), "{asked}");
    for arguments in [&["update", "-qq"][..], &["install", "-qq", "-y", "--no-install-recommends", package][..]] {
        let mut apt = Command::new("apt-get");
        let done = apt.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").output();
        assert!(done.is_ok_and(|output| output.status.success()), "{asked} (apt-get {arguments:?} failed)");
    }
    assert!(is_there(), "{asked} (it is installed, and not to be found)");
}

/// Whether a program answers.
pub fn runs(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Whether this process may install packages, and must not run Postgres.
pub fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n")
}
