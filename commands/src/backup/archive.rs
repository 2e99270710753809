//! A backup's files.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, BufWriter, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use aws_lc_rs::digest::{Context, SHA256};
use cnc_domain::{
    kernel::{CompanyId, Timestamp},
    ledger::{Entry, Hash, Head, Verifier},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{ANSWERS, BackupError, KEYS, TRIGGERS, file, ledger_path};

/// The number of this format. It is raised where an older program would misread a backup.
const FORMAT: u32 = 1;
const MANIFEST: &str = "manifest.json";

/// What a backup says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// The number of the format.
    pub format: u32,
    /// The program that made it.
    pub program: String,
    /// When its snapshot was taken.
    pub made_at: Timestamp,
    /// Of which back end: `sqlite` or `postgres`. It can be restored into either.
    pub back_end: String,
    /// The key files that lie in it, where that was asked for.
    pub key_files: Vec<String>,
    /// Each company with its ledger's head.
    pub companies: Vec<SavedCompany>,
    /// Each file but this one.
    pub files: Vec<FileEntry>,
}

/// A company in a backup.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SavedCompany {
    /// Which one.
    pub company: CompanyId,
    /// Where its ledger ends: `POSITION:HASH`.
    pub head: String,
}

/// A file in a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its path in the folder.
    pub path: String,
    /// How many lines it has.
    pub rows: u64,
    /// How many bytes.
    pub bytes: u64,
    /// The SHA-256 of them.
    pub sha256: Hash,
}

/// A backup on its way: it gets its name when it is whole.
pub struct ArchiveWriter {
    target: PathBuf,
    folder: PathBuf,
    manifest: Manifest,
    done: bool,
}

/// A file of a backup on its way.
pub struct RowsWriter {
    path: PathBuf,
    name: String,
    out: BufWriter<File>,
    hash: Context,
    rows: u64,
    bytes: u64,
}

fn private_folder(path: &Path) -> Result<(), BackupError> {
    fs::DirBuilder::new().mode(0o700).create(path).map_err(file(path))
}

fn private_file(path: &Path) -> Result<File, BackupError> {
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(file(path))
}

impl ArchiveWriter {
    /// Begins a backup that will be called `target`, which must not be there.
    pub fn create(target: &Path, back_end: &str, made_at: Timestamp) -> Result<Self, BackupError> {
        if target.exists() {
            let what = "is there already: name a folder that does not exist, for example with the date in its name";
            return Err(BackupError::NotEmpty(format!("{} {what}", target.display())));
        }
        let mut name = target.as_os_str().to_owned();
        name.push(".partial");
        let folder = PathBuf::from(name);
        if folder.exists() {
            let what = "is there already: another backup is being written, or was interrupted; then remove it";
            return Err(BackupError::NotEmpty(format!("{} {what}", folder.display())));
        }
        private_folder(&folder)?;
        let manifest = Manifest {
            format: FORMAT,
            program: concat!("cnc ", env!("CARGO_PKG_VERSION")).into(),
            made_at,
            back_end: back_end.into(),
            key_files: Vec::new(),
            companies: Vec::new(),
            files: Vec::new(),
        };
        let archive = Self { target: target.to_owned(), folder, manifest, done: false };
        private_folder(&archive.folder.join("ledgers"))?;
        Ok(archive)
    }

    /// Begins a file.
    pub fn file(&self, name: &str) -> Result<RowsWriter, BackupError> {
        let path = self.folder.join(name);
        let out = BufWriter::with_capacity(1 << 16, private_file(&path)?);
        Ok(RowsWriter { path, name: name.into(), out, hash: Context::new(&SHA256), rows: 0, bytes: 0 })
    }

    /// Ends a file.
    pub fn add(&mut self, rows: RowsWriter) -> Result<(), BackupError> {
        let RowsWriter { path, name, out, hash, rows, bytes } = rows;
        let synced = out.into_inner().map_err(io::IntoInnerError::into_error).and_then(|file| file.sync_all());
        synced.map_err(file(&path))?;
        self.manifest.files.push(FileEntry { path: name, rows, bytes, sha256: digest(hash) });
        Ok(())
    }

    /// Names a company.
    pub(super) fn company(&mut self, company: SavedCompany) {
        self.manifest.companies.push(company);
    }

    /// Copies a key file into the backup, under this name.
    pub fn key_file(&mut self, path: &Path, name: &str) -> Result<(), BackupError> {
        let text = fs::read(path).map_err(file(path))?;
        let copy = self.folder.join(name);
        let mut out = private_file(&copy)?;
        out.write_all(&text).and_then(|()| out.sync_all()).map_err(file(&copy))?;
        self.manifest.key_files.push(name.into());
        Ok(())
    }

    /// Writes the manifest, and gives the backup its name.
    pub fn finish(mut self) -> Result<Manifest, BackupError> {
        let path = self.folder.join(MANIFEST);
        let mut out = private_file(&path)?;
        let text = serde_json::to_string_pretty(&self.manifest).unwrap_or_default();
        writeln!(out, "{text}").and_then(|()| out.sync_all()).map_err(file(&path))?;
        for folder in [self.folder.join("ledgers"), self.folder.clone()] {
            File::open(&folder).and_then(|folder| folder.sync_all()).map_err(file(&folder))?;
        }
        fs::rename(&self.folder, &self.target).map_err(file(&self.target))?;
        self.done = true;
        if let Some(parent) = self.target.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            File::open(parent).and_then(|parent| parent.sync_all()).map_err(file(parent))?;
        }
        Ok(self.manifest.clone())
    }
}

impl Drop for ArchiveWriter {
    /// What is not whole is of no use to anybody.
    fn drop(&mut self) {
        if !self.done {
            drop(fs::remove_dir_all(&self.folder));
        }
    }
}

impl RowsWriter {
    /// Writes a line.
    pub fn row(&mut self, line: &str) -> Result<(), BackupError> {
        let written = self.out.write_all(line.as_bytes()).and_then(|()| self.out.write_all(b"\n"));
        written.map_err(file(&self.path))?;
        self.hash.update(line.as_bytes());
        self.hash.update(b"\n");
        self.rows += 1;
        self.bytes += line.len() as u64 + 1;
        Ok(())
    }
}

fn digest(hash: Context) -> Hash {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(hash.finish().as_ref());
    Hash(bytes)
}

/// A backup that is there.
pub struct Archive {
    folder: PathBuf,
    manifest: Manifest,
}

/// A file of a backup, being read. At its end it is compared with the manifest.
pub struct RowsReader {
    input: BufReader<File>,
    path: PathBuf,
    expected: FileEntry,
    hash: Option<Context>,
    rows: u64,
    bytes: u64,
}

impl Archive {
    /// Opens a backup's manifest.
    pub fn open(folder: &Path) -> Result<Self, BackupError> {
        let not = |what: String| BackupError::NotABackup { path: folder.to_owned(), what };
        let path = folder.join(MANIFEST);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(not(format!("there is no {MANIFEST} in it: it is no backup, or not a whole one")));
            }
            read => read.map_err(file(&path))?,
        };
        let manifest: Manifest =
            serde_json::from_str(&text).map_err(|wrong| not(format!("{MANIFEST} cannot be read: {wrong}")))?;
        if manifest.format != FORMAT {
            return Err(not(format!(
                "its format is {}, and this program knows {FORMAT}: use the program that made it, {}",
                manifest.format, manifest.program
            )));
        }
        Ok(Self { folder: folder.to_owned(), manifest })
    }

    /// What it says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Where its files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Each company with its ledger's head.
    pub fn heads(&self) -> Result<Vec<(CompanyId, Head)>, BackupError> {
        let head = |saved: &SavedCompany| match saved.head.parse() {
            Ok(head) => Ok((saved.company, head)),
            Err(what) => Err(BackupError::Damaged { file: MANIFEST.into(), what }),
        };
        self.manifest.companies.iter().map(head).collect()
    }

    /// Each company.
    pub(super) fn companies(&self) -> Vec<CompanyId> {
        self.manifest.companies.iter().map(|saved| saved.company).collect()
    }

    /// How many entries it holds.
    pub fn entries(&self) -> Result<u64, BackupError> {
        Ok(self.heads()?.iter().map(|(_, head)| head.position).sum())
    }

    /// Begins to read a file.
    pub fn rows(&self, name: &str) -> Result<RowsReader, BackupError> {
        let expected =
            self.manifest.files.iter().find(|entry| entry.path == name).cloned().ok_or_else(|| {
                BackupError::Damaged { file: MANIFEST.into(), what: format!("it does not name {name}") }
            })?;
        let path = self.folder.join(name);
        let input = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(BackupError::Damaged { file: name.into(), what: "it is missing".into() });
            }
            opened => BufReader::with_capacity(1 << 16, opened.map_err(file(&path))?),
        };
        Ok(RowsReader { input, path, expected, hash: Some(Context::new(&SHA256)), rows: 0, bytes: 0 })
    }

    /// Verifies it: each file's size and SHA-256, each ledger's chain up to its head. `verified` counts entries.
    pub fn verify(&self, verified: &AtomicU64) -> Result<(), BackupError> {
        for (company, head) in self.heads()? {
            let mut lines = self.rows(&ledger_path(company))?;
            let mut verifier = Verifier::new(Some(head));
            while let Some(line) = lines.line()? {
                verifier.line(line.as_bytes()).map_err(|broken| BackupError::Broken { company, broken })?;
                let whose = if lines.rows == 1 { Entry::read(&line).ok().map(|entry| entry.company) } else { None };
                if whose.is_some_and(|whose| whose != company) {
                    let what = "its entries are another company's".into();
                    return Err(BackupError::Damaged { file: ledger_path(company), what });
                }
                verified.fetch_add(1, Ordering::Relaxed);
            }
            verifier.finish().map_err(|broken| BackupError::Broken { company, broken })?;
        }
        for name in [ANSWERS, KEYS, TRIGGERS] {
            let mut rows = self.rows(name)?;
            while rows.line()?.is_some() {}
        }
        Ok(())
    }
}

impl RowsReader {
    /// The next line, without its newline. At the end, says whether all lines were those that the manifest names.
    pub fn line(&mut self) -> Result<Option<String>, BackupError> {
        let mut line = String::new();
        match self.input.read_line(&mut line) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(self.damaged("it is not UTF-8".into())),
            Err(error) => Err(file(&self.path)(error)),
            Ok(0) => self.check().map(|()| None),
            Ok(length) => {
                if let Some(hash) = &mut self.hash {
                    hash.update(line.as_bytes());
                }
                self.rows += 1;
                self.bytes += length as u64;
                line.truncate(line.strip_suffix('\n').unwrap_or(&line).len());
                Ok(Some(line))
            }
        }
    }

    /// Up to `limit` rows; `None` at the end.
    pub fn page<T: DeserializeOwned>(&mut self, limit: usize) -> Result<Option<Vec<T>>, BackupError> {
        let mut page = Vec::new();
        while page.len() < limit
            && let Some(line) = self.line()?
        {
            let row = serde_json::from_str(&line);
            page.push(row.map_err(|wrong| self.damaged(format!("line {} cannot be read: {wrong}", self.rows)))?);
        }
        Ok(Some(page).filter(|page| !page.is_empty()))
    }

    fn check(&mut self) -> Result<(), BackupError> {
        let Some(hash) = self.hash.take() else { return Ok(()) };
        let (rows, bytes, sha256) = (self.rows, self.bytes, digest(hash));
        if (FileEntry { path: self.expected.path.clone(), rows, bytes, sha256 }) == self.expected {
            return Ok(());
        }
        let FileEntry { rows: of, bytes: wanted, .. } = self.expected;
        Err(self.damaged(format!(
            "it is not the file that was saved: {rows} lines, {bytes} bytes and SHA-256 {sha256}, instead of {of}, {wanted} \
             and {}",
            self.expected.sha256
        )))
    }

    fn damaged(&self, what: String) -> BackupError {
        BackupError::Damaged { file: self.expected.path.clone(), what }
    }
}
