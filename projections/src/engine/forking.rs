//! Folds that stand at what the ledger does not have: a database was restored, or a standby took over that lacks the tail.
//! What they show is of a history that is no more, so they are built anew from the first entry on.

use std::sync::Arc;

use cnc_domain::{
    kernel::CompanyId,
    ledger::{Entry, Fault, Hash, Head, Position},
};

use super::{
    Inner,
    company::{CompanyFolds, stop},
};
use crate::store::{FoldRow, Plan, Standing};

impl CompanyFolds {
    /// Compares where folds stand with the ledger's head. Those behind it are compared when they read on, against what the
    /// next entry names; so only those that do not read are asked for one by one.
    pub(super) async fn compare(&mut self, inner: &Inner, head: Head, tick: bool) -> Result<(), Fault> {
        for place in 0..self.workers.len() {
            let worker = &self.workers[place];
            let suspect = if worker.at.position == head.position {
                worker.at.hash != head.hash
            } else {
                // A head may be of a moment ago; at a tick it is not.
                tick && (worker.at.position > head.position || worker.is_stopped())
            };
            if suspect && !worker.stale && !inner.feed.contains(self.company, worker.at).await? {
                self.reopen(inner, place).await?;
            }
            if tick && self.workers[place].row.standing == Standing::Building {
                inner.replace_live(&self.workers[place].plan.clone(), self.company).await?;
            }
        }
        Ok(())
    }

    /// What comes next names another hash than that of the entry at which a fold stands. Where the ledger has that entry all the
    /// same, its own chain is broken there, and the fold stops.
    pub(super) async fn part(&mut self, inner: &Inner, place: usize) -> Result<(), Fault> {
        let at = self.workers[place].at;
        self.reread(inner);
        if !inner.feed.contains(self.company, at).await? {
            return self.reopen(inner, place).await;
        }
        let next = inner.feed.read(self.company, at.position, 1).await?;
        let mut next = next.iter().filter_map(|line| Entry::read(line).ok());
        let next = next.find(|next| next.position == at.position + 1);
        let Some(next) = next.filter(|next| next.previous != at.hash) else { return Ok(()) };
        let reason =
            format!("the chain is broken: it names {} as the entry before it, which is {}", next.previous, at.hash);
        stop(inner, &mut self.workers[place], at.position + 1, &reason).await
    }

    /// Reads the row of a fold again that stands, as it is remembered, at what the ledger does not have. Where the row does too,
    /// a new build takes its place.
    async fn reopen(&mut self, inner: &Inner, place: usize) -> Result<(), Fault> {
        let company = self.company;
        let worker = &mut self.workers[place];
        worker.distrust();
        let Some(opened) = inner.storage().open(&worker.plan, company).await? else { return Ok(()) };
        let row = opened.row.clone();
        worker.reopen(opened);
        if !inner.feed.contains(company, row.head()).await? {
            inner.replace(&worker.plan.clone(), &row).await?;
            let Some(opened) = inner.storage().open(&worker.plan, company).await? else { return Ok(()) };
            worker.reopen(opened);
        }
        if worker.is_live() && !worker.plan.trigger {
            inner.board.built(company, worker.plan.fold, worker.at.position, worker.row.id.build());
        }
        Ok(())
    }
}

impl Inner {
    /// Builds a fold anew in the place of one that stands at what the ledger does not have.
    pub(super) async fn replace(&self, plan: &Arc<Plan>, forked: &FoldRow) -> Result<(), Fault> {
        let company = forked.id.company;
        let head = self.feed.head(company).await?.unwrap_or_default();
        let silent_until = if plan.trigger { self.silence(plan, forked, head).await? } else { 0 };
        if self.storage().replace(plan, forked, head.position, silent_until).await? {
            let (fold, position, hash) = (plan.fold, forked.position, forked.hash);
            let there = self.hash_at(company, position).await?;
            tracing::error!(
                %company, fold, position, %hash, ledger = %there, head = head.position,
                "a fold stands at an entry that the ledger does not have: it was restored, or lost its tail; the fold is \
                 built anew"
            );
        }
        Ok(())
    }

    /// Up to where a trigger that is built anew sends nothing: where it was silent from its first start on. What it has sent
    /// of later entries that are still there it sends again, under the same ids, so that it acts once. Where it began with
    /// what is no more, it begins anew.
    async fn silence(&self, plan: &Arc<Plan>, forked: &FoldRow, head: Head) -> Result<Position, Fault> {
        let company = forked.id.company;
        let Some(began) = self.storage().registered(plan, company).await? else { return Ok(0) };
        Ok(if self.feed.contains(company, began).await? { began.position } else { head.position })
    }

    /// Replaces a live build of another version that stands at what the ledger does not have: the one that is on its way to
    /// take its place could never reach it.
    async fn replace_live(&self, plan: &Arc<Plan>, company: CompanyId) -> Result<(), Fault> {
        let Some(live) = self.live(plan, company).await? else { return Ok(()) };
        if live.id.version < plan.version && !self.feed.contains(company, live.head()).await? {
            self.replace(plan, &live).await?;
        }
        Ok(())
    }

    /// The hash of what the ledger has at a position, for people to read.
    async fn hash_at(&self, company: CompanyId, position: Position) -> Result<String, Fault> {
        let lines = self.feed.read(company, position.saturating_sub(1), 1).await?;
        let entry = lines.iter().find(|line| Entry::read(line).is_ok_and(|entry| entry.position == position));
        Ok(entry.map_or_else(|| "nothing".into(), |line| Hash::of(line).to_string()))
    }
}
