//! `bench ledger`: what it costs to record, to read again and to trust.

use std::{fs::File, io::Write as _, path::Path, sync::Arc, time::Instant};

use cnc_commands::ledger::{PostgresLedger, SqliteLedger};
use cnc_domain::ledger::Ledger;

use super::{Options, Outcome, Part, growth, postgres, processes, read_side, report::Report, sqlite};

/// Runs all of it, on one Postgres cluster and one folder.
pub async fn run(options: &Options) -> Outcome {
    let folder = tempfile::tempdir()?;
    let cluster = cnc_tests::postgres::Cluster::start();
    println!("one sync of 4 KiB to this disk takes {:.2} ms (median)", sync_ms(folder.path())?);
    let mut report = Report::default();
    if options.wants(Part::Verify) {
        read_side::verify(options, &mut report)?;
    }
    if options.wants(Part::Fold) {
        read_side::fold(&fresh(folder.path(), "fold")?, options, &mut report).await?;
    }
    if options.wants(Part::Sqlite) {
        sqlite::measure(&fresh(folder.path(), "append")?, options, &mut report).await?;
    }
    if options.wants(Part::Postgres) {
        postgres::measure(&cluster.database().await, options, &mut report).await?;
    }
    if options.wants(Part::Processes) {
        // In a cluster of its own: a sync that is slow is slow for all.
        let slow = cnc_tests::postgres::Cluster::start();
        processes::measure(&slow.database().await, options, &mut report).await?;
    }
    if options.wants(Part::Growth) {
        let sqlite = async || {
            Ok(Arc::new(SqliteLedger::open(tempfile::tempdir_in(folder.path())?.keep().as_path())?) as Arc<dyn Ledger>)
        };
        growth::measure("SQLite", sqlite, options, &mut report).await?;
        let postgres = async || {
            let ledger = PostgresLedger::connect(&cluster.database().await).await?;
            ledger.migrate().await?;
            Ok(Arc::new(ledger) as Arc<dyn Ledger>)
        };
        growth::measure("Postgres", postgres, options, &mut report).await?;
    }
    report.finish(options.json.as_deref())
}

fn fresh(folder: &Path, name: &str) -> Outcome<std::path::PathBuf> {
    let path = folder.join(name);
    std::fs::create_dir(&path)?;
    Ok(path)
}

/// What a durable commit can cost at the least here.
fn sync_ms(folder: &Path) -> Outcome<f64> {
    let mut file = File::create(folder.join("sync"))?;
    let mut figures = Vec::new();
    for _ in 0..200 {
        let start = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        figures.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(super::load::median(figures))
}
