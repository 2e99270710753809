//! A clock of its own for a process that a test starts: libfaketime tells it another time of day. What it measures goes on.

use std::path::PathBuf;

use crate::debian;

/// The clock of one process, or of several.
pub struct OwnClock {
    /// The file that says how far it is from the machine's.
    file: PathBuf,
}

impl OwnClock {
    /// One that is right, set by this file.
    pub fn in_file(file: PathBuf) -> Self {
        debian::need("libfaketime", || library().exists());
        let clock = Self { file };
        clock.set(0);
        clock
    }

    /// Sets it so many seconds ahead of the machine's, or behind it.
    pub fn set(&self, ahead: i64) {
        // A process reads the file whenever it asks for the time: it must never see half of it.
        let new = self.file.with_extension("new");
        let set = std::fs::write(&new, format!("{ahead:+}s\n")).and_then(|()| std::fs::rename(&new, &self.file));
        set.expect("the folder can be written");
    }

    /// With which environment a process goes by it.
    pub fn environment(&self) -> [(&'static str, String); 4] {
        [
            ("LD_PRELOAD", library().display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.display().to_string()),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ]
    }
}

fn library() -> PathBuf {
    format!("/usr/lib/{}-linux-gnu/faketime/libfaketime.so.1", std::env::consts::ARCH).into()
}

/// A process that was killed leaves what it shared with its threads.
pub fn forget(process: &str) {
    for kind in ["sem.faketime_sem", "faketime_shm"] {
        // There may be none.
        let _ = std::fs::remove_file(format!("/dev/shm/{kind}_{process}"));
    }
}
