//! `cnc audit`: a ledger as a file that anybody can check, and the check itself.

mod lines;

use std::{
    fmt,
    io::{self, Write},
    path::PathBuf,
};

use cnc_domain::{
    kernel::CompanyId,
    ledger::{Entry, Feed, Hash, Head, Position, Verifier},
};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use self::lines::Verified;
use super::{
    backup,
    output::{Failure, Out, note, pipe},
    read_only,
};
use crate::{
    import::table,
    run::{BackEnd, Config},
};

/// How many lines are read at once.
const BATCH: usize = 2_000;

/// Export a ledger, or verify one
#[derive(Debug, clap::Subcommand)]
pub enum Audit {
    Export(Export),
    Verify(Verify),
}

/// Write a company's ledger to standard output, one entry a line
///
/// Each line names the SHA-256 of the line before it, so that `jq` and `sha256sum` are enough to check the file: see
/// schemas/LEDGER.md and schemas/verify.sh. A chain cannot see its own tail: keep the head, which goes to standard error as
/// POSITION:HASH, in another place than the file.
///
/// A part of a ledger (--from, --to) also tells what it follows, for `cnc audit verify --after`. The entries of one stream
/// (--stream, --id) name lines that are not among them: they are for reading, and prove nothing by themselves.
#[derive(Debug, clap::Args)]
pub struct Export {
    /// The company: see `cnc company list`
    #[arg(long, value_name = "ID")]
    company: CompanyId,
    /// Write the head to this file too
    #[arg(long, value_name = "FILE")]
    head_file: Option<PathBuf>,
    /// Begin with the entry at this position
    #[arg(long, value_name = "POSITION", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    from: Position,
    /// End with the entry at this position
    #[arg(long, value_name = "POSITION", value_parser = clap::value_parser!(u64).range(1..))]
    to: Option<Position>,
    /// Only the entries of this kind of aggregate, such as truck_journey, …
    #[arg(long, value_name = "NAME", requires = "id", conflicts_with_all = ["from", "to", "head_file"])]
    stream: Option<String>,
    /// … and of this one
    #[arg(long, value_name = "ID", requires = "stream")]
    id: Option<Uuid>,
}

/// Verify a ledger: where it is kept, as an exported file, or all of a backup
///
/// Ends with status 0 and prints the head where every line follows from the one before; otherwise ends with status 1 and
/// names the first bad position and what is wrong there. Of a backup, the size and SHA-256 of each file are compared with its
/// manifest, too, and each ledger must end at the head that it names. With --company the columns that the database searches by are
/// compared with what the entries say, too.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub struct Verify {
    /// An exported file (gzip too), - for standard input, or the folder of a backup
    #[arg(value_name = "FILE", group = "what")]
    file: Option<PathBuf>,
    /// The ledger of this company, as it is kept
    #[arg(long, value_name = "ID", group = "what")]
    company: Option<CompanyId>,
    /// The head that was kept: finds a tail that was cut off
    #[arg(long, value_name = "POSITION:HASH")]
    head: Option<Head>,
    /// The file is a part of a ledger, and follows this entry
    #[arg(long, value_name = "POSITION:HASH", conflicts_with = "company")]
    after: Option<Head>,
    /// No line at all is as it should be
    #[arg(long, conflicts_with = "company")]
    allow_empty: bool,
}

pub async fn run(command: &Audit, config: Config, out: Out) -> Result<(), Failure> {
    match command {
        Audit::Export(command) => export(command, &*read_only(&config).await?.feed()).await,
        Audit::Verify(Verify { company: Some(company), head, .. }) => {
            verify_company(&read_only(&config).await?, *company, *head, out).await
        }
        Audit::Verify(Verify { file: Some(folder), .. }) if folder.is_dir() => backup::verify(folder, out),
        Audit::Verify(command) => verify_file(command, out),
    }
}

fn verify_file(command: &Verify, out: Out) -> Result<(), Failure> {
    let Verify { file, head, after, allow_empty, .. } = command;
    let path = file.clone().unwrap_or_else(|| "-".into());
    let opened = if path.as_os_str() == "-" {
        table::decompressed(io::BufReader::with_capacity(1 << 16, io::stdin()))
    } else {
        table::open(&path)
    };
    let verifier = Verifier::after(after.unwrap_or_default(), *head);
    let checked = opened.and_then(|input| lines::verify(input, verifier));
    match checked.map_err(|error| Failure::file(&path, &error))? {
        Ok(Verified { lines: 0, .. }) if !allow_empty => Err(Failure::Found {
            message: "not verified: there is no line in it; where the ledger really has no entries, say --allow-empty"
                .into(),
            facts: json!({ "position": 0, "flaw": "empty" }),
        }),
        Ok(Verified { head, lines }) => verified(head, lines, out),
        Err(broken) => Err(not_verified(broken.position, &broken)),
    }
}

async fn export(command: &Export, ledger: &dyn Feed) -> Result<(), Failure> {
    let head = ledger.head(command.company).await?.ok_or_else(|| Failure::no_company(command.company))?;
    match (&command.stream, command.id) {
        (Some(stream), Some(id)) => export_stream(command.company, stream, id, ledger).await,
        _ => export_part(command, head, ledger).await,
    }
}

async fn export_part(command: &Export, head: Head, ledger: &dyn Feed) -> Result<(), Failure> {
    let Export { company, head_file, from, to, .. } = command;
    // What is recorded meanwhile is left for the next export: the file ends at the head that is printed.
    let end = to.unwrap_or(head.position);
    if end > head.position || (*from > end && head.position > 0) {
        let wrong = format!("the ledger has the entries 1 to {}: choose --from and --to among them", head.position);
        return Err(Failure::Usage(wrong));
    }
    let mut out = io::BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let (mut follows, mut last) = (None, Head { position: from - 1, hash: Hash::default() });
    while last.position < end {
        let wanted = usize::try_from(end - last.position).unwrap_or(BATCH).min(BATCH);
        let lines = ledger.read(*company, last.position, wanted).await?;
        let Some(newest) = lines.last() else {
            return Err(Failure::fault(format!("the ledger ends at {}, before its head at {end}", last.position)));
        };
        if follows.is_none() && *from > 1 {
            let previous = Entry::read(&lines[0]).map_err(Failure::fault)?.previous;
            follows = Some(Head { position: from - 1, hash: previous });
        }
        last = Head { position: last.position + lines.len() as u64, hash: Hash::of(newest) };
        for line in lines {
            if let Err(error) = writeln!(out, "{line}") {
                return pipe(Err(error));
            }
        }
    }
    pipe(out.flush())?;
    if let Some(path) = head_file {
        std::fs::write(path, format!("{last}\n")).map_err(|error| Failure::file(path, &error))?;
    }
    if let Some(follows) = follows {
        note(format_args!("after {follows}"));
    }
    note(last);
    Ok(())
}

async fn export_stream(company: CompanyId, stream: &str, id: Uuid, ledger: &dyn Feed) -> Result<(), Failure> {
    let mut out = io::BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let mut sequence = 0;
    loop {
        let lines = ledger.read_stream(company, stream, id, sequence, BATCH).await?;
        if lines.is_empty() {
            break;
        }
        sequence += lines.len() as u64;
        for line in lines {
            if let Err(error) = writeln!(out, "{line}") {
                return pipe(Err(error));
            }
        }
    }
    pipe(out.flush())?;
    if sequence == 0 {
        return Err(Failure::Missing(format!("there are no entries of {stream} {id}")));
    }
    note(format_args!("{sequence} entries of {stream} {id}, without those between them"));
    Ok(())
}

async fn verify_company(back_end: &BackEnd, company: CompanyId, kept: Option<Head>, out: Out) -> Result<(), Failure> {
    match back_end.audit(company, kept).await? {
        None => Err(Failure::no_company(company)),
        Some(Ok(head)) => verified(head, head.position, out),
        Some(Err(flaw)) => Err(not_verified(flaw.position(), &flaw)),
    }
}

fn not_verified(position: Position, flaw: &(impl fmt::Display + Serialize)) -> Failure {
    let facts = json!({ "position": position, "flaw": flaw });
    Failure::Found { message: format!("not verified: {flaw}"), facts }
}

fn verified(head: Head, entries: u64, out: Out) -> Result<(), Failure> {
    out.say(
        format_args!("verified: {entries} entries, head {head}"),
        &json!({ "verified": true, "entries": entries, "head": head.to_string() }),
    )
}
