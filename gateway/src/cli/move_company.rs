//! `cnc company move`: to another database, while the company works.

use std::time::Instant;

use cnc_commands::transfer::{Stage, Transfer, TransferError};
use cnc_domain::{kernel::CompanyId, ledger::Head};
use cnc_projections::{carry_triggers, holds_folds};
use serde_json::json;

use super::{
    in_existing, in_rooms,
    output::{Failure, Out},
    progress,
};
use crate::run::Config;

/// Move a company from the Postgres database of --ledger to another one, while it works
///
/// Nothing is stopped: commands are recorded in the old database while keys, entries and answers are copied, and every
/// entry is verified on its way. At the end the old database is marked, the rest follows, and the company is live in the
/// new one; for that moment (fractions of a second to some seconds, which are printed) its commands are refused.
///
/// Before: start an installation on the new database, with the same master.key and token.key (or this command makes its
/// tables). After: point the company's clients, integrations and imports to that installation. The old one answers their
/// commands with 421 company_moved and records nothing; a command that is given again in the new one under its
/// Idempotency-Key is answered as before. Views are folded anew there; what triggers and deadlines still had to do comes
/// along, and nothing of it is done twice. The old ledger can still be read, exported and verified; deploy/README.md has
/// the statements by which an operator drops it.
///
/// A move that was interrupted, at whatever point, is finished by the same command. All processes of the old
/// installation must run this version or a newer one. SQLite ledgers cannot be moved: both sides are Postgres.
#[derive(Debug, clap::Args)]
pub struct Move {
    /// The company: see `cnc company list`
    #[arg(long, value_name = "ID")]
    company: CompanyId,
    /// Where to: postgres://USER:PASSWORD@HOST/DATABASE, of Postgres 15 or newer
    #[arg(long, env = "CNC_MOVE_TO", value_name = "URL", hide_env_values = true)]
    to: String,
    /// What the old database says of where the company is; HOST:PORT/DATABASE where nothing is said
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

pub async fn run(command: &Move, config: Config, out: Out) -> Result<(), Failure> {
    let from = config.ledger.clone().filter(|from| is_postgres(from) && is_postgres(&command.to)).ok_or_else(|| {
        Failure::Usage("a company moves from one Postgres database to another: give --ledger postgres://… and --to postgres://…; a SQLite ledger stays where it is".into())
    })?;
    let begun = Instant::now();
    // Both get their tables.
    let target = Config { ledger: Some(command.to.clone()), ..config.clone() };
    in_existing(&config, async |_| Ok(())).await?;
    in_rooms(&target, async |_| Ok(())).await?;
    let name = match &command.name {
        Some(name) => name.clone(),
        None => Transfer::place(&command.to)?,
    };
    let moved = Moving { from, company: command.company, command };
    let (stage, head, closed) = moved.all(&name, out).await?;
    let (entries, seconds, closed_ms) = (head.position, begun.elapsed().as_secs(), closed.as_millis());
    let text = if stage == Stage::Arrived {
        format!("{} was moved to {name} before: {entries} entries, head {head}", command.company)
    } else {
        format!(
            "moved {} to {name}: {entries} entries in {seconds} s, closed for {closed_ms} ms, head {head}\n\
             next: point its clients to the new installation; deploy/README.md says how the old copy is dropped",
            command.company
        )
    };
    let company = command.company;
    out.say(text, &json!({ "company": company, "moved_to": name, "entries": entries, "head": head.to_string(),
        "seconds": seconds, "closed_ms": u64::try_from(closed_ms).unwrap_or(u64::MAX), "was_moved": stage == Stage::Arrived }))
}

fn is_postgres(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}

struct Moving<'a> {
    from: String,
    company: CompanyId,
    command: &'a Move,
}

impl Moving<'_> {
    /// Does what is left of the move. Returns how far it was, where the ledger ends, and how long the company was closed.
    async fn all(&self, name: &str, out: Out) -> Result<(Stage, Head, std::time::Duration), Failure> {
        let to = &self.command.to;
        let begin = Transfer::begin(&self.from, to, self.company, name).await;
        let mut transfer = begin.map_err(|error| self.failure(error))?;
        let stage = transfer.stage();
        let total = transfer.source_head().await.map_err(|error| self.failure(error))?.head.position;
        if stage == Stage::Arrived {
            let head = transfer.arrive().await.map_err(|error| self.failure(error))?;
            return Ok((stage, head, std::time::Duration::ZERO));
        }
        if holds_folds(to, self.company).await? {
            return Err(self.failure(TransferError::AlreadyThere));
        }
        let telling = tokio::spawn(progress::tell("entries", total, transfer.copied(), out.json()));
        let done = self.rest(transfer).await;
        telling.abort();
        let (head, closed) = done?;
        Ok((stage, head, closed))
    }

    async fn rest(&self, mut transfer: Transfer) -> Result<(Head, std::time::Duration), Failure> {
        transfer.copy().await.map_err(|error| self.failure(error))?;
        let closed = Instant::now();
        transfer.depart().await.map_err(|error| self.failure(error))?;
        let head = transfer.complete().await.map_err(|error| self.failure(error))?;
        carry_triggers(&self.from, &self.command.to, self.company, head.position).await?;
        let head = transfer.arrive().await.map_err(|error| self.failure(error))?;
        Ok((head, closed.elapsed()))
    }

    fn failure(&self, error: TransferError) -> Failure {
        match error {
            TransferError::NoCompany => Failure::no_company(self.company),
            TransferError::AlreadyThere => Failure::Usage(
                "the new database has this company, or something of it, already: drop that first (deploy/README.md \
                 has the statements), or choose another --to"
                    .into(),
            ),
            TransferError::MovedElsewhere(_) => Failure::Usage(error.to_string()),
            TransferError::Broken(flaw) => Failure::Found {
                message: format!("nothing was moved, since the ledger is broken: {flaw}"),
                facts: json!({ "position": flaw.position(), "flaw": flaw }),
            },
            TransferError::Fault(fault) => fault.into(),
            TransferError::UnderWay | TransferError::Differs(_) => Failure::fault(error),
        }
    }
}
