//! Who waits for which view, and what views told them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cnc_domain::{
    kernel::{self, CompanyId, LocationId},
    ledger::Position,
};
use serde_json::Value;
use tokio::sync::{broadcast, watch};

use crate::{Change, Row};

/// How many batches of changes a watcher may be behind before it loses some.
const BEHIND_MAX: usize = 1_024;

type Key = (CompanyId, &'static str);

/// Positions of views as this process knows them, and their changes.
pub(super) struct Board {
    changes: broadcast::Sender<Arc<Vec<Change>>>,
    views: Mutex<HashMap<Key, Known>>,
}

struct Known {
    position: watch::Sender<Position>,
    /// Everything up to here was told.
    told: Position,
    /// The position is that of the view, not a place for those who wait for it.
    started: bool,
}

impl Default for Board {
    fn default() -> Self {
        Self { changes: broadcast::channel(BEHIND_MAX).0, views: Mutex::default() }
    }
}

impl Board {
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Vec<Change>>> {
        self.changes.subscribe()
    }

    /// Whether anybody listens to changes.
    pub fn is_watched(&self) -> bool {
        self.changes.receiver_count() > 0
    }

    /// A view stands at a position, and what came before is not told here.
    pub fn start(&self, company: CompanyId, view: &'static str, at: Position) {
        let mut views = self.lock();
        let known = views.entry((company, view)).or_insert_with(|| Known::at(at));
        known.told = known.told.max(at);
        known.started = true;
        known.position.send_replace(at);
    }

    /// How far a view is, as this process knows.
    pub fn position(&self, company: CompanyId, view: &'static str) -> Option<Position> {
        self.lock().get(&(company, view)).filter(|known| known.started).map(|known| *known.position.borrow())
    }

    /// A view has moved, and this changed; `None` where it is not known what, since nobody was listening.
    pub fn tell(
        &self,
        company: CompanyId,
        view: &'static str,
        from: Position,
        to: Position,
        changes: Option<Vec<kernel::Change>>,
        were: &[(String, Option<LocationId>)],
    ) {
        let were: HashMap<&str, Option<LocationId>> = were.iter().map(|(key, was)| (key.as_str(), *was)).collect();
        let change = |change: kernel::Change| {
            let was_location = were.get(change.key.as_str()).copied().flatten();
            let (key, location) = (change.key.clone(), change.location);
            let row = change.doc.is_some().then(|| row(change, to));
            Change { company, view, key, position: to, previous: from, location, row, was_location }
        };
        self.announce(company, view, from, to, changes.map(|changes| changes.into_iter().map(change).collect()));
    }

    /// The same with changes that are made already. Their `previous` is set to what was told last.
    pub fn announce(
        &self,
        company: CompanyId,
        view: &'static str,
        from: Position,
        to: Position,
        changes: Option<Vec<Change>>,
    ) {
        let mut views = self.lock();
        let known = views.entry((company, view)).or_insert_with(|| Known::at(from));
        let mut changes = changes.unwrap_or_else(|| vec![unknown(company, view, to)]);
        if !changes.is_empty() {
            for change in &mut changes {
                change.previous = known.told.min(to);
            }
            known.told = to;
            // Nobody listening is no fault. Sent under the lock, so that a view's changes keep their order.
            let _ = self.changes.send(Arc::new(changes));
        }
        known.started = true;
        known.position.send_replace(to);
    }

    /// Waits until a view is known to have reached `position`; `None` where `patience` was over.
    pub async fn reached(
        &self,
        company: CompanyId,
        view: &'static str,
        position: Position,
        patience: Duration,
    ) -> Option<Position> {
        let mut at = {
            let mut views = self.lock();
            views.entry((company, view)).or_insert_with(|| Known::at(0)).position.subscribe()
        };
        let reached = tokio::time::timeout(patience, at.wait_for(|at| *at >= position)).await;
        reached.ok().and_then(Result::ok).map(|at| *at)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Known>> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn at(position: Position) -> Self {
        Self { position: watch::channel(position).0, told: position, started: false }
    }
}

/// A view changed, and nobody here knows how.
fn unknown(company: CompanyId, view: &'static str, to: Position) -> Change {
    let (key, location, row, was_location) = (String::new(), None, None, None);
    Change { company, view, key, position: to, previous: to, location, row, was_location }
}

/// A changed document as a row.
pub(super) fn row(change: kernel::Change, position: Position) -> Row {
    let value = |text: &str| serde_json::from_str(text).unwrap_or(Value::Null);
    Row {
        doc: change.doc.as_deref().map_or(Value::Null, value),
        restricted: change.restricted.as_deref().map(value),
        key: change.key,
        location: change.location,
        position,
    }
}
