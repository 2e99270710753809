//! What calls for a dispatcher: a journey not acknowledged shortly before its window, not departed shortly after its
//! start, or silent while it should be moving. When the cause goes away, so does the alert.
//!
//! Settings of the company that change hold for a journey from its next event on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::watch::{WATCHED, Watch, cause_gone};
use crate::{
    cloud_control::{Company, company},
    command_control::{
        Alert, TruckJourney, alert,
        truck_journey::{Course, Event},
    },
    kernel::{Aggregate, BoardSettings, Docs, Document, Fold, Folded, Id, On, Outbox, Shelf, Stop},
    ledger::Entry,
};

/// The company's settings are one document.
const SETTINGS: &str = "settings";

/// Raises alerts about journeys, and settles them.
#[derive(Default)]
pub struct JourneyAlerts {
    watches: Docs<Watch>,
    settings: Docs<AlertSettings>,
    outbox: Outbox,
}

/// When a company's board calls for attention.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AlertSettings {
    /// As the company has set it.
    board: BoardSettings,
}

impl Document for AlertSettings {
    const NAME: &'static str = "journey_alert_settings";
}

impl Fold for JourneyAlerts {
    const NAME: &'static str = "journey_alerts";
    type Reads = (Alert, Company, TruckJourney);

    fn shelves(&mut self) -> Vec<&mut dyn Shelf> {
        vec![&mut self.watches, &mut self.settings]
    }

    fn outbox(&mut self) -> Option<&mut Outbox> {
        Some(&mut self.outbox)
    }
}

impl On<Company> for JourneyAlerts {
    fn on(&mut self, _: Id<Company>, event: &company::Event, _: &Entry) -> Folded {
        match event {
            company::Event::SettingsChanged { settings, .. } | company::Event::SettingsRestored { settings, .. } => {
                self.settings.put(SETTINGS, AlertSettings { board: settings.board.clone() })
            }
            _ => Ok(()),
        }
    }
}

impl On<TruckJourney> for JourneyAlerts {
    fn on(&mut self, journey: Id<TruckJourney>, event: &Event, entry: &Entry) -> Folded {
        if !matters(event) {
            return Ok(());
        }
        if matches!(event, Event::Planned { .. }) {
            self.watches.put(journey, Watch::default())?;
        }
        self.change(journey, entry, |watch| watch.follow(event, entry))
    }
}

impl On<Alert> for JourneyAlerts {
    fn on(&mut self, id: Id<Alert>, event: &alert::Event, entry: &Entry) -> Folded {
        let alert::Event::Raised { about, kind, .. } = event else { return Ok(()) };
        if about.stream != TruckJourney::STREAM || !WATCHED.contains(kind) {
            return Ok(());
        }
        // The deadline may have run out in the moment in which its cause went away.
        let journey = Id::<TruckJourney>::new(about.id);
        if self.watches.get(journey)?.is_none() {
            self.outbox.send(entry, id, cause_gone());
            return Ok(());
        }
        self.change(journey, entry, |watch| watch.was_raised(*kind, id))
    }
}

impl JourneyAlerts {
    /// Changes what is known of a journey and sees to its alerts.
    fn change(&mut self, journey: Id<TruckJourney>, entry: &Entry, change: impl FnOnce(&mut Watch)) -> Folded {
        let board = self.board()?;
        let outbox = &mut self.outbox;
        let mut over = false;
        self.watches.edit(journey, |watch| {
            change(watch);
            watch.settle(&board, journey, entry, outbox);
            over = watch.is_over();
        })?;
        if over { self.watches.remove(journey) } else { Ok(()) }
    }

    fn board(&mut self) -> Result<BoardSettings, Stop> {
        Ok(self.settings.get(SETTINGS)?.map(|settings| settings.board.clone()).unwrap_or_default())
    }
}

/// Whether an event can change what a journey has cause for.
fn matters(event: &Event) -> bool {
    Course::follows(event) || matches!(event, Event::GpsRecorded { .. })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        command_control::{
            alert::{AlertKind, Settled},
            truck_journey::samples::*,
        },
        kernel::{Actor, Deadline, Minutes, Sent, Settings, Story, Timestamp, Window, fold},
        ledger::Due,
    };

    const JOURNEY: Id<TruckJourney> = Id::number(70);

    /// A story of the sample journey, planned at noon for one o'clock, told up to an event.
    fn told(events: impl IntoIterator<Item = Event>) -> Story {
        events.into_iter().fold(Story::default().at(NOON), |story, event| story.tell(JOURNEY, event))
    }

    /// The deadlines that still run at the story's end: what of, and when.
    fn running(story: &Story) -> Vec<(String, Timestamp)> {
        let mut running = std::collections::BTreeMap::new();
        for deadline in story.sent::<JourneyAlerts>().deadlines {
            match deadline {
                Deadline::Set(Due { key, at, .. }) => drop(running.insert(key, at)),
                Deadline::Cleared(key) => drop(running.remove(&key)),
            }
        }
        running.into_iter().map(|(key, at)| (key.split('/').next().unwrap_or_default().to_owned(), at)).collect()
    }

    fn at(kind: AlertKind, minutes: u32) -> (String, Timestamp) {
        (kind.to_string(), NOON.plus(Minutes(minutes)))
    }

    fn raised(kind: AlertKind, due: Timestamp) -> alert::Event {
        let about = alert::About { stream: "truck_journey".into(), id: JOURNEY.uuid() };
        alert::Event::Raised { about, location: Some(NORTH), kind, due, facts: std::collections::BTreeMap::new() }
    }

    fn alert_id(kind: AlertKind, nth: u32) -> Id<Alert> {
        Alert::id(kind, JOURNEY.uuid(), nth)
    }

    #[track_caller]
    fn resolves(story: &Story, alert: Id<Alert>) {
        let commands = story.commands::<JourneyAlerts>();
        let [(stream, id, command)] = commands.as_slice() else { panic!("one command, not {commands:?}") };
        assert_eq!((stream.as_str(), *id, command.name.as_str()), ("alert", alert.uuid(), "resolve"));
        assert_eq!(command.read::<alert::Command>().expect("reads"), cause_gone());
        assert!(matches!(cause_gone(), alert::Command::Resolve { how: Settled::CauseGone, .. }));
        same_by_entry(story);
    }

    #[track_caller]
    fn same_by_entry(story: &Story) {
        let kind = fold::<JourneyAlerts>();
        assert_eq!(story.by_entry(kind), story.at_once(kind));
    }

    #[test]
    fn a_planned_journey_should_be_acknowledged_and_depart_in_time() {
        let story = told([planned()]);
        assert_eq!(running(&story), [at(AlertKind::NotAcknowledged, 45), at(AlertKind::NotDeparted, 70)]);
        assert!(story.commands::<JourneyAlerts>().is_empty());
        same_by_entry(&story);
    }

    #[test]
    fn a_journey_at_the_edge_of_time_is_watched_and_its_document_reads_back() {
        for edge in ["0000-01-01T00:00:00Z", "9999-12-31T23:55:00Z"] {
            let start: Timestamp = edge.parse().expect("can be written");
            let mut planned = planned();
            if let Event::Planned { window, .. } = &mut planned {
                *window = Window { start, end: start.plus(Minutes(60)) };
            }
            let story = told([planned]).tell(JOURNEY, crewed());
            assert!(story.sent::<JourneyAlerts>().deadlines.len() > 1, "{edge}");
            same_by_entry(&story);
        }
    }

    #[test]
    fn the_deadline_raises_the_alert_with_its_facts() {
        let sent = told([planned()]).sent::<JourneyAlerts>();
        let Some(Deadline::Set(due)) = sent.deadlines.first() else { panic!("a deadline is set") };
        assert_eq!(due.parcel.also.id, alert_id(AlertKind::NotAcknowledged, 0).uuid());
        let Ok(alert::Command::Raise { about, location, kind, due, facts }) = due.parcel.also.command.read() else {
            panic!("it raises an alert")
        };
        assert_eq!((about.id, location, kind), (JOURNEY.uuid(), Some(NORTH), AlertKind::NotAcknowledged));
        assert_eq!((due, facts["window_start"].clone()), (window().start, serde_json::json!(window().start)));
    }

    #[test]
    fn a_company_sets_these_times_itself() {
        let mut settings = Settings::default();
        settings.board.acknowledge_before_minutes = 30;
        let changed = company::Event::SettingsChanged { settings, version: 1 };
        let story = Story::default().at(NOON).tell(Id::<Company>::number(1), changed).tell(JOURNEY, planned());
        assert_eq!(running(&story)[0], at(AlertKind::NotAcknowledged, 30));
        same_by_entry(&story);
    }

    #[test]
    fn what_is_done_in_time_clears_its_deadline() {
        assert_eq!(running(&told(acknowledged())), [at(AlertKind::NotDeparted, 70)]);
        assert_eq!(running(&told(departed())), [at(AlertKind::NoFix, 20)]);
        assert_eq!(running(&told(loaded())), []);
        assert_eq!(running(&told(unloaded())), [at(AlertKind::NoFix, 20)], "it drives back");
        assert_eq!(running(&told(returned())), []);
        let cancelled = Event::Cancelled { reason: "Called off".into(), occurred_at: NOON };
        assert_eq!(running(&told([planned(), cancelled])), []);
        same_by_entry(&told(returned()));
    }

    #[test]
    fn a_newer_fix_moves_the_deadline_and_an_older_one_does_not() {
        let newer = departed().chain([recorded(1, &[NOON.plus(Minutes(9))])]);
        assert_eq!(running(&told(newer)), [at(AlertKind::NoFix, 29)]);
        let older = departed().chain([recorded(1, &[NOON.plus(Minutes(9))]), recorded(0, &[NOON.plus(Minutes(4))])]);
        assert_eq!(running(&told(older)), [at(AlertKind::NoFix, 29)]);
    }

    #[test]
    fn a_truck_that_rests_may_be_silent() {
        let resting = departed().chain([Event::OvernightStarted { occurred_at: NOON }]);
        assert_eq!(running(&told(resting)), []);
        let ended = Event::OvernightEnded { occurred_at: NOON.plus(Minutes(600)) };
        let going = departed().chain([Event::OvernightStarted { occurred_at: NOON }, ended]);
        assert_eq!(running(&told(going)), [at(AlertKind::NoFix, 620)]);
    }

    #[test]
    fn when_the_cause_goes_away_the_alert_is_settled() {
        let kind = AlertKind::NotAcknowledged;
        let story = told(dispatched())
            .after(Minutes(45))
            .tell(alert_id(kind, 0), raised(kind, window().start))
            .after(Minutes(5))
            .tell(JOURNEY, Event::Acknowledged { occurred_at: NOON.plus(Minutes(50)) });
        resolves(&story, alert_id(kind, 0));
    }

    #[test]
    fn an_alert_raised_as_its_cause_goes_away_is_settled_at_once() {
        let kind = AlertKind::NotAcknowledged;
        let late = told(acknowledged()).tell(alert_id(kind, 0), raised(kind, window().start));
        resolves(&late, alert_id(kind, 0));
        let over = told(returned()).tell(alert_id(kind, 0), raised(kind, window().start));
        resolves(&over, alert_id(kind, 0));
    }

    #[test]
    fn a_truck_that_speaks_again_settles_the_alert_and_is_watched_anew() {
        let kind = AlertKind::NoFix;
        let story = told(departed())
            .after(Minutes(20))
            .tell(alert_id(kind, 0), raised(kind, NOON))
            .after(Minutes(10))
            .tell(JOURNEY, recorded(0, &[NOON.plus(Minutes(29))]));
        resolves(&story, alert_id(kind, 0));
        let sent = story.sent::<JourneyAlerts>();
        let Some(Deadline::Set(due)) = sent.deadlines.last() else { panic!("it is watched anew") };
        assert_eq!((due.at, due.parcel.also.id), (NOON.plus(Minutes(49)), alert_id(kind, 1).uuid()));
    }

    #[test]
    fn old_fixes_of_a_silent_truck_do_not_settle_its_alert() {
        let kind = AlertKind::NoFix;
        let story = told(departed())
            .after(Minutes(20))
            .tell(alert_id(kind, 0), raised(kind, NOON))
            .after(Minutes(40))
            .tell(JOURNEY, recorded(0, &[NOON.plus(Minutes(9))]));
        assert!(story.commands::<JourneyAlerts>().is_empty());
        assert_eq!(
            story.sent::<JourneyAlerts>().deadlines.len(),
            told(departed()).sent::<JourneyAlerts>().deadlines.len()
        );
    }

    #[test]
    fn a_tool_that_brings_in_old_records_sets_no_deadlines() {
        let story: Story = returned()
            .chain([recorded(0, &[NOON])])
            .fold(Story::default().at(NOON).by(Actor::tool("import")), |story, event| story.tell(JOURNEY, event));
        let Sent { parcels, deadlines } = story.sent::<JourneyAlerts>();
        assert!(parcels.is_empty() && deadlines.is_empty());
    }

    #[test]
    fn what_does_not_move_a_journey_changes_nothing() {
        let busy = [planned(), crewed(), Event::Tagged { tag: "piano".into() }];
        let quiet = [planned()];
        let kind = fold::<JourneyAlerts>();
        assert_eq!(told(busy).at_once(kind), told(quiet).at_once(kind));
    }
}
