//! What a journey keeps of its track: which chunks came, of when they are, and sealed marks to take a position from. The
//! fixes themselves stay in the ledger; a view merges them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Event, Outcome, Refusal, TruckJourney};
use crate::{
    command_control::places::{Fixes, Mark},
    kernel::{Context, Decision, Id, Personal, Seconds, Timestamp, marker},
};

/// How many devices may record one journey: a crew's phones and some trackers.
pub const DEVICES_MAX: usize = 50;
/// How many gaps there may be in what came from one device.
pub const GAPS_MAX: usize = 200;
/// How many marks are kept, the newest.
pub const MARKS_MAX: usize = 100;

/// Chunk numbers, kept as runs (first, last), so that a journey of any length takes little room.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct Chunks(Vec<(u32, u32)>);

/// What is known of a journey's track.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Gps {
    /// How many fixes came, repeated ones of other chunks counted too.
    pub count: u64,
    /// The time of the earliest.
    pub first_at: Option<Timestamp>,
    /// The time of the latest.
    pub last_at: Option<Timestamp>,
    /// Which chunks came, by device, as runs of numbers.
    pub devices: BTreeMap<Id<marker::Device>, Chunks>,
    /// Sealed positions of the newest quarters of hours, earliest first.
    pub marks: Vec<Mark>,
}

impl Chunks {
    /// Whether this chunk came.
    pub fn contains(&self, chunk: u32) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&chunk))
    }

    /// Takes a chunk in, and joins the runs that it links.
    pub fn insert(&mut self, chunk: u32) {
        if self.contains(chunk) {
            return;
        }
        let place = self.0.partition_point(|(first, _)| *first < chunk);
        let follows = place > 0 && self.0[place - 1].1.checked_add(1) == Some(chunk);
        let precedes = self.0.get(place).is_some_and(|(first, _)| chunk.checked_add(1) == Some(*first));
        match (follows, precedes) {
            (true, true) => self.0[place - 1].1 = self.0.remove(place).1,
            (true, false) => self.0[place - 1].1 = chunk,
            (false, true) => self.0[place].0 = chunk,
            (false, false) => self.0.insert(place, (chunk, chunk)),
        }
    }

    /// The first chunk that is missing.
    fn missing(&self) -> u32 {
        match self.0.first() {
            Some((0, last)) => last.saturating_add(1),
            _ => 0,
        }
    }

    /// How many runs there are.
    fn runs(&self) -> usize {
        self.0.len()
    }
}

impl Gps {
    /// The mark for a departure: the newest within `reach` before it; where there is none, the first within `reach` after.
    pub(super) fn mark_near(&self, at: Timestamp, reach: Seconds) -> Option<&Mark> {
        let before = self.marks.iter().rev().find(|mark| (at.minus(reach)..=at).contains(&mark.at));
        before.or_else(|| self.marks.iter().find(|mark| (at..=at.plus(reach)).contains(&mark.at)))
    }

    pub(super) fn take(&mut self, device: Id<marker::Device>, chunk: u32, fixes: &Personal<Fixes>) {
        self.devices.entry(device).or_default().insert(chunk);
        let Some(part) = fixes.part() else { return };
        self.count += u64::from(part.count);
        self.first_at = Some(self.first_at.map_or(part.first_at, |first| first.min(part.first_at)));
        self.last_at = self.last_at.max(Some(part.last_at));
        part.marks.iter().for_each(|mark| self.take_mark(mark));
    }

    fn take_mark(&mut self, mark: &Mark) {
        if let Err(place) = self.marks.binary_search_by_key(&mark.at, |known| known.at) {
            self.marks.insert(place, mark.clone());
        }
        if self.marks.len() > MARKS_MAX {
            self.marks.remove(0);
        }
    }
}

impl TruckJourney {
    pub(super) fn record_gps(
        &self,
        device: Id<marker::Device>,
        chunk: u32,
        fixes: Personal<Fixes>,
        context: &Context,
    ) -> Outcome {
        self.known()?;
        let known = self.gps.devices.get(&device);
        if known.is_some_and(|chunks| chunks.contains(chunk)) {
            return Ok(Decision::nothing());
        }
        if known.is_none() && self.gps.devices.len() >= DEVICES_MAX {
            return Err(Refusal::TooManyDevices { limit: DEVICES_MAX });
        }
        if let Some(chunks) = known.filter(|chunks| opens_a_gap_too_many(chunks, chunk)) {
            return Err(Refusal::ChunksMissing { device, missing: chunks.missing() });
        }
        let Some((count, first_at, last_at)) =
            fixes.part().filter(|part| part.count > 0).map(|part| (part.count, part.first_at, part.last_at))
        else {
            return Err(Refusal::NoFixes);
        };
        let latest = context.now.plus(Seconds(context.settings.device_time.ahead_max_seconds));
        if last_at > latest && !context.actor.is_tool() {
            return Err(Refusal::FixInFuture { last_at, latest });
        }
        Ok(Event::GpsRecorded { device, chunk, count, first_at, last_at, fixes }.into())
    }
}

fn opens_a_gap_too_many(chunks: &Chunks, chunk: u32) -> bool {
    let mut next = chunks.clone();
    next.insert(chunk);
    next.runs() > chunks.runs() && next.runs() > GAPS_MAX
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::super::{Command, samples::*};
    use super::*;
    use crate::kernel::{Actor, Aggregate, Given, Minutes};

    const PHONE: Id<marker::Device> = Id::number(60);

    fn record(chunk: u32, times: &[Timestamp]) -> Command {
        Command::RecordGps { device: PHONE, chunk, fixes: fixes(times) }
    }
    fn minute(minute: u32) -> Timestamp {
        NOON.plus(Minutes(minute))
    }

    #[test]
    fn a_chunk_is_recorded_with_its_span_also_when_it_comes_late() {
        TruckJourney::given(departed()).at(NOON).when(record(0, &[NOON])).then([recorded(0, &[NOON])]);
        TruckJourney::given(returned().chain([recorded(1, &[minute(20)])]))
            .at(minute(900))
            .when(record(0, &[NOON, minute(9)]))
            .then([recorded(0, &[NOON, minute(9)])]);
    }

    #[test]
    fn the_same_chunk_again_adds_nothing() {
        TruckJourney::given(departed().chain([recorded(0, &[NOON])])).when(record(0, &[NOON])).then_nothing();
    }

    #[test]
    fn a_fix_of_the_future_is_refused_unless_a_tool_brings_it() {
        let (last_at, latest) = (minute(6), minute(5));
        TruckJourney::given(departed())
            .at(NOON)
            .when(record(0, &[NOON, last_at]))
            .refused(Refusal::FixInFuture { last_at, latest });
        TruckJourney::given(departed()).at(NOON).when(record(0, &[latest])).then([recorded(0, &[latest])]);
        TruckJourney::given(departed())
            .at(NOON)
            .by(Actor::tool("import"))
            .when(record(0, &[last_at]))
            .then([recorded(0, &[last_at])]);
    }

    #[test]
    fn a_chunk_without_fixes_or_of_an_unknown_journey_is_refused() {
        TruckJourney::given(departed()).when(record(0, &[])).refused(Refusal::NoFixes);
        TruckJourney::given([]).when(record(0, &[NOON])).refused(Refusal::NotPlanned);
    }

    #[test]
    fn a_journey_takes_fixes_of_so_many_devices_and_gaps_only() {
        let of = |nth: usize| {
            let Event::GpsRecorded { count, first_at, last_at, fixes, .. } = recorded(0, &[NOON]) else {
                unreachable!("it is a chunk")
            };
            Event::GpsRecorded { device: Id::number(1000 + nth as u128), chunk: 0, count, first_at, last_at, fixes }
        };
        TruckJourney::given(departed().chain((0..DEVICES_MAX).map(of)))
            .at(NOON)
            .when(record(0, &[NOON]))
            .refused(Refusal::TooManyDevices { limit: DEVICES_MAX });
        let holes = (1..=u32::try_from(GAPS_MAX).expect("few")).map(|nth| recorded(2 * nth, &[NOON]));
        TruckJourney::given(departed().chain(holes.clone()))
            .at(NOON)
            .when(record(1_000_000, &[NOON]))
            .refused(Refusal::ChunksMissing { device: PHONE, missing: 0 });
        TruckJourney::given(departed().chain(holes)).at(NOON).when(record(3, &[NOON])).then([recorded(3, &[NOON])]);
    }

    #[test]
    fn only_the_newest_marks_are_kept() {
        let mut journey = TruckJourney::default();
        for chunk in (0..150).rev() {
            journey.evolve(recorded(chunk, &[minute(15 * chunk)]));
        }
        assert_eq!(journey.gps.marks.len(), MARKS_MAX);
        assert_eq!(journey.gps.marks[0].at, minute(15 * 50));
        assert_eq!((journey.gps.first_at, journey.gps.last_at), (Some(NOON), Some(minute(15 * 149))));
        assert_eq!(journey.gps.devices[&PHONE], Chunks(vec![(0, 149)]), "one run, however many chunks");
    }

    #[test]
    fn a_departure_takes_the_newest_mark_before_it_or_else_the_first_after() {
        let mut gps = Gps::default();
        gps.take(PHONE, 0, &fixes(&[minute(0), minute(10), minute(30)]));
        let near = |at| gps.mark_near(at, Seconds(900)).map(|mark| mark.at);
        assert_eq!(near(minute(12)), Some(minute(10)));
        assert_eq!(near(minute(27)), Some(minute(30)));
        assert_eq!(near(minute(46)), None);
    }

    proptest! {
        #[test]
        fn chunks_are_a_set_of_numbers_in_disjoint_ascending_runs(numbers in proptest::collection::vec(0..60u32, 0..80)) {
            let mut chunks = Chunks::default();
            for number in &numbers {
                chunks.insert(*number);
            }
            let set: BTreeSet<u32> = numbers.into_iter().collect();
            let held: Vec<u32> = chunks.0.iter().flat_map(|(first, last)| *first..=*last).collect();
            prop_assert_eq!(held, set.iter().copied().collect::<Vec<_>>());
            prop_assert!(chunks.0.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
            let missing = (0..=60).find(|number| !set.contains(number));
            prop_assert_eq!(Some(chunks.missing()), missing);
        }
    }
}
