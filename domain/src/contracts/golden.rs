//! Golden entries: for every version of every event a line that was accepted once and must be readable for ever. A file
//! a stream, linked like a ledger; it only grows.

use serde_json::value::RawValue;

use super::sample::Sampler;
use crate::{
    kernel::{
        Actor, CommandId, CompanyId, Id, LocationId, Recorded, Rules, Timestamp,
        schema::{MessageContract, Schemas},
    },
    ledger::{Draft, Entry, Head, verify},
};

/// What is wrong with a file of golden entries.
#[derive(Debug, thiserror::Error)]
#[error("{stream}, line {line}: {wrong}")]
pub struct Tarnished {
    /// The stream.
    pub stream: String,
    /// The line, counted from 1; after the last where something is missing.
    pub line: usize,
    /// What is wrong.
    pub wrong: String,
}

/// `lines` (a file's text), and a new line for each event whose current version has none yet. Lines that stand are never
/// touched.
pub fn add_missing(rules: &dyn Rules, lines: &str) -> Result<String, Tarnished> {
    let entries = check_lines(rules, lines)?;
    let mut head = verify(lines.lines(), None).unwrap_or_default();
    let mut text = lines.to_owned();
    for event in rules.contract(&mut Schemas::default()).events {
        let stands = |entry: &Entry| entry.event == event.name && entry.version == event.version;
        if !entries.iter().any(stands) {
            let line = line(rules.stream(), &event, head);
            head = Head { position: head.position + 1, hash: crate::ledger::Hash::of(&line) };
            text.push_str(&line);
            text.push('\n');
        }
    }
    Ok(text)
}

/// That the lines are linked, that each one still is an entry of this stream and still folds, and that there is one for
/// every version of every event.
pub fn check(rules: &dyn Rules, lines: &str) -> Result<(), Tarnished> {
    let entries = check_lines(rules, lines)?;
    for event in rules.contract(&mut Schemas::default()).events {
        for version in 1..=event.version {
            if !entries.iter().any(|entry| entry.event == event.name && entry.version == version) {
                let wrong = format!("there is no golden entry of {} version {version}", event.name);
                return Err(tarnished(rules, entries.len() + 1, wrong));
            }
        }
    }
    Ok(())
}

fn check_lines(rules: &dyn Rules, lines: &str) -> Result<Vec<Entry>, Tarnished> {
    verify(lines.lines(), None).map_err(|found| {
        let line = usize::try_from(found.line).unwrap_or(usize::MAX);
        tarnished(rules, line, format!("was changed: {}", found.wrong))
    })?;
    let mut state = rules.blank();
    let mut entries = Vec::new();
    for (place, line) in lines.lines().enumerate() {
        let wrong = |cause: String| tarnished(rules, place + 1, cause);
        let entry = Entry::read(line).map_err(|malformed| wrong(malformed.to_string()))?;
        if entry.stream != rules.stream() {
            return Err(wrong(format!("belongs to the stream {}", entry.stream)));
        }
        let recorded = Recorded { event: &entry.event, version: entry.version, payload: entry.payload.get() };
        rules.evolve(&mut state, recorded).map_err(|unreadable| wrong(unreadable.to_string()))?;
        entries.push(entry);
    }
    Ok(entries)
}

fn tarnished(rules: &dyn Rules, line: usize, wrong: String) -> Tarnished {
    Tarnished { stream: rules.stream().to_owned(), line, wrong }
}

fn line(stream: &str, event: &MessageContract, head: Head) -> String {
    let payload = Sampler::default().value(&event.schema).to_string();
    let number = u128::from(head.position) + 1;
    let draft = Draft {
        stream: stream.to_owned(),
        id: Id::<()>::number(2).uuid(),
        sequence: head.position + 1,
        event: event.name.clone(),
        version: event.version,
        location: Some(LocationId::number(5)),
        actor: Actor::User { user: Id::number(4), role: "dispatcher".into() },
        command: CommandId::number(100 + number),
        correlation: Id::number(200 + number),
        causation: None,
        payload: RawValue::from_string(payload).unwrap_or_default(),
    };
    // Seconds after the times in the payloads, so that what is recorded has happened.
    let at = Timestamp::from_seconds(1_782_990_000 + i64::try_from(head.position).unwrap_or_default());
    Entry::line(&draft.header(CompanyId::number(1), head, at), draft.payload.get())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::{MODULES, calendar_capacity::Truck, kernel::aggregate};

    #[test]
    fn every_version_of_every_event_has_a_golden_entry_that_still_reads_and_folds() {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../schemas/golden");
        let mut expected = Vec::new();
        for rules in MODULES.iter().flat_map(|module| module.aggregates) {
            let name = format!("{}.ndjson", rules.stream());
            let text = std::fs::read_to_string(folder.join(&name)).unwrap_or_default();
            if let Err(tarnished) = check(*rules, &text) {
                panic!("{tarnished}; `cargo xtask golden` adds what is missing, and what stands must not be changed");
            }
            expected.push(name);
        }
        for file in std::fs::read_dir(&folder).expect("schemas/golden is there") {
            let name = file.expect("can be listed").file_name().to_string_lossy().into_owned();
            assert!(expected.contains(&name), "{name} belongs to no stream");
        }
    }

    #[test]
    fn adding_what_is_missing_touches_nothing_that_stands() {
        let rules = aggregate::<Truck>();
        let whole = add_missing(rules, "").expect("makes lines");
        check(rules, &whole).expect("are golden");
        assert_eq!(add_missing(rules, &whole).expect("reads"), whole, "nothing is missing");
        let first = whole.lines().next().expect("a line").to_owned() + "\n";
        let regrown = add_missing(rules, &first).expect("reads");
        assert!(regrown.starts_with(&first) && regrown.lines().count() == whole.lines().count());
        assert!(check(rules, &first).expect_err("lacks lines").to_string().contains("there is no golden entry"));
    }

    #[test]
    fn a_changed_golden_entry_is_found() {
        let rules = aggregate::<Truck>();
        let whole = add_missing(rules, "").expect("makes lines");
        let changed = whole.replacen("example", "forgery", 1);
        assert!(add_missing(rules, &changed).expect_err("is linked").wrong.contains("was changed"));
    }
}
