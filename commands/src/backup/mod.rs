//! Backups: all companies of an installation as they stood at one moment, in a folder of plain files, and back from there into
//! an empty installation of either back end.
//!
//! | file | holds, one JSON object a line |
//! | --- | --- |
//! | `ledgers/COMPANY.ndjson` | a company's entries, verbatim: an export, which `sha256sum` and `jq` can check |
//! | `answers.ndjson` | what commands were answered with, under their idempotency keys |
//! | `keys.ndjson` | the key store: wrapped by the master key, which is not among them |
//! | `triggers.ndjson` | how far each company's triggers are, and what they still have to do |
//! | `manifest.json` | the format, when and of what it was made, each ledger's head, each file's size and SHA-256 |
//!
//! Views are not in it: they are folded from the entries. What one reads is read in this order: triggers, entries with answers,
//! keys, each from one snapshot. So no trigger is ahead of its ledger, and no entry lacks its key, whatever is recorded
//! meanwhile; what a trigger did between two snapshots is asked for again and was answered already.

mod archive;
mod postgres;
mod sqlite;

use std::{
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use cnc_domain::{
    kernel::{CompanyId, Timestamp},
    ledger::{Break, Entry, Fault, Hash, Head, Position},
};
use uuid::Uuid;

use crate::{
    ledger::{Auditor, Flaw, Stored, StoredHead},
    transfer::rows::{AnswerRow, KeyRow, KeyTable},
};

pub use archive::{Archive, ArchiveWriter, FileEntry, Manifest, RowsWriter, SavedCompany};
pub(crate) use postgres::{PostgresSource, PostgresTarget};
pub(crate) use sqlite::{SqliteSource, SqliteTarget};

/// So many rows are written at once.
const AT_ONCE: usize = 1_000;
const ANSWERS: &str = "answers.ndjson";
const KEYS: &str = "keys.ndjson";
/// What triggers have to do; whoever keeps it writes it.
pub const TRIGGERS: &str = "triggers.ndjson";

/// Why something was not saved, not verified or not restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is no backup, or one of a format that this program does not know.
    #[error("{}: {what}", path.display())]
    NotABackup {
        /// Where one was looked for.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A file is not what the manifest says.
    #[error("{file}: {what}")]
    Damaged {
        /// Which file.
        file: String,
        /// What is wrong.
        what: String,
    },
    /// A ledger in the backup is no unbroken chain.
    #[error("the ledger of {company}: {broken}")]
    Broken {
        /// Whose.
        company: CompanyId,
        /// What is wrong.
        broken: Break,
    },
    /// A ledger is broken where it is kept.
    #[error("the ledger of {company} is broken: {flaw}")]
    Flawed {
        /// Whose.
        company: CompanyId,
        /// What is wrong.
        flaw: Flaw,
    },
    /// What is to be written to holds something already.
    #[error("{0}")]
    NotEmpty(String),
    /// A file cannot be read or written.
    #[error("{}: {error}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A database failed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// A failure of this file.
fn file(path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    move |error| BackupError::File { path: path.to_owned(), error }
}

/// An installation as it stands at one moment.
#[async_trait]
pub(crate) trait Source: Send {
    /// The heads of all companies, by company.
    async fn heads(&mut self) -> Result<Vec<(CompanyId, StoredHead)>, Fault>;
    /// Entries after a position; none at the end.
    async fn entries(&mut self, company: CompanyId, after: Position) -> Result<Vec<Stored>, Fault>;
    /// Answers after an id, in the order of ids; none at the end.
    async fn answers(&mut self, after: Uuid) -> Result<Vec<AnswerRow>, Fault>;
    /// What says under which master key the keys are.
    async fn key_check(&mut self) -> Result<Option<KeyRow>, Fault>;
    /// Rows after a place, in order; none at the end.
    async fn keys(&mut self, table: KeyTable, after: &(Vec<u8>, Vec<u8>)) -> Result<Vec<KeyRow>, Fault>;
}

/// An empty installation, all of which is written or nothing.
#[async_trait]
pub(crate) trait Target: Send {
    async fn entries(&mut self, company: CompanyId, page: &[Stored]) -> Result<(), Fault>;
    async fn head(&mut self, company: CompanyId, head: StoredHead) -> Result<(), Fault>;
    async fn answers(&mut self, page: &[AnswerRow]) -> Result<(), Fault>;
    async fn keys(&mut self, page: &[KeyRow]) -> Result<(), Fault>;
    async fn commit(self: Box<Self>) -> Result<(), Fault>;
}

/// Where an installation keeps its ledgers and keys.
#[derive(Clone, Copy)]
pub enum Installation<'a> {
    /// A data folder.
    Sqlite(&'a Path),
    /// A Postgres database.
    Postgres(&'a str),
}

/// Saves what stands at this moment. `saved` counts entries, for whoever shows progress; `total` is told how many there are.
pub struct Saving {
    source: Box<dyn Source>,
    heads: Vec<(CompanyId, StoredHead)>,
}

impl Saving {
    /// Takes the snapshot. From here on the source may go on.
    pub async fn begin(from: Installation<'_>) -> Result<Self, BackupError> {
        let mut source: Box<dyn Source> = match from {
            Installation::Sqlite(folder) => Box::new(SqliteSource::open(folder)?),
            Installation::Postgres(url) => Box::new(PostgresSource::connect(url).await?),
        };
        let heads = source.heads().await?;
        Ok(Self { source, heads })
    }

    /// The ledgers' heads, by company.
    pub fn heads(&self) -> impl Iterator<Item = (CompanyId, Head)> {
        self.heads.iter().map(|(company, stored)| (*company, stored.head))
    }

    /// Writes entries, answers and keys.
    pub async fn save(mut self, archive: &mut ArchiveWriter, saved: &AtomicU64) -> Result<(), BackupError> {
        for (company, stored) in std::mem::take(&mut self.heads) {
            self.ledger(company, stored, archive, saved).await?;
        }
        let mut answers = archive.file(ANSWERS)?;
        let mut after = Uuid::nil();
        while let Some(last) = write_all(&mut answers, &self.source.answers(after).await?)? {
            after = last.id;
        }
        archive.add(answers)?;
        self.keys(archive).await
    }

    async fn ledger(
        &mut self,
        company: CompanyId,
        stored: StoredHead,
        archive: &mut ArchiveWriter,
        saved: &AtomicU64,
    ) -> Result<(), BackupError> {
        let mut file = archive.file(&ledger_path(company))?;
        let mut auditor = Auditor::new(Some(stored.head));
        loop {
            let page = self.source.entries(company, auditor.position()).await?;
            if page.is_empty() {
                break;
            }
            for row in &page {
                auditor.row(row).map_err(|flaw| BackupError::Flawed { company, flaw })?;
                file.row(&Entry::line(&row.header, &row.payload))?;
            }
            saved.fetch_add(page.len() as u64, Ordering::Relaxed);
        }
        let head = stored.head;
        auditor.finish(Some(stored)).map_err(|flaw| BackupError::Flawed { company, flaw })?;
        archive.add(file)?;
        archive.company(SavedCompany { company, head: head.to_string() });
        Ok(())
    }

    async fn keys(&mut self, archive: &mut ArchiveWriter) -> Result<(), BackupError> {
        let mut file = archive.file(KEYS)?;
        write_all(&mut file, self.source.key_check().await?.as_slice())?;
        for table in KeyTable::ALL {
            let mut after = (Vec::new(), Vec::new());
            while let Some(last) = write_all(&mut file, &self.source.keys(table, &after).await?)? {
                after = last.place();
            }
        }
        archive.add(file)
    }
}

/// Writes rows, and gives back the last of them.
fn write_all<'a, T: serde::Serialize>(file: &mut RowsWriter, rows: &'a [T]) -> Result<Option<&'a T>, BackupError> {
    for row in rows {
        file.row(&serde_json::to_string(row).map_err(|wrong| Fault::broken("write a backup", wrong))?)?;
    }
    Ok(rows.last())
}

fn ledger_path(company: CompanyId) -> String {
    format!("ledgers/{company}.ndjson")
}

/// Refused where an installation holds anything: a restore never mixes two.
pub async fn refuse_unless_empty(archive: &Archive, installation: Installation<'_>) -> Result<(), BackupError> {
    match installation {
        Installation::Sqlite(folder) => sqlite::refuse_unless_empty(folder, &archive.companies()),
        Installation::Postgres(url) => postgres::refuse_unless_empty(url).await,
    }
}

/// Writes a backup into an empty installation whose tables are there: all of it, or nothing. Each ledger is verified on its
/// way, and each file is compared with the manifest.
pub async fn restore(archive: &Archive, to: Installation<'_>, restored: &AtomicU64) -> Result<(), BackupError> {
    let mut target: Box<dyn Target> = match to {
        Installation::Sqlite(folder) => Box::new(SqliteTarget::open(folder, &archive.companies())?),
        Installation::Postgres(url) => Box::new(PostgresTarget::connect(url).await?),
    };
    let mut keys = archive.rows(KEYS)?;
    while let Some(page) = keys.page::<KeyRow>(AT_ONCE)? {
        target.keys(&page).await?;
    }
    for (company, head) in archive.heads()? {
        restore_ledger(archive, &mut *target, (company, head), restored).await?;
    }
    let mut answers = archive.rows(ANSWERS)?;
    while let Some(page) = answers.page::<AnswerRow>(AT_ONCE)? {
        target.answers(&page).await?;
    }
    Ok(target.commit().await?)
}

async fn restore_ledger(
    archive: &Archive,
    target: &mut dyn Target,
    (company, head): (CompanyId, Head),
    restored: &AtomicU64,
) -> Result<(), BackupError> {
    let path = ledger_path(company);
    let mut lines = archive.rows(&path)?;
    let mut auditor = Auditor::new(Some(head));
    let mut page = Vec::with_capacity(AT_ONCE);
    let mut at = Timestamp::default();
    loop {
        let line = lines.line()?;
        if let Some(line) = &line {
            let row = stored(line).ok_or_else(|| BackupError::Damaged {
                file: path.clone(),
                what: format!("line {} is no entry", auditor.position() + 1),
            })?;
            auditor.row(&row).map_err(|flaw| BackupError::Flawed { company, flaw })?;
            at = Timestamp::from_micros(row.at);
            page.push(row);
        }
        if page.len() == AT_ONCE || (line.is_none() && !page.is_empty()) {
            target.entries(company, &page).await?;
            restored.fetch_add(page.len() as u64, Ordering::Relaxed);
            page.clear();
        }
        if line.is_none() {
            break;
        }
    }
    let stored = StoredHead { head, at, facts: auditor.facts() };
    auditor.finish(Some(stored.clone())).map_err(|flaw| BackupError::Flawed { company, flaw })?;
    Ok(target.head(company, stored).await?)
}

/// A line as a database stores it; `None` where it is no entry's.
fn stored(line: &str) -> Option<Stored> {
    let entry = Entry::read(line).ok()?;
    let payload = entry.payload.get();
    let header = line.strip_suffix('}')?.strip_suffix(payload)?.strip_suffix(",\"payload\":")?.to_owned() + "}";
    Some(Stored {
        position: entry.position,
        subject: format!("{}/{}/{}", entry.company, entry.stream, entry.id),
        sequence: i64::try_from(entry.sequence).ok()?,
        version: entry.version.to_string(),
        at: entry.at.micros(),
        hash: Hash::of(line).0.to_vec(),
        header,
        payload: payload.to_owned(),
        event: entry.event,
    })
}
