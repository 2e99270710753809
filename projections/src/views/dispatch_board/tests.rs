use cnc_domain::{
    calendar_capacity::truck::Particulars,
    command_control::{
        alert::{About, Settled},
        places::{Fixes, FixesPart},
        truck_journey::{PlannedStop, StopKind},
    },
    kernel::{Cents, Nothing, Reading, Settings, Story, TenthsCuft, given},
};
use serde_json::Value;

use super::*;

const JOURNEY: Id<TruckJourney> = Id::number(2);
const TRUCK: Id<Truck> = Id::number(21);
const ANN: Id<CrewMember> = Id::number(31);
const ALERT: Id<Alert> = Id::number(70);
const LATER: Id<Alert> = Id::number(71);

fn noon() -> Timestamp {
    given::context().now
}

fn stop(number: u128, kind: StopKind) -> PlannedStop {
    let window = Window { start: noon().plus(Minutes(30)), end: noon().plus(Minutes(60)) };
    PlannedStop { stop: Id::number(number), kind, job: None, address: None, position: None, window: Some(window) }
}

fn planned() -> Event {
    Event::Planned {
        truck: TRUCK,
        location: LocationId::number(5),
        window: Window { start: noon(), end: noon().plus(Minutes(480)) },
        stops: vec![stop(41, StopKind::Load), stop(42, StopKind::Unload)],
        recommended_crew: 2,
        estimated_minutes: Some(Minutes(90)),
    }
}

fn position(tag: &str) -> Personal<Position> {
    Personal::sample(JOURNEY.uuid(), tag, Nothing)
}

fn fixes(at: Timestamp) -> Event {
    let marks = vec![Mark { at, position: position("mark") }];
    let fixes =
        Personal::<Fixes>::sample(JOURNEY.uuid(), "x", FixesPart { count: 1, first_at: at, last_at: at, marks });
    Event::GpsRecorded { device: Id::number(60), chunk: 1, count: 1, first_at: at, last_at: at, fixes }
}

fn raised(due: Timestamp) -> alert::Event {
    alert::Event::Raised {
        about: About { stream: "truck_journey".into(), id: JOURNEY.uuid() },
        location: Some(LocationId::number(5)),
        kind: AlertKind::NoFix,
        due,
        facts: BTreeMap::new(),
    }
}

fn underway() -> Story {
    let particulars = Particulars {
        plate: "CNC 001".into(),
        size_ft: 26,
        volume_cuft: TenthsCuft(16_800),
        home_location: LocationId::number(5),
        cost_per_hour: Cents(3_000),
    };
    Story::default()
        .tell(TRUCK, truck::Event::Commissioned(particulars))
        .tell(JOURNEY, planned())
        .tell(JOURNEY, Event::CrewAssigned { members: vec![AssignedCrew { member: ANN, driver: true }] })
        .tell(JOURNEY, Event::Tagged { tag: "understaffed".into() })
        .tell(JOURNEY, Event::Dispatched { occurred_at: noon() })
        .tell(JOURNEY, Event::Acknowledged { occurred_at: noon() })
        .after(Minutes(10))
        .tell(
            JOURNEY,
            Event::Departed {
                to: Id::number(41),
                position: Some(position("yard")),
                fix_at: None,
                expected_at: Some(noon().plus(Minutes(75))),
                occurred_at: noon().plus(Minutes(10)),
            },
        )
        .tell(JOURNEY, fixes(noon().plus(Minutes(5))))
        .tell(LATER, raised(noon().plus(Minutes(50))))
        .tell(ALERT, raised(noon().plus(Minutes(40))))
}

fn card(story: &Story) -> Value {
    let documents = story.at_once(VIEW.kind);
    let card = documents.into_iter().find(|(shelf, key, _)| shelf == "dispatch_board" && *key == JOURNEY.to_string());
    let reading = Reading { now: noon().plus(Minutes(25)), settings: &Settings::default() };
    present::present(card.expect("the journey has a card").2, &reading)
}

#[test]
fn folding_entry_by_entry_gives_what_folding_at_once_gives() {
    let story = underway()
        .tell(ALERT, alert::Event::Snoozed { until: noon().plus(Minutes(60)) })
        .tell(ALERT, alert::Event::Acknowledged)
        .tell(ALERT, alert::Event::Resolved { how: Settled::Handled, note: None })
        .tell(JOURNEY, Event::CrewReleased { member: ANN });
    assert_eq!(story.by_entry(VIEW.kind), story.at_once(VIEW.kind));
}

#[test]
fn a_card_shows_where_a_journey_is_and_for_how_long() {
    let card = card(&underway());
    assert_eq!((&card["stage"], &card["minutes_in_stage"]), (&"en_route_to_load".into(), &15.into()));
    assert_eq!((&card["elapsed_minutes"], &card["minutes_over_estimate"]), (&15.into(), &(-75).into()));
    assert_eq!((&card["truck"]["plate"], &card["crew_missing"]), (&"CNC 001".into(), &1.into()));
    assert_eq!((&card["eta"]["minutes_late"], &card["tags"][0]), (&15.into(), &"understaffed".into()));
}

#[test]
fn a_late_fix_does_not_move_the_truck_back() {
    let card = card(&underway());
    assert_eq!(card["position_age_seconds"], 15 * 60);
    assert_eq!(card["last_position"]["position"]["sealed"]["box"], "yard");
}

#[test]
fn alerts_are_ranked_by_minutes_to_harm() {
    let card = card(&underway());
    let minutes: Vec<_> = (0..2).map(|nth| card["alerts"][nth]["minutes_to_harm"].as_i64()).collect();
    assert_eq!(minutes, [Some(15), Some(25)]);
    assert_eq!(card["alerts"][0]["alert"], ALERT.to_string());
}

#[test]
fn a_journey_that_is_over_leaves_the_board_with_its_late_fixes() {
    let story = underway().tell(JOURNEY, Event::Returned { occurred_at: noon() }).tell(JOURNEY, fixes(noon()));
    let left = |(shelf, _, _): &(String, String, Value)| shelf == "dispatch_board";
    assert!(!story.at_once(VIEW.kind).iter().any(left));
    assert!(underway().at_once(VIEW.kind).iter().any(left));
}
