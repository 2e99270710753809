//! What an audit of the stored ledger finds.

use cnc_commands::ledger::Flaw;
use cnc_domain::ledger::Wrong;

use super::*;

on_both!(
    every;
    a_changed_column_is_found,
    a_changed_byte_is_found,
    a_removed_line_is_found,
    a_cut_tail_is_found,
    a_changed_head_is_found,
    facts_that_are_not_the_company_s_are_found,
    a_database_of_an_older_version_learns_each_company_s_facts,
    a_ledger_that_grows_is_unbroken,
);

async fn flaw_after(ground: &Ground, statement: &str, kept: Option<Head>) -> Flaw {
    let (ledger, company) = founded(ground).await;
    for sequence in 0..4 {
        append(&*ledger, deed(company, truck(1), sequence, &["cleaned"])).await.expect("appended");
    }
    lines(&*ledger, company).await;
    ground.tamper(statement).await;
    ledger.audit(company, kept).await.expect("read").expect("a company").expect_err("a flaw")
}

async fn a_changed_column_is_found(ground: Ground) {
    let (stream, event) = match ground {
        Ground::Sqlite(_) => ("stream = 'car'", "event = 'dirtied'"),
        Ground::Postgres(_) => ("aggregate_id = replace(aggregate_id, 'truck', 'car')", "event_type = 'dirtied'"),
    };
    let changes =
        [("sequence", "sequence = sequence + 9"), ("at", "at = at + 1"), ("stream", stream), ("event", event)];
    for (nth, (column, change)) in changes.into_iter().enumerate() {
        let ground = match &ground {
            Ground::Sqlite(_) => Ground::sqlite(),
            Ground::Postgres(_) => Ground::postgres().await,
        };
        let position = nth as u64 + 2;
        let flaw = flaw_after(&ground, &format!("UPDATE events SET {change} WHERE position = {position}"), None).await;
        assert!(matches!(flaw, Flaw::Column { column: found, .. } if found == column), "{flaw}");
        assert_eq!(flaw.position(), position);
    }
}

async fn a_changed_byte_is_found(ground: Ground) {
    let cast = if matches!(ground, Ground::Postgres(_)) { "::text" } else { "" };
    let json = if cast.is_empty() { "" } else { "::json" };
    let change = format!("UPDATE events SET payload = replace(payload{cast}, 'none', 'nine'){json} WHERE position = 3");
    let flaw = flaw_after(&ground, &change, None).await;
    // The entry itself still says what it said; the hash of its line does not.
    assert!(matches!(&flaw, Flaw::Column { column: "hash", .. }), "{flaw}");
    assert_eq!(flaw.position(), 3);
}

async fn a_removed_line_is_found(ground: Ground) {
    let flaw = flaw_after(&ground, "DELETE FROM events WHERE position = 3", None).await;
    assert_eq!(flaw.position(), 3);
    assert!(matches!(flaw, Flaw::Chain(broken) if broken.wrong == Wrong::OtherPosition { found: 4 }));
}

async fn a_cut_tail_is_found(ground: Ground) {
    let flaw = flaw_after(&ground, "DELETE FROM events WHERE position > 3", None).await;
    assert_eq!(flaw.position(), 4);
    assert!(matches!(flaw, Flaw::Chain(broken) if broken.wrong == Wrong::CutOff(5)));
}

async fn a_changed_head_is_found(ground: Ground) {
    let flaw = flaw_after(&ground, "UPDATE heads SET at = at - 1", None).await;
    assert!(matches!(flaw, Flaw::HeadRow { position: 5, .. }));
    let ledger = ground.ledger().await;
    ground.sql("UPDATE heads SET at = at + 1, position = 4").await.expect("changed");
    let flaw = ledger.audit(company(1), None).await.expect("read").expect("a company").expect_err("a flaw");
    assert!(matches!(flaw, Flaw::HeadRow { position: 5, .. }));
    let kept = Head { position: 2, hash: Hash::default() };
    let flaw = ledger.audit(company(1), Some(kept)).await.expect("read").expect("a company").expect_err("a flaw");
    assert!(matches!(flaw, Flaw::Chain(broken) if broken.position == 2));
}

async fn facts_that_are_not_the_company_s_are_found(ground: Ground) {
    let flaw = flaw_after(&ground, "UPDATE heads SET facts = hash", None).await;
    assert!(matches!(flaw, Flaw::HeadRow { position: 5, .. }));
}

async fn a_database_of_an_older_version_learns_each_company_s_facts(ground: Ground) {
    let (ledger, company) = founded(&ground).await;
    let of_company = |seen, event: &str| {
        let mut wish = deed(company, company.uuid(), seen, &[event]);
        wish.checks[0].stream = "company".into();
        wish.drafts[0].stream = "company".into();
        wish
    };
    append(&*ledger, deed(company, truck(1), 0, &["bought"])).await.expect("appended");
    append(&*ledger, of_company(1, "suspended")).await.expect("appended");
    append(&*ledger, of_company(2, "schema_adopted")).await.expect("appended");
    let lines = lines(&*ledger, company).await;
    let facts = Hash::of(&lines[2]);
    assert_eq!(ledger.facts(company).await.expect("read"), Some(facts));
    let migration = match ground {
        Ground::Sqlite(_) => include_str!("../../../commands/src/ledger/sqlite/facts.sql"),
        Ground::Postgres(_) => include_str!("../../../commands/src/ledger/postgres/facts.sql"),
    };
    ground.sql(&format!("ALTER TABLE heads DROP COLUMN facts; {migration}")).await.expect("migrated");
    let ledger = ground.ledger().await;
    assert_eq!(ledger.facts(company).await.expect("read"), Some(facts));
    append(&*ledger, deed(company, truck(1), 1, &["sold"])).await.expect("appended");
    assert_eq!(super::lines(&*ledger, company).await.len(), 5);
}

async fn a_ledger_that_grows_is_unbroken(ground: Ground) {
    let (ledger, company) = founded(&ground).await;
    let other = ground.ledger().await;
    let growing = tokio::spawn(async move {
        for sequence in 0..300 {
            append(&*other, deed(company, truck(1), sequence, &["cleaned"])).await.expect("appended");
        }
    });
    while !growing.is_finished() {
        let head = ledger.audit(company, None).await.expect("read").expect("a company");
        head.expect("unbroken");
    }
    growing.await.expect("grown");
    assert_eq!(lines(&*ledger, company).await.len(), 301);
}
