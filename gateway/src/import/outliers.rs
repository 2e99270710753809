//! Fixes that a vehicle cannot have made: receivers lose count of the weeks, and jump over a town and back.
//!
//! What is right is what most fixes say. By time: fixes of a vehicle that are a week or more from all its others, and stand
//! among the lines of more of them, are of a clock that was wrong. By place: each fix goes on from one that a truck can have
//! come from; where that makes more than one track, the longest is the truck's.

use std::collections::BTreeMap;

use cnc_domain::kernel::{Seconds, Timestamp};

use super::table::{BadRow, Row};

/// Fixes that are so far apart in time have nothing to do with each other.
const APART: Seconds = Seconds(7 * 24 * 60 * 60);
/// So many of them are few beside any others; else a tenth is.
const FEW: usize = 2;
/// No truck is faster, in metres a second: 180 km/h.
const FASTEST: f64 = 50.0;
/// A fix may be so many metres beside the truck, in a street of high houses.
const ASTRAY: f64 = 1_000.0;
/// A receiver that jumps to more places at once is not followed.
const TRACKS_MAX: usize = 8;
/// Metres in a degree of latitude, and of longitude at the equator.
const DEGREE: f64 = 111_320.0;

/// Takes those fixes out of a vehicle's rows, which stand in the file's order, and says which they are.
pub fn take_out(rows: Vec<Row>) -> (Vec<Row>, Vec<BadRow>) {
    let mut bad: BTreeMap<u64, &'static str> = by_time(&rows);
    let mut sorted: Vec<&Row> = rows.iter().filter(|row| !bad.contains_key(&row.line)).collect();
    sorted.sort_by_key(|row| (row.at, row.line));
    let far = by_place(&sorted);
    bad.extend(far);
    let rows = rows.into_iter().filter(|row| !bad.contains_key(&row.line)).collect();
    let reported = bad.into_iter().map(|(line, reason)| BadRow { line, reason: reason.to_owned() });
    (rows, reported.collect())
}

/// Fixes of one stretch of time.
struct Stretch {
    lines: Vec<u64>,
    first: u64,
    last: u64,
}

fn by_time(rows: &[Row]) -> BTreeMap<u64, &'static str> {
    let mut sorted: Vec<&Row> = rows.iter().collect();
    sorted.sort_by_key(|row| (row.at, row.line));
    let mut stretches: Vec<Stretch> = Vec::new();
    let mut before: Option<Timestamp> = None;
    for row in sorted {
        if before.is_none_or(|before| row.at >= before.plus(APART)) {
            stretches.push(Stretch { lines: Vec::new(), first: row.line, last: row.line });
        }
        before = Some(row.at);
        if let Some(stretch) = stretches.last_mut() {
            stretch.lines.push(row.line);
            (stretch.first, stretch.last) = (stretch.first.min(row.line), stretch.last.max(row.line));
        }
    }
    let mut bad = BTreeMap::new();
    for (place, stretch) in stretches.iter().enumerate() {
        let is_misplaced = |(other_place, other): (usize, &Stretch)| {
            let is_among = stretch.last > other.first && stretch.first < other.last;
            // One fix at an end of the file that is not at that end of the time.
            let is_lone = stretch.lines.len() == 1 && (place < other_place) != (stretch.first < other.first);
            let are_few = stretch.lines.len() <= (other.lines.len() / 10).max(FEW);
            other.lines.len() > stretch.lines.len() && are_few && (is_among || is_lone)
        };
        if stretches.iter().enumerate().any(is_misplaced) {
            let reason = "timestamp: weeks from the vehicle's fixes on the lines around it";
            bad.extend(stretch.lines.iter().map(|line| (*line, reason)));
        }
    }
    bad
}

/// The fixes, in order of time, that are not on the longest track.
fn by_place(sorted: &[&Row]) -> Vec<(u64, &'static str)> {
    const REASON: &str = "latitude, longitude: farther from the vehicle's other fixes than a truck can have come since";
    let mut tracks: Vec<Vec<&Row>> = Vec::new();
    let mut bad = Vec::new();
    for row in sorted {
        match tracks.iter().position(|track| track.last().is_some_and(|last| can_have_come(last, row))) {
            Some(place) => tracks[place].push(row),
            None if tracks.len() < TRACKS_MAX => tracks.push(vec![row]),
            None => bad.push((row.line, REASON)),
        }
    }
    let mut longest = 0;
    for (place, track) in tracks.iter().enumerate() {
        if track.len() > tracks[longest].len() {
            longest = place;
        }
    }
    let others = tracks.iter().enumerate().filter(|(place, _)| *place != longest);
    bad.extend(others.flat_map(|(_, track)| track.iter().map(|row| (row.line, REASON))));
    bad
}

#[allow(clippy::cast_precision_loss, reason = "no time between two fixes is so long")]
fn can_have_come(from: &Row, to: &Row) -> bool {
    let seconds = (to.at.micros() - from.at.micros()) as f64 / 1_000_000.0;
    metres(from, to) <= ASTRAY + FASTEST * seconds
}

/// The distance of two places, well enough for places that a truck comes to in a day.
fn metres(from: &Row, to: &Row) -> f64 {
    let degrees = |e7: i32| f64::from(e7) / 10_000_000.0;
    let (from_north, to_north) = (degrees(from.lat_e7.0), degrees(to.lat_e7.0));
    let east = (degrees(to.lon_e7.0) - degrees(from.lon_e7.0)).abs();
    // The shorter way round.
    let east = east.min(360.0 - east) * f64::midpoint(from_north, to_north).to_radians().cos();
    DEGREE * (to_north - from_north).hypot(east)
}

#[cfg(test)]
mod tests {
    use cnc_domain::kernel::{LatE7, LonE7};

    use super::*;

    const WEEK: i64 = 7 * 24 * 60 * 60;

    /// Fixes by their seconds, and by ten-thousandths of a degree north: 11 m each.
    fn left(fixes: &[(i64, i32)]) -> Vec<u64> {
        let rows = fixes.iter().zip(2..).map(|((at, north), line)| Row {
            line,
            vehicle: "1".into(),
            trip: "a".into(),
            at: Timestamp::from_seconds(1_700_000_000 + at),
            lat_e7: LatE7(436_500_000 + north * 1_000),
            lon_e7: LonE7(-793_800_000),
            speed_cm_s: None,
        });
        let (kept, bad) = take_out(rows.collect());
        assert_eq!(kept.len() + bad.len(), fixes.len());
        bad.iter().map(|row| row.line).collect()
    }

    #[test]
    fn a_drive_is_left_as_it_is_in_whatever_order_it_stands() {
        assert_eq!(left(&[(0, 0), (60, 100), (120, 200), (180, 400)]), [0; 0]);
        assert_eq!(left(&[(180, 400), (60, 100), (0, 0), (120, 200)]), [0; 0]);
        assert_eq!(left(&[(0, 0), (1, 80), (2, 0)]), [0; 0], "a fix beside the road");
        assert_eq!(left(&[(0, 0)]), [0; 0]);
        assert_eq!(left(&[]), [0; 0]);
    }

    #[test]
    fn a_truck_may_rest_for_weeks() {
        assert_eq!(left(&[(0, 0), (60, 100), (5 * WEEK, 9_000), (5 * WEEK + 60, 9_100)]), [0; 0]);
        assert_eq!(left(&[(0, 0), (5 * WEEK, 9_000), (5 * WEEK + 60, 9_100)]), [0; 0]);
    }

    #[test]
    fn a_fix_weeks_from_those_around_it_is_taken_out() {
        assert_eq!(left(&[(0, 0), (60, 0), (-1_024 * WEEK, 0), (120, 0)]), [4]);
        assert_eq!(left(&[(0, 0), (-9 * WEEK, 0), (-9 * WEEK + 1, 0), (60, 0), (120, 0)]), [3, 4]);
        assert_eq!(left(&[(9 * WEEK, 0), (0, 0), (60, 0)]), [2], "at the start, of a time after it");
        assert_eq!(left(&[(0, 0), (60, 0), (-9 * WEEK, 0)]), [4], "at the end, of a time before it");
    }

    #[test]
    fn a_jump_is_taken_out_wherever_it_stands() {
        assert_eq!(left(&[(0, 0), (60, 9_000), (120, 100)]), [3]);
        assert_eq!(left(&[(0, 9_000), (60, 0), (120, 100)]), [2]);
        assert_eq!(left(&[(0, 0), (60, 100), (120, 9_000)]), [4]);
        assert_eq!(left(&[(0, 0), (60, 9_000), (90, 9_010), (120, 100), (180, 150), (200, -9_000)]), [3, 4, 7]);
    }
}
