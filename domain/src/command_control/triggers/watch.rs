//! One journey, watched: which alerts it has cause for, and when each is due to be raised.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    command_control::{
        Alert, TruckJourney,
        alert::{About, AlertKind, Command, Settled},
        truck_journey::{Course, Event, Life},
    },
    kernel::{Aggregate, BoardSettings, Document, Id, LocationId, Minutes, Outbox, Timestamp},
    ledger::Entry,
};

/// What a journey is watched for.
pub(super) const WATCHED: [AlertKind; 3] = [AlertKind::NotAcknowledged, AlertKind::NotDeparted, AlertKind::NoFix];

/// A live journey and the alerts that it has, or may soon have, cause for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Watch {
    /// How far it is.
    course: Course,
    /// The branch that it belongs to.
    location: Option<LocationId>,
    /// When its window starts.
    window_start: Timestamp,
    /// Since when it should be moving, where it should.
    moving_since: Option<Timestamp>,
    /// The time of its newest fix.
    last_fix_at: Option<Timestamp>,
    /// The deadlines that run.
    armed: BTreeMap<AlertKind, Timestamp>,
    /// The alerts that were raised and whose cause has not gone away.
    raised: BTreeMap<AlertKind, Id<Alert>>,
    /// How many alerts of a kind came and went: a cause that comes back is another.
    gone: BTreeMap<AlertKind, u32>,
}

impl Document for Watch {
    const NAME: &'static str = "journey_watch";

    fn location(&self) -> Option<LocationId> {
        self.location
    }
}

impl Watch {
    /// Whether it need not be watched any more.
    pub(super) fn is_over(&self) -> bool {
        self.course.life.is_over()
    }

    /// Takes an event of the journey into account.
    pub(super) fn follow(&mut self, event: &Event, entry: &Entry) {
        self.course.follow(event);
        match event {
            Event::Planned { location, window, .. } => {
                (self.location, self.window_start) = (Some(*location), window.start);
            }
            Event::GpsRecorded { last_at, .. } => self.last_fix_at = self.last_fix_at.max(Some(*last_at)),
            _ => {}
        }
        // A watch is read and written often; it has no use for places.
        for stop in &mut self.course.stops {
            (stop.plan.address, stop.plan.position) = (None, None);
        }
        let since = self.moving_since.or_else(|| Some(event.occurred_at().unwrap_or(entry.at)));
        self.moving_since = since.filter(|_| self.course.is_moving());
    }

    /// An alert about the journey was raised.
    pub(super) fn was_raised(&mut self, kind: AlertKind, alert: Id<Alert>) {
        self.armed.remove(&kind);
        self.raised.insert(kind, alert);
    }

    /// Sets, moves and takes back deadlines, and settles the alerts whose cause has gone away.
    pub(super) fn settle(
        &mut self,
        board: &BoardSettings,
        journey: Id<TruckJourney>,
        entry: &Entry,
        outbox: &mut Outbox,
    ) {
        for kind in WATCHED {
            let due = self.due(kind, board);
            let holds = due.is_some_and(|at| at <= entry.at);
            if !holds && let Some(alert) = self.raised.remove(&kind) {
                outbox.send(entry, alert, cause_gone());
                self.disarm(kind, journey, outbox);
                *self.gone.entry(kind).or_default() += 1;
            }
            match due {
                None => self.disarm(kind, journey, outbox),
                Some(at) if !self.raised.contains_key(&kind) => self.arm(kind, at, journey, entry, outbox),
                Some(_) => {}
            }
        }
    }

    /// When an alert of this kind is due, where there is cause for one.
    fn due(&self, kind: AlertKind, board: &BoardSettings) -> Option<Timestamp> {
        let life = self.course.life;
        match kind {
            AlertKind::NotAcknowledged => {
                (life < Life::Acknowledged).then(|| self.window_start.minus(Minutes(board.acknowledge_before_minutes)))
            }
            AlertKind::NotDeparted => {
                (life < Life::Departed).then(|| self.window_start.plus(Minutes(board.depart_after_minutes)))
            }
            AlertKind::NoFix => self
                .moving_since
                .map(|since| self.last_fix_at.unwrap_or(since).max(since).plus(Minutes(board.silence_max_minutes))),
            // No journey is a cause for it.
            AlertKind::FoldStopped => None,
        }
    }

    /// Sets the deadline, unless it runs already. A tool brings in what is long past: it moves deadlines, and sets none.
    fn arm(&mut self, kind: AlertKind, at: Timestamp, journey: Id<TruckJourney>, entry: &Entry, outbox: &mut Outbox) {
        let running = self.armed.get(&kind);
        if running == Some(&at) || (running.is_none() && entry.actor.is_tool()) {
            return;
        }
        self.armed.insert(kind, at);
        let alert = Alert::id(kind, journey.uuid(), self.nth(kind));
        outbox.set_deadline(entry, self.key(kind, journey), at, alert, self.raise(kind, at, journey));
    }

    fn disarm(&mut self, kind: AlertKind, journey: Id<TruckJourney>, outbox: &mut Outbox) {
        if self.armed.remove(&kind).is_some() {
            outbox.clear_deadline(self.key(kind, journey));
        }
    }

    fn nth(&self, kind: AlertKind) -> u32 {
        self.gone.get(&kind).copied().unwrap_or_default()
    }

    fn key(&self, kind: AlertKind, journey: Id<TruckJourney>) -> String {
        format!("{kind}/{journey}/{}", self.nth(kind))
    }

    fn raise(&self, kind: AlertKind, at: Timestamp, journey: Id<TruckJourney>) -> Command {
        let about = About { stream: TruckJourney::STREAM.into(), id: journey.uuid() };
        let (due, facts) = match kind {
            AlertKind::NotAcknowledged | AlertKind::NotDeparted => {
                let due = if kind == AlertKind::NotAcknowledged { self.window_start } else { at };
                (due, BTreeMap::from([("window_start".to_owned(), json!(self.window_start))]))
            }
            AlertKind::NoFix => {
                let moving = ("moving_since".to_owned(), json!(self.moving_since));
                (at, BTreeMap::from([("last_fix_at".to_owned(), json!(self.last_fix_at)), moving]))
            }
            AlertKind::FoldStopped => (at, BTreeMap::new()),
        };
        Command::Raise { about, location: self.location, kind, due, facts }
    }
}

/// What an alert is told when its cause has gone away.
pub(super) fn cause_gone() -> Command {
    Command::Resolve { how: Settled::CauseGone, note: None }
}
