//! What journeys have already: which of them a run belongs to, and which of its fixes are new.

use std::collections::{HashMap, HashSet};

use cnc_domain::{
    kernel::{Seconds, Timestamp},
    ledger::{Entry, Fault},
};
use serde_json::Value;

use super::{
    gps::{Import, Stopped},
    journey::{Fleet, Step, Trip},
    runs::{Run, Vehicle, is_soon},
    table::Row,
};

/// How many entries of a journey are read at once.
const BATCH: usize = 500;
const DAY: i64 = 24 * 60 * 60 * 1_000_000;

/// A fix without its time: north, east and how fast.
type Fix = (i32, i32, Option<u32>);

/// What a journey has already.
#[derive(Default)]
pub struct Before {
    /// What has happened.
    pub events: HashSet<String>,
    /// The next chunk of this import's receiver.
    pub chunks: u64,
    /// The fixes of this import's receiver.
    fixes: HashMap<Timestamp, Fix>,
    /// Whether its fixes cannot be read any more, since its key was destroyed.
    is_erased: bool,
    /// From when to when it is known to have been under way.
    span: Option<(Timestamp, Timestamp)>,
}

/// A fix beside what is there.
pub enum Compared {
    New,
    Known,
    /// Something else is recorded of that moment: both, in words.
    Contradicts(String),
}

/// The journeys of a run's vehicle and trip that began on its days, or on those around them.
pub struct Near {
    journeys: Vec<(Trip, Before)>,
    /// What a new journey would be.
    next: Trip,
}

impl Before {
    /// Whether a step needs not be given: it was taken, or the journey is over.
    pub fn took(&self, step: &Step) -> bool {
        self.is_over() || self.events.contains(step.event)
    }

    /// Whether the journey is over.
    pub fn is_over(&self) -> bool {
        ["returned", "cancelled"].iter().any(|event| self.events.contains(*event))
    }

    fn covers(&self, at: Timestamp) -> bool {
        self.span.is_some_and(|(first, last)| (first..=last).contains(&at))
    }

    fn widen(&mut self, first: Option<Timestamp>, last: Option<Timestamp>) {
        let Some((first, last)) = first.zip(last) else { return };
        let (earliest, latest) = self.span.unwrap_or((first, last));
        self.span = Some((earliest.min(first), latest.max(last)));
    }

    /// Takes a chunk of fixes, opened.
    fn take(&mut self, chunk: &Value) {
        self.chunks = self.chunks.max(chunk["chunk"].as_u64().map_or(0, |chunk| chunk + 1));
        self.widen(time(&chunk["first_at"]), time(&chunk["last_at"]));
        let Some(fixes) = chunk["fixes"].as_array() else {
            self.is_erased = true;
            return;
        };
        let degrees = |value: &Value| value.as_i64().and_then(|e7| i32::try_from(e7).ok()).unwrap_or_default();
        for fix in fixes {
            if let Some(at) = time(&fix["at"]) {
                let speed = fix["speed_cm_s"].as_u64().and_then(|speed| u32::try_from(speed).ok());
                self.fixes.insert(at, (degrees(&fix["lat_e7"]), degrees(&fix["lon_e7"]), speed));
            }
        }
    }
}

fn time(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

impl Near {
    /// Whether a row is there already, in any of the journeys.
    pub fn compare(&self, row: &Row) -> Compared {
        let found: Fix = (row.lat_e7.0, row.lon_e7.0, row.speed_cm_s.map(|speed| speed.0));
        for (_, before) in &self.journeys {
            // What was erased on request is not brought in again.
            if before.is_erased && before.covers(row.at) {
                return Compared::Known;
            }
            let Some(there) = before.fixes.get(&row.at) else { continue };
            // A speed that one of the two does not say is no other speed.
            let same_speed = there.2.is_none() || found.2.is_none() || there.2 == found.2;
            if (there.0, there.1) == (found.0, found.1) && same_speed {
                return Compared::Known;
            }
            let (there, found) = (words(*there), words(found));
            let reason = format!("contradicts what is recorded of {}: {there} is there, and {found} is here", row.at);
            return Compared::Contradicts(reason);
        }
        Compared::New
    }

    /// The journey that the run belongs to: one that it overlaps, else one that it goes on from (or comes before) with no
    /// other run between and no long pause, else a new one.
    pub fn chosen(mut self, vehicle: &Vehicle, run: &Run) -> (Trip, Before) {
        let (Some(first), Some(last)) = (run.rows.first(), run.rows.last()) else {
            return (self.next, Before::default());
        };
        let (first, last) = (first.at, last.at);
        let overlaps = |(from, to): (Timestamp, Timestamp)| from <= last && first <= to;
        let adjoins = |(from, to): (Timestamp, Timestamp)| {
            let (end, start) = if to < first { (to, first) } else { (last, from) };
            let begins_between = |row: &Row| from.min(first) < row.at && row.at < from.max(first);
            is_soon(end, start) && !vehicle.runs.iter().any(|other| other.rows.first().is_some_and(begins_between))
        };
        let span = |(_, before): &(Trip, Before)| before.span;
        let overlapping = self.journeys.iter().position(|journey| span(journey).is_some_and(overlaps));
        let chosen =
            overlapping.or_else(|| self.journeys.iter().position(|journey| span(journey).is_some_and(adjoins)));
        match chosen {
            Some(place) => self.journeys.swap_remove(place),
            None => (self.next, Before::default()),
        }
    }
}

/// A fix as people write it.
fn words((north, east, speed): Fix) -> String {
    let degrees = |e7: i32| {
        let (sign, e7) = (if e7 < 0 { "-" } else { "" }, e7.unsigned_abs());
        format!("{sign}{}.{:07}", e7 / 10_000_000, e7 % 10_000_000)
    };
    let speed = speed.map(|speed| format!(" at {speed} cm/s")).unwrap_or_default();
    format!("{}, {}{speed}", degrees(north), degrees(east))
}

impl Import {
    /// Reads the journeys that a run may belong to.
    pub(super) async fn near(&self, fleet: Fleet, vehicle: &Vehicle, run: &Run) -> Result<Near, Stopped> {
        let day = |at: Timestamp| at.micros().div_euclid(DAY);
        let first = run.rows.first().map_or(0, |row| day(row.at));
        let last = run.rows.last().map_or(first, |row| day(row.at));
        let mut near = Near { journeys: Vec::new(), next: fleet.trip(&vehicle.name, &run.trip, first, 0) };
        for day in first - 1..=last + 1 {
            for nth in 0.. {
                let trip = fleet.trip(&vehicle.name, &run.trip, day, nth);
                let before = self.before(&trip).await?;
                if before.events.is_empty() {
                    if day == first {
                        near.next = trip;
                    }
                    break;
                }
                near.journeys.push((trip, before));
            }
        }
        Ok(near)
    }

    /// Reads what a journey has already.
    pub(super) async fn before(&self, trip: &Trip) -> Result<Before, Stopped> {
        self.patience.with(|| self.read_before(trip)).await
    }

    async fn read_before(&self, trip: &Trip) -> Result<Before, Stopped> {
        let mut before = Before::default();
        let mut after = 0;
        loop {
            let id = trip.journey.uuid();
            let lines = self.host.ledger().read_stream(self.company, "truck_journey", id, after, BATCH).await?;
            if lines.is_empty() {
                return Ok(before);
            }
            after += lines.len() as u64;
            for line in &lines {
                let entry = Entry::read(line).map_err(|error| Fault::broken("reading a journey", error))?;
                if matches!(entry.event.as_str(), "gps_recorded" | "planned") {
                    let mut payload: Value = serde_json::from_str(entry.payload.get())
                        .map_err(|error| Fault::broken("reading a journey", error))?;
                    if entry.event == "planned" {
                        let start = time(&payload["window"]["start"]);
                        // It may begin with its first fix, and ends a second later where there is no more.
                        before.widen(start, start.map(|start| start.plus(Seconds(1))));
                    } else if payload["device"] == trip.tracker().to_string() {
                        self.host.keyring().open_all(self.company, &mut payload, &|_| true).await?;
                        before.take(&payload);
                    }
                }
                before.events.insert(entry.event);
            }
        }
    }
}
