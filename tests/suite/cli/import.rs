//! `cnc import gps`: what comes in is recorded, known or reported, however often and however interrupted.

use std::{fmt::Write as _, path::PathBuf};

use cnc_tests::postgres::Cluster;

use super::{Operator, bring_in, file, streams, text, until};

/// A small day: vehicles with three trips each, a fix a minute.
pub fn day(vehicles: usize, fixes_a_trip: usize) -> String {
    let mut csv = String::from("vehicle_id,timestamp,speed,route_id,trip_id,latitude,longitude,trip_headsign\n");
    for vehicle in 0..vehicles {
        for nth in 0..3 * fixes_a_trip {
            let (hour, minute) = (nth / 60, nth % 60);
            let trip = 100 * vehicle + nth / fixes_a_trip;
            let time = format!("2015-09-06T{hour:02}:{minute:02}:07-05:00");
            writeln!(csv, "{vehicle},{time},12.5,485,{trip},30.{nth:06},-97.{vehicle:06},").expect("writes");
        }
    }
    csv
}

const BAD: &str = "9,yesterday,1,485,1,30.1,-97.1,\n\
                   9,2015-09-06T00:00:07-05:00,1,485,1,95.1,-97.1,\n\
                   ,2015-09-06T00:00:07-05:00,1,485,1,30.1,-97.1,\n\
                   9,2015-09-06T00:00:07-05:00,1,485,1,30.1\n\n";

#[test]
fn rows_in_are_recorded_known_or_reported_and_a_second_import_records_nothing() {
    for operator in [Operator::new(), Operator::postgres()] {
        imports_twice(&operator);
    }
}

fn imports_twice(operator: &Operator) {
    let company = operator.found("Import Movers");
    let good = day(3, 20);
    let twice = good.lines().nth(5).expect("a row").to_owned();
    let mut content = format!("{good}{BAD}{twice}\n").into_bytes();
    content.extend_from_slice(b"\xff\xff,2015-09-06T00:00:07-05:00,1,485,1,30.1,-97.1,\n");
    let csv = file(operator, "day.csv", &content);
    let report = operator.data().join("report.csv");

    let arguments = [bring_in(text(&csv), &company).as_slice(), &["--report", text(&report)]].concat();
    // Rows were reported: the summary stands on the first line, and the status says so.
    let imported = || {
        let came = operator.run(&[arguments.as_slice(), &["--json"]].concat());
        assert_eq!(came.status, 1, "{}", came.err);
        serde_json::from_str::<serde_json::Value>(came.out.lines().next().expect("a summary")).expect("JSON")
    };
    let first = imported();
    assert_eq!((&first["rows"], &first["recorded"]), (&186.into(), &180.into()), "{first}");
    assert_eq!((&first["already_known"], &first["reported"]), (&1.into(), &5.into()), "{first}");
    assert_eq!((&first["vehicles"], &first["journeys"], &first["adds_up"]), (&3.into(), &9.into(), &true.into()));
    let reported = std::fs::read_to_string(&report).expect("a report");
    let lines: Vec<&str> = reported.lines().skip(1).filter_map(|line| line.split(',').next()).collect();
    assert_eq!(lines, ["182", "183", "184", "185", "188"], "{reported}");

    let before = operator.export(&company);
    let second = imported();
    assert_eq!((&second["recorded"], &second["already_known"]), (&0.into(), &181.into()), "{second}");
    assert_eq!(operator.export(&company), before, "a second import leaves the ledger as it was");
    operator.ok(&["audit", "verify", "--company", &company]);
}

#[test]
fn a_file_that_has_grown_brings_in_only_what_is_new() {
    let operator = Operator::new();
    let company = operator.found("Growing Movers");
    let whole = day(2, 20);
    // It ends in the middle of the last vehicle's second trip.
    let half: String = whole.lines().take(1 + 60 + 30).fold(String::new(), |text, line| text + line + "\n");
    let first = operator.json(&bring_in(text(&file(&operator, "half.csv", half.as_bytes())), &company));
    assert_eq!((&first["recorded"], &first["adds_up"]), (&90.into(), &true.into()), "{first}");
    let then = operator.json(&bring_in(text(&file(&operator, "all.csv", whole.as_bytes())), &company));
    assert_eq!((&then["recorded"], &then["already_known"]), (&30.into(), &90.into()), "{then}");
    assert_eq!((&then["new_journeys"], &then["reported"]), (&1.into(), &0.into()), "{then}");
}

#[test]
fn an_import_killed_in_the_middle_and_started_again_leaves_the_same_streams() {
    let whole = Operator::new();
    let company = whole.found("Killed Movers");
    let csv = file(&whole, "day.csv", day(12, 30).as_bytes());
    let killed = whole.copy();
    let import = bring_in(text(&csv), &company);
    whole.ok(&import);
    let expected = streams(&whole.export(&company));
    let entries: usize = expected.values().map(Vec::len).sum();

    for part in [5, 2] {
        let mut child = killed.command(&import).spawn().expect("cnc starts");
        until("the import's first part", || {
            child.try_wait().expect("can be asked").is_some() || killed.export(&company).len() > entries / part
        });
        child.kill().expect("can be killed");
        child.wait().expect("ends");
        killed.ok(&["audit", "verify", "--company", &company]);
    }
    let last = killed.json(&import);
    assert_eq!((&last["rows"], &last["adds_up"], &last["reported"]), (&1080.into(), &true.into(), &0.into()), "{last}");
    assert_eq!(streams(&killed.export(&company)), expected);
}

#[test]
fn an_import_waits_for_a_database_that_starts_again_and_goes_on_by_itself() {
    let cluster = Cluster::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let operator = Operator::on(&runtime.block_on(cluster.database()));
    let company = operator.found("Patient Movers");
    let csv = file(&operator, "day.csv", day(16, 30).as_bytes());
    let import = [bring_in(text(&csv), &company).as_slice(), &["--json"]].concat();
    let mut child = operator.command(&import).spawn().expect("cnc starts");
    for entries in [100, 250, 400] {
        until("the import's next part", || {
            child.try_wait().expect("can be asked").is_some() || operator.try_export(&company).len() > entries
        });
        cluster.crash();
    }
    let came = child.wait_with_output().expect("ends");
    let (out, err) = (String::from_utf8_lossy(&came.stdout), String::from_utf8_lossy(&came.stderr));
    assert!(came.status.success(), "{out}\n{err}");
    let done: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((&done["recorded"], &done["adds_up"]), (&1440.into(), &true.into()), "{done}");
    until("a database that answers", || operator.run(&["audit", "verify", "--company", &company]).status == 0);
}

#[test]
fn a_real_day_of_a_fleet_adds_up() {
    let Some(folder) = std::env::var_os("CNC_TEST_DATA").map(PathBuf::from) else {
        eprintln!("skipped: CNC_TEST_DATA does not name a folder with a day's fixes");
        return;
    };
    let days = std::fs::read_dir(&folder).expect("CNC_TEST_DATA can be read").flatten().map(|file| file.path());
    let mut seen = 0;
    for csv in days.filter(|path| text(path).contains("vehicle-positions")) {
        seen += 1;
        for operator in [Operator::new(), Operator::postgres()] {
            imports_a_day(&operator, text(&csv));
        }
    }
    assert!(seen > 0, "{} holds no file of vehicle positions", folder.display());
}

fn imports_a_day(operator: &Operator, csv: &str) {
    let company = operator.found("Fleet Movers");
    let import = [bring_in(csv, &company).as_slice(), &["--json"]].concat();
    // One fix of the sample day is farther from the one before than its truck can have come.
    let imported = || {
        let out = operator.run(&import).out;
        serde_json::from_str::<serde_json::Value>(out.lines().next().expect("a summary")).expect("JSON")
    };
    let first = imported();
    assert_eq!((&first["adds_up"], &first["unfinished"]), (&true.into(), &serde_json::json!([])), "{first}");
    assert!(first["recorded"].as_u64() > Some(0), "{first}");
    let second = imported();
    assert_eq!((&second["recorded"], &second["adds_up"]), (&0.into(), &true.into()), "{second}");
    operator.ok(&["audit", "verify", "--company", &company]);
}
