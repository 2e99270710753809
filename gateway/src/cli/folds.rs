//! `cnc folds`: how the views and triggers stand, and what to do where one does not.

use cnc_domain::kernel::CompanyId;
use cnc_projections::{Engine, FoldStatus, Pruned, Verified};
use serde_json::{Value, json};

use super::{
    output::{Failure, Out},
    read_only,
};
use crate::run::Config;

/// Look after views and triggers: all that is folded from the ledger
#[derive(Debug, clap::Subcommand)]
pub enum Folds {
    /// Show how far each fold has read, and what stopped it
    Status,
    /// Build a fold anew from the ledger and swap it in; the old one is served meanwhile
    Rebuild {
        /// The fold: see `cnc folds status`
        fold: String,
        /// Only this company's; all companies' where none is named
        #[arg(long, value_name = "ID")]
        company: Option<CompanyId>,
    },
    /// Build every fold beside the one that stands and compare each document; status 1 where one differs
    Verify {
        /// Only this company's; all companies' where none is named
        #[arg(long, value_name = "ID")]
        company: Option<CompanyId>,
    },
    /// Let folds that an entry stopped try it again
    Retry {
        /// The fold; all of them where none is named
        fold: Option<String>,
        /// Only this company's; all companies' where none is named
        #[arg(long, value_name = "ID")]
        company: Option<CompanyId>,
    },
    /// Skip the entry that stopped a fold, on the record; then its documents differ from what the ledger says
    Skip {
        /// The fold
        fold: String,
        /// The company
        #[arg(long, value_name = "ID")]
        company: CompanyId,
        /// Who skips it
        #[arg(long, value_name = "NAME", env = "USER")]
        by: String,
    },
    /// Drop builds of folds that were replaced or abandoned, and tables that no build uses any more
    Prune,
}

pub async fn run(command: &Folds, config: Config, out: Out) -> Result<(), Failure> {
    let back_end = read_only(&config).await?;
    let engine = match command {
        Folds::Status => back_end.folds_read_only(&config).await?,
        _ => back_end.folds(&config).await?,
    };
    act(command, &engine, out).await
}

async fn act(command: &Folds, engine: &Engine, out: Out) -> Result<(), Failure> {
    match command {
        Folds::Status => status(&engine.status().await?, out),
        Folds::Rebuild { fold, company } => rebuild(engine, fold, *company, out).await,
        Folds::Verify { company } => verify(&engine.verify(*company).await?, out),
        Folds::Retry { fold, company } => {
            if let Some(fold) = fold {
                known(engine, fold)?;
            }
            let folds = engine.retry(*company, fold.as_deref()).await?;
            out.say(format_args!("{folds} folds try again"), &json!({ "retried": folds }))
        }
        Folds::Skip { fold, company, by } => {
            known(engine, fold)?;
            match engine.skip(*company, fold, by).await? {
                Some(skipped) => out.say(
                    format_args!("skipped position {}: {}", skipped.position, skipped.reason),
                    &json!({ "fold": skipped.fold, "position": skipped.position, "reason": skipped.reason }),
                ),
                None => Err(Failure::Missing(format!("nothing stops {fold}: see `cnc folds status`"))),
            }
        }
        Folds::Prune => {
            let pruned = engine.prune().await?;
            let Pruned { builds, documents, tables, kept } = pruned;
            let text = format_args!(
                "dropped {builds} builds with {documents} documents, and {tables} tables; left {kept} builds that may be in use"
            );
            out.say(text, &serde_json::to_value(pruned).map_err(Failure::fault)?)
        }
    }
}

fn known(engine: &Engine, fold: &str) -> Result<(), Failure> {
    let folds = engine.folds();
    if folds.contains(&fold) {
        return Ok(());
    }
    Err(Failure::Missing(format!("there is no fold {fold:?}; there are {}", folds.join(", "))))
}

fn status(folds: &[FoldStatus], out: Out) -> Result<(), Failure> {
    if out.json() {
        for fold in folds {
            out.say("", &serde_json::to_value(fold).map_err(Failure::fault)?)?;
        }
        return Ok(());
    }
    if folds.is_empty() {
        return out.say("nothing has been folded yet: `cnc serve` does it", &Value::Null);
    }
    let row = |company: &str, fold: &str, standing: &str, position: &str, lag: &str, stopped: &str| {
        format!("{company:36}  {fold:24}  {standing:10}  {position:>10}  {lag:>8}  {stopped}")
    };
    let mut text = row("company", "fold", "standing", "position", "behind", "not well");
    for fold in folds {
        let (position, lag) = (fold.position.to_string(), fold.lag.to_string());
        text.push('\n');
        text.push_str(&row(&fold.company.to_string(), &fold.fold, fold.standing, &position, &lag, &unwell(fold)));
    }
    out.say(text, &Value::Null)
}

/// What is not well with a fold.
fn unwell(fold: &FoldStatus) -> String {
    let poison = fold.poison.as_ref().map(|poison| format!("{}: {}", poison.position, poison.reason));
    let forked = fold.forked.then(|| "it is of another history than the ledger's".to_owned());
    let rebuilding = fold.rebuilding_until.map(|until| format!("it is built anew, and shown from {until} on"));
    let skipped =
        Some(fold.skipped).filter(|entries| *entries > 0).map(|entries| format!("{entries} entries are skipped"));
    poison.into_iter().chain(forked).chain(rebuilding).chain(skipped).collect::<Vec<_>>().join("; ")
}

async fn rebuild(engine: &Engine, fold: &str, company: Option<CompanyId>, out: Out) -> Result<(), Failure> {
    known(engine, fold)?;
    for built in engine.rebuild(company, fold).await? {
        let value = json!({
            "company": built.company, "fold": built.fold, "position": built.position, "stopped": built.stopped,
        });
        if let Some(stopped) = &built.stopped {
            let message = format!("{} of {} was not swapped in: {stopped}", built.fold, built.company);
            return Err(Failure::Found { message, facts: value });
        }
        out.say(format_args!("{}: {} entries folded, swapped in", built.company, built.position), &value)?;
    }
    Ok(())
}

fn verify(verified: &[Verified], out: Out) -> Result<(), Failure> {
    let mut wrong = 0;
    for fold in verified {
        let value = serde_json::to_value(fold).map_err(Failure::fault)?;
        let is = match (&fold.stopped, fold.differences.len()) {
            (Some(stopped), _) => format!("stopped: {stopped}"),
            (None, 0) => "no difference".to_owned(),
            (None, n) => format!("{n} differences"),
        };
        wrong += u64::from(is != "no difference");
        let text = format!("{} {}: {} documents at {}, {is}", fold.company, fold.fold, fold.documents, fold.position);
        let found = fold.differences.iter().map(|found| format!("{} {}: {}", found.document, found.key, found.wrong));
        out.say(std::iter::once(text).chain(found).collect::<Vec<_>>().join("\n  "), &value)?;
    }
    if wrong == 0 {
        return Ok(());
    }
    let message = format!("{wrong} folds are not what the ledger says; `cnc folds rebuild FOLD` builds one anew");
    Err(Failure::Found { message, facts: json!({ "folds": wrong }) })
}
