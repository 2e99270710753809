//! What appending, reading and remembering cost as a ledger grows a hundred times.

use std::{sync::Arc, time::Instant};

use cnc_commands::appender::Appender;
use cnc_domain::{
    kernel::CompanyId,
    ledger::{Feed, Ledger, Verifier},
};

use super::{
    Options, Outcome, load, memory,
    postgres::BATCH,
    report::{Report, Target},
    rows,
};

/// How many entries an append of the filling holds, and how many appends a batch.
const FILL: (u64, u64) = (100, 20);

/// Measures at `entries / 100` and at `entries` entries of one company.
pub async fn measure(name: &str, ledger: &Arc<dyn Ledger>, options: &Options, report: &mut Report) -> Outcome {
    let company = CompanyId::new(rows::fresh());
    ledger.append(vec![rows::founding(company)]).await?.remove(0)?;
    let short = at(ledger, company, options.entries / 100, options).await?;
    let long = at(ledger, company, options.entries, options).await?;
    let (from, to) = (options.entries / 100, options.entries);
    let worse = Some(Target::AtLeast(0.8));
    report.add(
        format!("appends/s on {name} at {to} entries"),
        long.appends,
        format!("the same at {from}"),
        short.appends,
        worse,
    );
    report.add(
        format!("stream reads/s on {name} at {to} entries"),
        long.reads,
        format!("the same at {from}"),
        short.reads,
        worse,
    );
    report.add(
        format!("KiB resident after verifying {to} entries on {name}"),
        long.resident,
        format!("the same after {from}"),
        short.resident,
        Some(Target::AtMost(1.2)),
    );
    Ok(())
}

struct Figures {
    appends: f64,
    reads: f64,
    resident: f64,
}

async fn at(ledger: &Arc<dyn Ledger>, company: CompanyId, entries: u64, options: &Options) -> Outcome<Figures> {
    fill(ledger, company, entries).await?;
    let (mut appends, mut reads) = (Vec::new(), Vec::new());
    for _ in 0..options.turns {
        appends.push(appends_to(ledger, company, options).await?);
        reads.push(reads_of(ledger, company, options).await?);
    }
    verify(ledger, company).await?;
    Ok(Figures { appends: load::median(appends), reads: load::median(reads), resident: memory::resident_kib()? })
}

/// Appends until the ledger is `entries` long.
async fn fill(ledger: &Arc<dyn Ledger>, company: CompanyId, entries: u64) -> Outcome {
    let mut position = ledger.head(company).await?.map_or(0, |head| head.position);
    while position < entries {
        let batch = (0..FILL.1).map(|_| {
            let mut append = rows::report(company, rows::fresh(), 0, "fill");
            let first = append.drafts.remove(0);
            append.drafts =
                (1..=FILL.0).map(|sequence| cnc_domain::ledger::Draft { sequence, ..first.clone() }).collect();
            append
        });
        for appended in ledger.append(batch.collect()).await? {
            position = position.max(appended?.head.position);
        }
    }
    Ok(())
}

async fn appends_to(ledger: &Arc<dyn Ledger>, company: CompanyId, options: &Options) -> Outcome<f64> {
    let appender = Arc::new(Appender::start(ledger.clone(), BATCH));
    let journeys: Arc<Vec<_>> = Arc::new((0..64).map(|_| rows::fresh()).collect());
    load::per_second(64, options.cell(), move |writer, count| {
        let (appender, journey) = (appender.clone(), journeys[writer]);
        async move {
            let append = rows::report(company, journey, count, &writer.to_string());
            appender.append(append).await.map(|_| ()).map_err(|error| error.to_string())
        }
    })
    .await
}

/// Reads of one stream of 100 entries.
async fn reads_of(ledger: &Arc<dyn Ledger>, company: CompanyId, options: &Options) -> Outcome<f64> {
    let mut append = rows::report(company, rows::fresh(), 0, "read");
    let first = append.drafts.remove(0);
    let journey = first.id;
    append.drafts = (1..=FILL.0).map(|sequence| cnc_domain::ledger::Draft { sequence, ..first.clone() }).collect();
    ledger.append(vec![append]).await?.remove(0)?;
    let ledger = ledger.clone();
    load::per_second(4, options.cell(), move |_, _| {
        let ledger = ledger.clone();
        async move {
            match ledger.read_stream(company, "truck_journey", journey, 0, 500).await {
                Ok(lines) if lines.len() == 100 => Ok(()),
                Ok(lines) => Err(format!("{} lines instead of 100", lines.len())),
                Err(fault) => Err(fault.to_string()),
            }
        }
    })
    .await
}

/// Verifies the whole ledger as it is read.
async fn verify(ledger: &Arc<dyn Ledger>, company: CompanyId) -> Outcome {
    let (mut verifier, start) = (Verifier::default(), Instant::now());
    loop {
        let lines = Feed::read(ledger.as_ref(), company, verifier.head().position, 2_000).await?;
        if lines.is_empty() {
            break;
        }
        for line in &lines {
            verifier.line(line.as_bytes())?;
        }
    }
    println!("    read and verified {} entries in {:.1} s", verifier.head().position, start.elapsed().as_secs_f64());
    Ok(())
}
