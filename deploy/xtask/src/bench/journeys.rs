//! A ledger of truck journeys, as a busy company leaves it behind.

use std::sync::Arc;

use cnc_domain::{
    command_control::truck_journey::{Event, ReportedStatus},
    kernel::{CompanyId, Id, LocationId, Message, Timestamp, Window},
    ledger::{Draft, Ledger},
};

use super::{
    Outcome,
    rows::{self, Journey},
};

/// Journeys that are under way at once.
const UNDER_WAY: usize = 200;
/// Reports of a journey before it returns.
const REPORTS_PER_JOURNEY: i64 = 40;

/// Records about `entries` entries of journeys, 200 under way at a time, and returns whose they are.
pub async fn record(ledger: &Arc<dyn Ledger>, entries: u64) -> Outcome<CompanyId> {
    let company = CompanyId::new(rows::fresh());
    let facts = rows::found(ledger, company).await?;
    let mut recorded = 0;
    while recorded < entries {
        let mut journeys: Vec<_> = (0..UNDER_WAY).map(|_| Journey::new(company, facts)).collect();
        for event in life() {
            let appends = journeys.iter().map(|journey| {
                let mut append = journey.report("bench");
                append.idempotency = None;
                let Message { name, fields } = Message::split(&event);
                append.drafts = vec![Draft { event: name, payload: fields, ..append.drafts.remove(0) }];
                append
            });
            let outcomes = ledger.append(appends.collect()).await?;
            for (journey, appended) in journeys.iter_mut().zip(outcomes) {
                journey.reported(&appended?);
                recorded += 1;
            }
        }
    }
    Ok(company)
}

/// What happens to each journey.
fn life() -> Vec<Event> {
    let at = |minutes: i64| Timestamp::from_seconds(1_780_000_000 + minutes * 60);
    let planned = Event::Planned {
        truck: Id::number(9),
        location: LocationId::number(5),
        window: Window { start: at(0), end: at(480) },
        stops: Vec::new(),
        recommended_crew: 2,
        estimated_minutes: None,
    };
    let mut life = vec![planned, Event::Dispatched { occurred_at: at(1) }, Event::Acknowledged { occurred_at: at(2) }];
    life.push(Event::Departed {
        to: Id::number(7),
        position: None,
        fix_at: None,
        expected_at: None,
        occurred_at: at(3),
    });
    for nth in 0..REPORTS_PER_JOURNEY {
        life.push(Event::StatusReported {
            status: ReportedStatus::InTraffic,
            note: Some("Stopped behind an accident, ten minutes at least".into()),
            position: None,
            occurred_at: at(4 + nth),
        });
    }
    life.push(Event::Returned { occurred_at: at(470) });
    life
}
