//! Companies whose heads somebody else holds wait apart, each for itself, so that no other waits with them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use cnc_domain::{
    kernel::CompanyId,
    ledger::{Append, AppendError, Ledger},
};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::JoinSet,
    time::Instant,
};

use super::{Reply, held, record};

/// How long an append waits for its company's head.
const WAIT_MAX: Duration = Duration::from_secs(5);

type Waiting = (Box<Append>, Reply);

/// The companies of one lane that wait apart.
pub(super) struct Apart {
    ledger: Arc<dyn Ledger>,
    queues: HashMap<CompanyId, UnboundedSender<Waiting>>,
    running: JoinSet<()>,
}

impl Apart {
    pub fn new(ledger: Arc<dyn Ledger>) -> Self {
        Self { ledger, queues: HashMap::new(), running: JoinSet::new() }
    }

    /// Takes an append of a company that waits; gives it back where the company does not.
    pub fn take(&mut self, append: Box<Append>, reply: Reply) -> Option<Waiting> {
        let company = append.company;
        let Some(queue) = self.queues.get(&company) else { return Some((append, reply)) };
        let refused = queue.send((append, reply)).err()?;
        // It waits no more.
        self.queues.remove(&company);
        Some(refused.0)
    }

    /// Has these wait.
    pub fn set(&mut self, waiting: Vec<Waiting>) {
        let mut of: BTreeMap<CompanyId, Vec<Waiting>> = BTreeMap::new();
        for one in waiting {
            of.entry(one.0.company).or_default().push(one);
        }
        for (company, waiting) in of {
            tracing::warn!(%company, "somebody else holds the head of a company; what it records waits");
            let (queue, more) = unbounded_channel();
            self.queues.insert(company, queue);
            self.running.spawn(wait(self.ledger.clone(), waiting, more));
        }
        while self.running.try_join_next().is_some() {}
    }

    /// Waits until nothing waits.
    pub async fn end(mut self) {
        self.queues.clear();
        while self.running.join_next().await.is_some() {}
    }
}

/// Records what waits as soon as it can be, in its order, until there is no more. Each attempt stands in the line for the
/// head, for as long as the back end lets it.
async fn wait(ledger: Arc<dyn Ledger>, first: Vec<Waiting>, mut more: UnboundedReceiver<Waiting>) {
    let mut since: Vec<Instant> = vec![Instant::now(); first.len()];
    let mut waiting = first;
    while !waiting.is_empty() {
        let before = waiting.len();
        let (batch, replies) = waiting.into_iter().map(|(append, reply)| (*append, reply)).unzip();
        waiting = record(&ledger, batch, replies).await;
        // All of a company are held, or none.
        since.drain(..before - waiting.len());
        while since.first().is_some_and(|since| since.elapsed() > WAIT_MAX) {
            since.remove(0);
            let (_, reply) = waiting.remove(0);
            let _ = reply.send(Err(AppendError::Fault(held())));
        }
        if waiting.is_empty() {
            more.close();
        }
        while let Ok(one) = more.try_recv() {
            waiting.push(one);
            since.push(Instant::now());
        }
    }
}
