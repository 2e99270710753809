//! A data folder, saved and restored. Who saves reads each file in one transaction, which others do not wait for.
//!
//! Nobody else works in these processes, so that they may block.

use std::path::Path;

use async_trait::async_trait;
use cnc_domain::{
    kernel::CompanyId,
    ledger::{Fault, Position},
};
use rusqlite::{Connection, OptionalExtension as _, Row, params, types::Type};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{BackupError, Source, Target};
use crate::{
    keyring::KEYS_FILE,
    ledger::{
        Stored, StoredHead,
        sqlite::{LEDGER_FILE, insert_head, insert_stored, open_existing, read},
    },
    transfer::{
        keys::AT_ONCE,
        rows::{AnswerRow, Bytes, KeyRow, KeyTable},
    },
};

const SAVING: &str = "save a data folder";
const RESTORING: &str = "restore a data folder";

fn fault(doing: &'static str) -> impl Fn(rusqlite::Error) -> Fault {
    move |cause| Fault::broken(doing, cause)
}

pub(crate) struct SqliteSource {
    ledger: Connection,
    keys: Connection,
}

impl SqliteSource {
    /// Begins the ledger's transaction, then the keys': so no entry lacks its key.
    pub fn open(folder: &Path) -> Result<Self, BackupError> {
        let snapshot = |name: &str, table: &'static str| {
            let path = folder.join(name);
            let missing =
                || BackupError::NotABackup { path: path.clone(), what: "there is nothing to save in it".into() };
            let connection = open_existing(&path, table)?.ok_or_else(missing)?;
            let begin = format!("BEGIN; SELECT count(*) FROM (SELECT 1 FROM {table} LIMIT 1)");
            connection.execute_batch(&begin).map_err(fault(SAVING))?;
            Ok::<_, BackupError>(connection)
        };
        Ok(Self { ledger: snapshot(LEDGER_FILE, "heads")?, keys: snapshot(KEYS_FILE, "companies")? })
    }
}

#[async_trait]
impl Source for SqliteSource {
    async fn heads(&mut self) -> Result<Vec<(CompanyId, StoredHead)>, Fault> {
        read::stored_heads(&self.ledger).map_err(fault(SAVING))
    }

    async fn entries(&mut self, company: CompanyId, after: Position) -> Result<Vec<Stored>, Fault> {
        read::stored(&self.ledger, company, after).map_err(fault(SAVING))
    }

    async fn answers(&mut self, after: Uuid) -> Result<Vec<AnswerRow>, Fault> {
        let sql = format!(
            "SELECT company, id, at, for_ever, fingerprint, answer FROM commands WHERE id > ?1 ORDER BY id LIMIT {AT_ONCE}"
        );
        let rows = || {
            let mut select = self.ledger.prepare_cached(&sql)?;
            select.query_map(params![after.as_bytes()], answer)?.collect::<rusqlite::Result<Vec<_>>>()
        };
        rows().map_err(fault(SAVING))
    }

    async fn key_check(&mut self) -> Result<Option<KeyRow>, Fault> {
        let sql = "SELECT store, value FROM key_check";
        let check = |row: &Row<'_>| Ok(KeyRow::KeyCheck { store: id(row, 0)?, value: Bytes(row.get(1)?) });
        self.keys.query_row(sql, [], check).optional().map_err(fault(SAVING))
    }

    async fn keys(&mut self, table: KeyTable, after: &(Vec<u8>, Vec<u8>)) -> Result<Vec<KeyRow>, Fault> {
        let (columns, name, by) = (table.columns(), table.name(), table.key());
        let sql = format!(
            "SELECT {columns} FROM {name} WHERE (company, {by}) > (?1, ?2) ORDER BY company, {by} LIMIT {AT_ONCE}"
        );
        let rows = || {
            let mut select = self.keys.prepare_cached(&sql)?;
            select.query_map(params![after.0, after.1], |row| key(table, row))?.collect::<rusqlite::Result<Vec<_>>>()
        };
        rows().map_err(fault(SAVING))
    }
}

fn id(row: &Row<'_>, column: usize) -> rusqlite::Result<Uuid> {
    row.get(column).map(Uuid::from_bytes)
}

fn answer(row: &Row<'_>) -> rusqlite::Result<AnswerRow> {
    let answer = RawValue::from_string(row.get(5)?)
        .map_err(|wrong| rusqlite::Error::FromSqlConversionFailure(5, Type::Text, wrong.into()))?;
    let fingerprint = Bytes(row.get(4)?);
    let (company, id) = (CompanyId::new(id(row, 0)?), id(row, 1)?);
    Ok(AnswerRow { company, id, at: row.get(2)?, for_ever: row.get(3)?, fingerprint, answer })
}

fn key(table: KeyTable, row: &Row<'_>) -> rusqlite::Result<KeyRow> {
    let company = CompanyId::new(id(row, 0)?);
    Ok(match table {
        KeyTable::Companies => KeyRow::Companies { company, secret: Bytes(row.get(1)?) },
        KeyTable::Subjects => {
            KeyRow::Subjects { company, id: id(row, 1)?, subject: id(row, 2)?, secret: Bytes(row.get(3)?) }
        }
        KeyTable::Prints => KeyRow::Prints { company, tag: Bytes(row.get(1)?), token: row.get(2)? },
        KeyTable::DestroyedKeys => KeyRow::DestroyedKeys {
            company,
            id: id(row, 1)?,
            subject: id(row, 2)?,
            destroyed_at: row.get(3)?,
            destroyed_by: row.get(4)?,
        },
    })
}

/// Refused where there is a company, or keys of others than `companies`: theirs may be there from a restore that was
/// interrupted, between keys and ledger.
pub(super) fn refuse_unless_empty(folder: &Path, companies: &[CompanyId]) -> Result<(), BackupError> {
    for (name, table, may) in [(LEDGER_FILE, "heads", &[][..]), (KEYS_FILE, "companies", companies)] {
        let path = folder.join(name);
        let Some(connection) = open_existing(&path, table)? else { continue };
        let holds = || {
            let mut select = connection.prepare(&format!("SELECT company FROM {table}"))?;
            let found = select.query_map([], |row| id(row, 0))?.collect::<rusqlite::Result<Vec<_>>>()?;
            Ok(found.into_iter().any(|id| !may.contains(&CompanyId::new(id))))
        };
        if holds().map_err(fault(RESTORING))? {
            return Err(BackupError::NotEmpty(format!(
                "{} holds something already: restore into a folder of its own",
                path.display()
            )));
        }
    }
    Ok(())
}

pub(crate) struct SqliteTarget {
    ledger: Connection,
    keys: Connection,
}

impl SqliteTarget {
    /// Both files have their tables already. From here on nobody else writes to them.
    pub fn open(folder: &Path, companies: &[CompanyId]) -> Result<Self, BackupError> {
        let begin = |name: &str| {
            let connection = Connection::open(folder.join(name)).map_err(fault(RESTORING))?;
            connection.busy_timeout(std::time::Duration::from_secs(15)).map_err(fault(RESTORING))?;
            connection.execute_batch("PRAGMA synchronous = FULL; BEGIN IMMEDIATE").map_err(fault(RESTORING))?;
            Ok::<_, Fault>(connection)
        };
        let target = Self { ledger: begin(LEDGER_FILE)?, keys: begin(KEYS_FILE)? };
        refuse_unless_empty(folder, companies)?;
        Ok(target)
    }
}

#[async_trait]
impl Target for SqliteTarget {
    async fn entries(&mut self, company: CompanyId, page: &[Stored]) -> Result<(), Fault> {
        insert_stored(&self.ledger, company, page).map_err(fault(RESTORING))
    }

    async fn head(&mut self, company: CompanyId, head: StoredHead) -> Result<(), Fault> {
        insert_head(&self.ledger, company, &head).map_err(fault(RESTORING))
    }

    async fn answers(&mut self, page: &[AnswerRow]) -> Result<(), Fault> {
        let write = || {
            let mut insert = self.ledger.prepare_cached(
                "INSERT INTO commands (id, company, fingerprint, at, for_ever, answer) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?;
            for AnswerRow { company, id, at, for_ever, fingerprint, answer } in page {
                let company = company.uuid();
                insert.execute(params![
                    id.as_bytes(),
                    company.as_bytes(),
                    fingerprint.0,
                    at,
                    for_ever,
                    answer.get()
                ])?;
            }
            Ok(())
        };
        write().map_err(fault(RESTORING))
    }

    async fn keys(&mut self, page: &[KeyRow]) -> Result<(), Fault> {
        page.iter().try_for_each(|row| write_key(&self.keys, row)).map_err(fault(RESTORING))
    }

    /// Keys first, as when they are made: what is left where this ends between the two is an empty ledger.
    async fn commit(self: Box<Self>) -> Result<(), Fault> {
        for connection in [self.keys, self.ledger] {
            connection.execute_batch("COMMIT; PRAGMA wal_checkpoint(TRUNCATE)").map_err(fault(RESTORING))?;
        }
        Ok(())
    }
}

fn write_key(keys: &Connection, row: &KeyRow) -> rusqlite::Result<()> {
    let written = match row {
        KeyRow::KeyCheck { store, value } => keys
            .prepare_cached("INSERT OR REPLACE INTO key_check (one, store, value) VALUES (1, ?1, ?2)")?
            .execute(params![store.as_bytes(), value.0]),
        KeyRow::Companies { company, secret } => keys
            .prepare_cached("INSERT OR REPLACE INTO companies (company, secret) VALUES (?1, ?2)")?
            .execute(params![company.uuid().as_bytes(), secret.0]),
        KeyRow::Subjects { company, id, subject, secret } => keys
            .prepare_cached("INSERT OR REPLACE INTO subjects (company, id, subject, secret) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![company.uuid().as_bytes(), id.as_bytes(), subject.as_bytes(), secret.0]),
        KeyRow::Prints { company, tag, token } => keys
            .prepare_cached("INSERT OR REPLACE INTO prints (company, tag, token) VALUES (?1, ?2, ?3)")?
            .execute(params![company.uuid().as_bytes(), tag.0, token]),
        KeyRow::DestroyedKeys { company, id, subject, destroyed_at, destroyed_by } => keys
            .prepare_cached(
                "INSERT OR REPLACE INTO destroyed_keys (company, id, subject, destroyed_at, destroyed_by) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![
                company.uuid().as_bytes(),
                id.as_bytes(),
                subject.as_bytes(),
                destroyed_at,
                destroyed_by
            ]),
    };
    written.map(drop)
}
