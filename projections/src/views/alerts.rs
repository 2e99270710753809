//! Every warning, open or settled.

use std::collections::BTreeMap;

use cnc_domain::{
    command_control::{
        Alert,
        alert::{About, AlertKind, AlertState, Event, Settled},
    },
    kernel::{Actor, Docs, Document, Fold, Folded, Id, LocationId, On, Reading, Shelf, Timestamp, fold},
    ledger::Entry,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{minutes_between, time};
use crate::View;

/// The view.
pub const VIEW: View = View {
    kind: fold::<Alerts>(),
    about: "Every warning: what it is about, when harm is due, who sees to it, how it ended.",
    present: Some(present),
    describe,
};

/// Keeps a row for every alert.
#[derive(Default)]
pub struct Alerts {
    rows: Docs<AlertRow>,
}

/// An alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AlertRow {
    /// The branch that it concerns.
    location: Option<LocationId>,
    /// What it is about.
    about: About,
    /// What it warns of.
    kind: AlertKind,
    /// Where it is in its life.
    state: AlertState,
    /// When harm is done unless somebody acts.
    due: Timestamp,
    /// What it rests on.
    facts: BTreeMap<String, Value>,
    /// When it was raised.
    raised_at: Timestamp,
    /// Who sees to it.
    acknowledged_by: Option<Actor>,
    /// Since when.
    acknowledged_at: Option<Timestamp>,
    /// Until when it is put off.
    snoozed_until: Option<Timestamp>,
    /// How it ended.
    how: Option<Settled>,
    /// In the settler's words.
    note: Option<String>,
    /// When it ended.
    resolved_at: Option<Timestamp>,
}

impl Document for AlertRow {
    const NAME: &'static str = "alerts";
    const FILTERS: &'static [&'static str] = &["state", "kind", "location", "about.stream", "about.id"];
    const SORTS: &'static [&'static str] = &["due", "raised_at"];

    fn location(&self) -> Option<LocationId> {
        self.location
    }
}

impl Fold for Alerts {
    const NAME: &'static str = "alerts";
    type Reads = (Alert,);

    fn shelves(&mut self) -> Vec<&mut dyn Shelf> {
        vec![&mut self.rows]
    }
}

impl On<Alert> for Alerts {
    fn on(&mut self, alert: Id<Alert>, event: &Event, entry: &Entry) -> Folded {
        match event {
            Event::Raised { about, location, kind, due, facts } => self.rows.put(
                alert,
                AlertRow {
                    location: *location,
                    about: about.clone(),
                    kind: *kind,
                    state: AlertState::Raised,
                    due: *due,
                    facts: facts.clone(),
                    raised_at: entry.at,
                    acknowledged_by: None,
                    acknowledged_at: None,
                    snoozed_until: None,
                    how: None,
                    note: None,
                    resolved_at: None,
                },
            ),
            Event::Acknowledged => self.rows.edit(alert, |row| {
                (row.state, row.snoozed_until) = (AlertState::Acknowledged, None);
                (row.acknowledged_by, row.acknowledged_at) = (Some(entry.actor.clone()), Some(entry.at));
            }),
            Event::Snoozed { until } => {
                self.rows.edit(alert, |row| (row.state, row.snoozed_until) = (AlertState::Snoozed, Some(*until)))
            }
            Event::Resolved { how, note } => self.rows.edit(alert, |row| {
                (row.state, row.snoozed_until) = (AlertState::Resolved, None);
                (row.how, row.note, row.resolved_at) = (Some(how.clone()), note.clone(), Some(entry.at));
            }),
        }
    }
}

/// Adds how long there is until harm is done, while it can be averted.
fn present(mut row: Value, reading: &Reading<'_>) -> Value {
    let open = row.get("state").is_some_and(|state| state != "resolved");
    let minutes = time(&row, "/due").filter(|_| open).map(|due| minutes_between(reading.now, due));
    if let Some(row) = row.as_object_mut() {
        row.insert("minutes_to_harm".into(), minutes.into());
    }
    row
}

fn describe(schema: &mut Value) {
    let about = "Until harm is done; negative where it is. None where it is resolved.";
    schema["properties"]["minutes_to_harm"] = json!({ "type": ["integer", "null"], "description": about });
}

#[cfg(test)]
mod tests {
    use cnc_domain::kernel::{Minutes, Settings, Story, given};

    use super::*;

    const ALERT: Id<Alert> = Id::number(70);

    fn story() -> Story {
        let now = given::context().now;
        Story::default()
            .tell(
                ALERT,
                Event::Raised {
                    about: About { stream: "truck_journey".into(), id: Id::<()>::number(2).uuid() },
                    location: Some(LocationId::number(5)),
                    kind: AlertKind::NoFix,
                    due: now.plus(Minutes(30)),
                    facts: BTreeMap::new(),
                },
            )
            .tell(ALERT, Event::Snoozed { until: now.plus(Minutes(10)) })
            .tell(ALERT, Event::Acknowledged)
            .after(Minutes(5))
            .tell(ALERT, Event::Resolved { how: Settled::Handled, note: Some("called the crew".into()) })
    }

    #[test]
    fn folding_entry_by_entry_gives_what_folding_at_once_gives() {
        assert_eq!(story().by_entry(VIEW.kind), story().at_once(VIEW.kind));
    }

    #[test]
    fn a_row_follows_its_alert_to_its_end() {
        let mut fold: Alerts = story().fold();
        let row = fold.rows.get(ALERT).expect("is loaded").expect("is there");
        assert_eq!((row.state, &row.how), (AlertState::Resolved, &Some(Settled::Handled)));
        assert_eq!(row.acknowledged_by, Some(given::context().actor));
    }

    #[test]
    fn an_open_alert_says_how_long_there_is() {
        let now = given::context().now;
        let reading = Reading { now, settings: &Settings::default() };
        let row = serde_json::json!({ "state": "raised", "due": now.plus(Minutes(30)) });
        assert_eq!(present(row, &reading)["minutes_to_harm"], 30);
        let settled = serde_json::json!({ "state": "resolved", "due": now });
        assert_eq!(present(settled, &reading)["minutes_to_harm"], Value::Null);
    }
}
