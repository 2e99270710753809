//! `cargo xtask golden`: adds golden entries for versions of events that have none.

use std::{error::Error, fs, path::Path};

use cnc_domain::{MODULES, contracts::golden};

/// Adds what is missing to `schemas/golden/`, and says to which files.
pub fn run() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas/golden");
    fs::create_dir_all(&folder)?;
    for rules in MODULES.iter().flat_map(|module| module.aggregates) {
        let path = folder.join(format!("{}.ndjson", rules.stream()));
        let stands = if path.exists() { fs::read_to_string(&path)? } else { String::new() };
        let whole = golden::add_missing(*rules, &stands)?;
        if whole != stands {
            fs::write(&path, &whole)?;
            eprintln!("{}: {} new", rules.stream(), whole.lines().count() - stands.lines().count());
        }
    }
    Ok(())
}
