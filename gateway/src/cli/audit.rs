//! `cnc audit`: a ledger as a file that anybody can check, and the check itself.

use std::{
    fmt,
    io::{self, BufRead, Write},
    path::PathBuf,
};

use cnc_domain::{
    kernel::CompanyId,
    ledger::{Break, Feed, Head, Position, Verifier},
};
use serde::Serialize;
use serde_json::json;

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
#[derive(Debug, clap::Args)]
pub struct Export {
    /// The company: see `cnc company list`
    #[arg(long, value_name = "ID")]
    company: CompanyId,
    /// Write the head to this file too
    #[arg(long, value_name = "FILE")]
    head_file: Option<PathBuf>,
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
}

pub async fn run(command: &Audit, config: Config, out: Out) -> Result<(), Failure> {
    match command {
        Audit::Export(command) => export(command, &*read_only(&config).await?.feed()).await,
        Audit::Verify(Verify { company: Some(company), head, .. }) => {
            verify_company(&read_only(&config).await?, *company, *head, out).await
        }
        Audit::Verify(Verify { file: Some(folder), .. }) if folder.is_dir() => backup::verify(folder, out),
        Audit::Verify(Verify { file, head, .. }) => {
            let path = file.clone().unwrap_or_else(|| "-".into());
            let input: Box<dyn BufRead> = if path.as_os_str() == "-" {
                Box::new(io::stdin().lock())
            } else {
                table::open(&path).map_err(|error| Failure::file(&path, &error))?
            };
            match verify_lines(input, *head).map_err(|error| Failure::file(&path, &error))? {
                Ok(head) => verified(head, out),
                Err(broken) => Err(not_verified(broken.position, &broken)),
            }
        }
    }
}

async fn export(command: &Export, ledger: &dyn Feed) -> Result<(), Failure> {
    let head = ledger.head(command.company).await?.ok_or_else(|| Failure::no_company(command.company))?;
    let mut out = io::BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let mut after = 0;
    // What is recorded meanwhile is left for the next export: the file ends at the head that is printed.
    while after < head.position {
        let wanted = usize::try_from(head.position - after).unwrap_or(BATCH).min(BATCH);
        let lines = ledger.read(command.company, after, wanted).await?;
        if lines.is_empty() {
            return Err(Failure::fault(format!("the ledger ends at {after}, before its head at {}", head.position)));
        }
        after += lines.len() as u64;
        for line in lines {
            if let Err(error) = writeln!(out, "{line}") {
                return pipe(Err(error));
            }
        }
    }
    pipe(out.flush())?;
    if let Some(path) = &command.head_file {
        std::fs::write(path, format!("{head}\n")).map_err(|error| Failure::file(path, &error))?;
    }
    note(head);
    Ok(())
}

/// Verifies lines as they come; holds one at a time.
fn verify_lines(mut input: impl BufRead, expected: Option<Head>) -> io::Result<Result<Head, Break>> {
    let mut verifier = Verifier::new(expected);
    let mut line = Vec::new();
    while input.read_until(b'\n', &mut line)? > 0 {
        if let Err(broken) = verifier.line(line.strip_suffix(b"\n").unwrap_or(&line)) {
            return Ok(Err(broken));
        }
        line.clear();
    }
    Ok(verifier.finish())
}

async fn verify_company(back_end: &BackEnd, company: CompanyId, kept: Option<Head>, out: Out) -> Result<(), Failure> {
    match back_end.audit(company, kept).await? {
        None => Err(Failure::no_company(company)),
        Some(Ok(head)) => verified(head, out),
        Some(Err(flaw)) => Err(not_verified(flaw.position(), &flaw)),
    }
}

fn not_verified(position: Position, flaw: &(impl fmt::Display + Serialize)) -> Failure {
    let facts = json!({ "position": position, "flaw": flaw });
    Failure::Found { message: format!("not verified: {flaw}"), facts }
}

fn verified(head: Head, out: Out) -> Result<(), Failure> {
    out.say(
        format_args!("verified: {} entries, head {head}", head.position),
        &json!({ "verified": true, "entries": head.position, "head": head.to_string() }),
    )
}
