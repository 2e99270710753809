//! A branch's rules, a sentence each.

use super::*;
use crate::kernel::Given;

fn opening() -> Opening {
    Opening {
        name: "Toronto West".into(),
        province: "CA-ON".parse().expect("a province"),
        timezone: "America/Toronto".into(),
        yard: Yard { lat_e7: LatE7(436_500_000), lon_e7: LonE7(-795_000_000) },
    }
}

fn opened() -> Event {
    let Opening { name, province, timezone, yard } = opening();
    Event::Opened { location: LocationId::number(2), name, province, timezone, yard }
}

fn closed() -> Event {
    Event::Closed { reason: "the lease ended".into() }
}

#[test]
fn a_location_is_opened_once_and_its_entries_belong_to_it() {
    Location::given([]).when(Command::Open(opening())).then([opened()]);
    Location::given([opened()]).when(Command::Open(opening())).then_nothing();
    let other = Opening { name: "Ottawa".into(), ..opening() };
    Location::given([opened()]).when(Command::Open(other)).refused(Refusal::AlreadyOpened);
    let mut location = Location::default();
    location.evolve(opened());
    assert_eq!(Aggregate::location(&location), Some(LocationId::number(2)));
}

#[test]
fn a_time_zone_has_the_form_of_one() {
    for timezone in ["Toronto", "america/toronto", "America/", "/", "-05:00", "America/Tor onto"] {
        let opening = Opening { timezone: timezone.into(), ..opening() };
        let refusal = Refusal::UnknownTimezone { timezone: timezone.into() };
        Location::given([]).when(Command::Open(opening)).refused(refusal);
    }
    for timezone in ["UTC", "America/Argentina/Buenos_Aires", "Etc/GMT+5"] {
        assert!(is_timezone(timezone), "{timezone}");
    }
}

#[test]
fn a_location_is_renamed() {
    let rename = |name: &str| Command::Rename { name: name.into() };
    let renamed = || Event::Renamed { name: "Etobicoke".into() };
    Location::given([opened()]).when(rename("Etobicoke")).then([renamed()]);
    Location::given([opened(), renamed()]).when(rename("Etobicoke")).then_nothing();
    Location::given([opened(), closed()]).when(rename("Etobicoke")).refused(Refusal::Closed);
    Location::given([]).when(rename("Etobicoke")).refused(Refusal::NotOpened);
}

#[test]
fn a_location_is_closed_once() {
    let close = || Command::Close { reason: "the lease ended".into() };
    Location::given([opened()]).when(close()).then([closed()]);
    Location::given([opened(), closed()]).when(close()).then_nothing();
    Location::given([]).when(close()).refused(Refusal::NotOpened);
}

#[test]
fn branches_are_opened_and_closed_by_those_who_are_bound_to_none() {
    let branch = LocationId::number(2);
    let refusal = || Refusal::OutsideYourBranches { yours: BTreeSet::from([branch]) };
    Location::given([]).within([branch]).when(Command::Open(opening())).refused(refusal());
    let close = Command::Close { reason: "the lease ended".into() };
    Location::given([opened()]).within([branch]).when(close).refused(refusal());
    let rename = Command::Rename { name: "Etobicoke".into() };
    Location::given([opened()]).within([branch]).when(rename).then([Event::Renamed { name: "Etobicoke".into() }]);
}
