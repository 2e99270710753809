use cnc_domain::{KINDS, kernel::CompanyId};
use serde_json::{Value, json};

use super::*;

const ANN: Uuid = Uuid::from_u128(1);
const COMPANY: CompanyId = CompanyId::number(1);

fn phone() -> &'static Kind {
    KINDS.iter().find(|kind| kind.name == "phone").expect("is a kind")
}

async fn keyring(folder: &Path) -> Keyring {
    let master = MasterKey::load_or_create(&folder.join("master.key")).expect("a key");
    Keyring::sqlite(folder, master).await.expect("opens")
}

async fn sealed(keyring: &Keyring, clear: &str) -> Value {
    let sealed = keyring.seal(COMPANY, ANN, phone(), &json!(clear).to_string(), clear).await.expect("seals");
    json!({ "sealed": sealed })
}

#[tokio::test]
async fn a_sealed_value_opens_again_also_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut value = json!([{ "a": sealed(&keyring(folder.path()).await, "604").await }, 7, "text"]);
    let opened = keyring(folder.path()).await.open_all(COMPANY, &mut value, &|_| true).await.expect("opens");
    assert_eq!((opened, value), (1, json!([{ "a": "604" }, 7, "text"])));
}

#[tokio::test]
async fn who_may_not_see_sees_that_it_is_sealed() {
    let folder = tempfile::tempdir().expect("a folder");
    let keyring = keyring(folder.path()).await;
    let mut value = sealed(&keyring, "604").await;
    assert_eq!(keyring.open_all(COMPANY, &mut value, &|kind| kind != "phone").await.expect("opens"), 0);
    assert_eq!(value, "[sealed]");
}

#[tokio::test]
async fn a_box_of_another_company_or_person_or_kind_does_not_open() {
    let folder = tempfile::tempdir().expect("a folder");
    let keyring = keyring(folder.path()).await;
    let value = sealed(&keyring, "604").await;
    let mut elsewhere = value.clone();
    keyring.open_all(CompanyId::number(2), &mut elsewhere, &|_| true).await.expect("tells nothing");
    assert_eq!(elsewhere, "[erased]");
    for (member, other) in [("kind", json!("email")), ("subject", json!(Uuid::from_u128(2)))] {
        let mut moved = value.clone();
        moved["sealed"][member] = other;
        assert!(keyring.open_all(COMPANY, &mut moved, &|_| true).await.is_err(), "{member}");
    }
}

#[tokio::test]
async fn without_its_key_a_value_is_erased_and_the_next_one_has_another_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let value = sealed(&keyring(folder.path()).await, "604").await;
    let store = rusqlite::Connection::open(folder.path().join("keys.db")).expect("opens");
    assert_eq!(store.execute("DELETE FROM subjects", []).expect("deletes"), 1);
    let keyring = keyring(folder.path()).await;
    let next = sealed(&keyring, "604").await;
    assert_ne!(next["sealed"]["key"], value["sealed"]["key"]);
    let mut both = json!([value, next]);
    keyring.open_all(COMPANY, &mut both, &|_| true).await.expect("opens");
    assert_eq!(both, json!(["[erased]", "604"]));
}

#[tokio::test]
async fn equal_values_have_equal_prints_within_a_company_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let keyring = keyring(folder.path()).await;
    let print = |company, subject, canonical| {
        let keyring = keyring.clone();
        async move {
            let sealed = keyring.seal(company, subject, phone(), "\"x\"", canonical).await.expect("seals");
            sealed.print.expect("prints")
        }
    };
    let ann = print(COMPANY, ANN, "604").await;
    assert_eq!(ann, print(COMPANY, Uuid::from_u128(2), "604").await);
    assert_ne!(ann, print(COMPANY, ANN, "605").await);
    assert_ne!(ann, print(CompanyId::number(2), ANN, "604").await);
}

#[tokio::test]
async fn processes_that_make_a_key_at_once_settle_on_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let rings: Vec<Keyring> = futures::future::join_all((0..4).map(|_| keyring(folder.path()))).await;
    let sealed: Vec<Value> = futures::future::join_all(rings.iter().map(|ring| sealed(ring, "604"))).await;
    assert!(sealed.iter().all(|value| value["sealed"]["key"] == sealed[0]["sealed"]["key"]));
    assert!(sealed.iter().all(|value| value["sealed"]["print"] == sealed[0]["sealed"]["print"]));
    for mut value in sealed {
        rings[0].open_all(COMPANY, &mut value, &|_| true).await.expect("opens");
        assert_eq!(value, "604");
    }
}

#[tokio::test]
async fn another_master_key_is_told_and_nothing_is_made_under_it() {
    let folder = tempfile::tempdir().expect("a folder");
    sealed(&keyring(folder.path()).await, "604").await;
    let other = MasterKey::load_or_create(&folder.path().join("other.key")).expect("a key");
    let keyring = Keyring::sqlite(folder.path(), other).await.expect("opens");
    let fault = keyring.seal(COMPANY, ANN, phone(), "\"1\"", "1").await.expect_err("does not fit");
    assert!(fault.cause.contains("master key"), "{fault}");
}

#[tokio::test]
async fn a_fingerprint_depends_on_company_and_every_part() {
    let folder = tempfile::tempdir().expect("a folder");
    let keyring = keyring(folder.path()).await;
    let of = |company, parts: &'static [&'static [u8]]| {
        let keyring = keyring.clone();
        async move { keyring.fingerprint(company, parts).await.expect("hashes") }
    };
    let one = of(COMPANY, &[b"ab", b"c"]).await;
    assert_eq!(one, of(COMPANY, &[b"ab", b"c"]).await);
    assert_ne!(one, of(COMPANY, &[b"a", b"bc"]).await);
    assert_ne!(one, of(CompanyId::number(2), &[b"ab", b"c"]).await);
}

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
