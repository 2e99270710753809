//! `cnc import gps`: the file, the progress, the summary.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicU64},
    time::Instant,
};

use cnc_domain::kernel::{CompanyId, LocationId};
use serde_json::{Value, json};

use super::{
    in_existing,
    output::{Failure, Out},
    progress,
};
use crate::{
    clock,
    import::{
        gps::{Import, Imported, Stopped},
        journey::Branch,
        runs, table,
        table::{BadRow, NoTable},
    },
    run::{Config, Rooms},
};

/// Bring in a file of GPS fixes as trucks, drivers and journeys
///
/// The file is CSV, gzip or not, with its columns named in the first line, in any order: vehicle_id, timestamp (RFC 3339
/// with an offset), latitude and longitude (degrees); speed (miles per hour), trip_id and others may be there. A vehicle
/// becomes a truck with one hired driver; each run of consecutive rows of a vehicle with one trip_id (which may be empty)
/// becomes a journey, by the same commands that people give.
///
/// Rows that cannot be taken are reported by line number, and nothing else is lost: rows = recorded + already known +
/// reported. The same file again records nothing; an import that was killed goes on where it stopped, and one
/// whose database is away for up to five minutes waits for it. A day of a fleet is held in memory.
#[derive(Debug, clap::Args)]
pub struct Gps {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The company: see `cnc company list`
    #[arg(long, value_name = "ID")]
    company: CompanyId,
    /// The branch that the trucks belong to; one of their own is opened where none is named
    #[arg(long, value_name = "ID")]
    location: Option<LocationId>,
    /// Where the branch that is opened lies: a Canadian province or a US state, such as CA-ON
    // It is not guessed, since what is recorded of a branch stays recorded.
    #[arg(long, value_name = "CODE", required_unless_present = "location")]
    province: Option<String>,
    /// The time zone of the branch that is opened, such as America/Toronto
    #[arg(long, value_name = "NAME", required_unless_present = "location")]
    timezone: Option<String>,
    /// Where to report rows that could not be taken [default: FILE's name in the folder reports of the data folder]
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

pub async fn run(command: &Gps, config: Config, out: Out) -> Result<(), Failure> {
    let begun = Instant::now();
    let input = table::open(&command.file).map_err(|error| Failure::file(&command.file, &error))?;
    let table = table::read(input, clock::now()).map_err(|wrong| match wrong {
        NoTable::Io(error) => Failure::file(&command.file, &error),
        other => Failure::Usage(format!("{}: {other}", command.file.display())),
    })?;
    let rows = (table.rows.len() + table.bad.len()) as u64;
    let grouped = runs::group(table.rows);
    let (vehicles, journeys, repeated) = (grouped.vehicles.len(), grouped.runs(), grouped.repeated);
    let mut bad = [table.bad, grouped.bad.clone()].concat();

    let settled = Arc::new(AtomicU64::new(bad.len() as u64 + repeated));
    let imported = in_existing(&config, async |rooms| {
        let import = prepare(command, rooms, settled.clone()).await?;
        let telling = tokio::spawn(progress::tell("rows", rows, settled, out.json()));
        let imported = import.run(grouped).await;
        telling.abort();
        imported.map_err(|stopped| stop(stopped, command.company))
    });
    let imported = imported.await?;

    bad.extend(imported.bad.iter().cloned());
    bad.sort_by_key(|row| row.line);
    let report = report_path(command, &config);
    write_report(&report, &bad).map_err(|error| Failure::file(&report, &error))?;
    let known = imported.known + repeated;
    let summary = json!({
        "rows": rows, "recorded": imported.recorded, "already_known": known, "reported": bad.len(),
        "adds_up": rows == imported.recorded + known + bad.len() as u64,
        "vehicles": vehicles, "journeys": journeys, "new_journeys": imported.journeys,
        "unfinished": imported.unfinished, "report": report, "seconds": begun.elapsed().as_secs(),
    });
    out.say(people(&summary, &bad, &imported), &summary)
}

async fn prepare(command: &Gps, rooms: &Rooms, settled: Arc<AtomicU64>) -> Result<Import, Failure> {
    if rooms.ledger.head(command.company).await?.is_none() {
        return Err(Failure::no_company(command.company));
    }
    Ok(Import {
        host: rooms.host.clone(),
        company: command.company,
        location: command.location,
        // Neither is there only where a branch is named, and then none is opened.
        branch: Branch {
            province: command.province.clone().unwrap_or_default(),
            timezone: command.timezone.clone().unwrap_or_default(),
        },
        attempt: uuid::Uuid::now_v7(),
        settled,
        patience: Arc::default(),
    })
}

fn stop(stopped: Stopped, company: CompanyId) -> Failure {
    match stopped {
        Stopped::NoCompany => Failure::no_company(company),
        other => Failure::fault(format!(
            "the import stopped: {other}. What was recorded stands; the same command goes on where it stopped"
        )),
    }
}

/// The summary in words, with the first few bad rows.
fn people(summary: &Value, bad: &[BadRow], imported: &Imported) -> String {
    let n = |member: &str| summary[member].to_string();
    let text = format!(
        "{} rows = {} recorded + {} already known + {} reported\n{} vehicles, {} journeys of which {} are new, {} s",
        n("rows"),
        n("recorded"),
        n("already_known"),
        n("reported"),
        n("vehicles"),
        n("journeys"),
        n("new_journeys"),
        n("seconds"),
    );
    let rows = bad.iter().take(10).map(|row| format!("line {}: {}", row.line, row.reason));
    let more = (bad.len() > 10).then(|| format!("and {} more", bad.len() - 10));
    let report = (!bad.is_empty()).then(|| format!("all of them: {}", summary["report"].as_str().unwrap_or_default()));
    let unfinished = imported.unfinished.iter().map(|journey| format!("left unfinished: {journey}"));
    let details: Vec<String> = rows.chain(more).chain(report).chain(unfinished).collect();
    [&[text], details.as_slice()].concat().join("\n  ")
}

fn report_path(command: &Gps, config: &Config) -> PathBuf {
    command.report.clone().unwrap_or_else(|| {
        let name = command.file.file_name().unwrap_or_default().to_string_lossy();
        config.data.join("reports").join(format!("{name}.reported.csv"))
    })
}

fn write_report(path: &Path, bad: &[BadRow]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut report = io::BufWriter::new(fs::File::create(path)?);
    writeln!(report, "line,reason")?;
    for BadRow { line, reason } in bad {
        writeln!(report, "{line},\"{}\"", reason.replace('"', "\"\""))?;
    }
    report.flush()
}
