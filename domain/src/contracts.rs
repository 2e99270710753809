//! The generated contracts: a JSON Schema for every command, event and view, as files of `schemas/`. They are checked in;
//! a stale or missing one fails a test.

pub mod golden;
pub mod sample;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::{
    kernel::{
        Module,
        schema::{Contract, DocumentContract, MessageContract, Schemas},
    },
    ledger::Entry,
};

/// Files by their path under `schemas/`.
pub type Files = BTreeMap<String, String>;

/// How a file on disk differs from the one that would be generated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// It is not there.
    #[error("{0} is missing")]
    Missing(String),
    /// It says something else.
    #[error("{0} is stale")]
    Stale(String),
    /// Nothing generates it.
    #[error("{0} is left over")]
    LeftOver(String),
}

/// The schemas of all messages of `modules` and of all `documents` of views, deterministic to the byte.
pub fn schema_files(modules: &[&Module], documents: &[DocumentContract]) -> Files {
    let mut schemas = Schemas::default();
    let mut files = Files::new();
    let entry = schemas.recorded::<Entry>();
    files.insert("entry.json".into(), file("entry", "entry", "One line of a ledger.", entry, &[]));
    for rules in modules.iter().flat_map(|module| module.aggregates) {
        messages(&mut files, &rules.contract(&mut schemas));
    }
    for document in documents {
        let (path, extras) = view(document);
        files.insert(
            path,
            file(&format!("views/{}", document.name), document.name, "", document.schema.clone(), &extras),
        );
    }
    files
}

/// What must be done to `found` to make it `made`. The schema of an event's older version is made by no program any
/// more and is kept for ever: it is not left over.
pub fn differences(made: &Files, found: &Files) -> Vec<Difference> {
    let wrong = made.iter().filter_map(|(path, text)| match found.get(path) {
        None => Some(Difference::Missing(path.clone())),
        Some(other) if other != text => Some(Difference::Stale(path.clone())),
        Some(_) => None,
    });
    let left = found.keys().filter(|path| !made.contains_key(*path) && !is_older_version(path, made));
    wrong.chain(left.cloned().map(Difference::LeftOver)).collect()
}

fn is_older_version(path: &str, made: &Files) -> bool {
    let parts = |path: &str| {
        let (event, version) = path.strip_prefix("events/")?.strip_suffix(".json")?.rsplit_once(".v")?;
        Some((event.to_owned(), version.parse::<u32>().ok()?))
    };
    parts(path).is_some_and(|(event, version)| {
        made.keys().filter_map(|path| parts(path)).any(|(other, newest)| other == event && version < newest)
    })
}

fn messages(files: &mut Files, contract: &Contract) {
    let Contract { stream, commands, events, .. } = contract;
    for MessageContract { name, about, internal, schema, .. } in commands {
        let path = format!("commands/{stream}.{name}");
        let internal: &[(&str, Value)] = if *internal { &[("x-internal", Value::Bool(true))] } else { &[] };
        let text = file(&path, &format!("{stream}.{name}"), about, schema.clone(), internal);
        files.insert(format!("{path}.json"), text);
    }
    for MessageContract { name, about, version, schema, .. } in events {
        let path = format!("events/{stream}.{name}.v{version}");
        let text = file(&path, &format!("{stream}.{name}"), about, schema.clone(), &[("x-version", json!(version))]);
        files.insert(format!("{path}.json"), text);
    }
}

fn view(document: &DocumentContract) -> (String, Vec<(&'static str, Value)>) {
    let extras = vec![
        ("x-filters", json!(document.filters)),
        ("x-sorts", json!(document.sorts)),
        ("x-restricted", json!(document.restricted)),
    ];
    (format!("views/{}.json", document.name), extras)
}

/// One schema's text: what it is comes first, then what it says.
fn file(id: &str, title: &str, about: &str, schema: Value, extras: &[(&str, Value)]) -> String {
    let Value::Object(mut members) = schema else { return format!("{schema}\n") };
    let own = members.remove("description").unwrap_or_default();
    let description = if about.is_empty() { own } else { about.into() };
    members.remove("title");
    members.remove("$schema");
    let mut whole = Map::new();
    whole.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
    whole.insert("$id".into(), format!("urn:cnc:schema:{}", id.replace('/', ":")).into());
    whole.insert("title".into(), title.into());
    if description.as_str().is_some_and(|text| !text.is_empty()) {
        whole.insert("description".into(), description);
    }
    whole.extend(extras.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    whole.extend(members);
    format!("{:#}\n", Value::Object(whole))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MODULES;

    #[test]
    fn every_message_has_a_file_that_says_what_it_is() {
        let files = schema_files(MODULES, &[]);
        assert_eq!(files, schema_files(MODULES, &[]), "the same every time");
        for path in [
            "entry.json",
            "commands/crew_member.hire.json",
            "events/truck.commissioned.v1.json",
            "events/truck_journey.departed.v1.json",
        ] {
            assert!(files.contains_key(path), "{path}");
        }
        for (path, text) in &files {
            let schema: Value = serde_json::from_str(text).expect("a schema is JSON");
            assert_eq!(schema["type"], "object", "{path}");
            assert!(schema["description"].as_str().is_some_and(|about| !about.is_empty()), "{path} has no docstring");
            assert!(!text.contains("x-clear") && !text.contains("$ref"), "{path}");
        }
    }

    #[test]
    fn a_command_is_shown_as_it_is_sent_and_an_event_as_it_is_recorded() {
        let files = schema_files(MODULES, &[]);
        let name = |path: &str| -> Value {
            serde_json::from_str::<Value>(&files[path]).expect("a schema is JSON")["properties"]["name"].clone()
        };
        let (sent, recorded) = (name("commands/crew_member.hire.json"), name("events/crew_member.hired.v1.json"));
        assert_eq!((&sent["type"], &sent["x-personal"]), (&json!("string"), &json!("name")));
        assert_eq!(recorded["type"], "object");
        assert!(recorded["properties"]["sealed"].is_object());
    }

    #[test]
    fn a_file_that_is_missing_stale_or_left_over_is_named() {
        let files = |paths: &[(&str, &str)]| -> Files {
            paths.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
        };
        let made = files(&[("events/a.b.v2.json", "new"), ("commands/a.b.json", "b"), ("commands/a.c.json", "c")]);
        let found = files(&[
            ("events/a.b.v1.json", "old"),
            ("events/a.b.v2.json", "new"),
            ("events/a.z.v1.json", "z"),
            ("commands/a.c.json", "changed"),
        ]);
        assert_eq!(
            differences(&made, &found),
            [
                Difference::Missing("commands/a.b.json".into()),
                Difference::Stale("commands/a.c.json".into()),
                Difference::LeftOver("events/a.z.v1.json".into()),
            ]
        );
    }
}
