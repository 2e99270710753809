//! Writers that give commands until they are told to stop, and give each again under its key until it is answered.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use cnc_domain::kernel::Timestamp;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinSet};
use uuid::Uuid;

use super::world::World;
use crate::fixtures;

/// How many commands have been acknowledged.
#[derive(Debug)]
pub struct Written(watch::Sender<u64>);

impl Default for Written {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl Written {
    /// So far.
    pub fn count(&self) -> u64 {
        *self.0.borrow()
    }

    /// There are so many now.
    pub fn are(&self, count: u64) {
        self.0.send_if_modified(|written| {
            let more = *written < count;
            *written = count.max(*written);
            more
        });
    }

    /// There will be no more: nobody waits for them.
    pub fn finish(&self) {
        self.0.send_replace(u64::MAX);
    }

    /// Whether there will be no more.
    pub fn is_finished(&self) -> bool {
        self.count() == u64::MAX
    }

    /// Waits until there are so many.
    pub async fn reached(&self, count: u64) {
        let mut seen = self.0.subscribe();
        let patience = crate::system::PATIENCE;
        let reached = tokio::time::timeout(patience, seen.wait_for(|written| *written >= count)).await;
        assert!(reached.is_ok(), "no command is acknowledged any more: {} of {count}", self.count());
    }
}

/// The writers.
pub struct Load {
    stop: Arc<AtomicBool>,
    writers: JoinSet<Vec<String>>,
}

struct Writer {
    client: Client,
    urls: Vec<String>,
    token: String,
    stop: Arc<AtomicBool>,
    written: Arc<Written>,
    journey: Uuid,
    plans: Plans,
}

/// Journeys that a writer plans in windows that have passed, one before the other, so that each is warned of at once.
#[derive(Clone)]
pub struct Plans {
    pub branch: Uuid,
    pub truck: Uuid,
    pub first: Timestamp,
}

impl Plans {
    /// The `nth` plan.
    fn nth(&self, nth: usize) -> Value {
        fixtures::late_journey(self.truck, self.branch, self.first, nth)
    }
}

impl Load {
    pub fn start(world: &World, journeys: &[(Uuid, Plans)]) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let mut writers = JoinSet::new();
        for (journey, plans) in journeys {
            let writer = Writer {
                client: world.client.clone(),
                urls: world.gateways.iter().map(|gateway| gateway.url("/v1/truck_journey")).collect(),
                journey: *journey,
                plans: plans.clone(),
                token: world.token.clone(),
                stop: stop.clone(),
                written: world.written.clone(),
            };
            writers.spawn(writer.write());
        }
        Self { stop, writers }
    }

    /// Lets every command that was given be answered; returns the notes of all reports.
    pub async fn finish(mut self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        let mut notes = Vec::new();
        while let Some(written) = self.writers.join_next().await {
            notes.extend(written.expect("a writer does not fail"));
        }
        notes
    }
}

impl Writer {
    async fn write(self) -> Vec<String> {
        let mut notes = Vec::new();
        for nth in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let note = format!("note-{}", Uuid::now_v7());
            // Every tenth time there is something for a trigger to do.
            if nth % 10 == 9 {
                let path = format!("{}/plan", Uuid::now_v7());
                self.give(&path, &self.plans.nth(nth / 10), nth).await;
            }
            let mut report = json!({ "status": "in_traffic", "note": note });
            if nth % 3 == 0 {
                report["occurred_at"] = json!(fixtures::now());
            }
            self.give(&format!("{}/report_status", self.journey), &report, nth).await;
            self.written.0.send_modify(|count| *count += 1);
            notes.push(note);
        }
        notes
    }

    /// Gives a command to one gateway after the other until one says that it is recorded.
    async fn give(&self, path: &str, body: &Value, first: usize) {
        let key = Uuid::now_v7().to_string();
        for tried in first.. {
            let url = format!("{}/{path}", self.urls[tried % self.urls.len()]);
            let request = self.client.post(url).bearer_auth(&self.token).header("idempotency-key", &key).json(body);
            match request.send().await {
                Ok(response) if response.status().is_success() => return,
                Ok(response) if is_final(response.status()) => {
                    panic!("{} {}", response.status(), response.text().await.unwrap_or_default());
                }
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }
}

/// Whether the same command need not be given again.
fn is_final(status: StatusCode) -> bool {
    status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS
}
