//! A crew member's rules, a sentence each.

use super::*;
use crate::kernel::{Actor, Given, Minutes, Nothing, UserId, given};

const JOURNEY: Id<TruckJourney> = Id::number(20);
const OTHER: Id<TruckJourney> = Id::number(21);
const HOME: LocationId = Id::number(5);

/// A window from and to an hour of the day of the tests.
fn hours(from: u32, to: u32) -> Window {
    let midnight = given::context().now.minus(Minutes(12 * 60));
    Window { start: midnight.plus(Minutes(from * 60)), end: midnight.plus(Minutes(to * 60)) }
}

fn licence(class: LicenceClass, hour: u32) -> Licence {
    Licence { class, expires: hours(0, hour).end }
}

fn terms() -> Hire {
    Hire {
        name: Personal::sample(Id::<()>::number(2), "QW5u", Nothing),
        phone: Personal::sample(Id::<()>::number(2), "NTU1", Nothing),
        roles: vec![CrewRole::Driver, CrewRole::Mover],
        home_location: HOME,
        hourly_rate: Cents(2850),
        employment_class: EmploymentClass::Provincial,
        duty: Duty::LocalCartage,
        province: "CA-ON".parse().expect("a province"),
        licence: Some(licence(LicenceClass::Light, 24)),
    }
}

fn hired() -> Event {
    Event::Hired(terms())
}

fn suspended() -> Event {
    Event::Suspended { reason: "an accident is being looked into".into() }
}

fn reserved(journey: Id<TruckJourney>, window: Window) -> Event {
    Event::Reserved { journey, window, driving: false }
}

fn reserve(journey: Id<TruckJourney>, window: Window) -> Command {
    Command::Reserve { journey, window, driving: false }
}

fn drive(window: Window) -> Command {
    Command::Reserve { journey: JOURNEY, window, driving: true }
}

#[test]
fn somebody_is_hired_once() {
    CrewMember::given([]).when(Command::Hire(terms())).then([hired()]);
    CrewMember::given([hired()]).when(Command::Hire(terms())).then_nothing();
    let other = Hire { hourly_rate: Cents(3000), ..terms() };
    CrewMember::given([hired()]).when(Command::Hire(other)).refused(Refusal::AlreadyHired);
}

#[test]
fn nobody_is_hired_for_less_than_nothing() {
    let terms = Hire { hourly_rate: Cents(-1), ..terms() };
    CrewMember::given([]).when(Command::Hire(terms)).refused(Refusal::NegativeRate);
}

#[test]
fn who_was_not_hired_can_be_asked_nothing() {
    for command in [
        Command::Certify { skill: "piano".into(), expires: None },
        Command::RecordLicence { licence: licence(LicenceClass::Heavy, 24) },
        Command::Suspend { reason: "late".into() },
        Command::Reinstate,
        Command::Leave,
        reserve(JOURNEY, hours(8, 16)),
    ] {
        CrewMember::given([]).when(command).refused(Refusal::NotHired);
    }
}

#[test]
fn who_has_left_can_be_asked_nothing() {
    for command in [
        Command::Certify { skill: "piano".into(), expires: None },
        Command::RecordLicence { licence: licence(LicenceClass::Heavy, 24) },
        Command::Suspend { reason: "late".into() },
        Command::Reinstate,
        reserve(JOURNEY, hours(8, 16)),
    ] {
        CrewMember::given([hired(), Event::Left]).when(command).refused(Refusal::Left);
    }
}

#[test]
fn a_skill_is_recorded_until_it_runs_out_and_can_be_renewed() {
    let certify = |expires| Command::Certify { skill: "piano".into(), expires };
    let certified = |expires| Event::Certified { skill: "piano".into(), expires };
    let end = Some(hours(0, 24).end);
    CrewMember::given([hired()]).when(certify(None)).then([certified(None)]);
    CrewMember::given([hired(), certified(None)]).when(certify(None)).then_nothing();
    CrewMember::given([hired(), certified(None)]).when(certify(end)).then([certified(end)]);
}

#[test]
fn a_new_licence_takes_the_place_of_the_old() {
    let heavy = licence(LicenceClass::Heavy, 48);
    let record = |licence: &Licence| Command::RecordLicence { licence: licence.clone() };
    let recorded = Event::LicenceRecorded { licence: heavy.clone() };
    CrewMember::given([hired()]).when(record(&heavy)).then([recorded.clone()]);
    CrewMember::given([hired(), recorded]).when(record(&heavy)).then_nothing();
}

#[test]
fn a_suspension_ends_with_a_reinstatement() {
    CrewMember::given([hired()])
        .when(Command::Suspend { reason: "an accident is being looked into".into() })
        .then([suspended()]);
    CrewMember::given([hired(), suspended()]).when(Command::Suspend { reason: "again".into() }).then_nothing();
    CrewMember::given([hired(), suspended()]).when(Command::Reinstate).then([Event::Reinstated]);
    CrewMember::given([hired()]).when(Command::Reinstate).then_nothing();
}

#[test]
fn who_is_suspended_is_not_reserved_until_reinstated() {
    let wish = || reserve(JOURNEY, hours(8, 16));
    CrewMember::given([hired(), suspended()])
        .when(wish())
        .refused(Refusal::Suspended { reason: "an accident is being looked into".into() });
    CrewMember::given([hired(), suspended(), Event::Reinstated]).when(wish()).then([reserved(JOURNEY, hours(8, 16))]);
}

#[test]
fn somebody_leaves_once() {
    CrewMember::given([hired()]).when(Command::Leave).then([Event::Left]);
    CrewMember::given([hired(), Event::Left]).when(Command::Leave).then_nothing();
}

#[test]
fn an_overlapping_window_is_refused_naming_the_journey_and_its_window() {
    CrewMember::given([hired(), reserved(OTHER, hours(8, 12))])
        .when(reserve(JOURNEY, hours(11, 16)))
        .refused(Refusal::CrewMemberReserved { journey: OTHER, window: hours(8, 12) });
}

#[test]
fn windows_that_only_touch_are_both_taken() {
    CrewMember::given([hired(), reserved(OTHER, hours(8, 12))])
        .when(reserve(JOURNEY, hours(12, 16)))
        .then([reserved(JOURNEY, hours(12, 16))]);
}

#[test]
fn the_same_journey_again_changes_nothing_and_another_window_moves_it() {
    let given = || CrewMember::given([hired(), reserved(JOURNEY, hours(8, 12))]);
    given().when(reserve(JOURNEY, hours(8, 12))).then_nothing();
    given().when(reserve(JOURNEY, hours(10, 14))).then([reserved(JOURNEY, hours(10, 14))]);
    CrewMember::given([hired(), reserved(JOURNEY, hours(8, 12)), reserved(JOURNEY, hours(10, 14))])
        .when(reserve(OTHER, hours(8, 10)))
        .then([reserved(OTHER, hours(8, 10))]);
}

#[test]
fn a_passenger_can_become_the_driver() {
    CrewMember::given([hired(), reserved(JOURNEY, hours(8, 12))]).when(drive(hours(8, 12))).then([Event::Reserved {
        journey: JOURNEY,
        window: hours(8, 12),
        driving: true,
    }]);
}

#[test]
fn a_window_must_end_after_it_starts() {
    for window in [hours(9, 9), hours(9, 8)] {
        CrewMember::given([hired()]).when(reserve(JOURNEY, window)).refused(Refusal::WindowBackwards { window });
    }
}

#[test]
fn a_driver_needs_a_licence_for_a_truck_that_is_good_until_the_end() {
    let driven = |window| [Event::Reserved { journey: JOURNEY, window, driving: true }];
    CrewMember::given([hired()]).when(drive(hours(8, 24))).then(driven(hours(8, 24)));
    for licence in [None, Some(licence(LicenceClass::Learner, 48)), Some(licence(LicenceClass::Light, 15))] {
        let hired = Event::Hired(Hire { licence: licence.clone(), ..terms() });
        let window = hours(8, 16);
        CrewMember::given([hired.clone()]).when(drive(window)).refused(Refusal::NoValidLicence { licence, window });
        CrewMember::given([hired]).when(reserve(JOURNEY, window)).then([reserved(JOURNEY, window)]);
    }
}

#[test]
fn a_renewed_licence_counts() {
    let renewed = Event::LicenceRecorded { licence: licence(LicenceClass::Combination, 48) };
    let window = hours(20, 30);
    CrewMember::given([hired(), renewed]).when(drive(window)).then([Event::Reserved {
        journey: JOURNEY,
        window,
        driving: true,
    }]);
}

#[test]
fn what_is_released_can_be_taken_by_another_also_from_somebody_who_left() {
    let release = || Command::Release { journey: JOURNEY };
    let released = || Event::Released { journey: JOURNEY };
    let held = || [hired(), reserved(JOURNEY, hours(8, 12))];
    CrewMember::given(held()).when(release()).then([released()]);
    CrewMember::given(held().into_iter().chain([Event::Left])).when(release()).then([released()]);
    CrewMember::given(held().into_iter().chain([released()]))
        .when(reserve(OTHER, hours(8, 12)))
        .then([reserved(OTHER, hours(8, 12))]);
    CrewMember::given([hired()]).when(release()).then_nothing();
    CrewMember::given([]).when(release()).then_nothing();
}

#[test]
fn reservations_that_are_long_over_lapse_so_that_the_state_stays_small() {
    let day = |number: u32| hours(number * 24 + 8, number * 24 + 16);
    let past = (0..40).map(|number| reserved(Id::number(100 + u128::from(number)), day(number)));
    let before = hours(33 * 24 + 8, 0).start;
    CrewMember::given([hired()].into_iter().chain(past))
        .at(day(40).start)
        .by(Actor::tool("import"))
        .when(reserve(JOURNEY, day(40)))
        .then([Event::ReservationsLapsed { before }, reserved(JOURNEY, day(40))]);
}

#[test]
fn entries_belong_to_the_home_location() {
    let mut member = CrewMember::default();
    assert_eq!(Aggregate::location(&member), None);
    member.evolve(hired());
    assert_eq!(Aggregate::location(&member), Some(HOME));
}

#[test]
fn one_user_at_a_time_acts_as_a_crew_member() {
    let (ann, bob) = (UserId::number(80), UserId::number(81));
    let (link, unlink) = (|user| Command::LinkUser { user }, |user| Command::UnlinkUser { user });
    let linked = || Event::UserLinked { user: ann };
    CrewMember::given([hired()]).when(link(ann)).then([linked()]);
    CrewMember::given([hired(), linked()]).when(link(ann)).then_nothing();
    CrewMember::given([hired(), linked()]).when(link(bob)).refused(Refusal::OtherUserLinked { user: ann });
    CrewMember::given([hired(), linked()]).when(unlink(bob)).then_nothing();
    CrewMember::given([hired(), linked()]).when(unlink(ann)).then([Event::UserUnlinked { user: ann }]);
    CrewMember::given([hired(), linked(), Event::UserUnlinked { user: ann }])
        .when(link(bob))
        .then([Event::UserLinked { user: bob }]);
    CrewMember::given([]).when(link(ann)).refused(Refusal::NotHired);
}
