//! The windows in which something or somebody is taken. Trucks and crew members both keep one; the journeys that take
//! them ask, and the owner answers from this.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    command_control::TruckJourney,
    kernel::{Decision, Id, Minutes, Timestamp, Window},
};

/// How long a reservation that is over is remembered, so that a journey which ran late can still be moved.
const REMEMBERED: Minutes = Minutes(7 * 24 * 60);

/// How many reservations are kept before those that are long over are forgotten.
const MANY: usize = 32;

/// One journey's hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Reservation {
    /// The journey that holds it.
    pub journey: Id<TruckJourney>,
    /// For how long.
    pub window: Window,
    /// Whether a crew member is to drive; never for a truck.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub driving: bool,
}

/// Why a hold cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Its window ends before it starts.
    Backwards(Window),
    /// This one is in the way.
    By(Reservation),
}

/// A hold that can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Free {
    /// Before which time holds are forgotten as it comes.
    lapsing: Option<Timestamp>,
}

/// Reservations that do not overlap, in the order in which they were made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct Reservations(Vec<Reservation>);

impl Reservations {
    /// Whether a hold can be had; nothing where exactly this one stands already.
    pub fn weigh(&self, wish: &Reservation, now: Timestamp) -> Result<Option<Free>, Taken> {
        if !wish.window.is_forward() {
            return Err(Taken::Backwards(wish.window));
        }
        if self.0.contains(wish) {
            return Ok(None);
        }
        match self.in_the_way(wish) {
            Some(held) => Err(Taken::By(held)),
            None => Ok(Some(Free { lapsing: self.lapsing(wish, now) })),
        }
    }

    /// The hold of another journey that is in the way of this one.
    fn in_the_way(&self, wish: &Reservation) -> Option<Reservation> {
        self.0.iter().find(|held| held.journey != wish.journey && held.window.overlaps(wish.window)).copied()
    }

    /// Whether the journey holds anything.
    fn holds(&self, journey: Id<TruckJourney>) -> bool {
        self.0.iter().any(|held| held.journey == journey)
    }

    /// Adds a hold, or moves the one that the journey has.
    pub fn put(&mut self, wish: Reservation) {
        self.remove(wish.journey);
        self.0.push(wish);
    }

    /// Takes the journey's hold away.
    pub fn remove(&mut self, journey: Id<TruckJourney>) {
        self.0.retain(|held| held.journey != journey);
    }

    /// Before which time holds may be forgotten now that `wish` comes, where that is worth an event. An import of old
    /// journeys is long over by the server's clock, so that it goes by its own.
    fn lapsing(&self, wish: &Reservation, now: Timestamp) -> Option<Timestamp> {
        let before = now.min(wish.window.start).minus(REMEMBERED);
        (self.0.len() >= MANY && self.0.iter().any(|held| held.window.end < before)).then_some(before)
    }

    /// Forgets the holds that ended before a time.
    pub fn lapse(&mut self, before: Timestamp) {
        self.0.retain(|held| held.window.end >= before);
    }

    /// Lets go of the journey's hold; nothing where it has none.
    pub fn release<E>(&self, journey: Id<TruckJourney>, released: E) -> Decision<E> {
        Decision::unless(!self.holds(journey), released)
    }

    /// All holds.
    pub fn all(&self) -> &[Reservation] {
        &self.0
    }
}

impl Free {
    /// What is recorded: that holds are forgotten, where some are, and the hold.
    pub fn decide<E>(self, lapsed: impl FnOnce(Timestamp) -> E, reserved: E) -> Decision<E> {
        self.lapsing.map(lapsed).into_iter().chain([reserved]).collect::<Vec<_>>().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(number: u32, journey: u128) -> Reservation {
        let start = Timestamp::default().plus(Minutes(number * 24 * 60));
        let window = Window { start, end: start.plus(Minutes(600)) };
        Reservation { journey: Id::number(journey), window, driving: false }
    }

    fn days(numbers: std::ops::Range<u32>) -> Reservations {
        let mut held = Reservations::default();
        numbers.for_each(|number| held.put(day(number, u128::from(number))));
        held
    }

    #[test]
    fn what_was_over_a_week_ago_lapses_once_there_are_many() {
        let held = days(0..40);
        let wish = day(40, 99);
        assert_eq!(held.lapsing(&wish, wish.window.start), Some(day(33, 0).window.start));
        assert_eq!(days(0..20).lapsing(&day(40, 99), wish.window.start), None, "few are kept");
    }

    #[test]
    fn a_booking_for_next_year_makes_nobody_forget_this_week() {
        let mut held = days(0..40);
        let now = day(38, 0).window.start;
        let before = held.lapsing(&day(400, 99), now).expect("there are many");
        held.lapse(before);
        assert!(held.in_the_way(&day(38, 99)).is_some());
        assert_eq!(held.all().len(), 9);
    }

    #[test]
    fn an_import_of_old_journeys_forgets_by_their_time() {
        let held = days(0..40);
        assert_eq!(held.lapsing(&day(3, 99), day(4000, 0).window.start), None);
    }
}
