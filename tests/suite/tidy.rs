//! What keeps the house in order. Each rule says why; each failure says what to do.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// A file longer than this is read by nobody in one go, and changed by everybody at once.
const LINES_MAX: usize = 500;

/// The rooms: a folder, its crate, and the crates of ours that it may name.
///
/// - `domain` is pure: a rule that could reach a database or a clock would not give the same answer twice.
/// - `postgres` is connections, and knows nothing of what goes over them.
/// - `commands` and `projections` meet only in the domain's ports, so that either side can be run, replaced and tested
///   without the other, and a fold cannot append.
/// - Only the gateway, which wires them, and what measures or tests the whole know both.
const ROOMS: &[(&str, &str, &[&str])] = &[
    ("domain", "cnc-domain", &[]),
    ("deploy/postgres/connections", "cnc-postgres", &[]),
    ("commands", "cnc-commands", &["cnc-domain", "cnc-postgres"]),
    ("projections", "cnc-projections", &["cnc-domain", "cnc-postgres"]),
    ("gateway", "cnc-gateway", &["cnc-commands", "cnc-domain", "cnc-projections"]),
    ("tests", "cnc-tests", &["cnc-commands", "cnc-domain", "cnc-gateway", "cnc-projections"]),
    // The benchmarks start the same servers as the tests.
    ("deploy/xtask", "xtask", &["cnc-commands", "cnc-domain", "cnc-gateway", "cnc-projections", "cnc-tests"]),
];

/// What the domain must not even be able to reach: whatever does I/O, tells the time or rolls dice.
const IMPURE: &[&str] =
    &["tokio", "sqlx", "rusqlite", "axum", "reqwest", "aws-lc-rs", "cqrs-es", "postgres-es", "rand"];

/// Calls that would make a rule depend on when or where it runs.
const IMPURE_CALLS: &[&str] = &[
    "SystemTime::now",
    "Instant::now",
    "Utc::now",
    "Local::now",
    "now_v7",
    "new_v4",
    "std::env",
    "std::fs",
    "std::net",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_owned()
}

/// All files with this ending under a folder, without what is built or kept by tools.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(folder) else { return found };
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if path.is_dir() {
            if name != "target" && name != "node_modules" && !name.starts_with('.') {
                found.extend(files(&path, ending));
            }
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The dependencies that a manifest names, whichever section they stand in.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut section = "";
    let mut found = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        } else if section.contains("dependencies")
            && let Some(name) =
                line.split(['.', '=', ' ']).next().filter(|name| !name.is_empty() && !name.starts_with('#'))
        {
            found.push(name.to_owned());
        }
    }
    found
}

/// Fails with all that was found, so that one run shows everything.
fn none(found: &[String], why: &str) {
    assert!(found.is_empty(), "{why}\n  {}", found.join("\n  "));
}

#[test]
fn rooms_know_only_the_rooms_that_they_may() {
    let mut found = Vec::new();
    for (folder, own, may) in ROOMS {
        let depends = dependencies(&text(&root().join(folder).join("Cargo.toml")));
        let ours: Vec<&&str> = ROOMS.iter().map(|(_, name, _)| name).filter(|name| **name != *own).collect();
        for other in ours.iter().filter(|name| !may.contains(*name)) {
            if depends.iter().any(|name| name == **other) {
                found.push(format!("{folder}/Cargo.toml depends on {other}"));
            }
            let module = other.replace('-', "_");
            for path in files(&root().join(folder), ".rs") {
                let code = text(&path);
                let names = code.lines().filter(|line| !line.trim_start().starts_with("//"));
                if *folder != "tests" && names.filter(|line| line.contains(&format!("{module}::"))).count() > 0 {
                    found.push(format!("{} names {module}", path.display()));
                }
            }
        }
    }
    none(&found, "A room names one that it must not know (see ARCHITECTURE.md): move the code, or go through a port.");
}

#[test]
fn the_domain_cannot_reach_a_clock_a_disk_or_a_die() {
    let depends = dependencies(&text(&root().join("domain/Cargo.toml")));
    let mut found: Vec<String> = depends.into_iter().filter(|name| IMPURE.contains(&name.as_str())).collect();
    for path in files(&root().join("domain"), ".rs") {
        // Tests may read files; rules may not.
        let rules = text(&path).split("\nmod tests {").next().unwrap_or_default().to_owned();
        for (nth, line) in rules.lines().enumerate() {
            if let Some(call) = IMPURE_CALLS.iter().find(|call| line.contains(**call)) {
                found.push(format!("{}:{}: {call}", path.display(), nth + 1));
            }
        }
    }
    none(&found, "A rule that depends on when or where it runs does not replay: pass it in through the context.");
}

#[test]
fn no_file_is_too_long_to_be_read() {
    let long: Vec<String> = files(&root(), ".rs")
        .into_iter()
        .map(|path| (text(&path).lines().count(), path))
        .filter(|(lines, _)| *lines > LINES_MAX)
        .map(|(lines, path)| format!("{} has {lines} lines", path.display()))
        .collect();
    none(&long, &format!("A file has at most {LINES_MAX} lines: split it by what it owns."));
}

#[test]
fn nothing_is_left_half_done() {
    // Spelt in two halves, so that this file does not find itself.
    let leftovers: BTreeMap<String, &str> = BTreeMap::from([
        (["TO", "DO"].concat(), "do it, or write an issue"),
        (["FIX", "ME"].concat(), "fix it, or write an issue"),
        (["to", "do!("].concat(), "write it"),
        (["unimple", "mented!("].concat(), "write it"),
        (["#[ig", "nore"].concat(), "a test that does not run proves nothing: repair or remove it"),
        (["allow(dead", "_code)"].concat(), "remove what nobody uses; history keeps it"),
        (["dbg", "!("].concat(), "use tracing"),
    ]);
    let mut found = Vec::new();
    for path in files(&root(), ".rs") {
        for (nth, line) in text(&path).lines().enumerate() {
            for (leftover, instead) in leftovers.iter().filter(|(leftover, _)| line.contains(leftover.as_str())) {
                found.push(format!("{}:{}: {leftover} ({instead})", path.display(), nth + 1));
            }
        }
    }
    none(&found, "Half-done things are forgotten.");
}

#[test]
fn every_crate_takes_the_shared_lints_which_forbid_unsafe_code() {
    let workspace = text(&root().join("Cargo.toml"));
    assert!(
        workspace.contains("unsafe_code = \"forbid\""),
        "the workspace forbids unsafe code: memory errors leak keys"
    );
    let manifests = files(&root(), "Cargo.toml").into_iter().filter(|path| *path != root().join("Cargo.toml"));
    let found: Vec<String> = manifests
        .filter(|path| !text(path).contains("[lints]\nworkspace = true"))
        .map(|path| path.display().to_string())
        .collect();
    none(&found, "A crate without `[lints] workspace = true` is held to nothing.");
}

#[test]
fn every_crate_is_one_of_the_rooms() {
    let known: Vec<PathBuf> = ROOMS.iter().map(|(folder, ..)| root().join(folder).join("Cargo.toml")).collect();
    let strangers: Vec<String> = files(&root(), "Cargo.toml")
        .into_iter()
        .filter(|path| *path != root().join("Cargo.toml") && !known.contains(path))
        .map(|path| path.display().to_string())
        .collect();
    none(&strangers, "A new crate must say here what it may know.");
}

#[test]
fn generated_contracts_are_up_to_date() {
    let stale = cnc_gateway::contracts::stale(&root().join("schemas")).expect("schemas/ can be read");
    let stale: Vec<String> = stale.iter().map(ToString::to_string).collect();
    none(
        &stale,
        "schemas/ is not what the code says. `cargo run -- schemas` renews it; look at the difference, it is a contract.",
    );
}
