//! What the database itself refuses, and what one bad append does to its neighbours.

use super::*;

on_both!(every; entries_cannot_be_changed_or_removed, a_bad_append_leaves_its_neighbours_alone, what_is_no_line_is_refused,);

async fn entries_cannot_be_changed_or_removed(ground: Ground) {
    let (ledger, company) = founded(&ground).await;
    append(&*ledger, deed(company, truck(1), 0, &["bought"])).await.expect("appended");
    let mut statements = vec![
        "UPDATE events SET at = at + 1 WHERE position = 2",
        "DELETE FROM events WHERE position = 2",
        "DELETE FROM events",
    ];
    match ground {
        Ground::Sqlite(_) => statements.extend([
            "INSERT OR REPLACE INTO events SELECT * FROM events WHERE position = 2",
            "REPLACE INTO events SELECT company, 9, stream, id, sequence, event, version, at, hash, metadata, payload
             FROM events WHERE position = 2",
            "UPDATE OR REPLACE events SET position = 1",
        ]),
        Ground::Postgres(_) => statements.extend([
            "TRUNCATE events",
            "SET session_replication_role = replica; DELETE FROM events",
            "INSERT INTO events SELECT * FROM events ON CONFLICT (company, position) DO UPDATE SET at = 1",
        ]),
    }
    for statement in statements {
        let refused = ground.sql(statement).await.expect_err(statement);
        assert!(refused.contains("entries are never"), "{statement}: {refused}");
    }
    assert_eq!(lines(&*ledger, company).await.len(), 2);
}

/// Makes the database itself refuse events named `poison`.
async fn poison(ground: &Ground) {
    let trigger = match ground {
        Ground::Sqlite(_) => {
            "CREATE TRIGGER poison BEFORE INSERT ON events WHEN NEW.event = 'poison'
             BEGIN SELECT raise(ABORT, 'poison'); END"
        }
        Ground::Postgres(_) => "ALTER TABLE events ADD CHECK (event_type <> 'poison')",
    };
    ground.sql(trigger).await.expect("poisoned");
}

async fn a_bad_append_leaves_its_neighbours_alone(ground: Ground) {
    let (ledger, company) = founded(&ground).await;
    poison(&ground).await;
    let batch = vec![
        keyed(deed(company, truck(1), 0, &["bought"]), "user:1", "good"),
        keyed(deed(company, truck(2), 0, &["bought", "poison"]), "user:1", "bad"),
        deed(company, truck(3), 0, &["bought"]),
        deed(company, truck(3), 0, &["leased"]),
    ];
    let outcomes = append_all(&*ledger, batch).await.expect("no fault");
    assert!(outcomes[0].is_ok() && outcomes[2].is_ok());
    assert!(matches!(&outcomes[1], Err(AppendError::Fault(fault)) if !fault.passing));
    assert!(matches!(outcomes[3], Err(AppendError::Conflict { .. })));
    assert_eq!(lines(&*ledger, company).await.len(), 3);
    assert!(ledger.answered(company, "user:1", "bad").await.expect("read").is_none());
    assert!(ledger.answered(company, "user:1", "good").await.expect("read").is_some());
    // Alone, it fails alone.
    let alone = append(&*ledger, deed(company, truck(2), 0, &["poison"])).await;
    assert!(matches!(alone, Err(AppendError::Fault(_))));
}

async fn what_is_no_line_is_refused(ground: Ground) {
    let (ledger, company) = founded(&ground).await;
    let with = |payload: &str| {
        let mut wish = deed(company, truck(1), 0, &[]);
        wish.drafts.push(draft(truck(1), 1, "noted", payload));
        wish
    };
    let mut batch = vec![with("{\n}"), with("[1]"), with("\"{}\""), deed(company, truck(1), 0, &["Odd name"])];
    batch.push(deed(company, truck(1), 0, &[""]));
    batch.push(keyed(deed(company, truck(1), 0, &["noted"]), "user:1", "a\0b"));
    batch.push(deed(company, truck(1), 1 << 60, &["noted"]));
    let bad = batch.len();
    batch.push(with("{}"));
    let outcomes = append_all(&*ledger, batch).await.expect("no fault");
    assert!(outcomes[..bad].iter().all(|outcome| matches!(outcome, Err(AppendError::Fault(_)))));
    assert!(outcomes[bad].is_ok());
    assert_eq!(lines(&*ledger, company).await.len(), 2);
}
