//! The files of `schemas/`: generated from the types and checked in, so that a change of a contract is seen in a review.

use std::{fs, io, path::Path};

use cnc_domain::{
    MODULES,
    contracts::{Difference, Files, differences, schema_files},
    kernel::schema::Schemas,
};
use cnc_projections::VIEWS;

use crate::{asyncapi, openapi};

/// All generated files, by their path under `schemas/`.
pub fn files() -> Files {
    let mut schemas = Schemas::default();
    let documents: Vec<_> = VIEWS.iter().flat_map(|view| view.kind.documents(&mut schemas)).collect();
    let mut files = schema_files(MODULES, &documents);
    files.insert("openapi.json".into(), format!("{:#}\n", openapi::openapi()));
    files.insert("asyncapi.json".into(), format!("{:#}\n", asyncapi::asyncapi()));
    files
}

/// What differs between a folder and [`files`]. What is written by hand there, and golden entries, are not compared.
pub fn stale(folder: &Path) -> io::Result<Vec<Difference>> {
    Ok(differences(&files(), &found(folder)?))
}

/// Writes what is missing or stale, and removes what is left over. Says how many files changed.
pub fn write(folder: &Path) -> io::Result<usize> {
    let files = files();
    let stale = differences(&files, &found(folder)?);
    for difference in &stale {
        match difference {
            Difference::LeftOver(path) => fs::remove_file(folder.join(path))?,
            Difference::Missing(path) | Difference::Stale(path) => {
                let file = folder.join(path);
                fs::create_dir_all(file.parent().unwrap_or(folder))?;
                fs::write(file, files.get(path).map(String::as_str).unwrap_or_default())?;
            }
        }
    }
    Ok(stale.len())
}

/// The JSON files of a folder.
fn found(folder: &Path) -> io::Result<Files> {
    let mut found = Files::new();
    if folder.exists() {
        read(folder, Path::new(""), &mut found)?;
    }
    Ok(found)
}

fn read(folder: &Path, under: &Path, found: &mut Files) -> io::Result<()> {
    for entry in fs::read_dir(folder.join(under))? {
        let entry = entry?;
        let path = under.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            // Golden entries are accepted once and kept for ever; nothing generates them.
            if path != Path::new("golden") {
                read(folder, &path, found)?;
            }
        } else if path.extension().is_some_and(|ending| ending == "json") {
            found.insert(path.to_string_lossy().into_owned(), fs::read_to_string(entry.path())?);
        }
    }
    Ok(())
}
