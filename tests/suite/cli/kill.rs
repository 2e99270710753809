//! Servers and imports killed at any moment: the ledger verifies and the views are what the ledger says.

use super::{Operator, bring_in, file, import::day, text, until};

#[test]
fn views_are_what_the_ledger_says_after_kills_under_load() {
    let operator = Operator::new();
    let company = operator.found("Unlucky Movers");
    let csv = file(&operator, "day.csv", day(16, 20).as_bytes());
    let import = bring_in(text(&csv), &company);
    let mut entries = operator.export(&company).len();
    for _ in 0..3 {
        let server = operator.serve();
        let mut importing = operator.command(&import).spawn().expect("cnc starts");
        until("some more entries", || {
            importing.try_wait().expect("can be asked").is_some() || operator.export(&company).len() > entries + 60
        });
        server.kill();
        importing.kill().expect("can be killed");
        importing.wait().expect("ends");
        entries = operator.export(&company).len();
        operator.ok(&["audit", "verify", "--company", &company]);
    }
    operator.ok(&import);
    let server = operator.serve();
    until("folds that are not behind", || {
        let status = operator.ok(&["folds", "status", "--json"]);
        let folds: Vec<serde_json::Value> =
            status.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        !folds.is_empty() && folds.iter().all(|fold| fold["lag"] == 0)
    });
    server.kill();
    let came = operator.run(&["folds", "verify"]);
    assert_eq!(came.status, 0, "{}\n{}", came.out, came.err);
    assert!(came.out.contains("dispatch_board") && came.out.contains("no difference"), "{}", came.out);
}
