//! `cnc schemas`: the contracts as files.

use std::path::PathBuf;

use serde_json::json;

use super::output::{Failure, Out};
use crate::contracts;

/// Write the contracts: JSON Schema of every command, event and view, openapi.json and asyncapi.json
///
/// They are generated from the program and kept beside its source, so that a change of a contract is seen in a review.
#[derive(Debug, clap::Args)]
pub struct Schemas {
    /// The folder
    #[arg(long, value_name = "FOLDER", default_value = "schemas")]
    dir: PathBuf,
    /// Change nothing; status 1 where a file is missing or stale
    #[arg(long)]
    check: bool,
}

pub fn run(command: &Schemas, out: Out) -> Result<(), Failure> {
    let unreadable = |error| Failure::file(&command.dir, &error);
    if !command.check {
        let changed = contracts::write(&command.dir).map_err(unreadable)?;
        return out.say(
            format_args!("{}: {changed} files changed", command.dir.display()),
            &json!({ "dir": command.dir, "changed": changed }),
        );
    }
    let stale = contracts::stale(&command.dir).map_err(unreadable)?;
    let stale: Vec<String> = stale.iter().map(ToString::to_string).collect();
    if stale.is_empty() {
        return out.say(format_args!("{}: up to date", command.dir.display()), &json!({ "stale": [] }));
    }
    let message = format!("`cnc schemas` renews these:\n  {}", stale.join("\n  "));
    Err(Failure::Found { message, facts: json!({ "stale": stale }) })
}
