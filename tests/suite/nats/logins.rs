//! Every process under a login of its own, which owns nothing in the database.

use std::process::Command;

use cnc_gateway::roles::Role;
use cnc_tests::{
    mover::Mover,
    nats::Broker,
    postgres::{cluster, program},
    system::{Running, Shape},
};
use sqlx::{Connection as _, Executor as _, PgConnection};

use super::roles::{serves_what_others_fold, tag_and_untag};
use crate::cli::Operator;

/// The address of a database for who logs in as `login`.
fn of(login: &str, owner: &str) -> String {
    owner.replacen("postgres@", &format!("{login}@"), 1)
}

/// Makes the logins as `deploy/README.md` says.
fn make_logins(owner: &str) {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/postgres/logins.sql");
    let mut psql = Command::new(program("psql"));
    psql.args([owner, "-q", "-v", "ON_ERROR_STOP=1", "-f", file]);
    for login in ["GATEWAY", "FOLDS", "WORKERS", "RELAY"] {
        psql.env(format!("CNC_POSTGRES_{login}_PASSWORD"), "s3cret");
    }
    assert!(psql.status().expect("psql runs").success());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_does_its_part_under_a_login_that_owns_nothing() {
    let (owner, broker) = (cluster().database().await, Broker::start());
    // Twice, as with a new version.
    let operator = Operator::on(&owner);
    for migrating in [&operator, &Operator::on(&owner)] {
        migrating.ok(&["migrate"]);
        make_logins(&owner);
    }
    let shape = |role: Role, login: &str| Shape {
        ledger: Some(of(login, &owner)),
        nats: Some(broker.url()),
        roles: Some(vec![role]),
        ..Shape::default()
    };
    let gateway = Running::within(shape(Role::Gateway, "gateway"), operator.into_data()).await.expect("starts");
    let workers = gateway.beside(shape(Role::Workers, "workers")).await.expect("starts");
    let folds = Running::shaped(shape(Role::Folds, "folds")).await.expect("starts");
    let relay = Running::shaped(shape(Role::Relay, "relay")).await.expect("starts");
    for keyless in [&folds, &relay] {
        assert!(!keyless.data().join("master.key").exists(), "who seals nothing has no master key");
    }
    let mover = Mover::on(gateway).await;
    serves_what_others_fold(&mover).await;
    tag_and_untag(&mover, 1).await;
    for process in [&mover.running, &workers, &folds, &relay] {
        let ready = reqwest::get(process.url("/health/ready")).await.expect("answers");
        assert!(ready.status().is_success(), "{}", ready.text().await.expect("is text"));
    }
    let published = async || {
        let jetstream = broker.jetstream().await;
        jetstream.get_stream("CNC").await.is_ok_and(|stream| stream.cached_info().state.messages > 0)
    };
    super::roles::until("entries are published", published).await;
    for process in [workers, folds, relay] {
        process.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_owns_nothing_is_told_what_to_do_where_the_schema_is_not_there() {
    let owner = cluster().database().await;
    let mut connection = PgConnection::connect(&owner).await.expect("connects");
    connection.execute("CREATE ROLE stranger LOGIN").await.expect("is made");
    let came = Operator::on(&of("stranger", &owner)).run(&["company", "found", "Stranger Movers"]);
    assert_eq!(came.status, 4, "{}", came.err);
    assert!(came.err.contains("run `cnc migrate` as the database's owner"), "{}", came.err);
    let came = Operator::new().run(&["migrate"]);
    assert_eq!(came.status, 2, "{}", came.err);
}
