//! What appending, reading and remembering cost as a ledger grows a hundred times.

use std::{sync::Arc, time::Instant};

use cnc_domain::{
    kernel::CompanyId,
    ledger::{Feed, Hash, Ledger, Verifier},
};

use super::{
    Options, Outcome, load, memory,
    postgres::appends_to,
    report::{Report, Target},
    rows::{self, Journey},
};

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
    facts: Hash,
}

impl Grown {
    async fn new(ledger: Arc<dyn Ledger>) -> Outcome<Self> {
        let company = CompanyId::new(rows::fresh());
        let facts = rows::found(&ledger, company).await?;
        Ok(Self { ledger, company, facts })
    }

    async fn fill(&self, entries: u64) -> Outcome {
        rows::fill(&self.ledger, self.company, entries).await
    }

    /// Of 64 writers, each with a stream of its own.
    async fn appends_per_second(&self, options: &Options) -> Outcome<f64> {
        appends_to(&self.ledger, vec![self.company], 64, options.cell()).await
    }

    /// Reads of one whole journey.
    async fn reads_per_second(&self, options: &Options) -> Outcome<f64> {
        let (ledger, company) = (self.ledger.clone(), self.company);
        let append = Journey::new(company, self.facts).whole("read");
        let journey = append.drafts[0].id;
        ledger.append(vec![append]).await?.remove(0)?;
        load::per_second(4, options.cell(), move |_, _| {
            let ledger = ledger.clone();
            async move {
                match ledger.read_stream(company, "truck_journey", journey, 0, 500).await {
                    Ok(lines) if lines.len() as u64 == rows::REPORTS => Ok(()),
                    Ok(lines) => Err(format!("{} lines instead of {}", lines.len(), rows::REPORTS)),
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
