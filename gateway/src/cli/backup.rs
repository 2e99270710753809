//! `cnc backup` and `cnc restore`: an installation as plain files, and back.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicU64},
    time::Instant,
};

use cnc_commands::backup::{
    self, Archive, ArchiveWriter, BackupError, Installation, Manifest, Saving, TRIGGERS, refuse_unless_empty,
};
use cnc_domain::{kernel::CompanyId, ledger::Head};
use cnc_projections::{TriggerState, TriggerStore};
use serde_json::{Value, json};

use super::{
    output::{Failure, Out, note},
    progress, read_only,
};
use crate::{
    clock,
    run::{Config, Rooms},
    tokens,
};

/// The master key's name in a backup.
const MASTER_KEY: &str = "master.key";

/// Save all companies as they stand at this moment, while servers run
///
/// The backup is a folder of plain files: each company's entries as `cnc audit export` writes them (jq and sha256sum can check
/// them), the keys, the answers to commands, and what triggers still have to do; manifest.json names each ledger's head, and
/// each file's size and SHA-256. deploy/README.md says more. It is the same for SQLite and Postgres, and can be restored into
/// either. Nothing is stopped meanwhile, and every entry is verified on its way.
///
/// Personal data is sealed in it, and the keys are wrapped by the master key, which is not in it: keep master.key in another
/// place, or nobody can read names any more; who has both can. Views are not in it, since they are folded from the entries.
///
/// Check it now and then: `cnc audit verify DIR` needs no server and no keys.
#[derive(Debug, clap::Args)]
pub struct Backup {
    /// The folder to make; it must not exist. It appears under this name when it is whole
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Put master.key and token.key into it, too: then whoever has the backup can read everything
    #[arg(long)]
    with_key_files: bool,
}

/// Bring a backup into an empty installation
///
/// The target is a data folder (--data) or a Postgres database (--ledger) that holds no company; it may be of the other kind
/// than the one that was saved. All of the backup is written, or nothing: a restore that was interrupted is begun again by the
/// same command. Each ledger is verified on its way and must end at the head that the manifest names.
///
/// After: put master.key (and token.key, or everybody signs in anew) where it is looked for, unless the backup holds them, and
/// start `cnc serve`: views are folded anew, and triggers and deadlines go on where they stood. What was recorded after the
/// backup is lost; keys that were destroyed after it are back, and are to be destroyed again. deploy/README.md has the whole
/// drill, with NATS.
#[derive(Debug, clap::Args)]
pub struct Restore {
    /// The backup: a folder that `cnc backup` has made
    #[arg(value_name = "DIR")]
    from: PathBuf,
}

pub async fn save(command: &Backup, config: Config, out: Out) -> Result<(), Failure> {
    let begun = Instant::now();
    drop(read_only(&config).await?);
    let kind = if config.ledger.is_some() { "postgres" } else { "sqlite" };
    let mut archive = ArchiveWriter::create(&command.to, kind, clock::now())?;
    let mut triggers = match &config.ledger {
        None => TriggerStore::snapshot_sqlite(&config.data)?,
        Some(url) => TriggerStore::snapshot_postgres(url).await?,
    };
    let saving = Saving::begin(installation(&config)).await?;
    let companies: Vec<(CompanyId, Head)> = saving.heads().collect();
    let mut file = archive.file(TRIGGERS)?;
    for (company, _) in &companies {
        file.row(&serde_json::to_string(&triggers.read(*company).await?).map_err(Failure::fault)?)?;
    }
    archive.add(file)?;
    if command.with_key_files {
        archive.key_file(&config.master_key_path(), MASTER_KEY)?;
        archive.key_file(&config.token_key_path(), tokens::KEY_FILE)?;
    }
    let total = companies.iter().map(|(_, head)| head.position).sum();
    told(total, out, async |saved| saving.save(&mut archive, saved).await).await?;
    let manifest = archive.finish()?;
    let keys = if command.with_key_files { "with its key files" } else { "without master.key: keep that elsewhere" };
    let text = format!(
        "saved {} companies, {total} entries, {} bytes in {} s to {}, {keys}",
        companies.len(),
        bytes(&manifest),
        begun.elapsed().as_secs(),
        command.to.display(),
    );
    out.say(text, &facts(&manifest, &command.to)?)
}

pub async fn restore(command: &Restore, config: Config, out: Out) -> Result<(), Failure> {
    let begun = Instant::now();
    let archive = Archive::open(&command.from)?;
    let to = installation(&config);
    refuse_unless_empty(&archive, to).await?;
    Rooms::furnish(&config).await?;
    let mut triggers = match &config.ledger {
        None => TriggerStore::sqlite(&config.data)?,
        Some(url) => TriggerStore::postgres(url).await?,
    };
    // Before the ledgers: whoever folds a company finds what its triggers have done.
    let heads: std::collections::HashMap<CompanyId, Head> = archive.heads()?.into_iter().collect();
    let mut rows = archive.rows(TRIGGERS)?;
    while let Some(page) = rows.page::<TriggerState>(1)? {
        for state in page {
            let head = heads.get(&state.company).map_or(0, |head| head.position);
            triggers.write(&state, head).await?;
        }
    }
    drop(triggers);
    let total = archive.entries()?;
    told(total, out, async |restored| backup::restore(&archive, to, restored).await).await?;
    let missing = put_key_files(&archive, &config)?;
    let manifest = archive.manifest();
    let text = format!(
        "restored {} companies, {total} entries as of {} in {} s, each ledger verified up to its head{missing}",
        manifest.companies.len(),
        manifest.made_at,
        begun.elapsed().as_secs(),
    );
    out.say(text, &facts(manifest, &command.from)?)
}

/// `cnc audit verify` of a backup.
pub fn verify(folder: &Path, out: Out) -> Result<(), Failure> {
    let archive = Archive::open(folder)?;
    archive.verify(&AtomicU64::new(0))?;
    let (manifest, entries) = (archive.manifest(), archive.entries()?);
    let text = format!(
        "verified: a backup of {}, {} companies, {entries} entries, {} bytes",
        manifest.made_at,
        manifest.companies.len(),
        bytes(manifest)
    );
    let mut facts = facts(manifest, folder)?;
    facts["verified"] = true.into();
    out.say(text, &facts)
}

fn installation(config: &Config) -> Installation<'_> {
    config.ledger.as_deref().map_or(Installation::Sqlite(&config.data), Installation::Postgres)
}

/// Does something whose entries are counted, and tells how far it is.
async fn told<T>(
    total: u64,
    out: Out,
    work: impl AsyncFnOnce(&AtomicU64) -> Result<T, BackupError>,
) -> Result<T, Failure> {
    let done = Arc::new(AtomicU64::new(0));
    let telling = tokio::spawn(progress::tell("entries", total, done.clone(), out.json()));
    let worked = work(&done).await;
    telling.abort();
    Ok(worked?)
}

/// Puts key files that lie in the backup where they are looked for, unless there is one. Says what is still to be done.
fn put_key_files(archive: &Archive, config: &Config) -> Result<&'static str, Failure> {
    for (name, path) in [(MASTER_KEY, config.master_key_path()), (tokens::KEY_FILE, config.token_key_path())] {
        if archive.manifest().key_files.iter().any(|file| file == name) && !path.exists() {
            let saved = archive.folder().join(name);
            let text = std::fs::read_to_string(&saved).map_err(|error| Failure::file(&saved, &error))?;
            cnc_commands::keyring::key_file::create("restore a key", &path, &text)?;
        }
    }
    if config.master_key_path().exists() {
        return Ok("");
    }
    note(format_args!("put master.key there before you start a server: {}", config.master_key_path().display()));
    Ok("; master.key is still missing")
}

fn bytes(manifest: &Manifest) -> u64 {
    manifest.files.iter().map(|file| file.bytes).sum()
}

fn facts(manifest: &Manifest, folder: &Path) -> Result<Value, Failure> {
    let mut facts = serde_json::to_value(manifest).map_err(Failure::fault)?;
    facts["folder"] = json!(folder);
    Ok(facts)
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        let message = error.to_string();
        match error {
            BackupError::NotABackup { .. } => Self::Missing(message),
            BackupError::NotEmpty(_) => Self::Usage(message),
            BackupError::File { path, error } => Self::file(&path, &error),
            BackupError::Fault(fault) => fault.into(),
            BackupError::Damaged { file, what } => Self::Found {
                message: format!("not verified: {message}"),
                facts: json!({ "file": file, "wrong": what }),
            },
            BackupError::Broken { company, broken } => Self::Found {
                message: format!("not verified: {message}"),
                facts: json!({ "company": company, "position": broken.position, "flaw": broken }),
            },
            BackupError::Flawed { company, flaw } => Self::Found {
                message: format!("not verified: {message}"),
                facts: json!({ "company": company, "position": flaw.position(), "flaw": flaw }),
            },
        }
    }
}
