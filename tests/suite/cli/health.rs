//! `cnc health`, as an orchestrator asks it.

use cnc_tests::{
    postgres::cluster,
    wire::{Mode, Wire},
};
use serde_json::Value;

use super::{Operator, until};

#[test]
fn health_says_whether_a_server_is_ready_and_what_it_is_not_connected_to() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let wire = runtime.block_on(Wire::to(cluster().address())).expect("a wire");
    let mut operator = Operator::postgres();
    let direct = cluster().address().to_string();
    operator.ledger = operator.ledger.map(|url| url.replace(&direct, &wire.address().to_string()));
    let server = operator.serve();
    let asked = ["health", "--listen", &server.address, "--json"];
    let ready = operator.json(&asked[..3]);
    assert_eq!((ready["status"].as_str(), ready["parts"]["ledger"].as_str()), (Some("ready"), Some("ok")));
    wire.set(Mode::Cut);
    until("it is not ready", || operator.run(&asked).status == 1);
    let came = operator.run(&asked);
    assert!(came.err.contains("ledger: does not answer"), "{}", came.err);
    let said: Value = serde_json::from_str(&came.out).expect("JSON");
    assert_eq!(said["facts"]["parts"]["ledger"], "does not answer");
    assert_eq!(said["facts"]["code"], "not_ready");
    wire.set(Mode::Open);
    until("it is ready again", || operator.run(&asked).status == 0);
}

#[test]
fn health_finds_a_server_that_listens_everywhere_and_says_when_nobody_answers() {
    let operator = Operator::new();
    let server = operator.serve();
    let everywhere = server.address.replace("127.0.0.1", "0.0.0.0");
    assert!(operator.ok(&["health", "--listen", &everywhere]).starts_with("ready"));
    let asked = operator.command(&["health"]).env("CNC_LISTEN", &everywhere).output().expect("cnc runs");
    assert!(asked.status.success());
    drop(server);
    assert_eq!(operator.run(&["health", "--listen", &everywhere]).status, 4);
}
