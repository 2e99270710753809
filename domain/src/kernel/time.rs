//! Time as the ledger writes it: UTC, microseconds, always six decimals.

use std::{fmt, str::FromStr};

use chrono::{DateTime, SecondsFormat, Utc};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A moment, in microseconds since 1970-01-01T00:00:00Z.
///
/// Written as `2026-11-21T01:40:05.123456Z`; any RFC 3339 text is read, and an offset is turned into UTC.
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
    /// From microseconds since the epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// From whole seconds since the epoch.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    /// The moment `length` later (saturating).
    #[must_use]
    pub fn plus(self, length: impl Into<Seconds>) -> Self {
        Self(self.0.saturating_add(i64::from(length.into().0) * 1_000_000))
    }

    /// The moment `length` earlier (saturating).
    #[must_use]
    pub fn minus(self, length: impl Into<Seconds>) -> Self {
        Self(self.0.saturating_sub(i64::from(length.into().0) * 1_000_000))
    }

    /// The time from `earlier` to this, zero where `earlier` is later.
    pub fn since(self, earlier: Self) -> Seconds {
        Seconds(u32::try_from((self.0.saturating_sub(earlier.0)) / 1_000_000).unwrap_or(if self > earlier {
            u32::MAX
        } else {
            0
        }))
    }

    /// As chrono's type. Out-of-range values become the epoch; parsing admits none.
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
        Self(time.timestamp_micros())
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
        if !(0..=9999).contains(&chrono::Datelike::year(&time)) {
            return Err("the year must have four digits");
        }
        Ok(Self(time.timestamp_micros()))
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
    use super::*;

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
