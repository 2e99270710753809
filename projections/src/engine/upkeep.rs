//! What an operator does with folds: look, rebuild, retry, skip, prune.

use std::{collections::HashMap, sync::Arc};

use cnc_domain::{
    kernel::{CompanyId, Seconds},
    ledger::{Fault, Head},
};

use super::{Engine, FoldStatus, Inner, Poison, Pruned, Rebuilt, Skipped, beside::Beside};
use crate::{
    VIEWS,
    store::{FoldRow, Plan, Poisoned, Standing},
};

/// How often a rebuild tries to draw level with a fold that moves on.
const SWAPS_TRIED: usize = 1_000;
/// A build that nobody has written for so long is abandoned. No process leaves a build on its way alone for that long,
/// unless an entry stopped it.
const ABANDONED_AFTER: Seconds = Seconds(3_600);

impl Engine {
    /// How all folds stand, by company and fold.
    pub async fn status(&self) -> Result<Vec<FoldStatus>, Fault> {
        let heads: HashMap<CompanyId, Head> = self.inner.feed.heads().await?.into_iter().collect();
        let restarts = self.restarts();
        let rows = self.inner.storage().rows(None).await?;
        Ok(rows
            .into_iter()
            .map(|(trigger, row)| {
                let head = heads.get(&row.id.company).copied().unwrap_or_default();
                status(trigger, row, head, restarts)
            })
            .collect())
    }

    /// Builds a fold anew beside the one that stands, and swaps it in, for one company or all.
    pub async fn rebuild(&self, company: Option<CompanyId>, fold: &str) -> Result<Vec<Rebuilt>, Fault> {
        let inner = &self.inner;
        let plans = inner.prepare().await?;
        let Some(plan) = plans.iter().find(|plan| plan.fold == fold) else {
            return Err(Fault::broken("rebuilding a fold", format!("there is no fold {fold:?}")));
        };
        let mut rebuilt = Vec::new();
        for company in inner.companies(company).await? {
            rebuilt.extend(inner.rebuild(plan, company).await?);
        }
        Ok(rebuilt)
    }

    /// Lets folds that an entry stopped try again, for one company or all, one fold or all. Returns how many.
    pub async fn retry(&self, company: Option<CompanyId>, fold: Option<&str>) -> Result<usize, Fault> {
        let rows = self.inner.storage().rows(company).await?;
        let stopped = rows
            .iter()
            .filter(|(_, row)| row.poisoned.is_some() && !row.is_over() && fold.is_none_or(|fold| row.id.fold == fold));
        let mut count = 0;
        for (trigger, row) in stopped {
            self.inner.storage().retry(*trigger, &row.id).await?;
            count += 1;
        }
        Ok(count)
    }

    /// Skips the entry that stopped a fold, on the record: who did it, when, where and why it could not be folded. Gives
    /// nothing where no entry did.
    pub async fn skip(&self, company: CompanyId, fold: &str, by: &str) -> Result<Option<Skipped>, Fault> {
        let rows = self.inner.storage().rows(Some(company)).await?;
        for (trigger, row) in rows {
            let standing = row.is_served_or_will_be();
            let Some(Poisoned { position, reason, .. }) = row.poisoned.filter(|_| standing && row.id.fold == fold)
            else {
                continue;
            };
            if self.inner.storage().skip(trigger, &row.id, position, by, self.inner.now()).await? {
                tracing::warn!(%company, fold, position, by, reason, "an entry is skipped");
                return Ok(Some(Skipped { fold: fold.to_owned(), position, reason }));
            }
        }
        Ok(None)
    }

    /// Drops builds that were replaced or abandoned, and the tables of versions that no build uses and this program does
    /// not know. What a program of another version wrote within the last hour is left to it.
    pub async fn prune(&self) -> Result<Pruned, Fault> {
        let storage = self.inner.storage();
        let known = self.inner.known();
        let abandoned = self.inner.now().minus(ABANDONED_AFTER);
        let mut pruned = Pruned::default();
        for (trigger, row) in storage.rows(None).await? {
            let (is_known, is_fresh) =
                (known.contains(&(row.id.fold.as_str(), row.id.version)), row.touched_at >= abandoned);
            let over = match row.standing {
                Standing::Live => false,
                Standing::Building => !is_known,
                Standing::Retired | Standing::Forked | Standing::Scratch => true,
            };
            let at_work = is_fresh && (!is_known || row.standing == Standing::Scratch);
            if over && at_work {
                pruned.kept += 1;
            } else if over {
                pruned.documents += storage.drop_build(trigger, &row.id).await?;
                pruned.builds += 1;
            }
        }
        for trigger in [false, true] {
            pruned.tables += storage.drop_tables(trigger, &known).await?;
        }
        Ok(pruned)
    }
}

impl Inner {
    /// The folds that this program knows, with their versions.
    fn known(&self) -> Vec<(&'static str, u32)> {
        let views = VIEWS.iter().map(|view| view.kind);
        views.chain(self.kinds()).map(|kind| (kind.name(), kind.version())).collect()
    }

    /// This company, or all.
    pub(super) async fn companies(&self, company: Option<CompanyId>) -> Result<Vec<CompanyId>, Fault> {
        match company {
            Some(company) => Ok(vec![company]),
            None => Ok(self.feed.heads().await?.into_iter().map(|(company, _)| company).collect()),
        }
    }

    /// The live build of a company's fold.
    pub(super) async fn live(&self, plan: &Plan, company: CompanyId) -> Result<Option<FoldRow>, Fault> {
        let rows = self.storage().rows(Some(company)).await?;
        let live = |(_, row): &(bool, FoldRow)| row.standing == Standing::Live && row.id.fold == plan.fold;
        Ok(rows.into_iter().find(live).map(|(_, row)| row))
    }

    async fn rebuild(&self, plan: &Arc<Plan>, company: CompanyId) -> Result<Option<Rebuilt>, Fault> {
        // Where nothing stands yet, there is nothing to build anew.
        let Some(mut live) = self.live(plan, company).await? else { return Ok(None) };
        if !self.feed.contains(company, live.head()).await? {
            self.replace(plan, &live).await?;
            let Some(replaced) = self.live(plan, company).await? else { return Ok(None) };
            live = replaced;
        }
        let mut beside = Beside::start(self, plan, company).await?;
        let mut stopped = None;
        for _ in 0..SWAPS_TRIED {
            // A trigger swaps where the other stands; of a view the larger part may be built here.
            let until = if plan.trigger { live.position } else { live.position.max(live.whole_from) };
            stopped = beside.fold_to(self, until).await?;
            if stopped.is_some() {
                break;
            }
            if self.storage().swap(plan.trigger, beside.id()).await? {
                self.follow(company, plan).await?;
                return Ok(Some(Rebuilt { company, fold: plan.fold.into(), position: beside.at(), stopped: None }));
            }
            match self.live(plan, company).await? {
                Some(row) => live = row,
                None => break,
            }
        }
        let position = beside.at();
        let stopped = stopped.or_else(|| Some("the fold moves on faster than it can be built".into()));
        beside.drop_it(self).await?;
        Ok(Some(Rebuilt { company, fold: plan.fold.into(), position, stopped }))
    }
}

fn status(trigger: bool, row: FoldRow, head: Head, restarts: u64) -> FoldStatus {
    let (stands, health) = (row.head(), row.health());
    let beyond = stands.position > head.position || (stands.position == head.position && stands != head);
    let forked = row.standing == Standing::Forked || (row.is_served_or_will_be() && beyond);
    let poison = row.poisoned.map(|poisoned| Poison {
        retry_at: Some(poisoned.retry_at).filter(|_| !poisoned.waits()),
        position: poisoned.position,
        reason: poisoned.reason,
        attempts: poisoned.attempts,
    });
    FoldStatus {
        company: row.id.company,
        fold: row.id.fold,
        trigger,
        version: row.id.version,
        build: row.id.build,
        standing: row.standing.name(),
        position: row.position,
        head: head.position,
        lag: head.position.saturating_sub(row.position),
        forked,
        rebuilding_until: health.rebuilding_until,
        skipped: health.skipped,
        silent_until: row.silent_until,
        poison,
        touched_at: row.touched_at,
        restarts,
    }
}
