//! Relays over a ledger and a broker in memory, at whose steps a test may end them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use cnc_commands::{
    ledger::memory::{MemoryLedger, Server},
    relay::memory::Exchange,
};
use cnc_domain::{
    kernel::Timestamp,
    ledger::{Fault, Feed as _, Ledger as _, Position, Weather},
};
use tokio::{sync::watch, task::JoinHandle};

use super::relay::options;
use crate::ledger::{append_all, company, deed, founding, noon, truck, within};

/// Nothing fails; one step is the last of its process.
#[derive(Default)]
struct Steps {
    last: Option<&'static str>,
    has_ended: AtomicBool,
}

#[async_trait]
impl Weather for Steps {
    async fn before(&self, doing: &'static str) -> Result<(), Fault> {
        if self.last == Some(doing) {
            self.has_ended.store(true, Ordering::Relaxed);
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    async fn after(&self, _: &'static str) -> Result<(), Fault> {
        Ok(())
    }

    fn now(&self) -> Timestamp {
        noon()
    }
}

struct World {
    server: Server,
    exchange: Exchange,
    ledger: Arc<MemoryLedger>,
}

impl World {
    fn new() -> Self {
        let server = Server::new(Arc::new(Steps::default()));
        let ledger = Arc::new(server.ledger(Arc::new(Steps::default())));
        Self { server, exchange: Exchange::default(), ledger }
    }

    /// A relay of a process whose last step this is; it lives on where there is none.
    fn relay(&self, last: Option<&'static str>) -> (JoinHandle<()>, Arc<Steps>, watch::Sender<bool>) {
        let steps = Arc::new(Steps { last, ..Steps::default() });
        let relay = self.exchange.relay(self.ledger.clone(), steps.clone(), options());
        let (stop, stopped) = watch::channel(false);
        (tokio::spawn(async move { relay.run(stopped).await }), steps, stop)
    }

    async fn fill(&self, number: u128, count: usize) {
        let fill = vec![deed(company(1), truck(number), 0, &vec!["cleaned"; count])];
        let outcomes = append_all(&*self.ledger, fill).await;
        outcomes.expect("no fault").remove(0).expect("appended");
    }

    /// Waits until who takes all messages holds what the ledger does.
    async fn agree(&self) {
        let lines = self.ledger.read(company(1), 0, 100).await.expect("read");
        until("the copy to agree with the ledger", || self.copied() == lines).await;
    }

    fn copied(&self) -> Vec<String> {
        let mut copy: BTreeMap<Position, String> = BTreeMap::new();
        for message in self.exchange.messages() {
            if let Some(after) = message.fork_after {
                copy.retain(|position, _| *position <= after);
            }
            copy.entry(message.head.position).or_insert(message.line);
        }
        copy.into_values().collect()
    }
}

/// Waits in simulated time until something is so.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    within(what, waiting).await;
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_was_put_back_is_published_from_where_it_parted_from_the_stream() {
    let world = World::new();
    let empty = world.server.snapshot();
    world.ledger.append(vec![founding(company(1))]).await.expect("no fault").remove(0).expect("founded");
    world.fill(1, 3).await;
    let early = world.server.snapshot();
    world.fill(5, 2).await;
    let (task, _, stop) = world.relay(None);
    world.agree().await;
    world.fill(2, 10).await;
    world.agree().await;
    // Merely shorter; shorter, and then other entries; and longer at once.
    world.server.restore(early);
    world.agree().await;
    assert_eq!(world.copied().len(), 4);
    world.fill(3, 5).await;
    let later = world.server.snapshot();
    world.fill(6, 15).await;
    world.agree().await;
    world.server.restore(later);
    world.fill(4, 3).await;
    world.agree().await;
    world.server.restore(empty);
    world.ledger.append(vec![founding(company(1))]).await.expect("no fault").remove(0).expect("founded");
    world.agree().await;
    stop.send_replace(true);
    task.await.expect("stops");
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_dies_between_deleting_and_making_a_consumer_leaves_it_to_the_next() {
    let world = World::new();
    world.exchange.lead_astray("integration_x");
    let (task, steps, _stop) = world.relay(Some("make a consumer"));
    until("it to be there", || steps.has_ended.load(Ordering::Relaxed)).await;
    task.abort();
    assert!(world.exchange.sound_consumers().is_empty(), "it is deleted");
    let (_task, _, _stop) = world.relay(None);
    until("the next to make it", || world.exchange.sound_consumers() == ["integration_x"]).await;
}
