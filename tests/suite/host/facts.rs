//! What a company is, its standing and settings, is part of every decision: none is recorded after a change of them that did
//! not know of it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use cnc_domain::{
    cloud_control::company,
    kernel::{Actor, BoardSettings, Message, Settings},
    ledger::Entry,
};
use futures::future::join_all;

use super::{
    COMPANY, add, ask, code, entries, keyed, lines,
    place::{Place, on_all},
    request,
    tally::Command,
};
use crate::ledger::within;

on_all!(
    what_began_before_a_suspension_is_not_recorded_after_it,
    an_empty_decision_of_before_a_suspension_is_no_answer_after_it,
    commands_that_race_suspensions_and_settings_never_rest_on_what_was,
);

fn of_company(command: company::Command) -> cnc_commands::Request {
    let command = Message::split(&command);
    cnc_commands::Request { actor: Actor::tool("cnc"), ..request("company", COMPANY.uuid(), command) }
}

fn suspend() -> cnc_commands::Request {
    of_company(company::Command::Suspend { reason: "unpaid".into() })
}

fn set(silence_max_minutes: u32) -> cnc_commands::Request {
    let board = BoardSettings { silence_max_minutes, ..BoardSettings::default() };
    of_company(company::Command::ChangeSettings { settings: Settings { board, ..Settings::default() } })
}

async fn what_began_before_a_suspension_is_not_recorded_after_it(place: Place) {
    let host = place.founded().await;
    let other = place.host(false).await;
    host.execute(add(1, 1, None)).await.expect("is answered");
    other.execute(suspend()).await.expect("is answered");
    // The host has not heard of it.
    assert_eq!(code(&host.execute(add(1, 1, None)).await.expect("is answered")), "company_suspended");
    other.execute(of_company(company::Command::Reinstate)).await.expect("is answered");
    assert_eq!(code(&host.execute(add(1, 1, None)).await.expect("is answered")), "");
    other.execute(set(77)).await.expect("is answered");
    host.execute(ask(1, Command::Note)).await.expect("is answered");
    let noted = entries(&host).await.pop().expect("an entry");
    assert_eq!(noted.payload.get(), r#"{"silence_max_minutes":77}"#);
}

async fn an_empty_decision_of_before_a_suspension_is_no_answer_after_it(place: Place) {
    let host = place.founded().await;
    let other = place.host(false).await;
    assert_eq!(host.execute(ask(1, Command::Clear)).await.expect("is answered").recorded, 0);
    other.execute(suspend()).await.expect("is answered");
    assert_eq!(code(&host.execute(ask(1, Command::Clear)).await.expect("is answered")), "company_suspended");
}

/// How often the company is suspended and set otherwise.
const TURNS: u32 = 12;

async fn commands_that_race_suspensions_and_settings_never_rest_on_what_was(place: Place) {
    let host = place.founded().await;
    let over = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for number in 0..3 {
        let host = place.host(false).await;
        for writer in 0..3 {
            let (host, over) = (host.clone(), over.clone());
            writers.push(tokio::spawn(async move {
                let mut nth = 0;
                while !over.load(Ordering::Relaxed) {
                    let key = format!("{number} {writer} {nth}");
                    host.execute(keyed(ask(10 * number + writer, Command::Note), &key)).await.expect("is answered");
                    nth += 1;
                }
            }));
        }
    }
    let noted = async || lines(&host).await.iter().filter(|line| line.contains(r#""event":"noted""#)).count();
    for turn in 0..TURNS {
        let before = noted().await;
        within("the writers", async { while noted().await < before + 5 {} }).await;
        host.execute(set(100 + turn)).await.expect("is answered");
        host.execute(suspend()).await.expect("is answered");
        host.execute(of_company(company::Command::Reinstate)).await.expect("is answered");
    }
    over.store(true, Ordering::Relaxed);
    join_all(writers).await.into_iter().for_each(|done| done.expect("ends"));
    let (mut suspended, mut minutes) = (false, BoardSettings::default().silence_max_minutes);
    for entry in entries(&host).await {
        match entry.event.as_str() {
            "suspended" => suspended = true,
            "reinstated" => suspended = false,
            "settings_changed" => minutes = number(&entry, "/settings/board/silence_max_minutes"),
            "noted" => {
                assert!(!suspended, "position {} was decided before the suspension", entry.position);
                assert_eq!(number(&entry, "/silence_max_minutes"), minutes, "position {}", entry.position);
            }
            _ => {}
        }
    }
}

fn number(entry: &Entry, pointer: &str) -> u32 {
    let payload: serde_json::Value = serde_json::from_str(entry.payload.get()).expect("JSON");
    let number = payload.pointer(pointer).and_then(serde_json::Value::as_u64).expect("a number");
    number.try_into().expect("small")
}
