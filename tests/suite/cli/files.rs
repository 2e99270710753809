//! `cnc import gps` with files as people have them: growing, corrected, by the hour, with fixes that cannot be.

use std::fmt::Write as _;

use cnc_domain::ledger::Entry;
use serde_json::Value;

use super::{Operator, bring_in, file, text};

const NAMES: &str = "vehicle_id,timestamp,latitude,longitude,speed,trip_id";

/// A company that takes in files.
struct Importer {
    operator: Operator,
    company: String,
}

impl Importer {
    fn new() -> Self {
        let operator = Operator::new();
        let company = operator.found("File Movers");
        Self { operator, company }
    }

    /// Brings in a file: the status, the summary, and the reported lines.
    fn takes(&self, content: impl AsRef<[u8]>) -> (i32, Value, Vec<String>) {
        let csv = file(&self.operator, "fixes.csv", content.as_ref());
        let report = self.operator.data().join("report.csv");
        let options = ["--report", text(&report), "--json"];
        let came = self.operator.run(&[bring_in(text(&csv), &self.company).as_slice(), &options].concat());
        let summary = came.out.lines().next().unwrap_or_else(|| panic!("{}", came.err));
        let summary: Value = serde_json::from_str(summary).expect("JSON");
        assert_eq!(summary["adds_up"], true, "{summary}");
        let reported = std::fs::read_to_string(&report).expect("a report");
        (came.status, summary, reported.lines().skip(1).map(str::to_owned).collect())
    }

    /// How many were recorded and known of a file that has nothing to be reported, and how many journeys were new.
    #[track_caller]
    fn takes_all(&self, content: impl AsRef<[u8]>) -> [u64; 3] {
        let (status, summary, reported) = self.takes(content);
        assert_eq!((status, reported.len()), (0, 0), "{summary}: {reported:?}");
        ["recorded", "already_known", "new_journeys"].map(|member| summary[member].as_u64().expect("a number"))
    }

    fn payloads(&self, event: &str) -> Vec<Value> {
        let lines = self.operator.export(&self.company);
        let entries = lines.iter().map(|line| Entry::read(line).expect("an entry"));
        let of_event = entries.filter(|entry| entry.event == event);
        of_event.map(|entry| serde_json::from_str(entry.payload.get()).expect("JSON")).collect()
    }

    /// How many journeys there are, and how many fixes they have.
    fn holds(&self) -> (usize, u64) {
        let fixes = self.payloads("gps_recorded").iter().filter_map(|chunk| chunk["count"].as_u64()).sum();
        (self.payloads("planned").len(), fixes)
    }
}

/// Fixes of a vehicle on a trip, one a minute, at these minutes of a morning. It is under way northwards.
fn fixes(trip: &str, minutes: impl IntoIterator<Item = u32>) -> String {
    minutes.into_iter().fold(String::new(), |mut text, minute| {
        let time = format!("2015-09-07T{:02}:{:02}:00-05:00", 8 + minute / 60, minute % 60);
        writeln!(text, "T1,{time},30.{:03},-97.5,20,{trip}", 100 + minute).expect("writes");
        text
    })
}

fn table(rows: &[String]) -> String {
    format!("{NAMES}\n{}", rows.concat())
}

#[test]
fn a_day_that_grows_at_any_place_stays_one_journey() {
    let importer = Importer::new();
    assert_eq!(importer.takes_all(table(&[fixes("A", 10..20)])), [10, 0, 1]);
    assert_eq!(importer.takes_all(table(&[fixes("A", 5..20)])), [5, 10, 0], "earlier fixes came late");
    assert_eq!(importer.takes_all(table(&[fixes("A", 5..30)])), [10, 15, 0]);
    assert_eq!(importer.takes_all(table(&[fixes("A", (5..30).step_by(2))])), [0, 13, 0]);
    assert_eq!(importer.takes_all(table(&[fixes("A", 0..30)])), [5, 25, 0]);
    assert_eq!(importer.holds(), (1, 30));
}

#[test]
fn a_day_hour_by_hour_has_the_journeys_of_the_whole_day() {
    let day = [fixes("A", 0..70), fixes("B", 75..130), fixes("A", 135..180)];
    let whole = Importer::new();
    assert_eq!(whole.takes_all(table(&day)), [170, 0, 3]);
    let hourly = Importer::new();
    let rows: Vec<String> = day.concat().lines().map(|line| format!("{line}\n")).collect();
    let hour = |hour: &str| rows.iter().filter(|row| row.contains(hour)).cloned().collect::<Vec<_>>();
    let hours = ["T08:", "T09:", "T10:"].map(|part| hourly.takes_all(table(&hour(part))));
    assert_eq!(hours.map(|[recorded, known, _]| (recorded, known)), [(60, 0), (55, 0), (55, 0)]);
    assert_eq!(hourly.holds(), whole.holds());
    assert_eq!(hourly.takes_all(table(&day)), [0, 170, 0]);
    assert_eq!(whole.takes_all(table(&hour("T09:"))), [0, 55, 0]);
    // The next day has the same trips again.
    let next = day.concat().replace("-09-07T", "-09-08T");
    assert_eq!(whole.takes_all(table(&[next])), [170, 0, 3]);
}

#[test]
fn a_corrected_fix_is_reported_with_both_and_what_is_there_stays() {
    let importer = Importer::new();
    let first = table(&[fixes("A", 0..5)]);
    assert_eq!(importer.takes_all(&first), [5, 0, 1]);
    let corrected = first.replace("08:03:00-05:00,30.103,-97.5", "08:03:00-05:00,30.1034,-97.51");
    let (status, summary, reported) = importer.takes(corrected);
    assert_eq!((status, &summary["recorded"], &summary["already_known"]), (1, &0.into(), &4.into()), "{summary}");
    assert_eq!(reported.len(), 1);
    for part in ["5,", "2015-09-07T13:03:00", "30.1030000, -97.5000000", "30.1034000, -97.5100000"] {
        assert!(reported[0].contains(part), "{reported:?} does not say {part}");
    }
    assert_eq!(importer.holds(), (1, 5));
}

#[test]
fn fixes_that_cannot_be_are_reported_and_spoil_nothing() {
    let importer = Importer::new();
    let rows = [
        fixes("A", 0..3),
        "T1,2003-07-01T08:03:00-05:00,30.103,-97.5,20,A\n".into(),
        fixes("A", 4..6),
        "T1,2015-09-07T08:06:00-05:00,0,0,0,A\nT1,2015-09-07T08:07:00-05:00,0.0,0.0,0,A\n".into(),
        "T1,2015-09-07T08:08:00-05:00,31.5,-97.5,20,A\nT\0,2015-09-07T08:08:00-05:00,30.1,-97.5,20,A\n".into(),
        fixes("A", 9..12),
    ];
    let (status, summary, reported) = importer.takes(table(&rows));
    assert_eq!((status, &summary["recorded"], &summary["new_journeys"]), (1, &8.into(), &1.into()), "{summary}");
    let lines: Vec<&str> = reported.iter().filter_map(|line| line.split(',').next()).collect();
    assert_eq!(lines, ["5", "8", "9", "10", "11"], "{reported:?}");
    let window = &importer.payloads("planned")[0]["window"];
    assert!(window["start"].as_str().is_some_and(|start| start.starts_with("2015-09-07T13:00")), "{window}");
    // Another trip of the day before is nobody's concern.
    let before = fixes("B", 0..5).replace("-09-07T", "-09-06T");
    assert_eq!(importer.takes_all(table(&[before])), [5, 0, 1]);
}

#[test]
fn a_file_all_of_whose_rows_are_reported_ends_with_status_1() {
    let importer = Importer::new();
    let (status, summary, reported) = importer.takes(format!("{NAMES}\nT1,1447792952,43.65,-79.38,5,A\n"));
    assert_eq!((status, &summary["reported"], reported.len()), (1, &1.into(), 1), "{summary}");
}

#[test]
fn lines_that_end_with_a_carriage_return_are_lines() {
    let importer = Importer::new();
    assert_eq!(importer.takes_all(table(&[fixes("A", 0..5)]).replace('\n', "\r")), [5, 0, 1]);
    assert_eq!(importer.takes_all(table(&[fixes("A", 0..5)]).replace('\n', "\r\n")), [0, 5, 0]);
}

#[test]
fn vehicles_with_long_names_are_not_cut_into_likeness() {
    let importer = Importer::new();
    let names = ["urn:rut:vehicle:line31:1001", "urn:rut:vehicle:line31:1002"];
    let rows = names.map(|name| fixes("A", 0..3).replace("T1,", &format!("{name},")));
    assert_eq!(importer.takes_all(table(&rows)), [6, 0, 2]);
    let plates: Vec<Value> = importer.payloads("commissioned").iter().map(|truck| truck["plate"].clone()).collect();
    assert!(plates.len() == 2 && plates[0] != plates[1], "{plates:?}");
}

#[test]
fn a_report_never_overwrites_the_file_that_it_is_about() {
    let importer = Importer::new();
    let content = table(&[fixes("A", 0..3)]);
    let csv = file(&importer.operator, "fixes.csv", content.as_bytes());
    let link = importer.operator.data().join("link.csv");
    std::os::unix::fs::symlink(&csv, &link).expect("links");
    for report in [&csv, &link] {
        let import = [bring_in(text(&csv), &importer.company).as_slice(), &["--report", text(report)]].concat();
        let came = importer.operator.run(&import);
        assert_eq!(came.status, 2, "{}", came.err);
        assert_eq!(std::fs::read_to_string(&csv).expect("reads"), content);
    }
}
