//! Time as the ledger writes it: UTC, microseconds, always six decimals.

use std::{fmt, str::FromStr};

use chrono::{DateTime, SecondsFormat, Utc};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A moment, in microseconds since 1970-01-01T00:00:00Z.
///
/// Written as `2026-11-21T01:40:05.123456Z`; any RFC 3339 text is read, and an offset is turned into UTC. None is outside
/// the years 0000 to 9999, in UTC: what is written can be read back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// A length of time in whole seconds, never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct Seconds(pub u32);

/// A length of time in whole minutes, never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct Minutes(pub u32);

/// A span from `start` (inside) to `end` (outside).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Window {
    /// The first moment inside.
    pub start: Timestamp,
    /// The first moment after.
    pub end: Timestamp,
}

impl Window {
    /// Whether the two share a moment.
    pub fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// Whether it ends after it starts.
    pub fn is_forward(self) -> bool {
        self.start < self.end
    }
}

impl Minutes {
    /// The same length in seconds (saturating).
    pub const fn seconds(self) -> Seconds {
        Seconds(self.0.saturating_mul(60))
    }
}

impl Timestamp {
    /// The first moment of the year 0000.
    pub const FIRST: Self = Self(-62_167_219_200_000_000);
    /// The last moment of the year 9999.
    pub const LAST: Self = Self(253_402_300_799_999_999);

    /// From microseconds since the epoch (saturating).
    pub const fn from_micros(micros: i64) -> Self {
        if micros < Self::FIRST.0 {
            Self::FIRST
        } else if micros > Self::LAST.0 {
            Self::LAST
        } else {
            Self(micros)
        }
    }

    /// Microseconds since the epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// From whole seconds since the epoch (saturating).
    pub const fn from_seconds(seconds: i64) -> Self {
        Self::from_micros(seconds.saturating_mul(1_000_000))
    }

    /// The moment `length` later (saturating).
    #[must_use]
    pub fn plus(self, length: impl Into<Seconds>) -> Self {
        Self::from_micros(self.0.saturating_add(i64::from(length.into().0) * 1_000_000))
    }

    /// The moment `length` earlier (saturating).
    #[must_use]
    pub fn minus(self, length: impl Into<Seconds>) -> Self {
        Self::from_micros(self.0.saturating_sub(i64::from(length.into().0) * 1_000_000))
    }

    /// The time from `earlier` to this, zero where `earlier` is later.
    pub fn since(self, earlier: Self) -> Seconds {
        Seconds(u32::try_from((self.0.saturating_sub(earlier.0)) / 1_000_000).unwrap_or(if self > earlier {
            u32::MAX
        } else {
            0
        }))
    }

    /// As chrono's type, which holds far more years than there are here.
    pub fn utc(self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.0).unwrap_or_default()
    }
}

impl From<Minutes> for Seconds {
    fn from(minutes: Minutes) -> Self {
        minutes.seconds()
    }
}
impl From<DateTime<Utc>> for Timestamp {
    fn from(time: DateTime<Utc>) -> Self {
        Self::from_micros(time.timestamp_micros())
    }
}
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.utc().to_rfc3339_opts(SecondsFormat::Micros, true))
    }
}
impl FromStr for Timestamp {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let time =
            DateTime::parse_from_rfc3339(text).map_err(|_| "not an RFC 3339 time, such as 2026-11-21T01:40:05Z")?;
        // Not the year as it is spelled: an offset or a leap second may carry it over the edge.
        let micros = time.timestamp_micros();
        let time = Self::from_micros(micros);
        if time.0 == micros { Ok(time) } else { Err("the year must have four digits in UTC") }
    }
}
impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Timestamp;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an RFC 3339 time")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Timestamp, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}
impl JsonSchema for Timestamp {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Timestamp".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Times as callers write them, most of them near an edge of something.
    fn texts() -> impl Strategy<Value = String> {
        let edge = |first: u32, last: u32| prop_oneof![Just(first), Just(last), first..=last];
        let date = (edge(0, 9999), edge(1, 12), edge(1, 31));
        let clock = (edge(0, 23), edge(0, 59), edge(0, 60));
        let offset = (prop_oneof![Just('+'), Just('-')], edge(0, 23), edge(0, 59));
        let offset = offset.prop_map(|(sign, hours, minutes)| format!("{sign}{hours:02}:{minutes:02}"));
        let fraction = prop_oneof![Just(String::new()), r"\.(0{1,9}|9{1,9}|[0-9]{1,9})"];
        (date, clock, fraction, prop_oneof![Just("Z".to_owned()), offset]).prop_map(
            |((year, month, day), (hour, minute, second), fraction, offset)| {
                format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}{offset}")
            },
        )
    }

    #[track_caller]
    fn reads_back(time: Timestamp) {
        let written = time.to_string();
        assert_eq!(written.len(), "2026-11-21T01:40:05.123456Z".len(), "{written}");
        assert_eq!(written.parse(), Ok(time), "{written}");
        assert_eq!(Timestamp::from(time.utc()), time, "{written}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn every_text_that_is_accepted_reads_back_after_it_was_written(text in texts()) {
            if let Ok(time) = text.parse::<Timestamp>() {
                reads_back(time);
            }
        }

        #[test]
        fn every_time_reads_back_however_it_was_made(micros: i64, length: u32) {
            let time = Timestamp::from_micros(micros);
            for time in [time, time.plus(Seconds(length)), time.minus(Seconds(length)), Timestamp::from_seconds(micros)] {
                reads_back(time);
            }
        }
    }

    #[test]
    fn a_time_is_refused_whose_year_has_no_four_digits_in_utc() {
        for text in ["9999-12-31T23:59:59-12:00", "9999-12-31T23:59:60Z", "0000-01-01T00:00:00+12:00"] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
            assert!(serde_json::from_value::<Timestamp>(text.into()).is_err(), "{text}");
        }
        for (text, time) in [
            ("9999-12-31T23:59:59.9999999+00:00", Timestamp::LAST),
            ("9999-12-31T11:59:59.999999-12:00", Timestamp::LAST),
            ("0000-01-01T12:00:00+12:00", Timestamp::FIRST),
        ] {
            assert_eq!(text.parse(), Ok(time), "{text}");
        }
    }

    #[test]
    fn time_ends_where_it_can_still_be_written() {
        for (late, last) in [(DateTime::<Utc>::MAX_UTC, Timestamp::LAST), (DateTime::<Utc>::MIN_UTC, Timestamp::FIRST)]
        {
            assert_eq!(Timestamp::from(late), last);
        }
        assert_eq!(Timestamp::LAST.plus(Minutes(u32::MAX)), Timestamp::LAST);
        assert_eq!(Timestamp::FIRST.minus(Seconds(1)), Timestamp::FIRST);
        [Timestamp::FIRST, Timestamp::LAST].into_iter().for_each(reads_back);
    }

    #[test]
    fn a_timestamp_is_written_in_utc_with_six_decimals() {
        let time: Timestamp = "2015-09-06T01:16:07-05:00".parse().expect("valid");
        assert_eq!(time.to_string(), "2015-09-06T06:16:07.000000Z");
    }

    #[test]
    fn a_time_before_is_zero_seconds_since() {
        assert_eq!(Timestamp::from_seconds(5).since(Timestamp::from_seconds(9)), Seconds(0));
        assert_eq!(Timestamp::from_seconds(9).since(Timestamp::from_seconds(5)), Seconds(4));
    }

    #[test]
    fn windows_that_only_touch_do_not_overlap() {
        let at = Timestamp::from_seconds;
        let morning = Window { start: at(0), end: at(10) };
        assert!(!morning.overlaps(Window { start: at(10), end: at(20) }));
        assert!(morning.overlaps(Window { start: at(9), end: at(20) }));
    }
}
