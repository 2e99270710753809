//! The master key, in a file of its own.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::Path,
    sync::Arc,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use cnc_domain::ledger::Fault;

use super::crypto::{Key, random};

/// The key that wraps the keys of companies. Whoever loses it has lost all personal data.
#[derive(Clone)]
pub struct MasterKey(Arc<Key>);

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey")
    }
}

impl MasterKey {
    /// The key in this file: 32 bytes in base64. Made, readable for its owner only, where there is none.
    pub fn load_or_create(path: &Path) -> Result<Self, Fault> {
        let fault = |cause: io::Error| Fault::broken("read the master key", format!("{}: {cause}", path.display()));
        match fs::read_to_string(path) {
            Ok(text) => {
                private(path).map_err(fault)?;
                Self::read(&text)
            }
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                let text = STANDARD.encode(random::<32>()?) + "\n";
                // Another process may be first: then its key is the one.
                match create(path, &text) {
                    Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {
                        Self::read(&fs::read_to_string(path).map_err(fault)?)
                    }
                    done => done.map_err(fault).and_then(|()| Self::read(&text)),
                }
            }
            Err(cause) => Err(fault(cause)),
        }
    }

    /// The key that this text is: 32 bytes in base64.
    pub fn read(text: &str) -> Result<Self, Fault> {
        let wrong = || Fault::broken("read the master key", "it is not 32 bytes in base64");
        let secret = STANDARD.decode(text.trim()).map_err(|_| wrong())?;
        Ok(Self(Arc::new(Key::new(&secret).map_err(|_| wrong())?)))
    }

    pub(super) fn key(&self) -> &Key {
        &self.0
    }
}

/// Writes a whole file under another name and then gives it its own, so that nobody reads half a key.
fn create(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let draft = path.with_extension(format!("{}.new", std::process::id()));
    let written = write(&draft, text).and_then(|()| fs::hard_link(&draft, path));
    fs::remove_file(&draft)?;
    written?;
    File::open(folder)?.sync_all()
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Refuses a file that others may read.
#[cfg(unix)]
fn private(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let others = 0o077;
    if fs::metadata(path)?.permissions().mode() & others == 0 {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "others may read it; its mode must be 0600"))
    }
}

#[cfg(not(unix))]
fn private(_: &Path) -> io::Result<()> {
    Ok(())
}
