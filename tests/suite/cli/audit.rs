//! `cnc audit`: whatever is done to a ledger is found, with its position, in a file and in the database.

use std::{io::Write, process::Stdio};

use cnc_tests::debian;

use super::{Operator, bring_in, file, import::day, text};

/// A company with some dozens of entries.
fn ledger() -> (Operator, String, Vec<String>) {
    let operator = Operator::new();
    let company = operator.found("Audited Movers");
    let csv = file(&operator, "day.csv", day(1, 5).as_bytes());
    operator.ok(&bring_in(text(&csv), &company));
    let lines = operator.export(&company);
    assert!(lines.len() > 30, "{} entries", lines.len());
    (operator, company, lines)
}

fn whole(lines: &[String]) -> Vec<u8> {
    lines.iter().flat_map(|line| [line.as_bytes(), b"\n"].concat()).collect()
}

#[test]
fn an_export_says_its_head_and_verifies_as_file_and_through_a_pipe() {
    let (operator, company, lines) = ledger();
    let head_file = operator.data().join("head");
    let came = operator.run(&["audit", "export", "--company", &company, "--head-file", text(&head_file)]);
    let head = std::fs::read_to_string(&head_file).expect("a head").trim().to_owned();
    assert_eq!((came.status, came.err.trim()), (0, head.as_str()));
    assert!(head.starts_with(&format!("{}:", lines.len())), "{head}");

    let exported = file(&operator, "ledger.ndjson", came.out.as_bytes());
    assert!(operator.ok(&["audit", "verify", text(&exported), "--head", &head]).contains(&head));
    let mut child = operator.command(&["audit", "verify", "-"]).stdin(Stdio::piped()).spawn().expect("cnc starts");
    child.stdin.take().expect("is piped").write_all(came.out.as_bytes()).expect("writes");
    assert!(child.wait().expect("ends").success());
}

#[test]
fn an_export_verifies_with_nothing_but_jq_and_sha256sum() {
    debian::need("jq", || debian::runs("jq"));
    let (operator, _, lines) = ledger();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../schemas/verify.sh");
    let check = |lines: &[String]| {
        let exported = file(&operator, "ledger.ndjson", &whole(lines));
        std::process::Command::new("bash").arg(script).arg(exported).output().expect("bash runs")
    };
    let good = check(&lines[..12]);
    assert!(good.status.success(), "{}", String::from_utf8_lossy(&good.stderr));
    let mut bad = lines[..12].to_vec();
    bad[5] = bad[5].replacen("\"version\":1", "\"version\":2", 1);
    assert!(!check(&bad).status.success(), "a changed line passed");
}

#[test]
fn every_kind_of_tampering_with_a_file_is_found_with_its_position() {
    let (operator, _, lines) = ledger();
    let n = lines.len();
    let tampered = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut bytes: Vec<Vec<u8>> = lines.iter().map(|line| line.clone().into_bytes()).collect();
        change(&mut bytes);
        bytes.into_iter().flat_map(|line| [line, b"\n".to_vec()].concat()).collect::<Vec<u8>>()
    };
    let flip = |lines: &mut Vec<Vec<u8>>| {
        let place = lines[9].len() - 3;
        lines[9][place] ^= 1;
    };
    let reword = |lines: &mut Vec<Vec<u8>>| {
        let line = String::from_utf8(lines[9].clone()).expect("UTF-8");
        lines[9] = line.replacen("\"version\":1", "\"version\":2", 1).into_bytes();
    };
    let cases: [(&str, Vec<u8>, usize); 7] = [
        // What is changed is seen by the line after it, which names another hash; or by itself, where it is no JSON any more.
        ("changed figure", tampered(&reword), 11),
        ("flipped byte", tampered(&flip), 10),
        ("removed line", tampered(&|lines| drop(lines.remove(9))), 10),
        ("doubled line", tampered(&|lines| lines.insert(9, lines[8].clone())), 10),
        ("swapped lines", tampered(&|lines| lines.swap(9, 10)), 10),
        ("invented line", tampered(&|lines| lines.insert(9, b"{\"company\":\"x\"}".to_vec())), 10),
        ("cut line", tampered(&|lines| lines[9].truncate(40)), 10),
    ];
    for (what, content, position) in cases {
        let came = operator.run(&["audit", "verify", text(&file(&operator, "bad.ndjson", &content)), "--json"]);
        assert_eq!(came.status, 1, "{what}: {}", came.err);
        let answer: serde_json::Value = serde_json::from_str(&came.out).expect("JSON");
        assert_eq!(answer["facts"]["position"], position, "{what}: {answer}");
    }
    // A chain cannot see its own tail: only a head that was kept does.
    let cut = file(&operator, "cut.ndjson", &whole(&lines[..n - 3]));
    operator.ok(&["audit", "verify", text(&cut)]);
    let full = file(&operator, "full.ndjson", &whole(&lines));
    let head = operator.json(&["audit", "verify", text(&full)])["head"].as_str().expect("a head").to_owned();
    let came = operator.run(&["audit", "verify", text(&cut), "--head", &head]);
    assert_eq!(came.status, 1);
    assert!(came.err.contains(&format!("position {}", n - 2)), "{}", came.err);
}

/// What `cnc` says of bytes that come through a pipe.
fn piped(operator: &Operator, arguments: &[&str], bytes: Vec<u8>) -> (i32, String) {
    let mut child = operator
        .command(&[&["audit", "verify", "-"], arguments].concat())
        .stdin(Stdio::piped())
        .spawn()
        .expect("cnc starts");
    let mut input = child.stdin.take().expect("is piped");
    // Who has read enough closes its end.
    let writing = std::thread::spawn(move || drop(input.write_all(&bytes)));
    let came = child.wait_with_output().expect("ends");
    writing.join().expect("writes");
    (came.status.code().unwrap_or(-1), String::from_utf8(came.stderr).expect("UTF-8"))
}

#[test]
fn a_file_without_a_line_is_verified_only_where_it_may_be_empty() {
    let operator = Operator::new();
    let (status, said) = piped(&operator, &[], Vec::new());
    assert_eq!(status, 1);
    assert!(said.contains("--allow-empty"), "{said}");
    assert_eq!(piped(&operator, &["--allow-empty"], Vec::new()).0, 0);
}

#[test]
fn a_file_that_was_rewritten_on_its_way_is_said_to_be() {
    let (operator, _, lines) = ledger();
    let crlf: Vec<u8> = lines.iter().flat_map(|line| [line.as_bytes(), b"\r\n"].concat()).collect();
    let (status, said) = piped(&operator, &[], crlf);
    assert!(status == 1 && said.contains("position 1") && said.contains("CR LF"), "{said}");
    let (status, said) = piped(&operator, &[], [b"\xef\xbb\xbf", whole(&lines).as_slice()].concat());
    assert!(status == 1 && said.contains("byte order mark"), "{said}");
}

#[test]
fn a_line_of_another_form_is_found_though_every_link_holds() {
    let (operator, _, mut lines) = ledger();
    let last = lines.len();
    lines[last - 1] = lines[last - 1].replacen("\"payload\":{", "\"payload\":{ ", 1);
    let (status, said) = piped(&operator, &[], whole(&lines));
    assert!(status == 1 && said.contains(&format!("position {last}")) && said.contains("white space"), "{said}");
}

#[test]
fn a_compressed_ledger_is_verified_from_a_pipe() {
    let (operator, _, lines) = ledger();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&whole(&lines)).expect("packs");
    let (status, said) = piped(&operator, &[], packed.finish().expect("packs"));
    assert_eq!(status, 0, "{said}");
}

#[test]
fn a_line_without_an_end_is_refused_before_it_is_read_whole() {
    let operator = Operator::new();
    let (status, said) = piped(&operator, &[], vec![b'a'; 100 << 20]);
    assert!(status == 1 && said.contains("16 MiB"), "{said}");
}

#[test]
fn a_part_of_a_ledger_verifies_after_what_it_follows() {
    let (operator, company, lines) = ledger();
    let came = operator.run(&["audit", "export", "--company", &company, "--from", "8", "--to", "20"]);
    assert_eq!(came.out.lines().collect::<Vec<_>>(), lines[7..20]);
    let mut said = came.err.lines();
    let after = said.next().and_then(|line| line.strip_prefix("after ")).expect("says what it follows").to_owned();
    let head = said.next().expect("says its head").to_owned();
    assert!(after.starts_with("7:") && head.starts_with("20:"), "{}", came.err);
    let (status, said) = piped(&operator, &["--after", &after, "--head", &head], came.out.clone().into_bytes());
    assert_eq!(status, 0, "{said}");
    assert_eq!(piped(&operator, &[], came.out.into_bytes()).0, 1, "by itself it follows nothing");
    let beyond = lines.len() + 1;
    let came = operator.run(&["audit", "export", "--company", &company, "--to", &beyond.to_string()]);
    assert_eq!((came.status, came.out.as_str()), (2, ""));
}

#[test]
fn the_entries_of_one_stream_are_exported_alone() {
    let (operator, company, lines) = ledger();
    let of = |line: &String| serde_json::from_str::<serde_json::Value>(line).expect("JSON");
    let first = lines.iter().map(of).find(|entry| entry["stream"] == "truck_journey").expect("a journey");
    let id = first["id"].as_str().expect("an id").to_owned();
    let out = operator.ok(&["audit", "export", "--company", &company, "--stream", "truck_journey", "--id", &id]);
    let expected: Vec<&String> = lines.iter().filter(|line| of(line)["id"] == first["id"]).collect();
    assert_eq!(out.lines().collect::<Vec<_>>(), expected);
    let nothing = operator.run(&["audit", "export", "--company", &company, "--stream", "alert", "--id", &id]);
    assert_eq!(nothing.status, 3);
}

/// Runs SQL that the product never would, with what guards the table out of the way.
pub(super) fn tamper(operator: &Operator, sql: &str) {
    let database = rusqlite::Connection::open(operator.data().join("ledger.db")).expect("opens");
    let triggers: Vec<String> = database
        .prepare("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        .and_then(|mut names| names.query_map([], |row| row.get(0))?.collect())
        .expect("reads");
    for trigger in triggers {
        database.execute_batch(&format!("DROP TRIGGER {trigger}")).expect("drops");
    }
    database.execute_batch(sql).expect("tampers");
}

#[test]
fn the_database_refuses_changes_and_what_is_forced_on_it_is_found() {
    let (operator, company, _) = ledger();
    let database = rusqlite::Connection::open(operator.data().join("ledger.db")).expect("opens");
    for sql in ["UPDATE events SET payload = '{}'", "DELETE FROM events"] {
        assert!(database.execute(sql, []).is_err(), "{sql} was let through");
    }
    drop(database);
    let verify = ["audit", "verify", "--company", company.as_str()];
    operator.ok(&verify);
    let at = "position = 10";
    for (what, sql, position) in [
        (
            "changed byte",
            format!("UPDATE events SET payload = substr(payload, 1, length(payload) - 1) || ' }}' WHERE {at}"),
            "position 10",
        ),
        ("removed entry", format!("DELETE FROM events WHERE {at}"), "position 10"),
        ("changed column", format!("UPDATE events SET event = 'invented' WHERE {at}"), "position 10"),
        ("cut tail", "DELETE FROM events WHERE position > 20".to_owned(), "position 21"),
    ] {
        let copy = operator.copy();
        tamper(&copy, &sql);
        let came = copy.run(&verify);
        assert_eq!(came.status, 1, "{what}: {} {}", came.out, came.err);
        assert!(came.err.contains(position), "{what}: {}", came.err);
    }
}
