//! Every process under a login of its own, which owns nothing in the database.

use std::process::Command;

use cnc_gateway::roles::Role;
use cnc_tests::{
    mover::Mover,
    nats::Broker,
    postgres::{cluster, clusters, program},
    system::{Running, Shape},
};
use sqlx::{Connection as _, Executor as _, PgConnection};
use tempfile::TempDir;

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
    for cluster in clusters() {
        eprintln!("on {}", cluster.version());
        let owner = cluster.database().await;
        let operator = Operator::on(&owner);
        // Twice, as with a new version; the keys need not be there the second time.
        for migrating in [&operator, &Operator::on(&owner)] {
            migrating.ok(&["migrate"]);
            make_logins(&owner);
        }
        each_does_its_part(&owner, operator.into_data()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_does_its_part_where_a_dump_was_restored_into_a_new_cluster() {
    let (from, anew) = (cluster().database().await, cluster().another());
    let to = anew.database().await;
    let operator = Operator::on(&from);
    operator.ok(&["migrate"]);
    // What names roles fails, since there are none.
    let restore = format!("{:?} {from:?} | {:?} -q {to:?}", program("pg_dump"), program("psql"));
    let restored = Command::new("sh").args(["-c", &restore]).output().expect("a shell runs");
    let said = String::from_utf8_lossy(&restored.stderr);
    assert!(restored.status.success() && said.contains("role \"cnc_write\" does not exist"), "{said}");
    Operator::on(&to).ok(&["migrate"]);
    make_logins(&to);
    each_does_its_part(&to, operator.into_data()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn views_answer_to_an_owner_that_may_make_roles_and_is_no_superuser() {
    for cluster in clusters() {
        eprintln!("on {}", cluster.version());
        // The roles are not there yet: who makes them matters.
        let anew = cluster.another();
        let mut admin = PgConnection::connect(&anew.database().await).await.expect("connects");
        admin.execute("CREATE ROLE owner LOGIN CREATEROLE").await.expect("is made");
        let owner = of("owner", &anew.database_with("OWNER owner").await);
        let mover = Mover::on(Running::postgres(&owner).await.expect("starts")).await;
        reqwest::get(mover.running.url("/health/ready")).await.expect("answers").error_for_status().expect("is ready");
        let board = format!("/v1/views/dispatch_board?at_least={}", mover.head().await);
        mover.get(&mover.token("dispatcher").await, &board).await.good();
        // By the role that sees one company, not as the owner.
        let member = "SELECT pg_has_role('owner', 'cnc_read', 'MEMBER')";
        assert!(
            sqlx::query_scalar::<_, bool>(member).fetch_one(&mut admin).await.expect("is asked"),
            "it reads as itself"
        );
        mover.running.stop().await;
    }
}

/// Runs an installation each of whose processes logs in as one that may do no more than its part. Its keys lie in `folder`.
async fn each_does_its_part(owner: &str, folder: TempDir) {
    let broker = Broker::start();
    let shape = |role: Role, login: &str| Shape {
        ledger: Some(of(login, owner)),
        nats: Some(broker.url()),
        roles: Some(vec![role]),
        ..Shape::default()
    };
    let gateway = Running::within(shape(Role::Gateway, "gateway"), folder).await.expect("starts");
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
