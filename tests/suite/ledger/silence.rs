//! A database that says nothing, or a lock that nobody lets go of: both end, and stop nobody else.

use cnc_commands::appender::Appender;
use cnc_tests::{
    postgres::clusters,
    wire::{Mode, Wire},
};
use sqlx::PgConnection;

use super::*;

/// What a frozen connection may cost.
const SECONDS: Duration = Duration::from_secs(20);

/// A wire to the shared server, and the address of a database of it over that wire.
async fn wired() -> (Wire, String) {
    let direct = cluster().database().await;
    let wire = Wire::to(cluster().address()).await.expect("a wire");
    let url = direct.replace(&cluster().address().to_string(), &wire.address().to_string());
    (wire, url)
}

/// The facts of a company that an append rests on.
async fn facts(ledger: &dyn Audit, company: CompanyId) -> Hash {
    ledger.facts(company).await.expect("reads").expect("is there")
}

async fn in_seconds<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(SECONDS, work).await.unwrap_or_else(|_| panic!("{what} took minutes"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_carries_nothing_any_more_costs_seconds() {
    let (wire, url) = wired().await;
    let ledger = open(&url).await;
    let company = company(1);
    append(&*ledger, founding(company)).await.expect("founded");
    let facts = facts(&*ledger, company).await;
    // All connections that are there are dead, and nobody says so.
    wire.set(Mode::Forgotten);
    let wish = || keyed(Append { facts, ..deed(company, truck(1), 0, &["bought"]) }, "user:1", "key");
    let unheard = in_seconds("an append", ledger.append(vec![wish()])).await;
    assert!(unheard.as_ref().err().is_none_or(|fault| fault.passing), "{unheard:?}");
    in_seconds("a read", ledger.head(company)).await.expect("reads on another connection");
    let again = in_seconds("the same append", ledger.append(vec![wish()])).await.expect("is done").remove(0);
    assert!(matches!(again, Ok(_) | Err(AppendError::Repeated(_))), "{again:?}");
    assert_eq!(lines(&*ledger, company).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_answers_nobody_is_a_fault_in_seconds_and_heals() {
    let (wire, url) = wired().await;
    let ledger = open(&url).await;
    append(&*ledger, founding(company(1))).await.expect("founded");
    wire.set(Mode::Stalled);
    let silent = in_seconds("an append", ledger.append(vec![deed(company(1), truck(1), 0, &["bought"])])).await;
    assert!(silent.expect_err("nobody answers").passing);
    assert!(in_seconds("a read", ledger.heads()).await.expect_err("nobody answers").passing);
    wire.set(Mode::Open);
    in_seconds("a read", ledger.heads()).await.expect("answers again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn news_comes_again_after_the_connection_that_listens_has_died_silently() {
    let (wire, url) = wired().await;
    let (hears, tells) =
        (open(&url).await, open(&url.replace(&wire.address().to_string(), &cluster().address().to_string())).await);
    append(&*tells, founding(company(1))).await.expect("founded");
    let seen = within("what was told first", hears.changed(0)).await.cursor;
    wire.set(Mode::Forgotten);
    append(&*tells, deed(company(1), truck(1), 0, &["bought"])).await.expect("appended");
    in_seconds("the news", hears.changed(seen)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_held_head_stops_its_company_alone() {
    for cluster in clusters() {
        let ground = Ground::on(cluster).await;
        let ledger = ground.ledger().await;
        // The same lane, however many there are.
        let (stuck, free) = (company(12), company(24));
        for company in [stuck, free] {
            append(&*ledger, founding(company)).await.expect("founded");
        }
        let (of_stuck, of_free) = (facts(&*ledger, stuck).await, facts(&*ledger, free).await);
        let appender = Arc::new(Appender::start(ledger.clone(), 64));
        let mut holder = PgConnection::connect(&ground.address()).await.expect("connects");
        let hold = format!("BEGIN; SELECT FROM cnc.heads WHERE company = '{stuck}' FOR UPDATE");
        holder.execute(sqlx::raw_sql(&hold)).await.expect("holds");
        let started = |nth| {
            let (appender, wish) = (appender.clone(), deed(stuck, truck(nth), 0, &["bought"]));
            let wish = Append { facts: of_stuck, ..wish };
            tokio::spawn(async move { appender.append(wish).await })
        };
        let given_up = [started(1), started(2)];
        for nth in 0..20 {
            let wish = Append { facts: of_free, ..deed(free, truck(nth), 0, &["bought"]) };
            within("an append of the other company", appender.append(wish)).await.expect("is recorded meanwhile");
        }
        for given_up in given_up {
            let outcome = in_seconds("the company's own append", given_up).await.expect("ends");
            assert!(matches!(&outcome, Err(AppendError::Fault(fault)) if fault.passing), "{outcome:?}");
        }
        let waiting = [started(3), started(4)];
        let wish = Append { facts: of_free, ..deed(free, truck(30), 0, &["bought"]) };
        within("an append of the other company", appender.append(wish)).await.expect("goes on");
        holder.execute("ROLLBACK").await.expect("lets go");
        for waiting in waiting {
            in_seconds("the company's own append", waiting).await.expect("ends").expect("is recorded");
        }
        assert_eq!(lines(&*ledger, stuck).await.len(), 3);
        appender.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_lasts_whatever_the_database_says_of_commits() {
    let ground = Ground::postgres().await;
    founded(&ground).await;
    let lax =
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$;
               CREATE FUNCTION lasts() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                   IF current_setting('synchronous_commit') = 'off' THEN RAISE EXCEPTION 'this may be lost'; END IF;
                   RETURN NULL;
               END $$;
               CREATE TRIGGER lasts AFTER INSERT ON events EXECUTE FUNCTION lasts()";
    ground.sql(lax).await.expect("is set");
    append(&*ground.ledger().await, deed(company(1), truck(1), 0, &["bought"])).await.expect("lasts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_cannot_hold_every_text_is_refused() {
    for cluster in clusters() {
        let url = cluster.database_with("ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0").await;
        let refused = PostgresLedger::connect(&url).await.err().expect("is refused");
        assert!(
            !refused.passing && refused.cause.contains("LATIN1") && refused.cause.contains("ENCODING 'UTF8'"),
            "{refused}"
        );
    }
}
