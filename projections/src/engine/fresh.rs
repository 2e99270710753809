//! Rows that were read a moment ago, kept even by what views tell, so that what many look at is not read each time.

use std::{collections::HashMap, sync::Arc, time::Duration};

use cnc_domain::ledger::Position;
use tokio::time::Instant;

use crate::{Change, Row};

/// So long a row is kept after it was read or told. Whatever a process is not told, it learns after this.
const KEPT_FOR: Duration = Duration::from_secs(1);

/// The rows of one view of one company.
#[derive(Default)]
pub(super) struct Fresh {
    rows: HashMap<String, (Arc<Row>, Instant)>,
    swept: Option<Instant>,
}

impl Fresh {
    /// The row as it is at the view's position, where that is known.
    pub fn get(&self, key: &str) -> Option<&Arc<Row>> {
        self.rows.get(key).filter(|(_, at)| at.elapsed() < KEPT_FOR).map(|(row, _)| row)
    }

    /// Keeps a row that was read at the view's position or later.
    pub fn keep(&mut self, row: Arc<Row>) {
        let now = Instant::now();
        // What nobody asks for again goes with the next sweep: no more is kept than was read in two such times.
        if self.swept.is_none_or(|swept| now.duration_since(swept) >= KEPT_FOR) {
            self.rows.retain(|_, (_, at)| now.duration_since(*at) < KEPT_FOR);
            self.swept = Some(now);
        }
        self.rows.insert(row.key.clone(), (row, now));
    }

    /// Takes what changed up to `to` in what is kept.
    pub fn hear(&mut self, changes: &[Change], to: Position) {
        for change in changes {
            if change.is_unknown() {
                self.rows.clear();
            } else if let Some((row, at)) = self.rows.get_mut(&change.key).filter(|(row, _)| row.position <= to) {
                match &change.row {
                    Some(changed) => (*row, *at) = (Arc::new(changed.clone()), Instant::now()),
                    None => drop(self.rows.remove(&change.key)),
                }
            }
        }
    }

    /// Forgets all: what came between is not known.
    pub fn forget(&mut self) {
        self.rows.clear();
    }
}
