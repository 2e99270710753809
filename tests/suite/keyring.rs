//! Keys, and what is sealed under them, on every back end.

use cnc_commands::{Keyring, MasterKey};
use cnc_domain::{
    KINDS,
    kernel::{CompanyId, Kind},
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
    without_its_key_a_value_is_erased_and_the_next_one_has_another_key,
    equal_values_have_equal_prints_within_a_company_only,
    processes_that_make_a_key_at_once_settle_on_one,
    another_master_key_is_told_and_nothing_is_made_under_it,
    a_fingerprint_depends_on_company_and_every_part,
);

const ANN: Uuid = Uuid::from_u128(1);
const COMPANY: CompanyId = CompanyId::number(1);
const MASTER: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const OTHER_MASTER: &str = "HwECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHgA=";

fn phone() -> &'static Kind {
    KINDS.iter().find(|kind| kind.name == "phone").expect("is a kind")
}

async fn keyring(ground: &Ground) -> Keyring {
    keyring_under(ground, MASTER).await
}

async fn keyring_under(ground: &Ground, master: &str) -> Keyring {
    let master = MasterKey::read(master).expect("a key");
    let keyring = match ground {
        Ground::Sqlite(folder) => Keyring::sqlite(folder.path(), master).await,
        Ground::Postgres(url) => Keyring::postgres(url, master).await,
    };
    keyring.expect("opens")
}

async fn sealed(keyring: &Keyring, clear: &str) -> Value {
    let sealed = keyring.seal(COMPANY, ANN, phone(), &json!(clear).to_string(), clear).await.expect("seals");
    json!({ "sealed": sealed })
}

/// Destroys the keys of all persons, as an erasure does.
async fn forget_subjects(ground: &Ground) {
    let forgotten = match ground {
        Ground::Sqlite(folder) => {
            let keys = rusqlite::Connection::open(folder.path().join("keys.db")).expect("opens");
            keys.execute("DELETE FROM subjects", []).expect("deletes") as u64
        }
        Ground::Postgres(url) => {
            let mut keys = PgConnection::connect(url).await.expect("connects");
            sqlx::query("DELETE FROM cnc_keys.subjects").execute(&mut keys).await.expect("deletes").rows_affected()
        }
    };
    assert_eq!(forgotten, 1);
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
    keyring.open_all(CompanyId::number(2), &mut elsewhere, &|_| true).await.expect("tells nothing");
    assert_eq!(elsewhere, "[erased]");
    for (member, other) in [("kind", json!("email")), ("subject", json!(Uuid::from_u128(2)))] {
        let mut moved = value.clone();
        moved["sealed"][member] = other;
        assert!(keyring.open_all(COMPANY, &mut moved, &|_| true).await.is_err(), "{member}");
    }
}

async fn without_its_key_a_value_is_erased_and_the_next_one_has_another_key(ground: Ground) {
    let value = sealed(&keyring(&ground).await, "604").await;
    forget_subjects(&ground).await;
    let keyring = keyring(&ground).await;
    let next = sealed(&keyring, "604").await;
    assert_ne!(next["sealed"]["key"], value["sealed"]["key"]);
    let mut both = json!([value, next]);
    keyring.open_all(COMPANY, &mut both, &|_| true).await.expect("opens");
    assert_eq!(both, json!(["[erased]", "604"]));
}

async fn equal_values_have_equal_prints_within_a_company_only(ground: Ground) {
    let keyring = keyring(&ground).await;
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

async fn another_master_key_is_told_and_nothing_is_made_under_it(ground: Ground) {
    sealed(&keyring(&ground).await, "604").await;
    let keyring = keyring_under(&ground, OTHER_MASTER).await;
    let fault = keyring.seal(COMPANY, ANN, phone(), "\"1\"", "1").await.expect_err("does not fit");
    assert!(fault.cause.contains("master key"), "{fault}");
}

async fn a_fingerprint_depends_on_company_and_every_part(ground: Ground) {
    let keyring = keyring(&ground).await;
    let of = |company, parts: &'static [&'static [u8]]| {
        let keyring = keyring.clone();
        async move { keyring.fingerprint(company, parts).await.expect("hashes") }
    };
    let one = of(COMPANY, &[b"ab", b"c"]).await;
    assert_eq!(one, of(COMPANY, &[b"ab", b"c"]).await);
    assert_ne!(one, of(COMPANY, &[b"a", b"bc"]).await);
    assert_ne!(one, of(CompanyId::number(2), &[b"ab", b"c"]).await);
}
