//! A build beside the one that stands, folded by one caller from the first entry on.

use cnc_domain::{
    kernel::CompanyId,
    ledger::{Fault, Position},
};

use super::{
    Inner,
    reader::Reader,
    worker::{Prepared, Worker},
};
use crate::store::{FoldId, Plan};
use std::sync::Arc;

/// Why a build beside the others cannot go on.
const LOST: &str = "its build was dropped or set back meanwhile: try again";

/// Why no build can.
const PARTED: &str = "it does not continue the entry before it: the chain is broken, or another ledger took its place";

/// A scratch build on its way.
pub(super) struct Beside {
    worker: Worker,
    reader: Reader,
}

impl Beside {
    pub async fn start(inner: &Inner, plan: &Arc<Plan>, company: CompanyId) -> Result<Self, Fault> {
        let opened = inner.storage().beside(plan, company).await?;
        Ok(Self {
            worker: Worker::new(plan.clone(), opened, inner.store.clock().clone()),
            reader: Reader::new(inner.feed.clone(), company),
        })
    }

    pub fn id(&self) -> &FoldId {
        &self.worker.row.id
    }

    pub fn at(&self) -> Position {
        self.worker.at.position
    }

    /// Folds up to `until`. Says why where it had to stop before.
    pub async fn fold_to(&mut self, inner: &Inner, until: Position) -> Result<Option<String>, Fault> {
        while self.worker.at.position < until {
            let chunk = self.reader.read(self.at(), until).await?;
            loop {
                let (to, write) =
                    match self.worker.prepare(inner.storage().as_ref(), &inner.process, &chunk, until).await? {
                        Prepared::Write(write) => (write.to, write),
                        Prepared::Moved(to) => (to, self.worker.blank(to)),
                        Prepared::Stopped(position, reason) => {
                            return Ok(Some(format!("position {position}: {reason}")));
                        }
                        Prepared::Lost | Prepared::Doubtful => return Ok(Some(LOST.into())),
                        Prepared::Parted => return Ok(Some(format!("position {}: {PARTED}", self.at() + 1))),
                    };
                let text = write.changes.iter().flat_map(|(_, changes)| changes);
                let text = text.map(|change| change.doc.as_ref().map_or(0, String::len)).sum();
                let commit = inner.storage().commit(write.plan.trigger, inner.now(), vec![write]).await?;
                self.worker.settle(to, commit.first().and_then(Option::as_ref), text);
                if self.worker.stale {
                    return Ok(Some(LOST.into()));
                }
                if self.at() >= chunk.end().min(until) {
                    break;
                }
            }
        }
        Ok(None)
    }

    /// Drops the build.
    pub async fn drop_it(self, inner: &Inner) -> Result<(), Fault> {
        inner.storage().drop_build(self.worker.plan.trigger, self.id()).await.map(drop)
    }
}
