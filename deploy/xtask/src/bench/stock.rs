//! The peer: cqrs-es with postgres-es, as its documentation sets it up (`PersistedEventStore::new_event_store`).
//!
//! Only `EventStore::commit` is measured, one event a call, with the aggregate's place already known. Its own `execute`
//! would first read the stream again for every command, so this favours the peer.

use std::{collections::HashMap, sync::Arc, time::Duration};

use cqrs_es::{
    Aggregate, DomainEvent, EventStore,
    event_sink::EventSink,
    persist::{EventStoreAggregateContext, PersistedEventStore},
};
use postgres_es::PostgresEventRepository;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::postgres::PgPoolOptions;

use super::{Outcome, load, rows};

/// A truck's journey as this peer would hold it.
#[derive(Default, Serialize, Deserialize)]
struct Journey;

/// An event with the same payload as ours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Reported(Value);

impl DomainEvent for Reported {
    fn event_type(&self) -> String {
        "status_reported".into()
    }
    fn event_version(&self) -> String {
        "1".into()
    }
}

impl Aggregate for Journey {
    const TYPE: &'static str = "truck_journey";
    type Command = ();
    type Event = Reported;
    type Error = std::fmt::Error;
    type Services = ();

    async fn handle(&mut self, (): (), (): &(), _: &EventSink<Self>) -> Result<(), std::fmt::Error> {
        Ok(())
    }
    fn apply(&mut self, _: Reported) {}
}

/// Commits per second with this many writers, over a pool of this size. Each writer has a stream of its own.
pub async fn commits_per_second(url: &str, pool: u32, writers: usize, time: Duration) -> Outcome<f64> {
    let pool = PgPoolOptions::new().max_connections(pool).acquire_timeout(Duration::from_mins(1)).connect(url).await?;
    sqlx::raw_sql(TABLE).execute(&pool).await?;
    let store: PersistedEventStore<_, Journey> =
        PersistedEventStore::new_event_store(PostgresEventRepository::new(pool.clone()));
    let store = Arc::new(store);
    let payload: Value = serde_json::from_str(rows::PAYLOAD)?;
    let metadata = HashMap::from([("header".to_owned(), rows::METADATA.to_owned())]);
    let run = rows::fresh();
    let rate = load::per_second(writers, time, move |writer, count| {
        let (store, payload, metadata) = (store.clone(), payload.clone(), metadata.clone());
        let context = EventStoreAggregateContext {
            aggregate_id: format!("{run}/{writer}"),
            aggregate: Journey,
            current_sequence: usize::try_from(count).unwrap_or(usize::MAX),
            current_snapshot: None,
        };
        async move {
            store
                .commit(vec![Reported(payload)], context, metadata)
                .await
                .map(|_| ())
                .map_err(|error| error.to_string())
        }
    })
    .await?;
    pool.close().await;
    Ok(rate)
}

/// The table that postgres-es documents.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS public.events (aggregate_type text NOT NULL, aggregate_id text NOT NULL, \
    sequence bigint CHECK (sequence >= 0) NOT NULL, event_type text NOT NULL, event_version text NOT NULL, \
    payload json NOT NULL, metadata json NOT NULL, PRIMARY KEY (aggregate_type, aggregate_id, sequence))";
