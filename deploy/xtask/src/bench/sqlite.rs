//! Appending on SQLite, durable, beside raw batched inserts of the same rows.

use std::{path::Path, sync::Arc, time::Instant};

use cnc_commands::ledger::SqliteLedger;
use cnc_domain::ledger::Ledger;
use rusqlite::{Connection, types::Value};

use super::{
    Options, Outcome, load,
    postgres::appends_per_second,
    report::{Report, Target},
};

/// Measures appends with 1, 16, 64 and 1,024 writers.
pub async fn measure(folder: &Path, options: &Options, report: &mut Report) -> Outcome {
    let ledger: Arc<dyn Ledger> = Arc::new(SqliteLedger::open(folder)?);
    for &writers in &options.writers {
        let (mut ours, mut raw) = (Vec::new(), Vec::new());
        for _ in 0..options.turns {
            ours.push(appends_per_second(&ledger, 1, writers, options.cell()).await?);
            raw.push(inserts_per_second(folder, writers)?);
        }
        let target = (writers >= 64).then_some(Target::AtLeast(0.4));
        let beside = format!("raw inserts of the same rows, {writers} a transaction, synchronous=FULL");
        report.add(
            format!("appends/s on SQLite, {writers} writers"),
            load::median(ours),
            beside,
            load::median(raw),
            target,
        );
    }
    Ok(())
}

/// Rows per second, inserted with a prepared statement into an empty copy of the table with all its indexes, in
/// transactions of `batch` rows.
fn inserts_per_second(folder: &Path, batch: usize) -> Outcome<f64> {
    let (columns, rows) = appended(folder)?;
    let path = folder.join("raw.db");
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(folder.join(format!("raw.db{suffix}")));
    }
    let raw = Connection::open(&path)?;
    raw.pragma_update(None, "journal_mode", "WAL")?;
    raw.pragma_update(None, "synchronous", "FULL")?;
    for statement in definition(folder)? {
        raw.execute_batch(&statement)?;
    }
    let marks = vec!["?"; columns].join(",");
    let mut insert = raw.prepare(&format!("INSERT INTO events VALUES ({marks})"))?;
    let (start, mut done) = (Instant::now(), 0_u32);
    for rows in rows.chunks(batch) {
        raw.execute_batch("BEGIN IMMEDIATE")?;
        for row in rows {
            insert.execute(rusqlite::params_from_iter(row))?;
            done += 1;
        }
        raw.execute_batch("COMMIT")?;
        if start.elapsed().as_secs() >= 3 {
            break;
        }
    }
    Ok(f64::from(done) / start.elapsed().as_secs_f64())
}

/// The statements that make the table of entries and its indexes.
fn definition(folder: &Path) -> Outcome<Vec<String>> {
    let ledger = Connection::open(folder.join("ledger.db"))?;
    let mut select = ledger.prepare(
        "SELECT sql FROM sqlite_master WHERE tbl_name = 'events' AND type IN ('table', 'index') AND sql IS NOT NULL ORDER BY type DESC",
    )?;
    Ok(select.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
}

/// How many columns the table has, and up to 50,000 rows of the company that was appended to last: streams that grow side
/// by side cost an index more than one that grows alone, so that rows of another cell would be other work.
fn appended(folder: &Path) -> Outcome<(usize, Vec<Vec<Value>>)> {
    let ledger = Connection::open(folder.join("ledger.db"))?;
    let mut select = ledger.prepare(
        "SELECT * FROM events WHERE company = (SELECT company FROM events ORDER BY rowid DESC LIMIT 1) LIMIT 50000",
    )?;
    let columns = select.column_count();
    let rows =
        select.query_map([], |row| (0..columns).map(|column| row.get(column)).collect())?.collect::<Result<_, _>>()?;
    Ok((columns, rows))
}
