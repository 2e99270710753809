//! From rows to journeys: which rows are one run, and which window each run has.
//!
//! A run is consecutive rows of a vehicle (in the file) with one trip; rows without a trip make runs too, so that no fix is
//! lost. A file that is not in order would tear a trip into many runs: runs of one trip that overlap in time, or that have no
//! other run between them and no long [pause](PAUSE_MAX), are one. In a run, rows stand in order of time.
//!
//! Receivers' trips overlap by a fix or two where one ends and the next starts. Nobody can be on two journeys at once, so a
//! window ends at the latest where the next one starts.

use std::collections::{BTreeMap, HashMap, HashSet};

use cnc_domain::kernel::{Seconds, Timestamp, Window};

use super::{
    outliers,
    table::{BadRow, Row},
};

/// A vehicle that was silent for longer is on another run.
pub const PAUSE_MAX: Seconds = Seconds(12 * 60 * 60);

/// All runs of one vehicle, in order of time.
#[derive(Debug, PartialEq, Eq)]
pub struct Vehicle {
    /// As the file names it.
    pub name: String,
    /// Its runs.
    pub runs: Vec<Run>,
}

/// The rows of one journey.
#[derive(Debug, PartialEq, Eq)]
pub struct Run {
    /// The trip, as the file names it; may be empty.
    pub trip: String,
    /// Its window: never overlaps that of another run of the vehicle.
    pub window: Window,
    /// Its rows in order of time, no two of the same time.
    pub rows: Vec<Row>,
}

/// What became of the rows.
#[derive(Debug, Default)]
pub struct Grouped {
    /// The vehicles, by name.
    pub vehicles: Vec<Vehicle>,
    /// How many rows repeat another one exactly.
    pub repeated: u64,
    /// Rows that contradict another one, or that the vehicle cannot have made.
    pub bad: Vec<BadRow>,
}

/// Groups the rows of a file, which may come in any order.
pub fn group(rows: Vec<Row>) -> Grouped {
    let mut grouped = Grouped::default();
    let mut vehicles: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    for row in rows {
        vehicles.entry(row.vehicle.clone()).or_default().push(row);
    }
    for (name, rows) in vehicles {
        let (rows, bad) = outliers::take_out(rows);
        grouped.bad.extend(bad);
        if rows.is_empty() {
            continue;
        }
        let mut runs: Vec<Vec<Row>> = joined(consecutive(rows));
        for run in &mut runs {
            grouped.thin(run);
        }
        runs.sort_by_key(|run| (run[0].at, run[0].line));
        grouped.vehicles.push(Vehicle { name, runs: windows(runs) });
    }
    grouped
}

/// Splits off each vehicle's last rows of one trip, which more rows may follow: no more of them than `most`, else none.
pub fn split_off_last(rows: Vec<Row>, most: usize) -> (Vec<Row>, Vec<Row>) {
    let mut last: HashMap<&str, &str> = HashMap::new();
    let mut is_last: Vec<bool> = Vec::with_capacity(rows.len());
    let mut changed: HashSet<&str> = HashSet::new();
    for row in rows.iter().rev() {
        let trip = *last.entry(&row.vehicle).or_insert(&row.trip);
        if trip != row.trip {
            changed.insert(&row.vehicle);
        }
        is_last.push(!changed.contains(row.vehicle.as_str()));
    }
    is_last.reverse();
    if is_last.iter().filter(|is_last| **is_last).count() > most {
        return (rows, Vec::new());
    }
    let mut is_last = is_last.into_iter();
    let (later, now) = rows.into_iter().partition(|_| is_last.next().unwrap_or_default());
    (now, later)
}

impl Grouped {
    /// How many journeys there are.
    pub fn runs(&self) -> usize {
        self.vehicles.iter().map(|vehicle| vehicle.runs.len()).sum()
    }

    /// Sorts a run and takes out rows that repeat or contradict the one before.
    fn thin(&mut self, run: &mut Vec<Row>) {
        run.sort_by_key(|row| (row.at, row.line));
        let mut kept: Vec<Row> = Vec::with_capacity(run.len());
        for row in run.drain(..) {
            match kept.last() {
                Some(last) if last.at == row.at => {
                    if (last.lat_e7, last.lon_e7, last.speed_cm_s) == (row.lat_e7, row.lon_e7, row.speed_cm_s) {
                        self.repeated += 1;
                    } else {
                        let reason = format!("another fix of this vehicle, trip and time stands on line {}", last.line);
                        self.bad.push(BadRow { line: row.line, reason });
                    }
                }
                _ => kept.push(row),
            }
        }
        *run = kept;
    }
}

/// Splits a vehicle's rows where the trip changes, or time makes a leap.
fn consecutive(rows: Vec<Row>) -> Vec<Vec<Row>> {
    let mut runs: Vec<Vec<Row>> = Vec::new();
    for row in rows {
        match runs.last_mut() {
            Some(run) if run[0].trip == row.trip && run.last().is_some_and(|last| is_soon(last.at, row.at)) => {
                run.push(row);
            }
            _ => runs.push(vec![row]),
        }
    }
    runs
}

/// Whether two moments are close enough for one run, whichever comes first.
pub fn is_soon(one: Timestamp, other: Timestamp) -> bool {
    one.max(other) <= one.min(other).plus(PAUSE_MAX)
}

/// Joins runs of the same trip that overlap in time, or follow each other there.
fn joined(mut runs: Vec<Vec<Row>>) -> Vec<Vec<Row>> {
    let first = |run: &[Row]| run.iter().map(|row| row.at).min();
    let last = |run: &[Row]| run.iter().map(|row| row.at).max();
    runs.sort_by_key(|run| (first(run), run[0].line));
    let mut joined: Vec<Vec<Row>> = Vec::new();
    let mut open: HashMap<String, (usize, Option<Timestamp>)> = HashMap::new();
    for run in runs {
        let (start, end) = (first(&run), last(&run));
        let newest = joined.len().checked_sub(1);
        match open.get_mut(&run[0].trip) {
            Some((place, until))
                if start <= *until
                    || (Some(*place) == newest
                        && start.zip(*until).is_some_and(|(start, until)| is_soon(until, start))) =>
            {
                *until = end.max(*until);
                joined[*place].extend(run);
            }
            _ => {
                open.insert(run[0].trip.clone(), (joined.len(), end));
                joined.push(run);
            }
        }
    }
    joined
}

/// Gives each run its window: from its first fix to its last, at most until the next run's.
fn windows(runs: Vec<Vec<Row>>) -> Vec<Run> {
    let mut starts: Vec<Timestamp> = Vec::with_capacity(runs.len());
    for run in &runs {
        let after = starts.last().map_or(run[0].at, |start| Timestamp::from_micros(start.micros() + 1));
        starts.push(run[0].at.max(after));
    }
    let ends: Vec<Option<Timestamp>> = starts.iter().skip(1).copied().map(Some).chain([None]).collect();
    let mut windowed = Vec::with_capacity(runs.len());
    for ((rows, start), next) in runs.into_iter().zip(starts).zip(ends) {
        let last = rows.last().map_or(start, |row| row.at).max(start.plus(Seconds(1)));
        let end = next.map_or(last, |next| last.min(next));
        windowed.push(Run { trip: rows[0].trip.clone(), window: Window { start, end }, rows });
    }
    windowed
}

#[cfg(test)]
mod tests {
    use cnc_domain::kernel::{LatE7, LonE7};

    use super::*;

    fn row(line: u64, vehicle: &str, trip: &str, at: i64) -> Row {
        Row {
            line,
            vehicle: vehicle.into(),
            trip: trip.into(),
            at: Timestamp::from_seconds(1_000_000_000 + at),
            lat_e7: LatE7(1),
            lon_e7: LonE7(2),
            speed_cm_s: None,
        }
    }

    fn rows(given: &[(&str, &str, i64)]) -> Vec<Row> {
        given.iter().zip(2..).map(|((vehicle, trip, at), line)| row(line, vehicle, trip, *at)).collect()
    }

    fn shape(grouped: &Grouped) -> Vec<(&str, &str, usize)> {
        let runs = grouped.vehicles.iter().flat_map(|vehicle| vehicle.runs.iter().map(move |run| (vehicle, run)));
        runs.map(|(vehicle, run)| (vehicle.name.as_str(), run.trip.as_str(), run.rows.len())).collect()
    }

    #[test]
    fn consecutive_rows_of_a_vehicle_with_one_trip_are_a_run_whatever_stands_between_them() {
        let grouped = group(rows(&[("1", "a", 1), ("2", "x", 1), ("1", "a", 2), ("1", "b", 3), ("1", "a", 4)]));
        assert_eq!(shape(&grouped), [("1", "a", 2), ("1", "b", 1), ("1", "a", 1), ("2", "x", 1)]);
    }

    #[test]
    fn rows_out_of_order_are_still_one_run_a_trip() {
        let grouped = group(rows(&[("1", "b", 9), ("1", "a", 3), ("1", "b", 6), ("1", "a", 1), ("1", "b", 7)]));
        assert_eq!(shape(&grouped), [("1", "a", 2), ("1", "b", 3)]);
        assert_eq!(grouped.vehicles[0].runs[0].rows[0].line, 5);
    }

    #[test]
    fn what_may_go_on_is_kept_for_the_next_batch() {
        let given = [("1", "a", 1), ("1", "b", 2), ("2", "x", 1), ("1", "b", 3), ("2", "x", 2)];
        let lines = |rows: &[Row]| rows.iter().map(|row| row.line).collect::<Vec<_>>();
        let (now, later) = split_off_last(rows(&given), 4);
        assert_eq!((lines(&now), lines(&later)), (vec![2], vec![3, 4, 5, 6]));
        let (now, later) = split_off_last(rows(&given), 3);
        assert_eq!((now.len(), later.len()), (5, 0));
    }

    #[test]
    fn a_vehicle_that_was_silent_for_long_is_on_another_run() {
        let hours = |hours: i64| hours * 60 * 60;
        let grouped = group(rows(&[("1", "", 0), ("1", "", hours(11)), ("1", "", hours(24)), ("1", "", hours(25))]));
        assert_eq!(shape(&grouped), [("1", "", 2), ("1", "", 2)]);
    }

    #[test]
    fn windows_of_a_vehicle_never_overlap_even_where_its_trips_do() {
        let grouped = group(rows(&[
            ("1", "a", 0),
            ("1", "a", 50),
            ("1", "b", 40),
            ("1", "b", 90),
            ("1", "c", 40),
            ("1", "d", 45),
            ("1", "e", 95),
        ]));
        let windows: Vec<Window> = grouped.vehicles[0].runs.iter().map(|run| run.window).collect();
        assert_eq!(windows.len(), 5);
        assert!(windows.iter().all(|window| window.is_forward()), "{windows:?}");
        assert!(windows.windows(2).all(|pair| pair[0].end <= pair[1].start), "{windows:?}");
    }

    #[test]
    fn a_row_that_is_there_twice_counts_once_and_one_that_contradicts_it_is_reported() {
        let mut given = rows(&[("1", "a", 0), ("1", "a", 0), ("1", "a", 0)]);
        given[2].lat_e7 = LatE7(5);
        let grouped = group(given);
        assert_eq!((shape(&grouped), grouped.repeated), (vec![("1", "a", 1)], 1));
        assert_eq!(grouped.bad.iter().map(|bad| bad.line).collect::<Vec<_>>(), [4]);
    }
}
