//! Commands that only read make nothing, and need nothing that they do not read.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
};

use cnc_tests::debian;

use super::{Operator, text, until};

const NOBODY: &str = "01920000-0000-7000-8000-000000000001";

#[test]
fn a_data_folder_that_does_not_exist_is_made_only_by_who_founds() {
    let operator = Operator::new();
    let missing = operator.data().join("mistyped");
    for arguments in [
        &["company", "list"][..],
        &["audit", "export", "--company", NOBODY],
        &["audit", "verify", "--company", NOBODY],
        &["folds", "status"],
        &["folds", "verify"],
        &["folds", "rebuild", "dispatch_board"],
        &["folds", "retry"],
        &["folds", "skip", "dispatch_board", "--company", NOBODY, "--by", "me"],
        &["folds", "prune"],
        &["token", "issue", "--company", NOBODY, "--user", NOBODY],
        &["user", "invite", "--company", NOBODY, "--role", "admin", "--name", "Ann", "--email", "a@b.ca"],
        &["service-account", "register", "--company", NOBODY, "--role", "auditor", "--name", "Export"],
        &["company", "reopen", NOBODY],
        &["integration", "add", "--company", NOBODY, "--name", "partner", "--nats", "nats://127.0.0.1:1"],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cnc_under_test"));
        let Output { status, stderr, .. } =
            command.args(arguments).arg("--data").arg(&missing).output().expect("cnc runs");
        let said = String::from_utf8_lossy(&stderr);
        assert_eq!(status.code(), Some(3), "{arguments:?}: {said}");
        assert!(said.contains("mistyped, which does not exist") && said.contains("--data"), "{arguments:?}: {said}");
        assert!(!missing.exists(), "{arguments:?} makes a folder");
    }
    // A folder that is there is not furnished either.
    assert_eq!(operator.run(&["company", "list"]).status, 3);
    assert_eq!(fs::read_dir(operator.data()).expect("reads").count(), 0);
}

#[test]
fn a_database_without_a_ledger_is_left_as_it_is_by_who_only_reads() {
    let operator = Operator::postgres();
    let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'cnc%'";
    for arguments in [&["company", "list"][..], &["audit", "verify", "--company", NOBODY], &["folds", "status"]] {
        let came = operator.run(arguments);
        assert!(came.status == 3 && came.err.contains("--ledger"), "{arguments:?}: {}", came.err);
    }
    assert_eq!(fs::read_dir(operator.data()).expect("reads").count(), 0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let made: i64 = runtime.block_on(async {
        use sqlx::Connection as _;
        let url = operator.ledger.clone().expect("a database");
        let mut database = sqlx::PgConnection::connect(&url).await.expect("connects");
        sqlx::query_scalar(schemas).fetch_one(&mut database).await.expect("answers")
    });
    assert_eq!(made, 0);
}

#[test]
fn who_only_reads_needs_no_keys_and_no_views() {
    for operator in [Operator::new(), Operator::postgres()] {
        let company = operator.found("Read Movers");
        for name in ["master.key", "token.key", "keys.db"] {
            drop(fs::remove_file(operator.data().join(name)));
        }
        if operator.data().join("views.db").exists() {
            fs::write(operator.data().join("views.db"), "this is no database").expect("writes");
        }
        assert!(operator.ok(&["company", "list"]).contains("Read Movers"));
        assert!(!operator.export(&company).is_empty());
        operator.ok(&["audit", "verify", "--company", &company]);
        for name in ["master.key", "token.key", "keys.db"] {
            assert!(!operator.data().join(name).exists(), "{name} is made by nobody");
        }
    }
}

/// Runs a command as somebody whom the modes of files hold: root is not held by them.
fn held(command: Command) -> Output {
    if !debian::is_root() {
        return { command }.output().expect("cnc runs");
    }
    let mut held = Command::new("setpriv");
    held.args(["--bounding-set", "-dac_override,-dac_read_search"]).arg(command.get_program());
    held.args(command.get_args()).env_remove("CNC_LEDGER").output().expect("setpriv runs")
}

fn set(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("is set");
}

#[test]
fn a_ledger_on_a_medium_that_nobody_can_write_is_read_as_it_is() {
    let operator = Operator::new();
    let company = operator.found("Archived Movers");
    let before: Vec<_> = fs::read_dir(operator.data()).expect("reads").flatten().map(|file| file.path()).collect();
    for side in before.iter().filter(|path| text(path).ends_with("-wal") || text(path).ends_with("-shm")) {
        // A clean stop has left nothing in them.
        assert!(text(side).ends_with("-shm") || fs::metadata(side).expect("is there").len() == 0);
        fs::remove_file(side).expect("is removed");
    }
    set(&operator.data().join("ledger.db"), 0o400);
    set(operator.data(), 0o500);
    for arguments in [
        &["audit", "verify", "--company", &company][..],
        &["audit", "export", "--company", &company],
        &["company", "list"],
    ] {
        let Output { status, stdout, stderr } = held(operator.command(arguments));
        assert!(status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&stderr));
        assert!(!stdout.is_empty());
    }
    set(operator.data(), 0o700);
}

#[test]
fn a_clean_stop_leaves_nothing_in_a_log_and_files_are_their_owners_alone() {
    let operator = Operator::new();
    let made = operator.data().join("made");
    let mut command = Command::new(env!("CARGO_BIN_EXE_cnc_under_test"));
    let founded = command.args(["company", "found", "Clean Movers", "--data"]).arg(&made).output().expect("cnc runs");
    assert!(founded.status.success());
    assert_eq!(fs::metadata(&made).expect("is there").permissions().mode() & 0o777, 0o700);
    fs::remove_dir_all(made).expect("is removed");
    let server = operator.serve();
    let company = operator.found("Clean Movers");
    let modes = || {
        let files = fs::read_dir(operator.data()).expect("reads").flatten();
        files.map(|file| (file.file_name().to_string_lossy().into_owned(), file.metadata().expect("is there")))
    };
    let is_log = |(name, file): &(String, fs::Metadata)| name.ends_with("-wal") && file.len() > 0;
    until("the newest entries in a log, while it runs", || modes().any(|file| is_log(&file)));
    for (name, file) in modes() {
        assert_eq!(file.permissions().mode() & 0o777, 0o600, "{name}");
    }
    server.stop();
    for (name, file) in modes().filter(|(name, _)| name.ends_with("-wal")) {
        assert_eq!(file.len(), 0, "{name}");
    }
    operator.ok(&["audit", "verify", "--company", &company]);
}
