use super::*;

#[cfg(unix)]
#[test]
fn the_master_key_is_its_owners_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("deep/master.key");
    MasterKey::load_or_create(&path).expect("is made");
    let mode = || std::fs::metadata(&path).expect("is there").permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    MasterKey::load_or_create(&path).expect("is read");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("is set");
    assert!(MasterKey::load_or_create(&path).is_err());
}
