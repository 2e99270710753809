//! Where a truck was. Positions and fixes are personal data of a journey: they are sealed under its key, and what a rule
//! must know of them is left beside the box.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::kernel::{Clear, CmPerSecond, LatE7, LonE7, Metres, Nothing, Part, Personal, Timestamp};

/// How many fixes one chunk may bring.
pub const FIXES_MAX: usize = 500;
/// A mark is kept for each span of this length.
const MARK_EVERY_MICROS: i64 = 900_000_000;

/// A place on the earth (WGS 84).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct Position {
    /// Latitude in 1e-7 degrees, north positive.
    pub lat_e7: LatE7,
    /// Longitude in 1e-7 degrees, east positive.
    pub lon_e7: LonE7,
    /// How far off it may be, in metres, where the device said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy_m: Option<Metres>,
}

/// One reading of a device's GPS receiver.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct Fix {
    /// When the device was there, by its own clock.
    pub at: Timestamp,
    /// Latitude in 1e-7 degrees, north positive.
    pub lat_e7: LatE7,
    /// Longitude in 1e-7 degrees, east positive.
    pub lon_e7: LonE7,
    /// How far off it may be, in metres, where the device said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy_m: Option<Metres>,
    /// How fast it moved, in centimetres per second, where the device said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed_cm_s: Option<CmPerSecond>,
}

/// A chunk's fixes, 1 to 500, in any order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct Fixes(#[schemars(length(min = 1, max = 500))] pub Vec<Fix>);

/// What stays readable of a chunk's fixes: how many, of when, and a sealed position for each quarter of an hour.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct FixesPart {
    /// How many fixes.
    pub count: u32,
    /// The time of the earliest.
    pub first_at: Timestamp,
    /// The time of the latest.
    pub last_at: Timestamp,
    /// The last fix of each quarter of an hour, earliest first.
    pub marks: Vec<Mark>,
}

/// Where a truck was at a time, sealed on its own, so that one position can be taken without opening the track.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Mark {
    /// When.
    pub at: Timestamp,
    /// Where.
    pub position: Personal<Position>,
}

impl Part for FixesPart {}

impl Clear for Position {
    const KIND: &'static str = "position";
    type Part = Nothing;

    fn check(&self) -> Result<(), String> {
        on_earth(self.lat_e7, self.lon_e7)
    }
}

impl Clear for Fixes {
    const KIND: &'static str = "fixes";
    type Part = FixesPart;

    fn check(&self) -> Result<(), String> {
        if !(1..=FIXES_MAX).contains(&self.0.len()) {
            return Err(format!("must have 1 to {FIXES_MAX} fixes"));
        }
        for (nth, fix) in self.0.iter().enumerate() {
            on_earth(fix.lat_e7, fix.lon_e7).map_err(|wrong| format!("fix {nth}: {wrong}"))?;
        }
        Ok(())
    }

    fn part(&self) -> Value {
        let times = self.0.iter().map(|fix| fix.at);
        json!({
            "count": self.0.len(),
            "first_at": times.clone().min().unwrap_or_default(),
            "last_at": times.max().unwrap_or_default(),
            "marks": self.marks(),
        })
    }
}

impl Fixes {
    /// The last fix of each quarter of an hour, its position in clear.
    fn marks(&self) -> Vec<Value> {
        let mut last = BTreeMap::new();
        for fix in &self.0 {
            let kept = last.entry(fix.at.micros().div_euclid(MARK_EVERY_MICROS)).or_insert(fix);
            if fix > *kept {
                *kept = fix;
            }
        }
        last.into_values().map(|fix| json!({ "at": fix.at, "position": fix.position() })).collect()
    }
}

impl Fix {
    /// Where it was.
    pub fn position(&self) -> Position {
        Position { lat_e7: self.lat_e7, lon_e7: self.lon_e7, accuracy_m: self.accuracy_m }
    }
}

fn on_earth(lat: LatE7, lon: LonE7) -> Result<(), String> {
    if !(-900_000_000..=900_000_000).contains(&lat.0) {
        return Err("a latitude is between -90 and 90 degrees".into());
    }
    if !(-1_800_000_000..=1_800_000_000).contains(&lon.0) {
        return Err("a longitude is between -180 and 180 degrees".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::kind;

    fn fix(minute: i64, lat: i32) -> Fix {
        Fix {
            at: Timestamp::from_seconds(minute * 60),
            lat_e7: LatE7(lat),
            lon_e7: LonE7(-1_231_000_000),
            accuracy_m: None,
            speed_cm_s: Some(CmPerSecond(1_200)),
        }
    }

    #[test]
    fn a_chunk_leaves_its_span_and_the_last_fix_of_each_quarter_hour() {
        let part = Fixes(vec![fix(16, 4), fix(1, 1), fix(14, 3), fix(2, 2)]).part();
        assert_eq!(part["count"], 4);
        assert_eq!(part["first_at"], "1970-01-01T00:01:00.000000Z");
        assert_eq!(part["last_at"], "1970-01-01T00:16:00.000000Z");
        let marks: Vec<_> = part["marks"].as_array().expect("marks").iter().map(|mark| &mark["position"]).collect();
        assert_eq!(marks.len(), 2);
        assert_eq!((&marks[0]["lat_e7"], &marks[1]["lat_e7"]), (&json!(3), &json!(4)));
    }

    #[test]
    fn the_door_reads_fixes_and_refuses_none_too_many_or_impossible_ones() {
        let open = kind::<Fixes>().open;
        let text = |fixes: &[Fix]| serde_json::to_string(fixes).expect("writes");
        assert!(open(&text(&[fix(1, 490_000_000)])).is_ok());
        assert!(open("[]").is_err());
        assert!(open(&text(&vec![fix(1, 1); 501])).is_err());
        assert!(open(&text(&[fix(1, 900_000_001)])).is_err());
    }

    #[test]
    fn a_position_must_be_on_the_earth() {
        let open = kind::<Position>().open;
        assert!(open(r#"{"lat_e7":491234567,"lon_e7":-1231234567}"#).is_ok());
        assert!(open(r#"{"lat_e7":0,"lon_e7":1800000001}"#).is_err());
    }
}
