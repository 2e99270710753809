//! Reading a table of GPS fixes: one row a line, columns found by their names in the first line.
//!
//! A line that is no row is never fatal: it is reported with its number and a reason. A quoted field may hold commas but
//! not a line's end, so that one stray quotation mark cannot swallow the rest of a file. Lines end with LF, CR LF or CR.

use std::{
    io::{self, BufRead},
    path::Path,
};

use cnc_domain::kernel::{CmPerSecond, LatE7, LonE7, Seconds, Timestamp};

use super::decimal::scaled;

/// A longer line is no row: nothing that a receiver writes comes near.
const LINE_MAX_BYTES: usize = 65_536;
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

/// A row that could not be taken, and why. Holds no value of the row, so that a report may be passed on, unless it
/// contradicts what is recorded.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct BadRow {
    /// The line that it stands on, counted from 1.
    pub line: u64,
    /// What is wrong with it.
    pub reason: String,
}

/// Rows of a file.
#[derive(Debug, Default)]
pub struct Table {
    /// The good ones, in the file's order.
    pub rows: Vec<Row>,
    /// The others.
    pub bad: Vec<BadRow>,
    /// Whether there are no more after them.
    pub ended: bool,
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
    decompressed(io::BufReader::with_capacity(1 << 16, std::fs::File::open(path)?))
}

/// The same of what is read from elsewhere.
pub fn decompressed(mut input: impl BufRead + Send + 'static) -> io::Result<Box<dyn BufRead + Send>> {
    if input.fill_buf()?.starts_with(&[0x1f, 0x8b]) {
        Ok(Box::new(io::BufReader::with_capacity(1 << 16, flate2::bufread::MultiGzDecoder::new(input))))
    } else {
        Ok(Box::new(input))
    }
}

/// A file whose first line was read.
pub struct Reader<R> {
    lines: Lines<R>,
    columns: Columns,
    now: Timestamp,
}

impl<R: BufRead> Reader<R> {
    /// Reads the names of the columns. `now` is the time that fixes may not lie ahead of.
    pub fn new(input: R, now: Timestamp) -> Result<Self, NoTable> {
        let mut lines = Lines { input, number: 0, is_in_end: false };
        loop {
            let columns = match lines.next()? {
                Line::End => return Err(NoTable::Empty),
                Line::TooLong => return Err(NoTable::NoColumn("vehicle_id")),
                Line::Read(line) => String::from_utf8_lossy(&line).into_owned(),
            };
            let names = columns.trim_start_matches('\u{feff}').trim();
            if !names.is_empty() {
                return Ok(Self { columns: Columns::find(&fields(names))?, lines, now });
            }
        }
    }

    /// Reads up to so many rows.
    pub fn batch(&mut self, rows: usize) -> io::Result<Table> {
        let mut table = Table::default();
        while table.rows.len() + table.bad.len() < rows {
            let line = self.lines.next()?;
            let line_number = self.lines.number;
            let row = match &line {
                Line::End => {
                    table.ended = true;
                    break;
                }
                Line::TooLong => Err("the line is longer than 64 KiB".to_owned()),
                Line::Read(line) => self.row(line_number, line),
            };
            match row {
                Ok(None) => {}
                Ok(Some(row)) => table.rows.push(row),
                Err(reason) => table.bad.push(BadRow { line: line_number, reason }),
            }
        }
        Ok(table)
    }

    /// The row of a line, where it is not empty.
    fn row(&self, number: u64, line: &[u8]) -> Result<Option<Row>, String> {
        let text = std::str::from_utf8(line).map_err(|_| "not UTF-8")?.trim();
        if text.is_empty() {
            return Ok(None);
        }
        if text.contains(|letter: char| letter.is_control() && letter != '\t') {
            return Err("holds a control character, such as U+0000".into());
        }
        self.columns.row(number, &fields(text), self.now).map(Some)
    }
}

/// The lines of a file.
struct Lines<R> {
    input: R,
    /// How many were read.
    number: u64,
    /// Whether the last one ended with a CR, to which an LF may belong.
    is_in_end: bool,
}

enum Line {
    Read(Vec<u8>),
    TooLong,
    End,
}

impl<R: BufRead> Lines<R> {
    /// The next line. Of one that is too long no more than a part is ever held.
    fn next(&mut self) -> io::Result<Line> {
        let (mut line, mut length, mut begun) = (Vec::new(), 0, false);
        loop {
            let buffer = self.input.fill_buf()?;
            if buffer.is_empty() {
                break;
            }
            if std::mem::take(&mut self.is_in_end) && buffer[0] == b'\n' {
                self.input.consume(1);
                continue;
            }
            begun = true;
            let end = buffer.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
            let part = &buffer[..end.unwrap_or(buffer.len())];
            length += part.len();
            if length <= LINE_MAX_BYTES {
                line.extend_from_slice(part);
            }
            let read = part.len() + usize::from(end.is_some());
            self.is_in_end = end.is_some_and(|end| buffer[end] == b'\r');
            self.input.consume(read);
            if end.is_some() {
                break;
            }
        }
        self.number += u64::from(begun);
        Ok(match begun {
            false => Line::End,
            true if length > LINE_MAX_BYTES => Line::TooLong,
            true => Line::Read(line),
        })
    }
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
        let north = degrees(&fields[self.latitude], "latitude", 90)?;
        let east = degrees(&fields[self.longitude], "longitude", 180)?;
        if (north, east) == (0, 0) {
            return Err("latitude, longitude: both 0, which receivers write that do not know where they are".into());
        }
        Ok(Row {
            line,
            vehicle: vehicle.clone(),
            trip: self.trip.map(|place| fields[place].clone()).unwrap_or_default(),
            at,
            lat_e7: LatE7(north),
            lon_e7: LonE7(east),
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
/// sample day, distance travelled over speed × time is 0.44 m: the column is neither metres a second nor km/h.) Where it is not
/// known, receivers write −1.
fn speed(text: &str) -> Result<Option<CmPerSecond>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let micro_mph = scaled(text, 6).ok_or("speed: not a decimal number")?;
    if micro_mph == -1_000_000 {
        return Ok(None);
    }
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
        let now = "2026-01-01T00:00:00Z".parse().expect("a time");
        Reader::new(text.as_ref(), now).expect("a table").batch(usize::MAX).expect("reads")
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
        let read = |text: &'static str| Reader::new(text.as_bytes(), now).map(drop);
        assert!(matches!(read("vehicle_id,timestamp,latitude\n"), Err(NoTable::NoColumn("longitude"))));
        assert!(matches!(read("\n\n"), Err(NoTable::Empty)));
    }

    const NAMES: &str = "vehicle_id,timestamp,latitude,longitude,speed";

    #[test]
    fn lines_end_in_each_of_the_three_ways_and_are_counted() {
        let lines =
            [NAMES, "1,2015-09-06T01:22:06Z,30,-97,1", "", "1,yesterday,30,-97,1", "2,2015-09-06T01:22:06Z,30,-97,2"];
        for end in ["\n", "\r\n", "\r"] {
            for text in [lines.join(end), lines.join(end) + end] {
                let table = table(&text);
                assert_eq!(table.rows.iter().map(|row| row.line).collect::<Vec<_>>(), [2, 5], "{text:?}");
                assert_eq!((reasons(&table)[0].0, table.ended), (4, true), "{text:?}");
            }
        }
    }

    #[test]
    fn a_batch_holds_no_more_rows_than_were_asked_for() {
        let rows = "1,2015-09-06T01:22:06Z,30,-97,1\n,,,,\n".repeat(3);
        let text = format!("{NAMES}\n{rows}");
        let mut reader = Reader::new(text.as_bytes(), Timestamp::LAST).expect("a table");
        let sizes = [(); 4].map(|()| {
            let table = reader.batch(2).expect("reads");
            (table.rows.len(), table.bad.len(), table.ended)
        });
        assert_eq!(sizes, [(1, 1, false), (1, 1, false), (1, 1, false), (0, 0, true)]);
    }

    #[test]
    fn what_receivers_write_that_know_nothing_is_nothing() {
        let row = |place: &str, speed: &str| table(format!("{NAMES}\n1,2015-09-06T01:22:06Z,{place},{speed}"));
        for speed in ["-1", "-1.0", "-1.000", ""] {
            assert_eq!(row("30,-97", speed).rows[0].speed_cm_s, None, "{speed}");
        }
        assert!(reasons(&row("30,-97", "-2"))[0].1.contains("below 0"));
        for place in ["0,0", "0.0,-0.000", "0e5,0.00000001"] {
            assert!(reasons(&row(place, "1"))[0].1.contains("do not know"), "{place}");
        }
        assert_eq!(row("0,-78.45", "1").rows.len(), 1, "the equator is a place");
    }

    #[test]
    fn a_control_character_is_reported_where_it_stands() {
        let text = format!("{NAMES}\n1\0,2015-09-06T01:22:06Z,30,-97,1\n1,2015-09-06T01:22:06Z,30,-97,1\n");
        let table = table(text);
        assert_eq!((table.rows.len(), reasons(&table)[0].0), (1, 2));
    }
}
