//! Files that hold a key: of our own making, or put there by somebody else.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::Path,
};

use cnc_domain::ledger::Fault;
use uuid::Uuid;

/// The text in this file; `None` where there is none. A file of ours that others may read is refused; one that somebody else
/// (root, or the platform that mounts secrets) has put there is theirs to protect, as long as others may not change it.
pub fn load(doing: &'static str, path: &Path) -> Result<Option<String>, Fault> {
    match read(path) {
        Ok(text) => Ok(Some(text)),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(fault(doing, path, &cause)),
    }
}

/// Makes this file, readable for its owner only. The text that is there then: another process may have been first, and then
/// its key is the one.
pub fn create(doing: &'static str, path: &Path, text: &str) -> Result<String, Fault> {
    match write_new(path, text) {
        Ok(()) => Ok(text.to_owned()),
        Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {
            read(path).map_err(|cause| fault(doing, path, &cause))
        }
        Err(cause) => Err(fault(doing, path, &cause)),
    }
}

/// Says of a key that cannot be read where it lies and what to do.
pub fn unreadable(doing: &'static str, path: &Path, text: &str, wrong: Fault) -> Fault {
    let what = if text.trim().is_empty() { "the file is empty".to_owned() } else { wrong.cause };
    Fault::broken(doing, format!("{}: {what}: put the key back from where you keep it", path.display()))
}

fn fault(doing: &'static str, path: &Path, cause: &io::Error) -> Fault {
    Fault::broken(doing, format!("{}: {cause}", path.display()))
}

fn read(path: &Path) -> io::Result<String> {
    let text = fs::read_to_string(path)?;
    private(&fs::metadata(path)?)?;
    Ok(text)
}

/// Writes a whole file under another name and then gives it its own, so that nobody reads half a key.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let draft = path.with_extension(format!("{}.new", Uuid::now_v7()));
    let written = write(&draft, text).and_then(|()| fs::hard_link(&draft, path));
    let removed = fs::remove_file(&draft);
    written.and(removed)?;
    File::open(folder)?.sync_all()
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(unix)]
fn private(file: &fs::Metadata) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    // Where it cannot be told who we are, every file counts as ours.
    let ours = user().is_none_or(|user| user == file.uid());
    let wrong = match file.mode() & 0o777 {
        mode if ours && mode & 0o077 != 0 => "others may read it; its mode must be 0600",
        mode if mode & 0o022 != 0 => "others than its owner may change it",
        _ => return Ok(()),
    };
    Err(io::Error::new(io::ErrorKind::PermissionDenied, wrong))
}

#[cfg(not(unix))]
fn private(_: &fs::Metadata) -> io::Result<()> {
    Ok(())
}

/// The user with whose rights this process opens files, where the system tells.
#[cfg(unix)]
fn user() -> Option<u32> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown};

    use super::*;

    const NOBODY: u32 = 65_534;

    fn key(path: &Path) -> Result<Option<String>, Fault> {
        load("read a key", path)
    }

    fn set(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("is set");
    }

    #[test]
    fn a_key_is_made_once_for_its_owner_only_and_refused_when_others_may_read_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deep/a.key");
        assert_eq!(key(&path).expect("is no fault"), None);
        assert_eq!(create("make a key", &path, "a key").expect("is made"), "a key");
        assert_eq!(fs::metadata(&path).expect("is there").permissions().mode() & 0o777, 0o600);
        assert_eq!(create("make a key", &path, "another").expect("is read"), "a key");
        assert_eq!(fs::read_dir(path.parent().expect("a folder")).expect("reads").count(), 1, "nothing is left over");
        for mode in [0o644, 0o640, 0o604] {
            set(&path, mode);
            assert!(key(&path).expect_err("is refused").cause.contains("others may read it"), "{mode:o}");
        }
    }

    #[test]
    fn a_key_that_somebody_else_has_put_there_may_be_readable_but_not_changeable() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("mounted.key");
        create("make a key", &path, "a key").expect("is made");
        if user() != Some(0) {
            // Only root can give files away; there always is one of root's that all may read.
            private(&fs::metadata("/etc/passwd").expect("is there")).expect("is accepted");
            return;
        }
        chown(&path, Some(NOBODY), None).expect("is given away");
        for mode in [0o400, 0o444, 0o644, 0o640] {
            set(&path, mode);
            assert_eq!(key(&path).expect("is accepted").as_deref(), Some("a key"), "{mode:o}");
        }
        for mode in [0o666, 0o660, 0o602] {
            set(&path, mode);
            assert!(key(&path).expect_err("is refused").cause.contains("may change it"), "{mode:o}");
        }
    }
}
