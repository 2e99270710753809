//! Nothing that is personal is ever at rest in clear, or in a log.

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
};

use super::Operator;

/// What the demonstration's people and places are called: names, a telephone number, an e-mail address, stops.
const PLANTED: &[&str] =
    &["Maya Okafor", "416 555 01", "dana@maple-main", "Roncesvalles", "436400000", "-794460000", "454280000"];

#[track_caller]
fn clean(what: &str, bytes: &[u8]) {
    for planted in PLANTED {
        let found = bytes.windows(planted.len()).any(|window| window == planted.as_bytes());
        assert!(!found, "{planted:?} stands in clear in {what}");
    }
}

fn clean_folder(folder: &Path) -> usize {
    let mut files = 0;
    for entry in std::fs::read_dir(folder).expect("reads").flatten() {
        let path = entry.path();
        if path.is_dir() {
            files += clean_folder(&path);
        } else {
            clean(&path.display().to_string(), &std::fs::read(&path).expect("reads"));
            files += 1;
        }
    }
    files
}

#[test]
fn no_name_phone_address_or_position_stands_in_any_file_or_log() {
    let operator = Operator::new();
    let mut demo =
        operator.command(&["demo", "--listen", "127.0.0.1:0", "--json", "--log", "trace"]).spawn().expect("cnc starts");
    let mut log = demo.stderr.take().expect("is piped");
    let logged = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        log.read_to_end(&mut bytes).map(|_| bytes)
    });
    let mut line = String::new();
    BufReader::new(demo.stdout.take().expect("is piped")).read_line(&mut line).expect("reads");
    assert!(line.contains("token"), "the demonstration was not played: {line}");
    // While it runs, the newest entries lie in the databases' write-ahead logs.
    assert!(clean_folder(operator.data()) >= 4, "the data folder holds databases and keys");
    demo.kill().expect("can be killed");
    demo.wait().expect("ends");
    clean_folder(operator.data());
    let logged = logged.join().expect("reads").expect("reads");
    assert!(!logged.is_empty(), "there is a log to look at");
    clean("the log", &logged);

    let company = operator.json(&["company", "list"])["company"].as_str().expect("an id").to_owned();
    let lines = operator.export(&company);
    clean("an export", lines.join("\n").as_bytes());
    assert!(lines.iter().any(|line| line.contains("\"event\":\"hired\"")), "people were hired");
    assert!(lines.iter().any(|line| line.contains("\"event\":\"gps_recorded\"")), "positions were recorded");
}
