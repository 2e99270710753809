//! `cnc import gps`: the file, the progress, the summary.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, BufRead, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
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
        table::{BadRow, NoTable, Reader},
    },
    run::{Config, Rooms},
};

/// How many rows are held at once: a day of a fleet, so that nothing of it is torn.
const BATCH: usize = 200_000;
/// How many reported rows are shown.
const SHOWN: usize = 10;

/// Bring in a file of GPS fixes as trucks, drivers and journeys
///
/// The file is CSV, gzip or not, with its columns named in the first line, in any order: vehicle_id, timestamp (RFC 3339
/// with an offset), latitude and longitude (degrees); speed (miles per hour), trip_id and others may be there. A vehicle
/// becomes a truck with one hired driver; each run of consecutive rows of a vehicle with one trip_id (which may be empty)
/// becomes a journey, by the same commands that people give.
///
/// Rows that cannot be taken are reported by line number, and nothing else is lost: rows = recorded + already known +
/// reported. Fixes that no truck can have made (weeks from those around them, at 0, 0, or too far from the others for the time
/// between) are reported too, and those that contradict what is recorded, with both. Where any row was reported, the status
/// is 1.
///
/// The same file again records nothing, nor does a day that comes again with more in it, or hour by hour: what is new is added
/// to the journeys that are there. An import that was killed goes on where it stopped, and one whose database is away for up
/// to five minutes waits for it.
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

/// What has come of the rows so far.
#[derive(Default)]
struct Total {
    rows: u64,
    repeated: u64,
    imported: Imported,
    vehicles: BTreeSet<String>,
    journeys: usize,
}

pub async fn run(command: &Gps, config: Config, out: Out) -> Result<(), Failure> {
    let begun = Instant::now();
    let path = report_path(command, &config);
    if is_same_file(&command.file, &path) {
        return Err(Failure::Usage(format!(
            "the report would overwrite the file itself: name another with --report ({})",
            path.display()
        )));
    }
    let input = table::open(&command.file).map_err(|error| Failure::file(&command.file, &error))?;
    let (total, report) = in_existing(&config, async |rooms| {
        let mut reader = Reader::new(input, clock::now()).map_err(|wrong| match wrong {
            NoTable::Io(error) => Failure::file(&command.file, &error),
            other => Failure::Usage(format!("{}: {other}", command.file.display())),
        })?;
        let import = prepare(command, rooms).await?;
        let report = Report::create(&path).map_err(|error| Failure::file(&path, &error))?;
        import_all(command, &mut reader, &import, report, out).await
    })
    .await?;
    let known = total.imported.known + total.repeated;
    let summary = json!({
        "rows": total.rows, "recorded": total.imported.recorded, "already_known": known, "reported": report.count,
        "adds_up": total.rows == total.imported.recorded + known + report.count,
        "vehicles": total.vehicles.len(), "journeys": total.journeys, "new_journeys": total.imported.journeys,
        "unfinished": total.imported.unfinished, "report": path, "seconds": begun.elapsed().as_secs(),
    });
    out.say(people(&summary, &report, &total.imported), &summary)?;
    match (report.count, total.imported.unfinished.len()) {
        (0, 0) => Ok(()),
        (rows, journeys) => Err(Failure::Found {
            message: format!(
                "{rows} rows were reported and {journeys} journeys left unfinished; the others are recorded"
            ),
            facts: json!({ "reported": rows, "unfinished": journeys, "report": path }),
        }),
    }
}

/// Brings in batch after batch. Each vehicle's last run of a batch waits for the next one, where it may go on.
async fn import_all(
    command: &Gps,
    reader: &mut Reader<impl BufRead>,
    import: &Import,
    mut report: Report,
    out: Out,
) -> Result<(Total, Report), Failure> {
    let (mut total, mut waiting) = (Total::default(), Vec::new());
    loop {
        let table = reader.batch(BATCH).map_err(|error| Failure::file(&command.file, &error))?;
        let read = (table.rows.len() + table.bad.len()) as u64;
        total.rows += read;
        let rows = [std::mem::take(&mut waiting), table.rows].concat();
        let (rows, later) = if table.ended { (rows, Vec::new()) } else { runs::split_off_last(rows, BATCH / 2) };
        waiting = later;
        let grouped = runs::group(rows);
        total.repeated += grouped.repeated;
        total.journeys += grouped.runs();
        total.vehicles.extend(grouped.vehicles.iter().map(|vehicle| vehicle.name.clone()));
        let mut bad = [table.bad, grouped.bad.clone()].concat();
        import.settled.fetch_add(bad.len() as u64 + grouped.repeated, Ordering::Relaxed);
        let telling = tokio::spawn(progress::tell("rows", total.rows, import.settled.clone(), out.json()));
        let imported = import.clone().run(grouped).await;
        telling.abort();
        let mut imported = imported.map_err(|stopped| stop(stopped, command.company))?;
        bad.append(&mut imported.bad);
        bad.sort_by_key(|row| row.line);
        report.add(&bad).map_err(|error| Failure::file(&report.path, &error))?;
        total.imported.add(imported);
        if table.ended {
            report.file.flush().map_err(|error| Failure::file(&report.path, &error))?;
            return Ok((total, report));
        }
    }
}

async fn prepare(command: &Gps, rooms: &Rooms) -> Result<Import, Failure> {
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
        settled: Arc::default(),
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
fn people(summary: &Value, report: &Report, imported: &Imported) -> String {
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
    let rows = report.first.iter().map(|row| format!("line {}: {}", row.line, row.reason));
    let more = report.count.saturating_sub(report.first.len() as u64);
    let more = (more > 0).then(|| format!("and {more} more"));
    let report = (report.count > 0).then(|| format!("all of them: {}", report.path.display()));
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

/// Whether two names are of one file, however they are spelled or linked.
fn is_same_file(one: &Path, other: &Path) -> bool {
    let id = |path: &Path| fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    id(one).is_some_and(|one| Some(one) == id(other))
}

/// The file that says which rows could not be taken. It may hold places, so that only its owner reads it.
struct Report {
    path: PathBuf,
    file: io::BufWriter<fs::File>,
    count: u64,
    /// The first few, to be shown.
    first: Vec<BadRow>,
}

impl Report {
    fn create(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        let mut file = io::BufWriter::new(file);
        writeln!(file, "line,reason")?;
        Ok(Self { path: path.to_owned(), file, count: 0, first: Vec::new() })
    }

    fn add(&mut self, bad: &[BadRow]) -> io::Result<()> {
        for row in bad {
            writeln!(self.file, "{},\"{}\"", row.line, row.reason.replace('"', "\"\""))?;
        }
        self.count += bad.len() as u64;
        self.first.extend(bad.iter().take(SHOWN - self.first.len()).cloned());
        Ok(())
    }
}
