//! Key files that lie elsewhere than in the data folder.

use std::{fs, os::unix::fs::PermissionsExt as _};

use super::{Operator, text};

#[test]
fn keys_that_the_platform_mounts_are_those_that_count() {
    let operator = Operator::new();
    let company = operator.found("Mounted Movers");
    let user = operator.invite(&company, "dispatcher");
    let issue = ["token", "issue", "--company", &company, "--user", &user];
    let mounted = tempfile::tempdir().expect("a folder");
    let [master, token] = ["master.key", "token.key"].map(|name| {
        let path = mounted.path().join(name);
        fs::rename(operator.data().join(name), &path).expect("moves");
        path
    });
    let named = |arguments: &[&str]| {
        let mut command = operator.command(arguments);
        command.env("CNC_MASTER_KEY_FILE", &master).env("CNC_TOKEN_KEY_FILE", &token);
        command.output().expect("cnc runs")
    };
    assert!(named(&issue).status.success());
    let options = ["--master-key-file", text(&master), "--token-key-file", text(&token)];
    operator.ok(&[&issue[..], &options].concat());
    assert!(!operator.data().join("master.key").exists() && !operator.data().join("token.key").exists());
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).expect("is set");
    let refused = named(&issue);
    assert_eq!(refused.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("token.key: others may read it"));
}
