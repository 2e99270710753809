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
    let cases: [(&str, Vec<u8>, usize); 6] = [
        // A changed payload is seen by the line after it, which names another hash.
        ("flipped byte", tampered(&flip), 11),
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
