//! What triggers have to do, read from a data folder and written to it. Nobody else works in these processes, so that they
//! may block.

use std::{path::Path, time::Duration};

use cnc_domain::{
    kernel::CompanyId,
    ledger::{Fault, Position},
};
use rusqlite::{Connection, OpenFlags, Result, Row, params, types::Type};
use serde_json::value::RawValue;

use super::super::carrying::{CarriedCommand, CarriedDeadline, Skip, Start, TriggerState};

const DOING: &str = "carrying what triggers have to do";
const PATIENCE: Duration = Duration::from_secs(15);

/// Both files of a data folder.
pub struct Files {
    ledger: Connection,
    /// `None` where there are no views yet.
    views: Option<Connection>,
}

fn fault(cause: rusqlite::Error) -> Fault {
    Fault::broken(DOING, cause)
}

fn open(path: &Path, flags: OpenFlags) -> Result<Connection> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(PATIENCE)?;
    Ok(connection)
}

/// Whether a file has the tables of folds.
fn has_folds(connection: &Connection) -> Result<bool> {
    connection.query_row("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'fold_skips')", [], |row| row.get(0))
}

impl Files {
    /// What stands in them at this moment. Views may be missing or broken: then nothing of theirs is carried.
    pub fn snapshot(data_dir: &Path) -> std::result::Result<Self, Fault> {
        let snapshot = |name: &str| -> Result<Connection> {
            let connection = open(&data_dir.join(name), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
            connection.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema")?;
            Ok(connection)
        };
        let views = snapshot("views.db").and_then(|views| Ok(has_folds(&views)?.then_some(views)));
        let views = views.unwrap_or_else(|cause| {
            tracing::warn!(%cause, "views.db cannot be read: what operators had views skip is not carried");
            None
        });
        Ok(Self { ledger: snapshot("ledger.db").map_err(fault)?, views })
    }

    /// To be written to.
    pub fn open(data_dir: &Path) -> std::result::Result<Self, Fault> {
        let open = |name: &str| open(&data_dir.join(name), OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(fault);
        Ok(Self { ledger: open("ledger.db")?, views: Some(open("views.db")?) })
    }

    pub fn read(&self, company: CompanyId) -> std::result::Result<TriggerState, Fault> {
        self.read_all(company).map_err(fault)
    }

    fn read_all(&self, company: CompanyId) -> Result<TriggerState> {
        let mut state = TriggerState::nothing(company);
        let company = company.to_string();
        if has_folds(&self.ledger)? {
            state.starts = rows(
                &self.ledger,
                "SELECT r.fold, max(coalesce(f.position, 0), coalesce(f.silent_until, 0), coalesce(s.position, 0))
                 FROM trigger_starts AS r
                 LEFT JOIN folds AS f ON f.company = ?1 AND f.fold = r.fold AND f.standing = 'live'
                 LEFT JOIN trigger_starts AS s ON s.company = ?1 AND s.fold = r.fold
                 WHERE r.company = ''",
                &company,
                |row| Ok(Start { fold: row.get(0)?, position: row.get(1)? }),
            )?;
            state.deadlines = rows(
                &self.ledger,
                "SELECT fold, key, due_at, parcel FROM deadlines WHERE company = ?1",
                &company,
                |row| {
                    let (fold, key, due_at) = (row.get(0)?, row.get(1)?, row.get(2)?);
                    Ok(CarriedDeadline { fold, key, due_at, parcel: json(row, 3)? })
                },
            )?;
            state.outbox = rows(
                &self.ledger,
                "SELECT command, due_at, parcel FROM outbox WHERE company = ?1 ORDER BY place",
                &company,
                |row| Ok(CarriedCommand { command: row.get(0)?, due_at: row.get(1)?, parcel: json(row, 2)? }),
            )?;
            state.skips = skips(&self.ledger, &company, true)?;
        }
        if let Some(views) = &self.views {
            state.skips.extend(skips(views, &company, false)?);
        }
        Ok(state)
    }

    pub fn write(&mut self, state: &TriggerState, head: Position) -> std::result::Result<(), Fault> {
        self.write_all(state, head).map_err(fault)
    }

    fn write_all(&mut self, state: &TriggerState, head: Position) -> Result<()> {
        let company = state.company.to_string();
        let tx = self.ledger.transaction()?;
        for table in ["deadlines", "outbox", "fold_skips", "trigger_starts"] {
            tx.execute(&format!("DELETE FROM {table} WHERE company = ?1"), params![company])?;
        }
        for Start { fold, position } in &state.starts {
            let sql = "INSERT INTO trigger_starts (fold, company, position) VALUES (?1, ?2, ?3)";
            tx.execute(sql, params![fold, company, position])?;
        }
        // A trigger that only the target knows begins here, as it began for the companies that were there before it.
        tx.execute(
            "INSERT OR IGNORE INTO trigger_starts (fold, company, position)
             SELECT fold, ?1, ?2 FROM trigger_starts WHERE company = ''",
            params![company, head],
        )?;
        for CarriedDeadline { fold, key, due_at, parcel } in &state.deadlines {
            let sql = "INSERT INTO deadlines (company, fold, key, due_at, parcel) VALUES (?1, ?2, ?3, ?4, ?5)";
            tx.execute(sql, params![company, fold, key, due_at, parcel.get()])?;
        }
        for CarriedCommand { command, due_at, parcel } in &state.outbox {
            let sql = "INSERT INTO outbox (company, command, parcel, due_at) VALUES (?1, ?2, ?3, ?4)";
            tx.execute(sql, params![company, command, parcel.get(), due_at])?;
        }
        write_skips(&tx, state, true)?;
        tx.commit()?;
        let Some(views) = &mut self.views else { return Ok(()) };
        let tx = views.transaction()?;
        tx.execute("DELETE FROM fold_skips WHERE company = ?1", params![company])?;
        write_skips(&tx, state, false)?;
        tx.commit()
    }
}

fn rows<T>(
    connection: &Connection,
    sql: &str,
    company: &str,
    read: impl FnMut(&Row<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    connection.prepare_cached(sql)?.query_map(params![company], read)?.collect()
}

/// Text that stays the bytes that it is.
fn json(row: &Row<'_>, column: usize) -> Result<Box<RawValue>> {
    let unreadable =
        |wrong: serde_json::Error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, wrong.into());
    RawValue::from_string(row.get(column)?).map_err(unreadable)
}

fn skips(connection: &Connection, company: &str, trigger: bool) -> Result<Vec<Skip>> {
    let sql = "SELECT fold, version, position, reason, skipped_by, skipped_at FROM fold_skips WHERE company = ?1";
    rows(connection, sql, company, |row| {
        let (fold, version, position, reason) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
        Ok(Skip { trigger, fold, version, position, reason, skipped_by: row.get(4)?, skipped_at: row.get(5)? })
    })
}

fn write_skips(connection: &Connection, state: &TriggerState, trigger: bool) -> Result<()> {
    for skip in state.skips.iter().filter(|skip| skip.trigger == trigger) {
        let Skip { fold, version, position, reason, skipped_by, skipped_at, .. } = skip;
        let sql = "INSERT INTO fold_skips (company, fold, version, position, reason, skipped_by, skipped_at)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let company = state.company.to_string();
        connection.execute(sql, params![company, fold, version, position, reason, skipped_by, skipped_at])?;
    }
    Ok(())
}
