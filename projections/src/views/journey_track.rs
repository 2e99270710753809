//! Where a journey's truck drove: its GPS line with its stops. It stays after the journey has ended.

use cnc_domain::{
    calendar_capacity::Truck,
    command_control::{
        TruckJourney,
        places::Fixes,
        track::Track,
        truck_journey::{Course, Event, Stage},
    },
    kernel::{
        Docs, Document, Fold, Folded, Id, LocationId, On, Personal, Reading, Shelf, Timestamp, Window, fold, marker,
    },
    ledger::Entry,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::View;

/// The view.
pub const VIEW: View = View {
    kind: fold::<JourneyTrack>(),
    about: "The GPS line of every journey, merged by time from all its devices, with its stops.",
    present: Some(present),
};

/// Keeps every journey's chunks of fixes, sealed as they came.
#[derive(Default)]
pub struct JourneyTrack {
    tracks: Docs<JourneyLine>,
}

/// A journey's stops and chunks of fixes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JourneyLine {
    /// The branch that it belongs to.
    location: LocationId,
    /// The truck that drives it.
    truck: Id<Truck>,
    /// When truck and crew were needed.
    window: Window,
    /// What it is doing.
    stage: Stage,
    /// Its stops and how far it is.
    course: Course,
    /// How many fixes came.
    count: u64,
    /// The time of the earliest.
    first_at: Option<Timestamp>,
    /// The time of the latest.
    last_at: Option<Timestamp>,
    /// The fixes as they came, in chunks. Read, it is `track`: one line by time.
    chunks: Vec<Chunk>,
}

/// A chunk of fixes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
struct Chunk {
    /// The phone or tracker that recorded it.
    device: Id<marker::Device>,
    /// Its number on that device.
    number: u32,
    /// The fixes.
    fixes: Personal<Fixes>,
}

impl Document for JourneyLine {
    const NAME: &'static str = "journey_track";
    const FILTERS: &'static [&'static str] = &["stage", "location", "truck"];
    const SORTS: &'static [&'static str] = &["window.start"];

    fn location(&self) -> Option<LocationId> {
        Some(self.location)
    }
}

impl Fold for JourneyTrack {
    const NAME: &'static str = "journey_track";
    type Reads = (TruckJourney,);

    fn shelves(&mut self) -> Vec<&mut dyn Shelf> {
        vec![&mut self.tracks]
    }
}

impl On<TruckJourney> for JourneyTrack {
    fn on(&mut self, journey: Id<TruckJourney>, event: &Event, _: &Entry) -> Folded {
        match event {
            Event::Planned { truck, location, window, .. } => {
                let mut course = Course::default();
                course.follow(event);
                let (truck, location, window, stage) = (*truck, *location, *window, course.stage());
                let (count, first_at, last_at, chunks) = (0, None, None, Vec::new());
                let line = JourneyLine { location, truck, window, stage, course, count, first_at, last_at, chunks };
                self.tracks.put(journey, line)
            }
            Event::GpsRecorded { device, chunk, count, first_at, last_at, fixes } => {
                self.tracks.edit(journey, |line| {
                    line.count += u64::from(*count);
                    line.first_at = Some(line.first_at.map_or(*first_at, |known| known.min(*first_at)));
                    line.last_at = line.last_at.max(Some(*last_at));
                    line.chunks.push(Chunk { device: *device, number: *chunk, fixes: fixes.clone() });
                })
            }
            Event::TruckReassigned { to, .. } => self.tracks.edit(journey, |line| line.truck = *to),
            // A line with a day's chunks is not written again for a tag.
            _ if Course::follows(event) => self.tracks.edit(journey, |line| {
                line.course.follow(event);
                line.stage = line.course.stage();
            }),
            _ => Ok(()),
        }
    }
}

/// Merges the chunks that were opened to one line by time, and says how many were not.
fn present(mut line: Value, _: &Reading<'_>) -> Value {
    let Some(members) = line.as_object_mut() else { return line };
    let chunks = members.remove("chunks");
    let chunks = chunks.as_ref().and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let opened: Vec<Fixes> = chunks.iter().filter_map(|chunk| Fixes::deserialize(chunk.get("fixes")?).ok()).collect();
    members.insert("closed_chunks".into(), (chunks.len() - opened.len()).into());
    let track = Track::of(opened);
    let fixes = track.fixes().map(|fix| serde_json::to_value(fix).unwrap_or_default());
    members.insert("track".into(), fixes.collect());
    line
}

#[cfg(test)]
mod tests {
    use cnc_domain::{
        command_control::places::FixesPart,
        kernel::{Minutes, Settings, Story, given},
    };
    use serde_json::json;

    use super::*;

    const JOURNEY: Id<TruckJourney> = Id::number(2);

    fn recorded(chunk: u32, at: Timestamp) -> Event {
        let part = FixesPart { count: 2, first_at: at, last_at: at, marks: Vec::new() };
        let fixes = Personal::<Fixes>::sample(JOURNEY.uuid(), "x", part);
        Event::GpsRecorded { device: Id::number(60), chunk, count: 2, first_at: at, last_at: at, fixes }
    }

    fn story() -> Story {
        let noon = given::context().now;
        let planned = Event::Planned {
            truck: Id::number(21),
            location: LocationId::number(5),
            window: Window { start: noon, end: noon.plus(Minutes(480)) },
            stops: Vec::new(),
            recommended_crew: 1,
            estimated_minutes: None,
        };
        Story::default()
            .tell(JOURNEY, planned)
            .tell(JOURNEY, recorded(2, noon.plus(Minutes(9))))
            .tell(JOURNEY, Event::Tagged { tag: "long".into() })
            .tell(JOURNEY, Event::Dispatched { occurred_at: noon })
            .tell(JOURNEY, recorded(1, noon))
            .tell(JOURNEY, Event::Cancelled { reason: "rain".into(), occurred_at: noon })
    }

    #[test]
    fn folding_entry_by_entry_gives_what_folding_at_once_gives() {
        assert_eq!(story().by_entry(VIEW.kind), story().at_once(VIEW.kind));
    }

    #[test]
    fn chunks_are_counted_whatever_their_order() {
        let mut fold: JourneyTrack = story().fold();
        let line = fold.tracks.get(JOURNEY).expect("is loaded").expect("stays when the journey is over");
        assert_eq!((line.count, line.chunks.len(), line.stage), (4, 2, Stage::Cancelled));
        assert_eq!(line.first_at, Some(given::context().now));
    }

    #[test]
    fn opened_chunks_are_one_line_by_time_and_closed_ones_are_counted() {
        let fix = |second: i64| json!({ "at": Timestamp::from_seconds(second), "lat_e7": 1, "lon_e7": 2 });
        let line = json!({ "chunks": [
            { "number": 2, "fixes": [fix(9), fix(5)] }, { "chunk": 1, "fixes": [fix(5), fix(1)] },
            { "chunk": 3, "fixes": "[sealed]" },
        ] });
        let reading = Reading { now: given::context().now, settings: &Settings::default() };
        let shown = present(line, &reading);
        assert_eq!((shown["track"].as_array().map(Vec::len), &shown["closed_chunks"]), (Some(3), &json!(1)));
        assert!(shown.get("chunks").is_none());
    }
}
