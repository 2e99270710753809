//! Keys that are lost, empty or another installation's: nothing starts beside what only they open, and nothing is made in
//! their place.

use std::{fs, io::Read as _, os::unix::fs::PermissionsExt as _, path::Path, time::Instant};

use cnc_tests::{postgres::cluster, system::PATIENCE};
use sqlx::{Connection as _, Executor as _, PgConnection};

use super::{Came, Operator, text};

/// A server that must not start.
#[track_caller]
fn refused(operator: &Operator) -> Came {
    let mut server = operator.command(&["serve", "--listen", "127.0.0.1:0"]).spawn().expect("cnc starts");
    let begun = Instant::now();
    let status = loop {
        match server.try_wait().expect("can be asked") {
            Some(status) => break status,
            None if begun.elapsed() < PATIENCE => std::thread::yield_now(),
            None => {
                server.kill().expect("can be killed");
                panic!("the server has started");
            }
        }
    };
    let mut err = String::new();
    server.stderr.take().expect("is piped").read_to_string(&mut err).expect("reads");
    assert_eq!(status.code(), Some(4), "{err}");
    Came { status: 4, out: String::new(), err }
}

/// Writes a file that its owner alone may read, in the place of one that may be there, and of what SQLite keeps beside it.
fn write(path: &Path, bytes: &[u8]) {
    for side in ["-wal", "-shm"] {
        drop(fs::remove_file(format!("{}{side}", text(path))));
    }
    fs::write(path, bytes).expect("is written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("is set");
}

/// The names and contents of the files in a data folder that are no side files of SQLite's.
fn files(operator: &Operator) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(operator.data())
        .expect("reads")
        .flatten()
        .map(|file| (file.file_name().to_string_lossy().into_owned(), fs::read(file.path()).expect("reads")))
        .filter(|(name, _)| !name.ends_with("-wal") && !name.ends_with("-shm"))
        .collect();
    files.sort();
    files
}

#[test]
fn without_its_keys_nothing_starts_and_nothing_is_made_in_their_place() {
    let (operator, other) = (Operator::new(), Operator::new());
    operator.found("Careful Movers");
    other.found("Other Movers");
    for name in ["master.key", "keys.db"] {
        let path = operator.data().join(name);
        let kept = fs::read(&path).expect("reads");
        let foreign = fs::read(other.data().join(name)).expect("reads");
        for instead in [None, Some(Vec::new()), Some(foreign)] {
            match &instead {
                None => fs::remove_file(&path).expect("is removed"),
                Some(bytes) => write(&path, bytes),
            }
            let before = files(&operator);
            for came in [refused(&operator), refused(&operator), operator.run(&["company", "found", "Next Movers"])] {
                let says = came.err.contains(name) || (name == "keys.db" && came.err.contains("master.key"));
                assert!(came.status == 4 && says, "it names the file: {}", came.err);
                assert!(
                    came.err.contains("ut back")
                        || came.err.contains("ut it back")
                        || came.err.contains("ut the key back"),
                    "{}",
                    came.err
                );
            }
            assert!(before == files(&operator), "{name}: nothing is changed or made");
        }
        write(&path, &kept);
        operator.serve().stop();
    }
}

#[test]
fn a_key_store_that_is_older_than_the_ledger_is_refused_and_names_the_company() {
    let operator = Operator::new();
    operator.found("First Movers");
    let older = fs::read(operator.data().join("keys.db")).expect("reads");
    let second = operator.found("Second Movers");
    write(&operator.data().join("keys.db"), &older);
    assert!(refused(&operator).err.contains(&second));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_whose_keys_are_gone_is_refused_and_so_is_one_with_another_master_key() {
    let url = cluster().database().await;
    let operator = Operator::on(&url);
    operator.found("Careful Movers");
    let stranger = Operator::on(&url);
    let came = refused(&stranger);
    assert!(came.err.contains("master.key is missing") && !stranger.data().join("master.key").exists(), "{}", came.err);
    Operator::new().found("Other Movers");
    let other = Operator::new();
    other.found("Other Movers");
    fs::copy(other.data().join("master.key"), stranger.data().join("master.key")).expect("copies");
    assert!(refused(&stranger).err.contains("is not the master key"));
    let mut database = PgConnection::connect(&url).await.expect("connects");
    database.execute("DROP SCHEMA cnc_keys CASCADE").await.expect("is dropped");
    assert!(refused(&operator).err.contains("cnc_keys"));
    let there = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'cnc_keys')");
    let there: bool = there.fetch_one(&mut database).await.expect("answers");
    assert!(!there, "nothing is made in its place");
}

#[test]
fn a_key_of_tokens_that_is_made_anew_is_told_in_the_log() {
    let operator = Operator::new();
    let company = operator.found("Signed-out Movers");
    let user = operator.invite(&company, "dispatcher");
    let issue = ["token", "issue", "--company", &company, "--user", &user];
    assert!(!operator.run(&issue).err.contains("signed out"));
    fs::remove_file(operator.data().join("token.key")).expect("is removed");
    let came = operator.run(&issue);
    assert!(came.status == 0 && came.err.contains("everybody is signed out"), "{}", came.err);
    write(&operator.data().join("token.key"), b"");
    let came = operator.run(&issue);
    assert!(came.status == 4 && came.err.contains("token.key: the file is empty"), "{}", came.err);
}
