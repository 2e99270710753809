//! The tables of folds in a SQLite file, made and brought up to date.

use rusqlite::{Result, Transaction, params};

/// What is there after each version, from the first on.
const VERSIONS: [&str; 2] = [include_str!("tables.sql"), include_str!("history.sql")];

/// Makes what is missing. Both files of a data folder have the same tables.
pub(crate) fn make(tx: &Transaction<'_>) -> Result<()> {
    tx.execute_batch(
        "CREATE TABLE IF NOT EXISTS schema_versions (part TEXT PRIMARY KEY, version INTEGER NOT NULL) STRICT",
    )?;
    let version = "SELECT coalesce(max(version), 0) FROM schema_versions WHERE part = 'folds'";
    let made: usize = tx.query_row(version, [], |row| row.get(0))?;
    for text in VERSIONS.iter().skip(made) {
        tx.execute_batch(text)?;
    }
    if made < VERSIONS.len() {
        know_hashes(tx)?;
        let note = "INSERT OR REPLACE INTO schema_versions (part, version) VALUES ('folds', ?)";
        tx.execute(note, params![VERSIONS.len()])?;
    }
    Ok(())
}

/// Folds that stand beside their ledger learn from it where they stand. Views stand in a file of their own, and are built
/// anew.
fn know_hashes(tx: &Transaction<'_>) -> Result<()> {
    let there = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'events')";
    if !tx.query_row(there, [], |row| row.get::<_, bool>(0))? {
        return Ok(());
    }
    for table in ["folds", "trigger_starts"] {
        tx.execute_batch(&format!(
            "UPDATE {table} AS f SET hash = e.hash FROM events AS e
             WHERE lower(hex(e.company)) = replace(f.company, '-', '') AND e.position = f.position"
        ))?;
    }
    Ok(())
}
