//! Where a journey's truck drove: its GPS line with its stops. It stays after the journey has ended.
//!
//! A journey is one document that says what it is and how far it is, under the journey's id, and documents for pieces of
//! its track, under `JOURNEY/DEVICE/RUN`, so that a chunk of fixes rewrites the piece that it belongs to and not a day's
//! line. To which piece it belongs follows from the chunk alone, so that no order, repetition or lateness can be seen in
//! the documents, and none holds more than [`CHUNKS_MAX`] chunks.
//!
//! A map asks for `?journey=ID&sort=first_at`: the journey first, then its pieces by time, page by page. Pieces of several
//! devices overlap in time; each is one line by time, and a client draws a line for each or merges them.

use std::collections::BTreeSet;

use cnc_domain::{
    calendar_capacity::Truck,
    command_control::{
        TruckJourney,
        places::Fixes,
        track::Track,
        truck_journey::{Course, Event, Stage},
    },
    crew_customer::CrewMember,
    kernel::{
        Docs, Document, Fold, Folded, Id, LocationId, On, Personal, Reading, Shelf, Timestamp, Window, fold, marker,
    },
    ledger::Entry,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::View;

/// How many chunks one piece of a track may hold.
const CHUNKS_MAX: u32 = 8;

/// The view.
pub const VIEW: View = View {
    kind: fold::<JourneyTrack>(),
    about: "Every journey with its stops, and its GPS line in pieces, each merged by time from the chunks of one device.",
    present: Some(present),
    describe,
};

/// Keeps every journey's chunks of fixes, sealed as they came.
#[derive(Default)]
pub struct JourneyTrack {
    parts: Docs<JourneyPart>,
}

/// A journey, or a piece of its track.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "part", rename_all = "snake_case")]
pub enum JourneyPart {
    /// What the journey is and how far it is.
    Journey(JourneyLine),
    /// A piece of its track.
    Piece(Piece),
}

/// A journey, its stops, and what there is of its track.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct JourneyLine {
    /// Its id.
    journey: Id<TruckJourney>,
    /// The branch that it belongs to.
    location: LocationId,
    /// The truck that drives it.
    truck: Id<Truck>,
    /// Who rides along.
    crew: BTreeSet<Id<CrewMember>>,
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
    /// How many pieces its track has.
    pieces: u32,
}

/// What one device recorded of a journey in some chunks that follow one another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Piece {
    /// The journey.
    journey: Id<TruckJourney>,
    /// The branch that it belongs to.
    location: LocationId,
    /// The phone or tracker that recorded it.
    device: Id<marker::Device>,
    /// How many fixes came.
    count: u64,
    /// The time of the earliest.
    first_at: Timestamp,
    /// The time of the latest.
    last_at: Timestamp,
    /// The fixes in chunks by number. Read, it is `track`: one line by time; and `closed_chunks`: how many could not be
    /// opened.
    chunks: Vec<Chunk>,
}

/// A chunk of fixes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
struct Chunk {
    /// Its number on its device.
    number: u32,
    /// The fixes.
    fixes: Personal<Fixes>,
}

impl Document for JourneyPart {
    const NAME: &'static str = "journey_track";
    const FILTERS: &'static [&'static str] = &["journey", "part", "stage", "location", "truck", "crew"];
    const SORTS: &'static [&'static str] = &["first_at", "window.start"];
    // The pieces of a track list nobody: whoever sees only what they take part in could open none of them.
    const PARTICIPANTS: Option<&'static str> = Some("crew");

    fn location(&self) -> Option<LocationId> {
        Some(match self {
            Self::Journey(line) => line.location,
            Self::Piece(piece) => piece.location,
        })
    }
}

impl Fold for JourneyTrack {
    const NAME: &'static str = "journey_track";
    const VERSION: u32 = 3;
    type Reads = (TruckJourney,);

    fn shelves(&mut self) -> Vec<&mut dyn Shelf> {
        vec![&mut self.parts]
    }
}

impl On<TruckJourney> for JourneyTrack {
    fn on(&mut self, journey: Id<TruckJourney>, event: &Event, _: &Entry) -> Folded {
        match event {
            Event::Planned { truck, location, window, .. } => {
                let mut course = Course::default();
                course.follow(event);
                let (truck, location, window, stage) = (*truck, *location, *window, course.stage());
                let line = JourneyLine {
                    journey,
                    location,
                    truck,
                    crew: BTreeSet::new(),
                    window,
                    stage,
                    course,
                    count: 0,
                    first_at: None,
                    last_at: None,
                    pieces: 0,
                };
                self.parts.put(journey, JourneyPart::Journey(line))
            }
            Event::GpsRecorded { .. } => self.recorded(journey, event),
            Event::TruckReassigned { to, .. } => self.edit(journey, |line| line.truck = *to),
            Event::CrewAssigned { members } => {
                self.edit(journey, |line| line.crew.extend(members.iter().map(|assigned| assigned.member)))
            }
            Event::CrewReleased { member } => self.edit(journey, |line| line.crew.retain(|known| known != member)),
            // It is not written again for a tag.
            _ if Course::follows(event) => self.edit(journey, |line| {
                line.course.follow(event);
                line.stage = line.course.stage();
            }),
            _ => Ok(()),
        }
    }
}

impl JourneyTrack {
    /// Edits what is said of a journey.
    fn edit(&mut self, journey: Id<TruckJourney>, edit: impl FnOnce(&mut JourneyLine)) -> Folded {
        self.parts.edit(journey, |part| {
            if let JourneyPart::Journey(line) = part {
                edit(line);
            }
        })
    }

    /// Puts a chunk into its piece, once.
    fn recorded(&mut self, journey: Id<TruckJourney>, event: &Event) -> Folded {
        let Event::GpsRecorded { device, chunk, count, first_at, last_at, fixes } = event else { return Ok(()) };
        let Some(location) = self.parts.get(journey)?.and_then(Document::location) else { return Ok(()) };
        let key = format!("{journey}/{device}/{:09}", chunk / CHUNKS_MAX);
        let begin = || {
            let (count, chunks) = (0, Vec::new());
            let (first_at, last_at, device) = (*first_at, *last_at, *device);
            JourneyPart::Piece(Piece { journey, location, device, count, first_at, last_at, chunks })
        };
        let (mut is_new, mut begins) = (false, false);
        self.parts.edit_or(key, begin, |part| {
            let JourneyPart::Piece(piece) = part else { return };
            begins = piece.chunks.is_empty();
            if let Err(place) = piece.chunks.binary_search_by_key(chunk, |known| known.number) {
                piece.chunks.insert(place, Chunk { number: *chunk, fixes: fixes.clone() });
                piece.count += u64::from(*count);
                (piece.first_at, piece.last_at) = (piece.first_at.min(*first_at), piece.last_at.max(*last_at));
                is_new = true;
            }
        })?;
        if !is_new {
            return Ok(());
        }
        self.edit(journey, |line| {
            line.count += u64::from(*count);
            line.first_at = Some(line.first_at.map_or(*first_at, |known| known.min(*first_at)));
            line.last_at = line.last_at.max(Some(*last_at));
            line.pieces += u32::from(begins);
        })
    }
}

/// Merges the chunks of a piece that were opened to one line by time, and says how many were not.
fn present(mut part: Value, _: &Reading<'_>) -> Value {
    let Some(members) = part.as_object_mut() else { return part };
    let Some(Value::Array(chunks)) = members.remove("chunks") else { return part };
    let opened: Vec<Fixes> = chunks.iter().filter_map(|chunk| Fixes::deserialize(chunk.get("fixes")?).ok()).collect();
    members.insert("closed_chunks".into(), (chunks.len() - opened.len()).into());
    let track = Track::of(opened);
    let fixes = track.fixes().map(|fix| serde_json::to_value(fix).unwrap_or_default());
    members.insert("track".into(), fixes.collect());
    part
}

fn describe(schema: &mut Value) {
    let kinds = schema["oneOf"].as_array_mut().into_iter().flatten();
    for piece in kinds.filter(|kind| kind["properties"].get("chunks").is_some()) {
        piece["properties"]["track"] =
            json!({ "type": "array", "items": { "type": "object" }, "description": "The fixes as one line by time." });
        piece["properties"]["closed_chunks"] =
            json!({ "type": "integer", "description": "How many chunks could not be opened." });
        piece["properties"].as_object_mut().map(|members| members.remove("chunks"));
        if let Some(required) = piece["required"].as_array_mut() {
            required.retain(|name| name != "chunks");
        }
    }
}

#[cfg(test)]
mod tests {
    use cnc_domain::{
        command_control::places::FixesPart,
        kernel::{Minutes, Settings, Story, given},
    };
    use proptest::prelude::*;

    use super::*;

    const JOURNEY: Id<TruckJourney> = Id::number(2);
    const PHONE: u128 = 60;

    fn noon() -> Timestamp {
        given::context().now
    }

    /// A chunk of two fixes, a minute apart.
    fn recorded(device: u128, chunk: u32, minute: u32) -> Event {
        let (first_at, last_at) = (noon().plus(Minutes(minute)), noon().plus(Minutes(minute + 1)));
        let part = FixesPart { count: 2, first_at, last_at, marks: Vec::new() };
        let fixes = Personal::<Fixes>::sample(JOURNEY.uuid(), &format!("{device} {chunk}"), part);
        Event::GpsRecorded { device: Id::number(device), chunk, count: 2, first_at, last_at, fixes }
    }

    fn planned() -> Story {
        Story::default().tell(
            JOURNEY,
            Event::Planned {
                truck: Id::number(21),
                location: LocationId::number(5),
                window: Window { start: noon(), end: noon().plus(Minutes(480)) },
                stops: Vec::new(),
                recommended_crew: 1,
                estimated_minutes: None,
            },
        )
    }

    fn story() -> Story {
        planned()
            .tell(JOURNEY, recorded(PHONE, 2, 9))
            .tell(JOURNEY, Event::Tagged { tag: "long".into() })
            .tell(JOURNEY, Event::Dispatched { occurred_at: noon() })
            .tell(JOURNEY, recorded(PHONE, 1, 0))
            .tell(JOURNEY, recorded(PHONE, CHUNKS_MAX, 12))
            .tell(JOURNEY, Event::Cancelled { reason: "rain".into(), occurred_at: noon() })
    }

    /// The journey and its pieces, by key.
    fn parts(story: &Story) -> Vec<Value> {
        story.at_once(VIEW.kind).into_iter().map(|(_, _, document)| document).collect()
    }

    #[test]
    fn folding_entry_by_entry_gives_what_folding_at_once_gives() {
        assert_eq!(story().by_entry(VIEW.kind), story().at_once(VIEW.kind));
    }

    #[test]
    fn a_journey_stands_before_the_pieces_of_its_track() {
        let parts = parts(&story());
        let [line, first, second] = parts.as_slice() else { panic!("three documents, not {parts:?}") };
        assert_eq!((&line["part"], &line["stage"]), (&json!("journey"), &json!("cancelled")));
        assert_eq!((&line["count"], &line["pieces"], &line["first_at"]), (&json!(6), &json!(2), &json!(noon())));
        assert_eq!((&first["part"], &first["count"], &first["first_at"]), (&json!("piece"), &json!(4), &json!(noon())));
        let numbers = |piece: &Value| {
            piece["chunks"].as_array().expect("chunks").iter().map(|one| one["number"].clone()).collect::<Vec<_>>()
        };
        assert_eq!((numbers(first), numbers(second)), (vec![json!(1), json!(2)], vec![json!(CHUNKS_MAX)]));
    }

    #[test]
    fn a_chunk_rewrites_its_piece_and_no_other() {
        let mut fold: JourneyTrack = story().fold();
        fold.parts.settle();
        fold.recorded(JOURNEY, &recorded(PHONE, 3, 4)).expect("is folded");
        let written: Vec<String> = fold.parts.changes().expect("writes").into_iter().map(|change| change.key).collect();
        assert_eq!(
            written,
            [JOURNEY.to_string(), format!("{JOURNEY}/{}/000000000", Id::<marker::Device>::number(PHONE))]
        );
    }

    #[test]
    fn fixes_of_a_journey_that_was_never_planned_are_nobodys() {
        assert!(parts(&Story::default().tell(JOURNEY, recorded(PHONE, 1, 0))).is_empty());
    }

    #[test]
    fn opened_chunks_are_one_line_by_time_and_closed_ones_are_counted() {
        let fix = |second: i64| json!({ "at": Timestamp::from_seconds(second), "lat_e7": 1, "lon_e7": 2 });
        let piece = json!({ "chunks": [
            { "number": 1, "fixes": [fix(9), fix(5)] }, { "number": 2, "fixes": [fix(5), fix(1)] },
            { "number": 3, "fixes": "[sealed]" },
        ] });
        let reading = Reading { now: noon(), settings: &Settings::default() };
        let shown = present(piece, &reading);
        assert_eq!((shown["track"].as_array().map(Vec::len), &shown["closed_chunks"]), (Some(3), &json!(1)));
        assert!(shown.get("chunks").is_none());
        assert_eq!(present(json!({ "part": "journey" }), &reading), json!({ "part": "journey" }));
    }

    /// Chunks as they were made, and as they came: each at least once, some again, in any order.
    fn deliveries() -> impl Strategy<Value = (Vec<Event>, Vec<Event>)> {
        proptest::collection::btree_map((PHONE..PHONE + 3, 0..40u32), 0..600u32, 1..30).prop_flat_map(|made| {
            let made: Vec<Event> =
                made.into_iter().map(|((device, number), minute)| recorded(device, number, minute)).collect();
            let again = proptest::collection::vec(proptest::sample::select(made.clone()), 0..20);
            let first = made.clone();
            let came =
                again.prop_map(move |again| first.iter().cloned().chain(again).collect::<Vec<_>>()).prop_shuffle();
            (Just(made), came)
        })
    }

    proptest! {
        #[test]
        fn any_order_repetition_and_lateness_of_chunks_gives_the_same_documents((made, came) in deliveries()) {
            let told = |events: &[Event]| events.iter().fold(planned(), |story, event| story.tell(JOURNEY, event.clone()));
            let (parts, sent) = (parts(&told(&came)), made.len());
            prop_assert_eq!(&parts, &self::parts(&told(&made)));
            let sizes = || parts.iter().filter_map(|part| part["chunks"].as_array()).map(Vec::len);
            prop_assert_eq!(sizes().sum::<usize>(), sent);
            prop_assert!(sizes().all(|size| size <= CHUNKS_MAX as usize), "a piece is bounded");
            prop_assert_eq!(parts[0]["count"].as_u64(), Some(2 * sent as u64));
            prop_assert_eq!(parts[0]["pieces"].as_u64(), Some(parts.len() as u64 - 1));
        }
    }
}
