//! Appending by several processes to one Postgres whose disk is slow: whether they wait for each other.

use std::{sync::Arc, time::Duration};

use cnc_commands::ledger::PostgresLedger;
use cnc_domain::{kernel::CompanyId, ledger::Ledger};
use futures::future::try_join_all;
use sqlx::{Connection, PgConnection};

use super::{
    Options, Outcome, load,
    postgres::appends_to,
    report::{Report, Target},
    rows,
};

/// How many processes append: here each is a ledger with connections and an appender of its own.
const PROCESSES: usize = 4;
/// How many writers, and companies, each has.
const WRITERS: usize = 16;
/// How long a sync takes at the least.
const SYNC: Duration = Duration::from_millis(5);

/// What a transaction did that told others of it before it was on the disk.
const NOTIFY: &str = "CREATE FUNCTION public.notify() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_notify('bench', ''); RETURN NULL; END $$;
    CREATE TRIGGER notify AFTER UPDATE ON cnc.heads FOR EACH STATEMENT EXECUTE FUNCTION public.notify()";

/// Measures four processes beside one of them, beside one that has all the writers, and beside four whose commits notify.
pub async fn measure(url: &str, options: &Options, report: &mut Report) -> Outcome {
    let mut admin = PgConnection::connect(url).await?;
    let slow = format!(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET commit_delay = {}', current_database());
                     EXECUTE format('ALTER DATABASE %I SET commit_siblings = 0', current_database()); END $$",
        SYNC.as_micros()
    );
    sqlx::raw_sql(&slow).execute(&mut admin).await?;
    PostgresLedger::connect(url).await?.migrate().await?;
    let (mut one, mut all_in_one, mut four, mut notifying) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.turns {
        one.push(per_second(url, 1, WRITERS, options.cell()).await?);
        all_in_one.push(per_second(url, 1, PROCESSES * WRITERS, options.cell()).await?);
        four.push(per_second(url, PROCESSES, WRITERS, options.cell()).await?);
        sqlx::raw_sql(NOTIFY).execute(&mut admin).await?;
        notifying.push(per_second(url, PROCESSES, WRITERS, options.cell()).await?);
        sqlx::raw_sql("DROP TRIGGER notify ON cnc.heads; DROP FUNCTION public.notify()").execute(&mut admin).await?;
    }
    let four = load::median(four);
    let row = format!("appends/s, {PROCESSES} processes, {WRITERS} writers and companies each, syncs of {SYNC:?}");
    report.add(row.clone(), four, "one of these processes alone", load::median(one), Some(Target::AtLeast(2.0)));
    report.add(row.clone(), four, "one process with all these writers", load::median(all_in_one), None);
    report.add(
        row,
        four,
        "the same with a notification in each commit",
        load::median(notifying),
        Some(Target::AtLeast(2.0)),
    );
    Ok(())
}

async fn per_second(url: &str, processes: usize, writers: usize, time: Duration) -> Outcome<f64> {
    let mut ledgers = Vec::new();
    for _ in 0..processes {
        let ledger: Arc<dyn Ledger> = Arc::new(PostgresLedger::connect(url).await?);
        let companies: Vec<CompanyId> = (0..writers).map(|_| CompanyId::new(rows::fresh())).collect();
        for company in &companies {
            rows::found(&ledger, *company).await?;
        }
        ledgers.push((ledger, companies));
    }
    let rates = ledgers.iter().map(|(ledger, companies)| appends_to(ledger, companies.clone(), writers, time));
    Ok(try_join_all(rates).await?.into_iter().sum())
}
