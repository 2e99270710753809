//! Views as they were: folded again in memory, up to a position; bounded in number, length and time.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use cnc_domain::{
    kernel::{CompanyId, FoldKind, Running, Tried, try_batch},
    ledger::{Fault, Position},
};

use super::{
    AsOfError, Engine, Inner, board,
    reader::{Chunk, Reader},
};
use crate::Row;

/// More entries than this are not folded in memory.
const ENTRIES_MAX: u64 = 2_000_000;
/// Nor for longer than this.
const TIME_MAX: Duration = Duration::from_secs(30);
/// How long one waits for its turn.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often a batch may ask for documents.
const PASSES_MAX: usize = 64;

impl Engine {
    /// The row of a view as it was after the entry at this position.
    pub async fn document_as_of(
        &self,
        company: CompanyId,
        view: &str,
        key: &str,
        as_of: Position,
    ) -> Result<Option<Row>, AsOfError> {
        let rows = self.inner.past(company, view, as_of, Some(key)).await?;
        Ok(rows.into_iter().next())
    }

    /// All rows of a view as they were after that entry, by key. Filters, sorts, scope and pages are the caller's.
    pub async fn view_as_of(&self, company: CompanyId, view: &str, as_of: Position) -> Result<Vec<Row>, AsOfError> {
        self.inner.past(company, view, as_of, None).await
    }
}

impl Inner {
    async fn past(
        self: &Arc<Self>,
        company: CompanyId,
        view: &str,
        as_of: Position,
        key: Option<&str>,
    ) -> Result<Vec<Row>, AsOfError> {
        let kind = self.view(view).ok_or_else(|| AsOfError::UnknownView(view.into()))?;
        let until = as_of.min(self.feed.head(company).await?.unwrap_or_default().position);
        if until > ENTRIES_MAX {
            return Err(AsOfError::Busy("that moment has too many entries before it to fold them again"));
        }
        let turn = tokio::time::timeout(PATIENCE, self.pasts.take(company)).await;
        let Ok(Some(_turn)) = turn else {
            return Err(AsOfError::Busy("too many past moments are being read"));
        };
        let folding = self.fold_past(company, kind, until, key);
        match tokio::time::timeout(TIME_MAX, folding).await {
            Ok(rows) => Ok(rows?),
            Err(_) => Err(AsOfError::Busy("folding up to that moment takes too long")),
        }
    }

    async fn fold_past(
        &self,
        company: CompanyId,
        kind: &'static dyn FoldKind,
        until: Position,
        key: Option<&str>,
    ) -> Result<Vec<Row>, Fault> {
        let mut past = Past { fold: kind.start(), rows: BTreeMap::new(), key: key.map(str::to_owned) };
        let mut reader = Reader::new(self.feed.clone(), company);
        let mut at = 0;
        while at < until {
            let chunk = reader.read(at, until).await?;
            if chunk.told.is_empty() {
                let cause = chunk.broken.as_ref().map_or("", |(wrong, _)| wrong);
                return Err(Fault::broken("reading entries", cause));
            }
            let end = chunk.end().min(until);
            let folded = tokio::task::spawn_blocking(move || past.take(&chunk, at, end).map(|()| past)).await;
            past = folded.map_err(|died| Fault::broken("folding a past moment", died))??;
            at = end;
        }
        Ok(past.rows.into_values().collect())
    }
}

/// A fold all of whose documents are in memory.
struct Past {
    fold: Box<dyn Running>,
    rows: BTreeMap<String, Row>,
    /// The only row that is wanted.
    key: Option<String>,
}

impl Past {
    fn take(&mut self, chunk: &Chunk, at: Position, end: Position) -> Result<(), Fault> {
        let broken = |cause: String| Fault::broken("folding a past moment", cause);
        for _ in 0..PASSES_MAX {
            match try_batch(self.fold.as_mut(), chunk.part(at, end)) {
                Tried::Done => return self.keep(end).map_err(|wrong| broken(wrong.to_string())),
                Tried::Unfoldable { index, cause } => {
                    return Err(broken(format!("position {}: {cause}", at + 1 + index as u64)));
                }
                Tried::Wanted(wanted) => {
                    let mut shelves = self.fold.shelves();
                    for (shelf, key) in wanted {
                        // All that there is, is loaded.
                        shelves[shelf].load(key, None).map_err(|wrong| broken(wrong.to_string()))?;
                    }
                }
            }
        }
        Err(broken("the fold asks for ever more documents".into()))
    }

    fn keep(&mut self, position: Position) -> Result<(), serde_json::Error> {
        for (place, shelf) in self.fold.shelves().into_iter().enumerate() {
            if place == 0 {
                for change in shelf.changes()? {
                    if self.key.as_ref().is_some_and(|key| *key != change.key) {
                        continue;
                    }
                    if change.doc.is_some() {
                        self.rows.insert(change.key.clone(), board::row(&change, position));
                    } else {
                        self.rows.remove(&change.key);
                    }
                }
            }
            shelf.settle();
        }
        Ok(())
    }
}
