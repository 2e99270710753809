//! The master key, in a file of its own.

use std::{fmt, path::Path, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use cnc_domain::ledger::Fault;

use super::{
    crypto::{Key, random},
    key_file,
};

const READING: &str = "read the master key";

/// The key that wraps the keys of companies. Whoever loses it has lost all personal data.
#[derive(Clone)]
pub struct MasterKey(Arc<Key>);

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey")
    }
}

impl MasterKey {
    /// The key in this file: 32 bytes in base64. `None` where there is no such file.
    pub fn load(path: &Path) -> Result<Option<Self>, Fault> {
        let Some(text) = key_file::load(READING, path)? else { return Ok(None) };
        Self::read(&text).map(Some).map_err(|wrong| key_file::unreadable(READING, path, &text, wrong))
    }

    /// A new key in this file, readable for its owner only; the one that is there where another process was faster.
    pub fn create(path: &Path) -> Result<Self, Fault> {
        Self::read(&key_file::create(READING, path, &(STANDARD.encode(random::<32>()?) + "\n"))?)
    }

    /// The key that this text is: 32 bytes in base64.
    pub fn read(text: &str) -> Result<Self, Fault> {
        let wrong = || Fault::broken(READING, "it is not 32 bytes in base64");
        let secret = STANDARD.decode(text.trim()).map_err(|_| wrong())?;
        Ok(Self(Arc::new(Key::new(&secret).map_err(|_| wrong())?)))
    }

    /// One that nobody has and nothing is wrapped by.
    pub(super) fn of_nobody() -> Result<Self, Fault> {
        Ok(Self(Arc::new(Key::new(&random::<32>()?)?)))
    }

    pub(super) fn key(&self) -> &Key {
        &self.0
    }
}
