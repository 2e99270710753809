//! What is kept: entries of many writers, answers, the past, secrets, shapes.

use std::collections::BTreeMap;

use cnc_commands::{AsOf, HostError, Request};
use cnc_domain::{
    kernel::{Actor, Message, UserId},
    ledger::Answer,
};
use futures::future::join_all;
use serde_json::{json, value::RawValue};

use super::{
    COMPANY, add, ask, code, entries, found, founded, host_on, host_with, id_of, keyed, raw, request, tally::Command,
    total,
};
use crate::ledger::{Ground, on_both};

on_both!(
    many_writers_at_once_lose_nothing,
    writers_of_one_aggregate_each_get_their_turn_on_two_hosts,
    a_key_gives_the_first_answer_again_also_after_a_restart,
    a_key_is_used_for_what_its_fields_mean,
    what_was_refused_can_be_tried_again_under_its_key,
    the_past_is_shown_as_it_was,
    an_event_s_shape_is_adopted_once_at_its_first_append,
    hosts_that_hammer_one_aggregate_all_get_through,
);

async fn many_writers_at_once_lose_nothing(ground: Ground) {
    let host = founded(&ground).await;
    let writers = (0..64).map(|writer| {
        let host = host.clone();
        tokio::spawn(async move {
            for _ in 0..5 {
                host.execute(add(writer, 1, None)).await.expect("is answered");
            }
        })
    });
    join_all(writers).await.into_iter().for_each(|done| done.expect("ends"));
    assert_eq!(entries(&host).await.len(), 1 + 64 * 5);
    for writer in 0..64 {
        assert_eq!(total(&host, writer).await, 5);
    }
    host.stop().await;
    assert!(matches!(host.execute(add(1, 1, None)).await, Err(HostError::Fault(_))));
}

async fn writers_of_one_aggregate_each_get_their_turn_on_two_hosts(ground: Ground) {
    let host = founded(&ground).await;
    let other = host_on(&ground).await;
    let writers = (0..64).map(|writer| {
        let host = if writer % 2 == 0 { host.clone() } else { other.clone() };
        tokio::spawn(async move { host.execute(add(1, 1, Some(50))).await.expect("is answered") })
    });
    let answers: Vec<Answer> = join_all(writers).await.into_iter().map(|done| done.expect("ends")).collect();
    assert_eq!(answers.iter().filter(|answer| answer.rejection.is_none()).count(), 50);
    assert_eq!((total(&host, 1).await, total(&other, 1).await), (50, 50));
    assert_eq!(entries(&host).await.len(), 51);
}

async fn a_key_gives_the_first_answer_again_also_after_a_restart(ground: Ground) {
    let host = founded(&ground).await;
    let first = host.execute(keyed(add(1, 8, Some(10)), "a")).await.expect("is answered");
    assert!(!first.replayed);
    host.stop().await;
    let host = host_on(&ground).await;
    // Now the rule would say no.
    let again = host.execute(keyed(add(1, 8, Some(10)), "a")).await.expect("is answered");
    assert_eq!((again.command, again.position, code(&again)), (first.command, first.position, ""));
    assert!(again.replayed);
    host.execute(ask(1, Command::Clear)).await.expect("is answered");
    assert!(matches!(host.execute(keyed(add(1, 7, Some(10)), "a")).await, Err(HostError::KeyReused)));
    let other = Actor::User { user: UserId::number(5), role: "dispatcher".into() };
    let request = Request { actor: other, ..keyed(add(1, 7, None), "a") };
    assert_eq!(host.execute(request).await.expect("another's key is another").recorded, 1);
    assert_eq!(total(&host, 1).await, 7);
}

async fn a_key_is_used_for_what_its_fields_mean(ground: Ground) {
    let host = founded(&ground).await;
    let sent = |fields: &str| {
        let fields = RawValue::from_string(fields.into()).expect("JSON");
        keyed(request("tally", id_of(1), Message { name: "add".into(), fields }), "a")
    };
    let first = host.execute(sent(r#"{"by":8,"most":10}"#)).await.expect("is answered");
    for same in [r#"{"most":10,"by":8}"#, "{ \"by\": 8,\n \"most\": 10 }", r#"{"\u0062y":8.0,"most":1e1}"#] {
        let again = host.execute(sent(same)).await.expect("is answered");
        assert!(again.replayed && again.command == first.command, "{same}");
    }
    assert!(matches!(host.execute(sent(r#"{"by":8,"most":11}"#)).await, Err(HostError::KeyReused)));
    assert_eq!(total(&host, 1).await, 8);
}

async fn what_was_refused_can_be_tried_again_under_its_key(ground: Ground) {
    let host = founded(&ground).await;
    host.execute(add(1, 8, None)).await.expect("is answered");
    let refused = host.execute(keyed(add(1, 8, Some(10)), "k")).await.expect("is answered");
    assert_eq!((code(&refused), refused.replayed), ("too_much", false));
    host.execute(ask(1, Command::Clear)).await.expect("is answered");
    let done = host.execute(keyed(add(1, 8, Some(10)), "k")).await.expect("is answered");
    assert_eq!((code(&done), done.recorded, done.replayed), ("", 1, false));
    let again = host.execute(keyed(add(1, 8, Some(10)), "k")).await.expect("is answered");
    assert_eq!((again.command, again.replayed), (done.command, true));
    // What a trigger gives is carried out by whoever comes, perhaps twice: there a refusal is final.
    let given =
        |key: &str| Request { actor: Actor::Trigger { trigger: "tally".into() }, ..keyed(add(1, 8, Some(10)), key) };
    assert_eq!(code(&host.execute(given("t")).await.expect("is answered")), "too_much");
    host.execute(ask(1, Command::Clear)).await.expect("is answered");
    let again = host.execute(given("t")).await.expect("is answered");
    assert_eq!((code(&again), again.replayed), ("too_much", true));
    assert_eq!(total(&host, 1).await, 0);
}

async fn the_past_is_shown_as_it_was(ground: Ground) {
    let host = founded(&ground).await;
    for by in 1..=4 {
        host.execute(add(1, by, None)).await.expect("is answered");
    }
    let at = async |as_of| host.state(COMPANY, "tally", id_of(1), Some(as_of)).await.expect("is read");
    assert!(at(AsOf::Position(1)).await.is_none());
    let past = at(AsOf::Position(3)).await.expect("was there");
    assert_eq!((past.state["total"].clone(), past.sequence, past.position), (json!(3), 2, 3));
    let when = entries(&host).await[3].at;
    assert_eq!(at(AsOf::Time(when)).await.expect("was there").state["total"], 6);
}

#[tokio::test]
async fn a_personal_field_is_never_in_clear_in_any_file() {
    let ground = Ground::sqlite();
    let Ground::Sqlite(folder) = &ground else { return };
    let host = founded(&ground).await;
    let name = "Quillon Abernathy-Vex";
    host.execute(keyed(raw(1, "call", json!({ "name": name })), "k")).await.expect("is answered");
    let mut shown = host.state(COMPANY, "tally", id_of(1), None).await.expect("is read").expect("is there").state;
    assert!(shown["name"]["sealed"].is_object());
    host.keyring().open_all(COMPANY, &mut shown, &|_| true).await.expect("opens");
    assert_eq!(shown["name"], name);
    host.stop().await;
    let mut files = BTreeMap::new();
    for file in std::fs::read_dir(folder.path()).expect("is read") {
        let path = file.expect("a file").path();
        let bytes = std::fs::read(&path).expect("is read");
        files.insert(path.display().to_string(), bytes.windows(8).any(|window| window == &name.as_bytes()[..8]));
    }
    assert!(files.len() >= 2 && files.values().all(|found| !found), "{files:?}");
}

async fn an_event_s_shape_is_adopted_once_at_its_first_append(ground: Ground) {
    for turn in 0..2 {
        let host = host_with(&ground, true).await;
        if turn == 0 {
            found(&host, COMPANY).await;
        }
        host.execute(add(1, 1, None)).await.expect("is answered");
        host.execute(add(1, 1, None)).await.expect("is answered");
        host.stop().await;
        let adopted = entries(&host).await.iter().filter(|entry| entry.event == "schema_adopted").count();
        assert_eq!(adopted, 3, "founded, schema_adopted and added");
    }
}

/// Whoever meets a conflict waits a moment, so that nobody is told that others were faster every time.
async fn hosts_that_hammer_one_aggregate_all_get_through(ground: Ground) {
    founded(&ground).await;
    let hosts = join_all((0..3).map(|_| host_on(&ground))).await;
    let writers = (0..12).map(|writer: usize| {
        let host = hosts[writer % 3].clone();
        tokio::spawn(async move {
            for _ in 0..10 {
                host.execute(add(1, 1, None)).await.expect("is not too busy");
            }
        })
    });
    join_all(writers).await.into_iter().for_each(|done| done.expect("ends"));
    assert_eq!(total(&hosts[0], 1).await, 120);
    assert_eq!(entries(&hosts[1]).await.len(), 121);
}
