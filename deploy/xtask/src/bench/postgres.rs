//! Appending on Postgres: ours beside the peer and beside raw COPY.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use cnc_commands::{appender::Appender, ledger::PostgresLedger};
use cnc_domain::{kernel::CompanyId, ledger::Ledger};
use futures::TryStreamExt;
use sqlx::{Connection, PgConnection, postgres::PgPoolCopyExt};
use tokio::sync::Mutex;

use super::{
    Options, Outcome, load,
    report::{Report, Target},
    rows::{self, Journey},
    stock,
};

/// How many appends a batch may hold, as the host has it.
const BATCH: usize = 512;
/// The peer's pool sizes; its best counts.
const POOLS: [u32; 3] = [4, 16, 64];

/// Measures appends with 1, 16, 64 and 1,024 writers in 1 and 100 companies, in turns with the peer.
pub async fn measure(url: &str, options: &Options, report: &mut Report) -> Outcome {
    let ledger = PostgresLedger::connect(url).await?;
    ledger.migrate().await?;
    let ledger: Arc<dyn Ledger> = Arc::new(ledger);
    let mut largest = 0_f64;
    for &writers in &options.writers {
        let target = match writers {
            64 => Some(Target::AtLeast(4.0)),
            1024 => Some(Target::AtLeast(12.0)),
            _ => None,
        };
        let (mut peer, mut one, mut hundred) = (vec![Vec::new(); POOLS.len()], Vec::new(), Vec::new());
        for _ in 0..options.turns {
            for (figures, pool) in peer.iter_mut().zip(POOLS) {
                figures.push(stock::commits_per_second(url, pool, writers, options.cell()).await?);
            }
            one.push(appends_per_second(&ledger, 1, writers, options.cell()).await?);
            hundred.push(appends_per_second(&ledger, 100, writers, options.cell()).await?);
        }
        let figures = peer.into_iter().map(load::median).zip(POOLS);
        let (best, pool) = figures.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or((f64::NAN, 0));
        for (companies, ours) in [(1, load::median(one)), (100, load::median(hundred))] {
            largest = largest.max(ours);
            let row = format!("appends/s on Postgres, {writers} writers, {companies} companies");
            report.add(row, ours, format!("postgres-es, its best pool of 4, 16, 64 ({pool})"), best, target);
        }
    }
    let copied = copied_per_second(url).await?;
    report.add(
        "appends/s on Postgres, 1,024 writers, the better",
        largest,
        "raw COPY of the same rows into the same indexed table",
        copied,
        Some(Target::AtLeast(0.3)),
    );
    Ok(())
}

/// Appends per second to so many new companies.
pub async fn appends_per_second(
    ledger: &Arc<dyn Ledger>,
    companies: usize,
    writers: usize,
    time: Duration,
) -> Outcome<f64> {
    let ids: Vec<CompanyId> = (0..companies).map(|_| CompanyId::new(rows::fresh())).collect();
    for company in &ids {
        rows::found(ledger, *company).await?;
    }
    appends_to(ledger, ids, writers, time).await
}

/// Appends per second through the appender, each with its idempotency key and its stream checked.
pub async fn appends_to(
    ledger: &Arc<dyn Ledger>,
    companies: Vec<CompanyId>,
    writers: usize,
    time: Duration,
) -> Outcome<f64> {
    let appender = Arc::new(Appender::start(ledger.clone(), BATCH));
    let mut facts = Vec::new();
    for company in &companies {
        facts.push(ledger.facts(*company).await?.unwrap_or_default());
    }
    let place = |writer: usize| writer % companies.len();
    let journeys = (0..writers).map(|writer| Mutex::new(Journey::new(companies[place(writer)], facts[place(writer)])));
    let journeys: Arc<Vec<_>> = Arc::new(journeys.collect());
    load::per_second(writers, time, move |writer, _| {
        let (appender, journeys) = (appender.clone(), journeys.clone());
        async move {
            let mut journey = journeys[writer].lock().await;
            let appended = appender.append(journey.report(&writer.to_string())).await;
            journey.reported(&appended.map_err(|error| error.to_string())?);
            Ok(())
        }
    })
    .await
}

/// Rows per second of one COPY, of the rows that were just appended, into a copy of their table with all its indexes.
async fn copied_per_second(url: &str) -> Outcome<f64> {
    let mut connection = PgConnection::connect(url).await?;
    let prepare = "DROP TABLE IF EXISTS public.copied; CREATE TABLE public.copied (LIKE cnc.events INCLUDING ALL); \
        CREATE TEMP TABLE appended AS SELECT * FROM \
        (SELECT * FROM cnc.events ORDER BY at DESC LIMIT 200000) AS last ORDER BY at, company, position";
    sqlx::raw_sql(prepare).execute(&mut connection).await?;
    let pool = sqlx::PgPool::connect(url).await?;
    let mut text = Vec::new();
    let mut out = connection.copy_out_raw("COPY appended TO STDOUT").await?;
    while let Some(chunk) = out.try_next().await? {
        text.extend_from_slice(&chunk);
    }
    drop(out);
    let start = Instant::now();
    let mut copy = pool.copy_in_raw("COPY public.copied FROM STDIN").await?;
    for chunk in text.chunks(1 << 20) {
        copy.send(chunk).await?;
    }
    let copied = copy.finish().await?;
    #[allow(clippy::cast_precision_loss, reason = "a count of rows")]
    let rate = copied as f64 / start.elapsed().as_secs_f64();
    sqlx::raw_sql("DROP TABLE public.copied").execute(&pool).await?;
    Ok(rate)
}
