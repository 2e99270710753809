//! What is done to a ledger, and where it is found.

use proptest::prelude::*;

use super::*;
use crate::{
    kernel::{Actor, CommandId, CompanyId, Id, Message, Timestamp, UserId},
    ledger::{Draft, Entry},
};

/// The `nth` draft of a ledger: all forms of an actor, with and without a branch and a cause, odd texts.
fn draft(nth: u64) -> Draft {
    let number = u128::from(nth);
    let actor = match nth % 4 {
        0 => Actor::User { user: UserId::number(number), role: "dispatcher".into() },
        1 => Actor::Trigger { trigger: r#"a "trigger" \ "#.into() },
        2 => Actor::Deadline { deadline: "understaffed".into() },
        _ => Actor::tool("import {\"payload\":{}"),
    };
    let payload = format!(r#"{{"note":"Zoë said \"now\" {nth}","nested":{{"empty":{{}}}}}}"#);
    Draft {
        stream: "truck_journey".into(),
        id: Id::<()>::number(7).uuid(),
        sequence: nth,
        event: "status_reported".into(),
        version: 1,
        location: nth.is_multiple_of(2).then(|| Id::number(5)),
        actor,
        command: CommandId::number(number),
        correlation: Id::number(number),
        causation: nth.is_multiple_of(3).then(|| Id::<()>::number(9).uuid()),
        payload: Message { name: String::new(), fields: serde_json::from_str(&payload).expect("is JSON") }.fields,
    }
}

/// Lines from `head` on, recorded a second apart.
fn grow(company: u128, mut head: Head, count: u64) -> Vec<String> {
    (0..count)
        .map(|_| {
            let nth = head.position + 1;
            let draft = draft(nth);
            let at = Timestamp::from_seconds(1_800_000_000 + i64::try_from(nth).expect("small"));
            let line = Entry::line(&draft.header(CompanyId::number(company), head, at), draft.payload.get());
            head = Head { position: nth, hash: Hash::of(&line) };
            line
        })
        .collect()
}

fn ledger() -> Vec<String> {
    grow(1, Head::default(), 8)
}

fn head(lines: &[String]) -> Head {
    verify(lines, None).expect("an unbroken ledger")
}

#[track_caller]
fn broken(lines: &[String], expected: Option<Head>) -> (u64, Wrong) {
    let found = verify(lines, expected).expect_err("a broken ledger");
    (found.position, found.wrong)
}

#[test]
fn an_unbroken_ledger_is_accepted_up_to_its_head() {
    let lines = ledger();
    let head = head(&lines);
    assert_eq!(head, Head { position: 8, hash: Hash::of(&lines[7]) });
    assert_eq!(verify(&lines, Some(head)), Ok(head));
    assert_eq!(verify(&lines[..0], None), Ok(Head::default()));
    for line in &lines {
        let entry = Entry::read(line).expect("reads");
        assert_eq!(serde_json::to_string(&entry).expect("writes"), *line, "an entry's members stand in their order");
    }
}

#[test]
fn a_ledger_that_has_grown_past_a_kept_head_is_accepted() {
    let lines = ledger();
    assert_eq!(verify(&lines, Some(head(&lines[..5]))), Ok(head(&lines)));
}

#[test]
fn a_changed_byte_is_found_at_the_line_after() {
    let mut lines = ledger();
    lines[3] = lines[3].replace("said", "sald");
    let expected = Hash::of(&lines[3]);
    assert!(matches!(broken(&lines, None), (5, Wrong::OtherPrevious { expected: hash, .. }) if hash == expected));
}

#[test]
fn a_changed_byte_of_the_last_line_is_found_by_the_head() {
    let mut lines = ledger();
    let kept = head(&lines);
    lines[7] = lines[7].replace("said", "sald");
    assert!(matches!(broken(&lines, Some(kept)), (8, Wrong::OtherHead { .. })));
}

#[test]
fn a_removed_line_is_found_where_it_stood() {
    let mut lines = ledger();
    lines.remove(4);
    assert_eq!(broken(&lines, None), (5, Wrong::OtherPosition { found: 6 }));
}

#[test]
fn a_doubled_line_is_found_where_it_is_repeated() {
    let mut lines = ledger();
    lines.insert(4, lines[3].clone());
    assert_eq!(broken(&lines, None), (5, Wrong::OtherPosition { found: 4 }));
}

#[test]
fn swapped_lines_are_found_at_the_first() {
    let mut lines = ledger();
    lines.swap(2, 3);
    assert_eq!(broken(&lines, None), (3, Wrong::OtherPosition { found: 4 }));
}

#[test]
fn an_invented_line_is_found_by_the_line_after_it() {
    let mut lines = ledger();
    let before = head(&lines[..3]);
    lines[3] = grow(1, before, 1)[0].replace("Zoë", "Ann");
    assert!(matches!(broken(&lines, None), (5, Wrong::OtherPrevious { .. })));
    lines[3] = "{}".into();
    assert_eq!(broken(&lines, None), (4, Wrong::Malformed("company")));
}

#[test]
fn a_cut_tail_is_found_by_the_head() {
    let lines = ledger();
    assert_eq!(broken(&lines[..6], Some(head(&lines))), (7, Wrong::CutOff(8)));
}

#[test]
fn history_that_was_written_again_is_found_by_the_head() {
    let lines = ledger();
    let mut other = lines[..5].to_vec();
    other.extend(grow(1, head(&lines[..5]), 3).into_iter().map(|line| line.replace("Zoë", "Ann")));
    // The forger links everything anew.
    for place in 6..8 {
        let (old, new) = (head(&lines[..place]).hash, Hash::of(&other[place - 1]));
        other[place] = other[place].replace(&old.to_string(), &new.to_string());
    }
    assert!(verify(&other, None).is_ok(), "the chain alone cannot tell");
    assert!(matches!(broken(&other, Some(head(&lines))), (8, Wrong::OtherHead { .. })));
}

/// The same lines with a change to one of them, every link made anew.
fn forged(lines: &[String], place: usize, change: impl Fn(&str) -> String) -> Vec<String> {
    let mut forged: Vec<String> = Vec::new();
    for (nth, line) in lines.iter().enumerate() {
        let line = if nth == place { change(line) } else { line.clone() };
        let linked = match (nth, forged.last()) {
            (1.., Some(before)) => line.replace(&Hash::of(&lines[nth - 1]).to_string(), &Hash::of(before).to_string()),
            _ => line,
        };
        forged.push(linked);
    }
    forged
}

#[test]
fn a_sequence_that_does_not_follow_in_its_stream_is_found() {
    let lines = ledger();
    for (from, to, found) in [("\"sequence\":5", "\"sequence\":6", 6), ("\"sequence\":5", "\"sequence\":4", 4)] {
        let forged = forged(&lines, 4, |line| line.replace(from, to));
        let wrong = Wrong::OtherSequence { stream: "truck_journey".into(), expected: 5, found };
        assert_eq!(broken(&forged, None), (5, wrong));
    }
    let other = forged(&lines, 4, |line| line.replace("7\",\"sequence\"", "8\",\"sequence\""));
    assert!(matches!(broken(&other, None), (5, Wrong::OtherSequence { expected: 1, found: 5, .. })));
}

#[test]
fn a_part_of_a_ledger_verifies_after_the_head_that_it_follows() {
    let lines = ledger();
    let before = head(&lines[..3]);
    let mut verifier = Verifier::after(before, Some(head(&lines)));
    for line in &lines[3..] {
        verifier.line(line.as_bytes()).expect("follows");
    }
    assert_eq!(verifier.finish(), Ok(head(&lines)));
    let wrong = Verifier::after(head(&lines[..2]), None).line(lines[3].as_bytes()).expect_err("does not follow");
    assert_eq!((wrong.position, wrong.wrong), (3, Wrong::OtherPosition { found: 4 }));
}

#[test]
fn lines_that_end_with_carriage_returns_are_said_to() {
    let line = format!("{}\r", ledger()[0]);
    assert_eq!(broken(&[line], None), (1, Wrong::CarriageReturn));
}

#[test]
fn a_line_of_another_company_is_found() {
    let mut lines = ledger();
    lines[4] = grow(2, head(&lines[..4]), 1).remove(0);
    assert!(matches!(broken(&lines, None), (5, Wrong::OtherCompany { .. })));
}

#[test]
fn a_line_from_before_the_line_before_is_found() {
    let mut lines = ledger();
    let before = head(&lines[..4]);
    let draft = draft(5);
    let header = draft.header(CompanyId::number(1), before, Timestamp::from_seconds(1_800_000_000));
    lines[4] = Entry::line(&header, draft.payload.get());
    assert!(matches!(broken(&lines, None), (5, Wrong::BackInTime { .. })));
}

#[test]
fn a_line_that_has_not_the_form_of_an_entry_says_what_is_wrong() {
    let line = &ledger()[0];
    for (from, to, wrong) in [
        (r#""position":1"#, r#""position":01"#, "position"),
        (r#""previous":"0"#, r#""previous":"g"#, "previous"),
        (r#""stream":"truck_journey""#, r#""stream":"Truck""#, "stream"),
        (r#""sequence":1"#, r#""sequence":-1"#, "sequence"),
        (r#""event":"status_reported""#, r#""event":"""#, "event"),
        (r#""version":1"#, r#""version":"1""#, "version"),
        ("Z\",\"location\"", "+00:00\",\"location\"", "at"),
        (r#""location":null"#, r#""location":"#, "location"),
        (r#"{"trigger":"#, r#"{"robot":"#, "actor"),
        (r#"},"command""#, r#","more":1},"command""#, "command"),
        (r#""correlation":"0"#, r#""correlation":"X"#, "correlation"),
        (r#""causation":null"#, r#""causation":0"#, "causation"),
        (r#","payload":{"#, r#","payload":[{"#, "payload"),
        (r#","payload":{"#, r#","more":1,"payload":{"#, "payload"),
    ] {
        let changed = line.replacen(from, to, 1);
        assert_ne!(&changed, line, "{from}");
        assert_eq!(broken(&[changed], None), (1, Wrong::Malformed(wrong)), "{from} → {to}");
    }
}

proptest! {
    /// Whatever single byte is changed, in whatever line, to whatever else.
    #[test]
    fn any_changed_byte_is_found_given_the_head(line in 0usize..8, place in any::<prop::sample::Index>(), byte: u8) {
        let lines = ledger();
        let kept = head(&lines);
        let mut bytes: Vec<Vec<u8>> = lines.into_iter().map(String::into_bytes).collect();
        let place = place.index(bytes[line].len());
        prop_assume!(bytes[line][place] != byte);
        bytes[line][place] = byte;
        let found = verify(&bytes, Some(kept)).expect_err("a changed byte");
        let nth = line as u64 + 1;
        prop_assert!(found.position == nth || found.position == nth + 1, "{found}");
    }

    /// Whatever bytes come, verifying them ends without a panic.
    #[test]
    fn no_bytes_make_it_fail(line in prop::collection::vec(any::<u8>(), 0..400), cut in any::<prop::sample::Index>()) {
        prop_assert!(verify([&line], None).is_err());
        let real = &ledger()[..1];
        let cut = &real[0].as_bytes()[..cut.index(real[0].len())];
        prop_assert!(verify([cut], Some(head(real))).is_err());
    }
}
