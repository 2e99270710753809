//! The line that a truck drove, merged from chunks that come late, twice and in any order.

use std::collections::{BTreeMap, btree_map::Entry};

use super::places::{Fix, Fixes};
use crate::kernel::Timestamp;

/// Fixes by time, one for each moment. The order in which they were merged cannot be seen in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Track(BTreeMap<Timestamp, Fix>);

impl Track {
    /// The track of these chunks.
    pub fn of(chunks: impl IntoIterator<Item = Fixes>) -> Self {
        let mut track = Self::default();
        chunks.into_iter().for_each(|chunk| track.merge(chunk));
        track
    }

    /// Takes a chunk in. Where two devices of a truck have a fix of one moment, the more exact one stays; where they are
    /// equally exact, the choice is arbitrary but always the same, so that merging stays free of order.
    pub fn merge(&mut self, chunk: Fixes) {
        for fix in chunk.0 {
            match self.0.entry(fix.at) {
                Entry::Vacant(free) => {
                    free.insert(fix);
                }
                Entry::Occupied(mut kept) => {
                    if rank(&fix) < rank(kept.get()) {
                        kept.insert(fix);
                    }
                }
            }
        }
    }

    /// The fixes, earliest first.
    pub fn fixes(&self) -> impl DoubleEndedIterator<Item = &Fix> {
        self.0.values()
    }

    /// How many moments it has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What decides between two fixes of one moment: a stated accuracy before none, a finer before a coarser one, then all
/// that tells them apart.
fn rank(fix: &Fix) -> (u32, &Fix) {
    (fix.accuracy_m.map_or(u32::MAX, |metres| metres.0), fix)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernel::{CmPerSecond, LatE7, LonE7, Metres};

    fn fix(second: i64, lat: i32, accuracy: Option<u32>) -> Fix {
        Fix {
            at: Timestamp::from_seconds(second),
            lat_e7: LatE7(lat),
            lon_e7: LonE7(0),
            accuracy_m: accuracy.map(Metres),
            speed_cm_s: accuracy.map(CmPerSecond),
        }
    }

    #[test]
    fn of_two_fixes_of_one_moment_the_more_exact_stays() {
        let track = Track::of([
            Fixes(vec![fix(1, 10, None)]),
            Fixes(vec![fix(1, 20, Some(5))]),
            Fixes(vec![fix(1, 30, Some(50))]),
        ]);
        assert_eq!(track.fixes().map(|fix| fix.lat_e7.0).collect::<Vec<_>>(), [20]);
        assert!(track.len() == 1 && !track.is_empty());
    }

    /// Few moments and values, so that chunks overlap and clash often.
    fn chunk() -> impl Strategy<Value = Fixes> {
        let fixes = (0..40i64, 0..4i32, proptest::option::of(0..3u32)).prop_map(|(at, lat, acc)| fix(at, lat, acc));
        proptest::collection::vec(fixes, 1..20).prop_map(Fixes)
    }

    /// Chunks as they were made, and as they came: each at least once, some again, in any order.
    fn deliveries() -> impl Strategy<Value = (Vec<Fixes>, Vec<Fixes>)> {
        proptest::collection::vec(chunk(), 1..12).prop_flat_map(|made| {
            let again = proptest::collection::vec(proptest::sample::select(made.clone()), 0..12);
            let came = again
                .prop_map({
                    let made = made.clone();
                    move |again| made.iter().cloned().chain(again).collect::<Vec<_>>()
                })
                .prop_shuffle();
            (Just(made), came)
        })
    }

    proptest! {
        #[test]
        fn any_order_repetition_and_lateness_of_chunks_gives_the_same_track((made, came) in deliveries()) {
            let track = Track::of(came);
            prop_assert_eq!(&track, &Track::of(made));
            let times: Vec<_> = track.fixes().map(|fix| fix.at).collect();
            prop_assert!(times.is_sorted(), "the line runs forward in time");
        }
    }
}
