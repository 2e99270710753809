//! Reading a table of GPS fixes: one row a line, columns found by their names in the first line.
//!
//! A line that is no row is never fatal: it is reported with its number and a reason. A quoted field may hold commas but
//! not a line's end, so that one stray quotation mark cannot swallow the rest of a file.

use std::{
    io::{self, BufRead, Read},
    path::Path,
};

use cnc_domain::kernel::{CmPerSecond, LatE7, LonE7, Seconds, Timestamp};

use super::decimal::scaled;

/// A longer line is no row: nothing that a receiver writes comes near.
const LINE_MAX_BYTES: u64 = 65_536;
/// No receiver can have made a fix before GPS time began: 1980-01-06.
const FIRST_FIX_SECONDS: i64 = 315_964_800;
/// A clock may be this far ahead of ours.
const AHEAD_MAX: Seconds = Seconds(300);

/// One good row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The line that it stands on, counted from 1.
    pub line: u64,
    /// The vehicle, as the file names it.
    pub vehicle: String,
    /// The trip, as the file names it; empty where it names none.
    pub trip: String,
    /// When the fix was made.
    pub at: Timestamp,
    /// Where: north.
    pub lat_e7: LatE7,
    /// Where: east.
    pub lon_e7: LonE7,
    /// How fast, where the row says it.
    pub speed_cm_s: Option<CmPerSecond>,
}

/// A row that could not be taken, and why. Holds no value of the row: a report may be passed on.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct BadRow {
    /// The line that it stands on, counted from 1.
    pub line: u64,
    /// What is wrong with it.
    pub reason: String,
}

/// All rows of a file.
#[derive(Debug, Default)]
pub struct Table {
    /// The good ones, in the file's order.
    pub rows: Vec<Row>,
    /// The others.
    pub bad: Vec<BadRow>,
}

/// Why a file cannot be read as a table at all.
#[derive(Debug, thiserror::Error)]
pub enum NoTable {
    /// It cannot be read.
    #[error("the file cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It has no first line with the names of its columns.
    #[error("the file is empty: its first line must name the columns")]
    Empty,
    /// A column is not there.
    #[error(
        "the first line names no column {0}; needed are vehicle_id, timestamp, latitude and longitude, and used where \
         present are speed and trip_id"
    )]
    NoColumn(&'static str),
}

/// Opens a file, decompressing it where its first bytes say that it is gzip, whatever its name is.
pub fn open(path: &Path) -> io::Result<Box<dyn BufRead + Send>> {
    let mut file = io::BufReader::with_capacity(1 << 16, std::fs::File::open(path)?);
    if file.fill_buf()?.starts_with(&[0x1f, 0x8b]) {
        Ok(Box::new(io::BufReader::with_capacity(1 << 16, flate2::bufread::MultiGzDecoder::new(file))))
    } else {
        Ok(Box::new(file))
    }
}

/// Reads all rows. `now` is the time that fixes may not lie ahead of.
pub fn read(mut input: impl BufRead, now: Timestamp) -> Result<Table, NoTable> {
    let mut table = Table::default();
    let mut columns: Option<Columns> = None;
    let mut number = 0;
    loop {
        let line = next_line(&mut input)?;
        number += 1;
        let mut bad = |reason: &str| table.bad.push(BadRow { line: number, reason: reason.to_owned() });
        let line = match line {
            Line::End => break,
            Line::TooLong => {
                bad("the line is longer than 64 KiB");
                continue;
            }
            Line::Read(line) => line,
        };
        let Ok(text) = std::str::from_utf8(&line) else {
            bad("not UTF-8");
            continue;
        };
        let text = text.trim_start_matches('\u{feff}').trim();
        match &columns {
            _ if text.is_empty() => {}
            None => columns = Some(Columns::find(&fields(text))?),
            Some(columns) => match columns.row(number, &fields(text), now) {
                Ok(row) => table.rows.push(row),
                Err(reason) => bad(&reason),
            },
        }
    }
    if columns.is_none() { Err(NoTable::Empty) } else { Ok(table) }
}

enum Line {
    Read(Vec<u8>),
    TooLong,
    End,
}

/// The next line. Of one that is too long no more than a part is ever held.
fn next_line(input: &mut impl BufRead) -> io::Result<Line> {
    let mut line = Vec::new();
    if input.by_ref().take(LINE_MAX_BYTES).read_until(b'\n', &mut line)? == 0 {
        return Ok(Line::End);
    }
    if line.last() == Some(&b'\n') || (line.len() as u64) < LINE_MAX_BYTES {
        return Ok(Line::Read(line));
    }
    while line.last() != Some(&b'\n') {
        line.clear();
        if input.by_ref().take(LINE_MAX_BYTES).read_until(b'\n', &mut line)? == 0 {
            break;
        }
    }
    Ok(Line::TooLong)
}

/// The fields of a line. Quotation marks are rare, and only a line with one pays for them.
fn fields(line: &str) -> Vec<String> {
    if !line.contains('"') {
        return line.split(',').map(|field| field.trim().to_owned()).collect();
    }
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .buffer_capacity(line.len() + 1)
        .from_reader(line.as_bytes());
    let mut record = csv::StringRecord::new();
    match reader.read_record(&mut record) {
        Ok(true) => record.iter().map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

/// Which column is where.
struct Columns {
    count: usize,
    vehicle: usize,
    timestamp: usize,
    latitude: usize,
    longitude: usize,
    speed: Option<usize>,
    trip: Option<usize>,
}

impl Columns {
    fn find(names: &[String]) -> Result<Self, NoTable> {
        let place = |name: &str| names.iter().position(|found| found.eq_ignore_ascii_case(name));
        let needed = |name: &'static str| place(name).ok_or(NoTable::NoColumn(name));
        Ok(Self {
            count: names.len(),
            vehicle: needed("vehicle_id")?,
            timestamp: needed("timestamp")?,
            latitude: needed("latitude")?,
            longitude: needed("longitude")?,
            speed: place("speed"),
            trip: place("trip_id"),
        })
    }

    fn row(&self, line: u64, fields: &[String], now: Timestamp) -> Result<Row, String> {
        if fields.len() != self.count {
            return Err(format!("{} columns where the first line names {}", fields.len(), self.count));
        }
        let vehicle = &fields[self.vehicle];
        if vehicle.is_empty() {
            return Err("no vehicle_id".into());
        }
        let at: Timestamp = fields[self.timestamp].parse().map_err(|why| format!("timestamp: {why}"))?;
        if at > now.plus(AHEAD_MAX) {
            return Err("timestamp: more than five minutes in the future".into());
        }
        if at < Timestamp::from_seconds(FIRST_FIX_SECONDS) {
            return Err("timestamp: before GPS time began (1980-01-06)".into());
        }
        Ok(Row {
            line,
            vehicle: vehicle.clone(),
            trip: self.trip.map(|place| fields[place].clone()).unwrap_or_default(),
            at,
            lat_e7: LatE7(degrees(&fields[self.latitude], "latitude", 90)?),
            lon_e7: LonE7(degrees(&fields[self.longitude], "longitude", 180)?),
            speed_cm_s: self.speed.map(|place| speed(&fields[place])).transpose()?.flatten(),
        })
    }
}

fn degrees(text: &str, name: &str, limit: i64) -> Result<i32, String> {
    let value = scaled(text, 7).ok_or_else(|| format!("{name}: not a decimal number"))?;
    if value.abs() > limit * 10_000_000 {
        return Err(format!("{name}: beyond {limit} degrees"));
    }
    i32::try_from(value).map_err(|_| format!("{name}: beyond {limit} degrees"))
}

/// Miles per hour, as transit feeds of the United States give it, in centimetres a second: one is 44.704 exactly. (In the
/// sample day, distance travelled over speed × time is 0.44 m: the column is neither metres a second nor km/h.)
fn speed(text: &str) -> Result<Option<CmPerSecond>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let micro_mph = scaled(text, 6).ok_or("speed: not a decimal number")?;
    let cm_s = micro_mph.checked_mul(44_704).map(|value| (value + 500_000_000).div_euclid(1_000_000_000));
    match cm_s.and_then(|value| u32::try_from(value).ok()) {
        Some(value) if value <= 100_000 => Ok(Some(CmPerSecond(value))),
        _ => Err("speed: below 0 or beyond 2,236 miles per hour".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: impl AsRef<[u8]>) -> Table {
        read(text.as_ref(), "2026-01-01T00:00:00Z".parse().expect("a time")).expect("a table")
    }

    fn reasons(table: &Table) -> Vec<(u64, &str)> {
        table.bad.iter().map(|bad| (bad.line, bad.reason.as_str())).collect()
    }

    #[test]
    fn a_row_is_read_exactly_with_its_speed_in_centimetres_a_second() {
        let text = "vehicle_id,timestamp,speed,route_id,trip_id,latitude,longitude,trip_headsign\n\
                    2204,2015-09-06T01:22:06-05:00,7.96999979019,485,1483954,30.269457,-97.7449,\n";
        assert_eq!(
            table(text).rows,
            [Row {
                line: 2,
                vehicle: "2204".into(),
                trip: "1483954".into(),
                at: "2015-09-06T06:22:06Z".parse().expect("a time"),
                lat_e7: LatE7(302_694_570),
                lon_e7: LonE7(-977_449_000),
                speed_cm_s: Some(CmPerSecond(356)),
            }]
        );
    }

    #[test]
    fn columns_come_in_any_order_quoted_or_not_and_optional_ones_may_be_missing() {
        let text = "\u{feff}longitude, Latitude ,timestamp,vehicle_id,note\r\n\r\n\
                    \"-97.5\",\"30.5\",\"2015-09-06T01:22:06-05:00\",\"7\",\"a, b\"\r\n   \n";
        let table = table(text);
        assert_eq!(reasons(&table), []);
        assert_eq!((table.rows[0].line, table.rows[0].vehicle.as_str(), table.rows[0].trip.as_str()), (3, "7", ""));
        assert_eq!(table.rows[0].speed_cm_s, None);
    }

    #[test]
    fn every_bad_row_is_reported_with_its_line_and_the_good_ones_stand() {
        let mut text = b"vehicle_id,timestamp,speed,latitude,longitude\n\
            1,2015-09-06T01:22:06-05:00,1,30,-97\n\
            1,yesterday,1,30,-97\n\
            1,2015-09-06T01:22:06-05:00,1,91,-97\n\
            1,2015-09-06T01:22:06-05:00,1,30,-180.0000001\n\
            ,2015-09-06T01:22:06-05:00,1,30,-97\n\
            1,2015-09-06T01:22:06-05:00,1,30\n\
            \"1,2015-09-06T01:22:06-05:00,1,30,-97\n\
            1,2015-09-06T01:22:06-05:00,fast,30,-97\n\
            1,2995-09-06T01:22:06-05:00,1,30,-97\n\
            1,1970-01-01T00:00:00Z,1,30,-97\n"
            .to_vec();
        text.extend_from_slice(b"\xff\xfe,2015-09-06T01:22:06-05:00,1,30,-97\n");
        text.extend(std::iter::repeat_n(b'x', 200_000));
        text.extend_from_slice(b"\n2,2015-09-06T01:22:06-05:00,-0,30,-97");
        let table = table(&text);
        assert_eq!(table.rows.iter().map(|row| row.line).collect::<Vec<_>>(), [2, 14]);
        assert_eq!(reasons(&table).iter().map(|bad| bad.0).collect::<Vec<_>>(), (3..=13).collect::<Vec<_>>());
        assert!(reasons(&table).iter().all(|(_, reason)| !reason.contains("97")), "a report holds no value of a row");
    }

    #[test]
    fn a_file_without_a_needed_column_is_no_table_and_says_which() {
        let now = Timestamp::default();
        assert!(matches!(read(&b"vehicle_id,timestamp,latitude\n"[..], now), Err(NoTable::NoColumn("longitude"))));
        assert!(matches!(read(&b"\n\n"[..], now), Err(NoTable::Empty)));
    }
}
