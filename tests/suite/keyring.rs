//! Keys, and what is sealed under them, on every back end.

use cnc_commands::{Destruction, Keyring, MasterKey};
use cnc_domain::{
    KINDS,
    kernel::{CompanyId, Kind, Timestamp},
    ledger::Fault,
};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::ledger::{Ground, on_both};

on_both!(
    every;
    a_sealed_value_opens_again_also_after_a_restart,
    who_may_not_see_sees_that_it_is_sealed,
    a_box_of_another_company_or_person_or_kind_does_not_open,
    a_person_is_erased_only_where_a_destruction_is_recorded,
    a_companys_key_is_made_when_it_is_founded_and_never_again,
    equal_values_have_equal_prints_within_a_company_only,
    processes_that_make_a_key_at_once_settle_on_one,
    another_master_key_is_noticed_at_opening,
    another_master_key_is_noticed_in_a_store_that_has_no_check_yet,
    a_fingerprint_depends_on_company_and_every_part,
);

const ANN: Uuid = Uuid::from_u128(1);
const COMPANY: CompanyId = CompanyId::number(1);
const MASTER: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const OTHER_MASTER: &str = "HwECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHgA=";

fn phone() -> &'static Kind {
    KINDS.iter().find(|kind| kind.name == "phone").expect("is a kind")
}

/// With the company of these tests founded.
async fn keyring(ground: &Ground) -> Keyring {
    let keyring = under(ground, MASTER).await.expect("opens");
    keyring.found(COMPANY).await.expect("makes a key");
    keyring
}

async fn under(ground: &Ground, master: &str) -> Result<Keyring, Fault> {
    let master = MasterKey::read(master).expect("a key");
    match ground {
        Ground::Sqlite(folder) => Keyring::sqlite(folder.path(), master).await,
        Ground::Postgres(url) => Keyring::postgres(url, master).await,
    }
}

async fn sealed(keyring: &Keyring, clear: &str) -> Value {
    let sealed = keyring.seal(COMPANY, ANN, phone(), &json!(clear).to_string(), clear).await.expect("seals");
    json!({ "sealed": sealed })
}

/// Takes rows out of the key store that nobody meant to lose.
async fn lose(ground: &Ground, table: &str) {
    let lost = match ground {
        Ground::Sqlite(folder) => {
            let keys = rusqlite::Connection::open(folder.path().join("keys.db")).expect("opens");
            keys.execute(&format!("DELETE FROM {table}"), []).expect("deletes") as u64
        }
        Ground::Postgres(url) => {
            let mut keys = PgConnection::connect(url).await.expect("connects");
            let delete = format!("DELETE FROM cnc_keys.{table}");
            sqlx::query(&delete).execute(&mut keys).await.expect("deletes").rows_affected()
        }
    };
    assert_eq!(lost, 1);
}

async fn destroy(keyring: &Keyring) -> bool {
    let record = Destruction { at: Timestamp::from_seconds(1_800_000_000), by: "user:7".into() };
    keyring.destroy(COMPANY, ANN, record).await.expect("is no fault")
}

async fn a_sealed_value_opens_again_also_after_a_restart(ground: Ground) {
    let mut value = json!([{ "a": sealed(&keyring(&ground).await, "604").await }, 7, "text"]);
    let opened = keyring(&ground).await.open_all(COMPANY, &mut value, &|_| true).await.expect("opens");
    assert_eq!((opened, value), (1, json!([{ "a": "604" }, 7, "text"])));
}

async fn who_may_not_see_sees_that_it_is_sealed(ground: Ground) {
    let keyring = keyring(&ground).await;
    let mut value = sealed(&keyring, "604").await;
    assert_eq!(keyring.open_all(COMPANY, &mut value, &|kind| kind != "phone").await.expect("opens"), 0);
    assert_eq!(value, "[sealed]");
}

async fn a_box_of_another_company_or_person_or_kind_does_not_open(ground: Ground) {
    let keyring = keyring(&ground).await;
    let value = sealed(&keyring, "604").await;
    let mut elsewhere = value.clone();
    keyring.found(CompanyId::number(2)).await.expect("makes a key");
    keyring.open_all(CompanyId::number(2), &mut elsewhere, &|_| true).await.expect("tells nothing");
    assert_eq!(elsewhere, "[unavailable]");
    for (member, other) in [("kind", json!("email")), ("subject", json!(Uuid::from_u128(2)))] {
        let mut moved = value.clone();
        moved["sealed"][member] = other;
        assert!(keyring.open_all(COMPANY, &mut moved, &|_| true).await.is_err(), "{member}");
    }
}

async fn a_person_is_erased_only_where_a_destruction_is_recorded(ground: Ground) {
    let first = sealed(&keyring(&ground).await, "604").await;
    lose(&ground, "subjects").await;
    let ring = keyring(&ground).await;
    let second = sealed(&ring, "605").await;
    assert_ne!(first["sealed"]["key"], second["sealed"]["key"]);
    assert!(destroy(&ring).await && !destroy(&ring).await, "a key is destroyed once");
    let third = sealed(&ring, "606").await;
    assert_ne!(second["sealed"]["key"], third["sealed"]["key"]);
    for ring in [ring, keyring(&ground).await] {
        let mut all = json!([first, second, third]);
        ring.open_all(COMPANY, &mut all, &|_| true).await.expect("opens");
        assert_eq!(all, json!(["[unavailable]", "[erased]", "606"]));
    }
}

async fn a_companys_key_is_made_when_it_is_founded_and_never_again(ground: Ground) {
    let value = sealed(&keyring(&ground).await, "604").await;
    lose(&ground, "companies").await;
    let keyring = under(&ground, MASTER).await.expect("opens");
    for _ in 0..2 {
        let fault = keyring.seal(COMPANY, ANN, phone(), "\"1\"", "1").await.expect_err("has no key");
        assert!(fault.cause.contains(&COMPANY.to_string()) && fault.cause.contains("Put back"), "{fault}");
        assert!(keyring.open_all(COMPANY, &mut value.clone(), &|_| true).await.is_err(), "it is not taken for erased");
    }
}

async fn equal_values_have_equal_prints_within_a_company_only(ground: Ground) {
    let keyring = keyring(&ground).await;
    keyring.found(CompanyId::number(2)).await.expect("makes a key");
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

async fn processes_that_make_a_key_at_once_settle_on_one(ground: Ground) {
    let rings: Vec<Keyring> = futures::future::join_all((0..4).map(|_| keyring(&ground))).await;
    let sealed: Vec<Value> = futures::future::join_all(rings.iter().map(|ring| sealed(ring, "604"))).await;
    assert!(sealed.iter().all(|value| value["sealed"]["key"] == sealed[0]["sealed"]["key"]));
    assert!(sealed.iter().all(|value| value["sealed"]["print"] == sealed[0]["sealed"]["print"]));
    for mut value in sealed {
        rings[0].open_all(COMPANY, &mut value, &|_| true).await.expect("opens");
        assert_eq!(value, "604");
    }
}

async fn another_master_key_is_noticed_at_opening(ground: Ground) {
    under(&ground, MASTER).await.expect("opens");
    let fault = under(&ground, OTHER_MASTER).await.expect_err("does not fit");
    assert!(fault.cause.contains("is not the master key"), "{fault}");
    under(&ground, MASTER).await.expect("opens still");
}

async fn another_master_key_is_noticed_in_a_store_that_has_no_check_yet(ground: Ground) {
    keyring(&ground).await;
    lose(&ground, "key_check").await;
    assert!(under(&ground, OTHER_MASTER).await.is_err(), "it opens no company's key");
    under(&ground, MASTER).await.expect("opens, and makes the check anew");
}

async fn a_fingerprint_depends_on_company_and_every_part(ground: Ground) {
    let keyring = keyring(&ground).await;
    keyring.found(CompanyId::number(2)).await.expect("makes a key");
    let of = |company, parts: &'static [&'static [u8]]| {
        let keyring = keyring.clone();
        async move { keyring.fingerprint(company, parts).await.expect("hashes") }
    };
    let one = of(COMPANY, &[b"ab", b"c"]).await;
    assert_eq!(one, of(COMPANY, &[b"ab", b"c"]).await);
    assert_ne!(one, of(COMPANY, &[b"a", b"bc"]).await);
    assert_ne!(one, of(CompanyId::number(2), &[b"ab", b"c"]).await);
}
