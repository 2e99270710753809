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

/// Measures at `entries / 100`, in a new database each turn, beside one of `entries`.
pub async fn measure(
    name: &str,
    open: impl AsyncFn() -> Outcome<Arc<dyn Ledger>>,
    options: &Options,
    report: &mut Report,
) -> Outcome {
    let (from, to) = (options.entries / 100, options.entries);
    let long = Grown::new(open().await?).await?;
    let mut resident = Vec::new();
    for entries in [from, to / 10, to] {
        long.fill(entries).await?;
        long.verify().await?;
        resident.push(memory::resident_kib()?);
    }
    let (mut appends, mut reads) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for _ in 0..options.turns {
        let short = Grown::new(open().await?).await?;
        short.fill(from).await?;
        for (place, grown) in [&short, &long].into_iter().enumerate() {
            reads[place].push(grown.reads_per_second(options).await?);
        }
        for (place, grown) in [&short, &long].into_iter().enumerate() {
            appends[place].push(grown.appends_per_second(options).await?);
        }
    }
    for (what, figures) in [("appends", appends), ("stream reads", reads)] {
        let [short, long] = figures.map(load::median);
        let (row, beside) = (format!("{what}/s on {name} at {to} entries"), format!("the same at {from}, in turns"));
        report.add(row, long, beside, short, Some(Target::AtLeast(0.8)));
    }
    report.add(
        format!("KiB resident after verifying {to} entries on {name}"),
        resident[2],
        format!("the same after {}, by when caches are full ({:.0} after {from})", to / 10, resident[0]),
        resident[1],
        Some(Target::AtMost(1.2)),
    );
    Ok(())
}

/// A company in a database of its own, whose ledger grows.
struct Grown {
    ledger: Arc<dyn Ledger>,
    company: CompanyId,
}

impl Grown {
    async fn new(ledger: Arc<dyn Ledger>) -> Outcome<Self> {
        let company = CompanyId::new(rows::fresh());
        ledger.append(vec![rows::founding(company)]).await?.remove(0)?;
        Ok(Self { ledger, company })
    }

    /// Appends until the ledger is `entries` long.
    async fn fill(&self, entries: u64) -> Outcome {
        let (ledger, company) = (&self.ledger, self.company);
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

    /// Of 64 writers, each with a stream of its own.
    async fn appends_per_second(&self, options: &Options) -> Outcome<f64> {
        let (company, appender) = (self.company, Arc::new(Appender::start(self.ledger.clone(), BATCH)));
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
    async fn reads_per_second(&self, options: &Options) -> Outcome<f64> {
        let (ledger, company) = (&self.ledger, self.company);
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
    async fn verify(&self) -> Outcome {
        let (mut verifier, start) = (Verifier::default(), Instant::now());
        loop {
            let lines = Feed::read(self.ledger.as_ref(), self.company, verifier.head().position, 2_000).await?;
            if lines.is_empty() {
                break;
            }
            for line in &lines {
                verifier.line(line.as_bytes())?;
            }
        }
        println!(
            "    read and verified {} entries in {:.1} s",
            verifier.head().position,
            start.elapsed().as_secs_f64()
        );
        Ok(())
    }
}
