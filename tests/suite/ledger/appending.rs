//! What an append records.

use cnc_domain::{
    kernel::{Seconds, Timestamp},
    ledger::{Entry, Hash},
};

use super::*;

on_both!(
    every;
    entries_link_from_the_first_to_the_head,
    bytes_are_kept_verbatim,
    time_never_runs_backwards,
    several_streams_are_appended_together,
    a_batch_of_many_companies_is_appended_together,
    an_append_without_entries_still_answers_with_its_place,
);

async fn entries_link_from_the_first_to_the_head(ground: Ground) {
    let (ledger, company) = founded(&ground).await;
    let appended = append(&*ledger, deed(company, truck(1), 0, &["bought", "painted"])).await.expect("appended");
    let lines = lines(&*ledger, company).await;
    assert_eq!(lines.len(), 3);
    assert_eq!((appended.head.position, appended.head.hash), (3, Hash::of(&lines[2])));
    assert_eq!((appended.answer.position, appended.answer.sequence, appended.answer.recorded), (3, 2, 2));
    assert_eq!(head(&*ledger, company).await, appended.head);
    assert_eq!(ledger.heads().await.expect("read"), [(company, appended.head)]);
    let entry = Entry::read(&lines[2]).expect("an entry");
    assert_eq!((entry.sequence, entry.event.as_str(), entry.previous), (2, "painted", Hash::of(&lines[1])));
    assert_eq!(Entry::read(&lines[0]).expect("an entry").previous, Hash::default());
}

async fn bytes_are_kept_verbatim(ground: Ground) {
    let (ledger, company) = founded(&ground).await;
    let long = format!(r#"{{"words":"{}"}}"#, "Ωé😀\\u00e9 ".repeat(6_000));
    assert!(long.len() > 64 * 1024);
    let payloads = [
        r#"{"z":1,"a":{"y":[1,2,{}],"b":null},"A":true}"#,
        r#"{"escapes":"\" \\ \/ \b \f \n \r \t \u00e9 \u00E9 é \ud83d\ude00 😀 \u2028"}"#,
        r#"{"like a header":"\"}},\"payload\":{","max":9007199254740992,"min":-9007199254740992}"#,
        r#"{"it's":"100% $1 ?1 :x ' '' \\' --","nothing":{},"":""}"#,
        &long,
    ];
    let mut wish = deed(company, truck(1), 0, &[]);
    wish.drafts = (1..).zip(payloads).map(|(nth, payload)| draft(truck(1), nth, "noted", payload)).collect();
    let drafts = wish.drafts.clone();
    let before = head(&*ledger, company).await;
    let at = append(&*ledger, wish).await.expect("appended").at;
    let mut previous = before;
    let read = lines(&*ledger, company).await;
    let of_stream = ledger.read_stream(company, "truck", truck(1), 0, 100).await.expect("read");
    for (nth, draft) in drafts.iter().enumerate() {
        let expected = Entry::line(&draft.header(company, previous, at), payloads[nth]);
        assert!(read[nth + 1] == expected && of_stream[nth] == expected, "{}", draft.payload.get());
        previous = Head { position: previous.position + 1, hash: Hash::of(expected) };
    }
}

async fn time_never_runs_backwards(ground: Ground) {
    let (ledger, company) = founded(&ground).await;
    let mut stamps = Vec::new();
    for (sequence, now) in
        [noon().plus(Seconds(9)), noon().minus(Seconds(9)), noon().plus(Seconds(10))].into_iter().enumerate()
    {
        let mut wish = deed(company, truck(1), sequence as u64, &["cleaned"]);
        wish.now = now;
        stamps.push(append(&*ledger, wish).await.expect("appended").at);
    }
    assert_eq!(stamps, [9, 9, 10].map(|seconds| noon().plus(Seconds(seconds))));
    let position_at = async |at: Timestamp| ledger.position_at(company, at).await.expect("read");
    assert_eq!(position_at(noon().minus(Seconds(1))).await, 0);
    assert_eq!(position_at(noon()).await, 1);
    assert_eq!(position_at(noon().plus(Seconds(8))).await, 1);
    assert_eq!(position_at(noon().plus(Seconds(9))).await, 3);
    assert_eq!(position_at(noon().plus(Seconds(99))).await, 4);
    assert_eq!(ledger.position_at(super::company(2), noon()).await.expect("read"), 0);
    assert_eq!(lines(&*ledger, company).await.len(), 4);
}

async fn several_streams_are_appended_together(ground: Ground) {
    let (ledger, company) = founded(&ground).await;
    let mut wish = deed(company, truck(1), 0, &["hitched"]);
    wish.checks.push(consulted(truck(2), 0));
    wish.drafts.push(draft(truck(2), 1, "hitched", "{}"));
    wish.drafts.push(draft(truck(1), 2, "moved", "{}"));
    let answer = append(&*ledger, wish.clone()).await.expect("appended").answer;
    assert_eq!((answer.position, answer.sequence, answer.recorded), (4, 2, 3));
    assert_eq!(ledger.read_stream(company, "truck", truck(1), 0, 9).await.expect("read").len(), 2);
    // Now one of the two stands elsewhere: nothing of it is recorded.
    wish.checks[0].seen.sequence = 2;
    assert!(matches!(append(&*ledger, wish).await, Err(AppendError::Conflict { found, .. }) if found.sequence == 1));
    assert_eq!(lines(&*ledger, company).await.len(), 4);
}

async fn a_batch_of_many_companies_is_appended_together(ground: Ground) {
    let ledger = ground.ledger().await;
    let companies: Vec<_> = (1..=30).rev().map(company).collect();
    let mut batch: Vec<_> = companies.iter().map(|company| founding(*company)).collect();
    let founded = append_all(&*ledger, batch).await.expect("no fault");
    assert!(founded.iter().all(Result::is_ok));
    batch = companies.iter().map(|company| deed(*company, truck(1), 0, &["bought"])).collect();
    batch.extend(companies.iter().map(|company| deed(*company, truck(2), 0, &["painted", "sold"])));
    let outcomes = append_all(&*ledger, batch).await.expect("no fault");
    assert!(outcomes.iter().all(Result::is_ok));
    for company in companies {
        assert_eq!(lines(&*ledger, company).await.len(), 4);
    }
}

async fn an_append_without_entries_still_answers_with_its_place(ground: Ground) {
    let (ledger, company) = founded(&ground).await;
    append(&*ledger, deed(company, truck(1), 0, &["bought"])).await.expect("appended");
    let answer = append(&*ledger, deed(company, truck(1), 1, &[])).await.expect("answered").answer;
    assert_eq!((answer.position, answer.sequence, answer.recorded), (2, 1, 0));
    assert!(matches!(append(&*ledger, deed(company, truck(1), 0, &[])).await, Err(AppendError::Conflict { .. })));
}
