//! The same key acts once.

use cnc_domain::kernel::{Rejection, Seconds};

use super::*;

on_both!(
    every;
    the_same_key_is_answered_as_before,
    a_rejection_is_remembered_where_it_is_final,
    another_rejection_leaves_the_key_free,
    another_actor_has_other_keys,
    the_same_key_twice_in_a_batch_acts_once,
    what_failed_is_not_remembered,
    old_answers_to_people_are_forgotten,
);

async fn the_same_key_is_answered_as_before(ground: Ground) {
    let (ledger, company) = founded(&ground).await;
    let wish = keyed(deed(company, truck(1), 0, &["bought"]), "user:1", "first");
    let answer = append(&*ledger, wish.clone()).await.expect("appended").answer;
    append(&*ledger, deed(company, truck(1), 1, &["sold"])).await.expect("appended");
    // Whatever is asked for under it now, also by another process: the host compares fingerprints.
    let mut again = keyed(deed(company, truck(1), 2, &["bought"]), "user:1", "first");
    again.idempotency.as_mut().expect("keyed").fingerprint = [9; 32];
    for (ledger, wish) in [(ledger.clone(), wish), (ground.ledger().await, again)] {
        let Err(AppendError::Repeated(answered)) = append(&*ledger, wish).await else { panic!("not repeated") };
        assert_eq!(answered.fingerprint, [7; 32]);
        assert_eq!((answered.answer.command, answered.answer.position), (answer.command, 2));
        assert_eq!((answered.answer.sequence, answered.answer.recorded), (1, 1));
    }
    let answered = ledger.answered(company, "user:1", "first").await.expect("read").expect("remembered");
    assert_eq!(answered.answer.position, 2);
    assert_eq!(lines(&*ledger, company).await.len(), 3);
}

fn rejection() -> Rejection {
    Rejection {
        code: "no_crew".into(),
        message: "nobody is assigned".into(),
        facts: serde_json::json!({ "b": 1, "a": [] }),
        by: None,
    }
}

async fn a_rejection_is_remembered_where_it_is_final(ground: Ground) {
    let (ledger, company) = founded(&ground).await;
    let mut refused = keyed(deed(company, truck(1), 0, &[]), "trigger:crew", "refused");
    let rejection = rejection();
    refused.answer.rejection = Some(rejection.clone());
    refused.idempotency.as_mut().expect("keyed").refusals = true;
    append(&*ledger, refused.clone()).await.expect("answered");
    let Err(AppendError::Repeated(answered)) = append(&*ledger, refused).await else { panic!("not repeated") };
    assert_eq!(answered.answer.rejection, Some(rejection));
    assert_eq!((answered.answer.position, answered.answer.recorded), (1, 0));
    // A refused founding is remembered too, and founds nothing.
    let mut refused = keyed(founding(super::company(2)), "tool:test", "k");
    refused.drafts.clear();
    append(&*ledger, refused).await.expect("answered");
    assert!(ledger.answered(super::company(2), "tool:test", "k").await.expect("read").is_some());
    assert_eq!(ledger.head(super::company(2)).await.expect("read"), None);
}

async fn another_rejection_leaves_the_key_free(ground: Ground) {
    let (ledger, company) = founded(&ground).await;
    let refused = |sequence, key: &str| {
        let mut refused = keyed(deed(company, truck(1), sequence, &[]), "user:1", key);
        refused.answer.rejection = Some(rejection());
        refused
    };
    let refused_now = |outcome: &Result<Appended, AppendError>| {
        outcome.as_ref().is_ok_and(|appended| appended.answer.rejection.is_some() && appended.answer.position == 2)
    };
    append(&*ledger, keyed(deed(company, truck(1), 0, &["bought"]), "user:1", "done")).await.expect("appended");
    assert!(refused_now(&append(&*ledger, refused(1, "k")).await));
    assert!(ledger.answered(company, "user:1", "k").await.expect("read").is_none());
    // What was done under a key is answered again, whatever is decided now, alone or beside others.
    let again = append(&*ledger, refused(1, "done")).await;
    assert!(matches!(again, Err(AppendError::Repeated(answered)) if answered.answer.position == 2));
    let batch =
        vec![refused(1, "k"), refused(1, "done"), keyed(deed(company, truck(2), 0, &["bought"]), "user:1", "k")];
    let outcomes = append_all(&*ledger, batch).await.expect("no fault");
    assert!(refused_now(&outcomes[0]), "{outcomes:?}");
    assert!(matches!(&outcomes[1], Err(AppendError::Repeated(answered)) if answered.answer.position == 2));
    assert_eq!(outcomes[2].as_ref().map(|appended| appended.answer.position).ok(), Some(3));
}

async fn another_actor_has_other_keys(ground: Ground) {
    let (ledger, company) = founded(&ground).await;
    append(&*ledger, keyed(deed(company, truck(1), 0, &["bought"]), "user:1", "k")).await.expect("appended");
    append(&*ledger, keyed(deed(company, truck(1), 1, &["sold"]), "user:2", "k")).await.expect("appended");
    assert!(ledger.answered(company, "user:3", "k").await.expect("read").is_none());
}

async fn the_same_key_twice_in_a_batch_acts_once(ground: Ground) {
    let (ledger, company) = founded(&ground).await;
    let wish = keyed(deed(company, truck(1), 0, &["bought"]), "user:1", "k");
    let outcomes = append_all(&*ledger, vec![wish.clone(), wish]).await.expect("no fault");
    assert!(outcomes[0].is_ok());
    assert!(matches!(&outcomes[1], Err(AppendError::Repeated(answered)) if answered.answer.position == 2));
    assert_eq!(lines(&*ledger, company).await.len(), 2);
}

async fn what_failed_is_not_remembered(ground: Ground) {
    let (ledger, company) = founded(&ground).await;
    let stale = append(&*ledger, keyed(deed(company, truck(1), 4, &["sold"]), "user:1", "k")).await;
    assert!(matches!(stale, Err(AppendError::Conflict { .. })));
    append(&*ledger, keyed(deed(company, truck(1), 0, &["bought"]), "user:1", "k")).await.expect("appended");
}

async fn old_answers_to_people_are_forgotten(ground: Ground) {
    let (ledger, company) = founded(&ground).await;
    let batch = (0..10_u64).map(|nth| {
        let mut wish = keyed(deed(company, truck(1), 0, &[]), "user:1", &format!("k{nth}"));
        wish.now = noon().plus(Seconds(u32::try_from(nth).expect("small")));
        wish.idempotency.as_mut().expect("keyed").for_ever = nth < 2;
        wish
    });
    append_all(&*ledger, batch.collect()).await.expect("no fault");
    assert_eq!(ledger.forget_answers(noon().plus(Seconds(6))).await.expect("forgotten"), 4);
    for (nth, kept) in [(0, true), (1, true), (2, false), (5, false), (6, true), (9, true)] {
        let answered = ledger.answered(company, "user:1", &format!("k{nth}")).await.expect("read");
        assert_eq!(answered.is_some(), kept, "k{nth}");
    }
}
