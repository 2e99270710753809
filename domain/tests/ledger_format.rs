//! What LEDGER.md says to strangers is true of this program.

use std::{fs, path::PathBuf};

use cnc_domain::{
    kernel::{Recorded, State},
    ledger::{Draft, Entry, Hash, Head, verify},
    rules,
};

fn read(file: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../schemas").join(file);
    fs::read_to_string(&path).unwrap_or_else(|cause| panic!("{}: {cause}", path.display()))
}

/// The first block of the page in this language.
fn block(page: &str, language: &str) -> String {
    let open = format!("```{language}\n");
    let start = page.find(&open).expect("the page has such a block") + open.len();
    let length = page[start..].find("```").expect("the block ends");
    page[start..start + length].to_owned()
}

/// The hashes of the page's table, by position.
fn hashes(page: &str) -> Vec<Hash> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | `"));
    rows.filter(|(position, _)| position.parse::<u64>().is_ok())
        .map(|(_, rest)| rest[..64].parse().expect("a hash"))
        .collect()
}

#[test]
fn the_worked_example_has_the_hashes_that_the_page_says() {
    let page = read("LEDGER.md");
    let lines = block(&page, "ndjson");
    let hashes = hashes(&page);
    assert_eq!(lines.lines().map(Hash::of).collect::<Vec<_>>(), hashes);
    let head = Head { position: 3, hash: hashes[2] };
    assert_eq!(verify(lines.lines(), Some(head)), Ok(head));
    assert!(page.contains(&format!("the head is `{head}`")));
}

#[test]
fn the_worked_example_is_what_this_program_would_write_and_read() {
    let page = read("LEDGER.md");
    let mut head = Head::default();
    for line in block(&page, "ndjson").lines() {
        let entry = Entry::read(line).expect("an entry");
        let rules = rules(&entry.stream).expect("a stream that there is");
        let mut state: State = rules.blank();
        let recorded = Recorded { event: &entry.event, version: entry.version, payload: entry.payload.get() };
        rules.evolve(&mut state, recorded).expect("an event that there is");
        let draft = Draft {
            stream: entry.stream,
            id: entry.id,
            sequence: entry.sequence,
            event: entry.event,
            version: entry.version,
            location: entry.location,
            actor: entry.actor,
            command: entry.command,
            correlation: entry.correlation,
            causation: entry.causation,
            payload: entry.payload,
        };
        assert_eq!(Entry::line(&draft.header(entry.company, head, entry.at), draft.payload.get()), line);
        head = Head { position: entry.position, hash: Hash::of(line) };
    }
}

#[test]
fn the_page_shows_the_script_that_is_there() {
    assert_eq!(block(&read("LEDGER.md"), "bash").trim_end(), read("verify.sh").trim_end());
}

#[test]
fn the_page_says_how_the_id_of_an_entry_follows_from_where_it_stands() {
    let page = read("LEDGER.md");
    let last = block(&page, "ndjson").lines().last().map(Entry::read).expect("a line").expect("an entry");
    assert!(page.contains(&format!("has\nthe id `{}`", last.entry_id())), "{}", last.entry_id());
}
