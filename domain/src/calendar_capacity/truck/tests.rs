//! A truck's rules, a sentence each.

use super::*;
use crate::kernel::{Given, Minutes, given};

const JOURNEY: Id<TruckJourney> = Id::number(20);
const OTHER: Id<TruckJourney> = Id::number(21);

/// A window from and to an hour of the day of the tests.
fn hours(from: u32, to: u32) -> Window {
    let midnight = given::context().now.minus(Minutes(12 * 60));
    Window { start: midnight.plus(Minutes(from * 60)), end: midnight.plus(Minutes(to * 60)) }
}

fn particulars() -> Particulars {
    Particulars {
        plate: "BX 12 345".into(),
        size_ft: 26,
        volume_cuft: TenthsCuft(16_800),
        home_location: Id::number(5),
        cost_per_hour: Cents(4200),
    }
}

fn commissioned() -> Event {
    Event::Commissioned(particulars())
}

fn retired() -> Event {
    Event::Retired { reason: "sold".into() }
}

fn outage(from: u32, to: u32) -> Outage {
    let Window { start, end } = hours(from, to);
    Outage { from: start, to: end, reason: "brakes".into() }
}

fn out(from: u32, to: u32) -> Event {
    Event::TakenOutOfService(outage(from, to))
}

fn reserve(journey: Id<TruckJourney>, window: Window) -> Command {
    Command::Reserve { journey, window }
}

fn reserved(journey: Id<TruckJourney>, window: Window) -> Event {
    Event::Reserved { journey, window }
}

#[test]
fn a_truck_is_commissioned_once() {
    Truck::given([]).when(Command::Commission(particulars())).then([commissioned()]);
    Truck::given([commissioned()]).when(Command::Commission(particulars())).then_nothing();
    let other = Particulars { plate: "CA 99".into(), ..particulars() };
    Truck::given([commissioned()]).when(Command::Commission(other)).refused(Refusal::AlreadyCommissioned);
}

#[test]
fn a_truck_without_a_size_or_with_a_negative_cost_is_refused() {
    for (field, particulars) in [
        ("size_ft", Particulars { size_ft: 0, ..particulars() }),
        ("volume_cuft", Particulars { volume_cuft: TenthsCuft(0), ..particulars() }),
    ] {
        let refusal = Refusal::NotPositive { field: field.into() };
        Truck::given([]).when(Command::Commission(particulars)).refused(refusal);
    }
    let costly = Particulars { cost_per_hour: Cents(-1), ..particulars() };
    Truck::given([]).when(Command::Commission(costly)).refused(Refusal::NegativeCost);
}

#[test]
fn a_truck_that_is_not_there_can_be_asked_nothing() {
    for command in [
        Command::OutOfService(outage(8, 12)),
        Command::BackInService,
        Command::Retire { reason: "sold".into() },
        reserve(JOURNEY, hours(8, 16)),
    ] {
        Truck::given([]).when(command).refused(Refusal::NotCommissioned);
    }
}

#[test]
fn a_retired_truck_is_neither_repaired_nor_reserved() {
    for command in [Command::OutOfService(outage(8, 12)), Command::BackInService, reserve(JOURNEY, hours(8, 16))] {
        Truck::given([commissioned(), retired()]).when(command).refused(Refusal::Retired);
    }
    Truck::given([commissioned()]).when(Command::Retire { reason: "sold".into() }).then([retired()]);
    Truck::given([commissioned(), retired()]).when(Command::Retire { reason: "again".into() }).then_nothing();
}

#[test]
fn a_truck_out_of_service_is_not_reserved_for_that_time() {
    Truck::given([commissioned()]).when(Command::OutOfService(outage(8, 12))).then([out(8, 12)]);
    let Outage { from, to, reason } = outage(8, 12);
    Truck::given([commissioned(), out(8, 12)])
        .when(reserve(JOURNEY, hours(11, 16)))
        .refused(Refusal::TruckOutOfService { from, to, reason });
    Truck::given([commissioned(), out(8, 12)])
        .when(reserve(JOURNEY, hours(12, 16)))
        .then([reserved(JOURNEY, hours(12, 16))]);
}

#[test]
fn a_truck_is_reserved_again_once_it_is_back_in_service() {
    Truck::given([commissioned(), out(8, 12)]).when(Command::BackInService).then([Event::ReturnedToService]);
    Truck::given([commissioned()]).when(Command::BackInService).then_nothing();
    Truck::given([commissioned(), out(8, 12), Event::ReturnedToService])
        .when(reserve(JOURNEY, hours(8, 12)))
        .then([reserved(JOURNEY, hours(8, 12))]);
}

#[test]
fn an_outage_takes_the_place_of_the_one_before_and_leaves_reservations() {
    Truck::given([commissioned(), out(8, 12)]).when(Command::OutOfService(outage(8, 12))).then_nothing();
    Truck::given([commissioned(), out(8, 12)]).when(Command::OutOfService(outage(8, 20))).then([out(8, 20)]);
    Truck::given([commissioned(), reserved(JOURNEY, hours(8, 16)), out(8, 20)])
        .when(reserve(JOURNEY, hours(8, 16)))
        .then_nothing();
}

#[test]
fn a_window_must_end_after_it_starts() {
    let window = hours(9, 9);
    let refusal = || Refusal::WindowBackwards { window };
    Truck::given([commissioned()]).when(reserve(JOURNEY, window)).refused(refusal());
    Truck::given([commissioned()]).when(Command::OutOfService(outage(9, 9))).refused(refusal());
}

#[test]
fn an_overlapping_window_is_refused_naming_the_journey_and_its_window() {
    Truck::given([commissioned(), reserved(OTHER, hours(8, 12))])
        .when(reserve(JOURNEY, hours(11, 16)))
        .refused(Refusal::TruckReserved { journey: OTHER, window: hours(8, 12) });
}

#[test]
fn the_same_journey_again_changes_nothing_and_another_window_moves_it() {
    let given = || Truck::given([commissioned(), reserved(JOURNEY, hours(8, 12))]);
    given().when(reserve(JOURNEY, hours(8, 12))).then_nothing();
    given().when(reserve(JOURNEY, hours(10, 14))).then([reserved(JOURNEY, hours(10, 14))]);
}

#[test]
fn what_is_released_can_be_taken_by_another_also_from_a_retired_truck() {
    let release = || Command::Release { journey: JOURNEY };
    let released = || Event::Released { journey: JOURNEY };
    let held = || [commissioned(), reserved(JOURNEY, hours(8, 12))];
    Truck::given(held()).when(release()).then([released()]);
    Truck::given(held().into_iter().chain([retired()])).when(release()).then([released()]);
    Truck::given(held().into_iter().chain([released()]))
        .when(reserve(OTHER, hours(8, 12)))
        .then([reserved(OTHER, hours(8, 12))]);
    Truck::given([commissioned()]).when(release()).then_nothing();
}

#[test]
fn reservations_that_are_long_over_lapse_so_that_the_state_stays_small() {
    let day = |number: u32| hours(number * 24 + 8, number * 24 + 16);
    let past = (0..40).map(|number| reserved(Id::number(100 + u128::from(number)), day(number)));
    let before = hours(33 * 24 + 8, 0).start;
    Truck::given([commissioned()].into_iter().chain(past))
        .at(day(40).start)
        .when(reserve(JOURNEY, day(40)))
        .then([Event::ReservationsLapsed { before }, reserved(JOURNEY, day(40))]);
}

#[test]
fn entries_belong_to_the_home_location() {
    let mut truck = Truck::default();
    assert_eq!(Aggregate::location(&truck), None);
    truck.evolve(commissioned());
    assert_eq!(Aggregate::location(&truck), Some(Id::number(5)));
}
