//! What an append stands on.

use super::*;

on_both!(
    every;
    a_stream_that_moved_on_is_a_conflict,
    a_stream_that_was_only_consulted_counts_too,
    another_entry_in_the_same_place_is_a_conflict,
    what_was_decided_on_other_facts_of_the_company_is_refused,
    of_two_in_one_batch_the_second_conflicts,
    a_conflict_fails_that_append_alone,
    entries_must_follow_their_stream,
    nothing_is_recorded_without_a_company,
    a_company_is_founded_once,
    companies_share_nothing,
);

fn conflicts(outcome: &Result<Appended, AppendError>, seen: Sequence, stands: Sequence) -> bool {
    matches!(outcome, Err(AppendError::Conflict { expected, found, .. }) if (expected.sequence, found.sequence) == (seen, stands))
}

async fn a_stream_that_moved_on_is_a_conflict(ground: Ground) {
    let (ledger, company) = founded(&ground).await;
    append(&*ledger, deed(company, truck(1), 0, &["bought"])).await.expect("appended");
    let Err(AppendError::Conflict { stream, id, expected, found }) =
        append(&*ledger, deed(company, truck(1), 0, &["bought"])).await
    else {
        panic!("no conflict")
    };
    let seen = (stream.as_str(), id, expected.sequence, found.sequence);
    assert_eq!(seen, ("truck", truck(1), 0, 1));
    let ahead = append(&*ledger, deed(company, truck(1), 5, &["sold"])).await;
    assert!(conflicts(&ahead, 5, 1));
    assert_eq!(lines(&*ledger, company).await.len(), 2);
}

async fn a_stream_that_was_only_consulted_counts_too(ground: Ground) {
    let (ledger, company) = founded(&ground).await;
    let consults = |seen| {
        let mut wish = deed(company, truck(1), 0, &["hitched"]);
        wish.checks.push(consulted(truck(2), seen));
        wish
    };
    append(&*ledger, deed(company, truck(2), 0, &["bought"])).await.expect("appended");
    let stale = append(&*ledger, consults(0)).await;
    assert!(matches!(stale, Err(AppendError::Conflict { id, .. }) if id == truck(2)));
    append(&*ledger, consults(1)).await.expect("appended");
}

async fn another_entry_in_the_same_place_is_a_conflict(ground: Ground) {
    let (ledger, company) = founded(&ground).await;
    let here = append(&*ledger, deed(company, truck(1), 0, &["bought"])).await.expect("appended").hashes[0];
    let facts = ledger.facts(company).await.expect("read").expect("a company");
    let seen = |hash| {
        let mut wish = Append { facts, ..deed(company, truck(1), 1, &["sold"]) };
        wish.checks[0].seen.hash = hash;
        wish
    };
    // As this process remembers the stream, and as another looks it up.
    for ledger in [ledger.clone(), ground.ledger().await] {
        let elsewhere = ledger.append(vec![seen(Hash::of("what another history has there"))]).await.expect("no fault");
        assert!(conflicts(&elsewhere[0], 1, 1));
    }
    assert!(ledger.append(vec![seen(here)]).await.expect("no fault")[0].is_ok());
}

async fn what_was_decided_on_other_facts_of_the_company_is_refused(ground: Ground) {
    let (ledger, company) = founded(&ground).await;
    let facts = ledger.facts(company).await.expect("read").expect("a company");
    let of_company = |seen, event: &str| {
        let mut wish = deed(company, company.uuid(), seen, &[event]);
        wish.checks[0].stream = "company".into();
        wish.drafts[0].stream = "company".into();
        wish
    };
    // What the company adopts is none of its facts.
    append(&*ledger, of_company(1, "schema_adopted")).await.expect("appended");
    let before = |number| Append { facts, ..deed(company, truck(number), 0, &["bought"]) };
    assert!(ledger.append(vec![before(1)]).await.expect("no fault")[0].is_ok());
    append(&*ledger, of_company(2, "suspended")).await.expect("appended");
    for ledger in [ledger.clone(), ground.ledger().await] {
        let refused = ledger.append(vec![before(2)]).await.expect("no fault");
        assert!(matches!(refused[0], Err(AppendError::FactsChanged)));
    }
    append(&*ledger, deed(company, truck(2), 0, &["bought"])).await.expect("appended");
}

async fn of_two_in_one_batch_the_second_conflicts(ground: Ground) {
    let (ledger, company) = founded(&ground).await;
    let batch = vec![deed(company, truck(1), 0, &["bought"]), deed(company, truck(1), 0, &["leased"])];
    let outcomes = append_all(&*ledger, batch).await.expect("no fault");
    assert!(outcomes[0].is_ok());
    assert!(conflicts(&outcomes[1], 0, 1));
    let lines = lines(&*ledger, company).await;
    assert!(lines.len() == 2 && lines[1].contains("bought"));
}

async fn a_conflict_fails_that_append_alone(ground: Ground) {
    let (ledger, company) = founded(&ground).await;
    let batch = vec![
        deed(company, truck(1), 0, &["bought"]),
        deed(company, truck(2), 3, &["sold"]),
        deed(company, truck(3), 0, &["bought"]),
    ];
    let outcomes = append_all(&*ledger, batch).await.expect("no fault");
    assert!(outcomes[0].is_ok() && outcomes[1].is_err() && outcomes[2].is_ok());
    assert_eq!(outcomes[2].as_ref().expect("appended").answer.position, 3);
    assert_eq!(lines(&*ledger, company).await.len(), 3);
}

async fn entries_must_follow_their_stream(ground: Ground) {
    let (ledger, company) = founded(&ground).await;
    let mut skips = deed(company, truck(1), 0, &["bought", "sold"]);
    skips.drafts[1].sequence = 3;
    assert!(append(&*ledger, skips).await.is_err());
    let mut unseen = deed(company, truck(1), 0, &["bought"]);
    unseen.drafts.push(draft(truck(2), 2, "bought", "{}"));
    assert!(append(&*ledger, unseen).await.is_err());
    assert_eq!(lines(&*ledger, company).await.len(), 1);
}

async fn nothing_is_recorded_without_a_company(ground: Ground) {
    let ledger = ground.ledger().await;
    let unknown = append(&*ledger, keyed(deed(company(9), truck(1), 0, &["bought"]), "user:1", "k")).await;
    assert!(matches!(unknown, Err(AppendError::NoCompany)));
    assert_eq!(ledger.head(company(9)).await.expect("read"), None);
    assert!(ledger.read(company(9), 0, 9).await.expect("read").is_empty());
    assert!(ledger.answered(company(9), "user:1", "k").await.expect("read").is_none());
    assert_eq!(ledger.audit(company(9), None).await.expect("read"), None);
}

async fn a_company_is_founded_once(ground: Ground) {
    let ledger = ground.ledger().await;
    let outcomes = append_all(&*ledger, vec![founding(company(1)), founding(company(1))]).await.expect("no fault");
    assert!(outcomes[0].is_ok() && matches!(outcomes[1], Err(AppendError::NoCompany)));
    assert!(matches!(append(&*ledger, founding(company(1))).await, Err(AppendError::NoCompany)));
    // Two processes at once.
    for number in 2..12 {
        let others = (ground.ledger().await, ground.ledger().await);
        let (one, other) =
            tokio::join!(append(&*others.0, founding(company(number))), append(&*others.1, founding(company(number))));
        assert!(one.is_ok() != other.is_ok());
        assert_eq!(lines(&*ledger, company(number)).await.len(), 1);
    }
}

async fn companies_share_nothing(ground: Ground) {
    let (ledger, first) = founded(&ground).await;
    let second = company(2);
    append(&*ledger, founding(second)).await.expect("founded");
    append(&*ledger, keyed(deed(first, truck(1), 0, &["bought"]), "user:1", "k")).await.expect("appended");
    append(&*ledger, keyed(deed(second, truck(1), 0, &["leased"]), "user:1", "k")).await.expect("appended");
    assert_eq!(lines(&*ledger, first).await.len(), 2);
    let of_second = ledger.read_stream(second, "truck", truck(1), 0, 9).await.expect("read");
    assert!(of_second.len() == 1 && of_second[0].contains("leased"));
    let crossing = format!("truck/{}/{first}/truck", truck(1));
    assert!(ledger.read_stream(second, &crossing, truck(1), 0, 9).await.expect("read").is_empty());
}
