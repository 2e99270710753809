//! What is decided, carried and refused.

use std::{collections::BTreeSet, sync::Arc};

use cnc_commands::{HostError, Request};
use cnc_domain::{
    cloud_control::company,
    kernel::{Actor, CompanyId, Id, LocationId, Message, Rejection, Scope},
    ledger::{MESSAGE_BYTES_MAX, PAYLOAD_BYTES_MAX},
};
use serde_json::json;

use super::{COMPANY, add, ask, code, entries, founded, host_on, id_of, raw, request, tally::Command, total};
use crate::ledger::{Ground, on_both};

on_both!(
    a_command_is_recorded_and_answered_with_its_place,
    a_refusal_or_an_empty_decision_is_never_stale,
    what_a_command_carries_is_recorded_with_it_or_not_at_all,
    commands_that_lead_to_ever_more_are_stopped,
    an_entry_that_no_broker_would_take_is_refused_and_leaves_nothing_behind,
    what_is_not_there_is_told_so,
    a_sender_sees_only_their_branches,
    a_sequence_that_has_moved_on_is_told,
    a_suspended_company_acts_no_more_until_it_is_reinstated,
);

async fn a_command_is_recorded_and_answered_with_its_place(ground: Ground) {
    let host = founded(&ground).await;
    let request = Request { location: Some(LocationId::number(7)), ..add(1, 3, None) };
    let (id, answer) = (request.command_id, host.execute(request).await.expect("is answered"));
    assert_eq!((answer.command, answer.position, answer.sequence, answer.recorded), (id, 2, 1, 1));
    let entries = entries(&host).await;
    let entry = &entries[1];
    assert_eq!((entry.event.as_str(), entry.version, entry.payload.get()), ("added", 1, r#"{"by":3}"#));
    assert_eq!((entry.location, entry.command, entry.correlation), (Some(LocationId::number(7)), id, id.cast()));
    assert_eq!(entry.causation, None);
    let shown = host.state(COMPANY, "tally", id_of(1), None).await.expect("is read").expect("is there");
    assert_eq!((shown.state["total"].clone(), shown.sequence, shown.position), (json!(3), 1, 2));
}

async fn a_refusal_or_an_empty_decision_is_never_stale(ground: Ground) {
    let host = founded(&ground).await;
    let other = host_on(&ground).await;
    host.execute(add(1, 10, None)).await.expect("is answered");
    assert_eq!(code(&other.execute(add(1, 1, Some(10))).await.expect("is answered")), "too_much");
    host.execute(ask(1, Command::Clear)).await.expect("is answered");
    assert_eq!(code(&other.execute(add(1, 1, Some(10))).await.expect("is answered")), "");
    host.execute(ask(1, Command::Clear)).await.expect("is answered");
    assert_eq!(host.execute(ask(1, Command::Clear)).await.expect("is answered").recorded, 0);
    other.execute(add(1, 4, None)).await.expect("is answered");
    assert_eq!(host.execute(ask(1, Command::Clear)).await.expect("is answered").recorded, 1);
    assert_eq!(total(&other, 1).await, 0);
}

async fn what_a_command_carries_is_recorded_with_it_or_not_at_all(ground: Ground) {
    let host = founded(&ground).await;
    let spread = |to: &[u128], most, forgiving| {
        let to = to.iter().map(|number| Id::number(*number)).collect();
        ask(1, Command::Spread { to, by: 2, most, forgiving })
    };
    let request = spread(&[2, 3, 2], None, false);
    let id = request.command_id.uuid();
    let answer = host.execute(request).await.expect("is answered");
    assert_eq!((answer.recorded, answer.sequence), (4, 1));
    assert_eq!((total(&host, 1).await, total(&host, 2).await, total(&host, 3).await), (2, 4, 2));
    let carried = entries(&host).await;
    assert!(carried[2..].iter().all(|entry| entry.causation == Some(id) && entry.correlation.uuid() == id));

    let answer = host.execute(spread(&[3, 2], Some(5), false)).await.expect("is answered");
    let rejection = answer.rejection.expect("is refused");
    assert_eq!((rejection.code, rejection.by), ("too_much".into(), Some(format!("tally/{}", id_of(2)))));
    assert_eq!(entries(&host).await.len(), 5);

    let answer = host.execute(spread(&[3, 2], Some(5), true)).await.expect("is answered");
    assert_eq!((code(&answer), answer.recorded), ("", 3));
    assert_eq!((total(&host, 1).await, total(&host, 2).await, total(&host, 3).await), (4, 4, 4));
    let asker = host.state(COMPANY, "tally", id_of(1), None).await.expect("is read").expect("is there");
    assert_eq!(asker.state["refused"], json!([format!("too_much by tally/{}", id_of(2))]));
}

async fn commands_that_lead_to_ever_more_are_stopped(ground: Ground) {
    let host = founded(&ground).await;
    assert!(matches!(host.execute(ask(1, Command::Circle)).await, Err(HostError::Fault(_))));
    assert_eq!(entries(&host).await.len(), 1);
}

async fn an_entry_that_no_broker_would_take_is_refused_and_leaves_nothing_behind(ground: Ground) {
    let host = founded(&ground).await;
    // Its payload names the code, and some bytes beside it.
    let coded = |bytes: usize| ask(1, Command::Refuse(Rejection::new("x".repeat(bytes).as_str(), "no")));
    for request in [coded(PAYLOAD_BYTES_MAX), coded(2 * PAYLOAD_BYTES_MAX)] {
        let refused = host.execute_sealed(request).await;
        assert!(matches!(refused, Err(HostError::TooLarge { bytes }) if bytes > PAYLOAD_BYTES_MAX), "{refused:?}");
    }
    assert_eq!(entries(&host).await.len(), 1);
    host.execute_sealed(coded(PAYLOAD_BYTES_MAX - 100)).await.expect("is answered");
    let line = host.ledger().read(COMPANY, 1, 1).await.expect("is read").remove(0);
    // With room for the headers of its message.
    assert!(line.len() > PAYLOAD_BYTES_MAX - 100 && line.len() + 4_096 < MESSAGE_BYTES_MAX);
}

async fn what_is_not_there_is_told_so(ground: Ground) {
    let host = founded(&ground).await;
    let elsewhere = Request { company: CompanyId::number(9), ..add(1, 1, None) };
    assert!(matches!(host.execute(elsewhere).await, Err(HostError::NoCompany)));
    assert!(matches!(
        host.execute(request("nothing", id_of(1), add(1, 1, None).command)).await,
        Err(HostError::UnknownStream)
    ));
    assert!(matches!(host.execute(raw(1, "nothing", json!({}))).await, Err(HostError::UnknownCommand)));
    assert!(matches!(host.execute(ask(1, Command::Hidden)).await, Err(HostError::UnknownCommand)));
    let Err(HostError::Form(errors)) = host.execute(raw(1, "add", json!({ "by": "x", "more": 1 }))).await else {
        panic!("is taken");
    };
    assert_eq!(errors.iter().map(|error| error.path.as_str()).collect::<Vec<_>>(), ["/by", "/more"]);
    assert!(host.state(COMPANY, "tally", id_of(1), None).await.expect("is read").is_none());
    assert!(host.standing(CompanyId::number(9)).await.expect("is read").is_none());
}

async fn a_sender_sees_only_their_branches(ground: Ground) {
    let host = founded(&ground).await;
    let within =
        |number: u128, request| Request { scope: Arc::new(Scope::within([LocationId::number(number)])), ..request };
    let open = |location| ask(1, Command::Open { location: LocationId::number(location) });
    assert!(matches!(host.execute(within(2, open(1))).await, Err(HostError::NotFound)));
    assert_eq!(entries(&host).await.len(), 1);
    host.execute(within(1, open(1))).await.expect("is answered");
    assert!(matches!(host.execute(within(2, add(1, 1, None))).await, Err(HostError::NotFound)));
    // What a rule says no to anyway is refused as if nothing were there, so that no answer tells of it.
    for number in [1, 9] {
        let refused = host.execute(within(2, add(number, 5, Some(4)))).await.expect("is answered").rejection;
        assert_eq!(refused.expect("is refused").facts, json!({ "total": 5 }), "{number}");
    }
    let circle = |number| {
        within(2, ask(number, Command::Spread { to: vec![Id::number(1)], by: 1, most: None, forgiving: false }))
    };
    assert!(matches!(host.execute(circle(3)).await, Err(HostError::NotFound)), "what is carried is asked for, too");
    for (number, sequence) in [(1, 1), (9, 1), (9, 7)] {
        let matching = Request { if_match: Some(sequence), ..within(2, add(number, 1, None)) };
        assert!(matches!(host.execute(matching).await, Err(HostError::NotFound)), "{number} at {sequence}");
    }
    host.execute(within(1, add(1, 1, None))).await.expect("is answered");
    assert_eq!(entries(&host).await[2].location, Some(LocationId::number(1)));
}

async fn a_sequence_that_has_moved_on_is_told(ground: Ground) {
    let host = founded(&ground).await;
    let other = host_on(&ground).await;
    let matching = |sequence| Request { if_match: Some(sequence), ..add(1, 1, None) };
    host.execute(matching(0)).await.expect("is answered");
    other.execute(matching(1)).await.expect("is answered");
    assert!(matches!(host.execute(matching(1)).await, Err(HostError::SequenceMismatch { sequence: 2 })));
    assert_eq!(host.execute(matching(2)).await.expect("is answered").sequence, 3);
}

async fn a_suspended_company_acts_no_more_until_it_is_reinstated(ground: Ground) {
    let host = founded(&ground).await;
    let company = |command| Request {
        actor: Actor::tool("cnc"),
        internal_allowed: true,
        ..request("company", COMPANY.uuid(), Message::split(&command))
    };
    host.execute(company(company::Command::Suspend { reason: "unpaid".into() })).await.expect("is answered");
    assert_eq!(code(&host.execute(add(1, 1, None)).await.expect("is answered")), "company_suspended");
    host.execute(company(company::Command::Reinstate)).await.expect("is answered");
    assert_eq!(code(&host.execute(add(1, 1, None)).await.expect("is answered")), "");
    let modules = BTreeSet::from(["cloud_control".to_owned()]);
    let answer = host.execute(company(company::Command::ChangePlan { modules })).await.expect("is answered");
    if answer.rejection.is_none() {
        assert_eq!(code(&host.execute(add(1, 1, None)).await.expect("is answered")), "module_off");
    }
}
