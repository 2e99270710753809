//! Views that another process folds: their changes are read from the store, so that watchers here learn of them too.

use std::{sync::Arc, time::Duration};

use cnc_domain::{
    kernel::CompanyId,
    ledger::{Fault, Position},
};
use tokio::sync::watch;

use super::{Inner, board::Batch};
use crate::{
    VIEWS,
    store::{Generation, LivePosition, Plan},
};

/// How often positions are looked at while a view is behind its ledger, or somebody may be waiting.
const LOOK: Duration = Duration::from_millis(20);
/// How often otherwise.
const IDLE: Duration = Duration::from_secs(1);

/// Follows all views until `stop`: for an engine that folds none.
pub(super) async fn run(inner: Arc<Inner>, mut stop: watch::Receiver<bool>) {
    let following = async {
        let (mut seen, mut generation) = (0, None);
        loop {
            // Where something is folded, the loop that folds says how it is.
            if inner.kinds().next().is_none() {
                inner.goes_round();
            }
            if let Err(fault) = inner.look_at_store(&mut generation).await {
                tracing::warn!(%fault, "the store does not say whether it lost anything");
            }
            let told = inner.is_told();
            let followed = if told { inner.follow_others().await } else { until_even(&inner).await };
            if let Err(fault) = followed {
                tracing::warn!(%fault, "the positions of views cannot be read");
            }
            tokio::select! {
                biased;
                told = inner.feed.changed(seen), if !told => seen = told.cursor,
                () = tokio::time::sleep(IDLE) => {}
            }
        }
    };
    tokio::select! {
        biased;
        _ = stop.wait_for(|stop| *stop) => {}
        () = following => {}
    }
}

/// Follows until all views are as far as their ledgers, or for a second.
async fn until_even(inner: &Inner) -> Result<(), Fault> {
    for _ in 0..IDLE.as_millis() / LOOK.as_millis() {
        inner.follow_others().await?;
        if inner.is_told() {
            break;
        }
        let heads = inner.feed.heads().await?;
        let behind = |(company, head): &(CompanyId, cnc_domain::ledger::Head)| {
            VIEWS.iter().any(|view| {
                inner.board.position(*company, view.kind.name()).is_none_or(|position| position < head.position)
            })
        };
        if !heads.iter().any(behind) {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

impl Inner {
    /// Whether the store may have lost commits since it had this generation. Then what this process knows of views is set
    /// back to what is there; and who watches a view whose live build is another one is told.
    pub(super) async fn look_at_store(&self, known: &mut Option<Generation>) -> Result<bool, Fault> {
        let generation = self.storage().generation().await?;
        if *known == Some(generation) {
            return Ok(false);
        }
        let lost = known.is_none_or(|known| known.losses != generation.losses);
        if lost && known.is_some() {
            tracing::warn!("the store may have lost its last commits: what is known of it is read again");
        }
        let names = VIEWS.iter().map(|view| view.kind.name()).chain(self.folds.views.iter().map(|kind| kind.name()));
        let names: Vec<String> = names.map(str::to_owned).collect();
        let standing = self.storage().standing(None, &names).await?;
        let standing: Vec<_> =
            standing.iter().filter_map(|live| Some(((live.company, self.view(&live.fold)?.name()), live))).collect();
        for ((company, view), live) in &standing {
            self.board.built(*company, view, live.position, live.build);
        }
        if lost {
            self.board.set_back(&standing.into_iter().map(|(key, live)| (key, live.position)).collect());
        }
        *known = Some(generation);
        Ok(lost)
    }

    /// Tells what changed in views that this engine does not fold itself, or not everywhere.
    pub(super) async fn follow_others(&self) -> Result<(), Fault> {
        let mine = &self.folds.views;
        let others: Vec<_> = VIEWS
            .iter()
            .map(|view| view.kind.name())
            .filter(|name| !mine.iter().any(|kind| kind.name() == *name))
            .chain(mine.iter().map(|kind| kind.name()).filter(|name| self.is_outdated(name)))
            .collect();
        if others.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = others.iter().map(|name| (*name).to_owned()).collect();
        for standing in self.storage().standing(None, &names).await? {
            if let Some(view) = others.iter().find(|name| **name == standing.fold) {
                self.follow_live(view, &standing).await?;
            }
        }
        Ok(())
    }

    /// Tells what changed in one view since it was last told of, whoever folded it.
    pub(super) async fn follow(&self, company: CompanyId, plan: &Plan) -> Result<(), Fault> {
        if plan.trigger {
            return Ok(());
        }
        let standing = self.storage().standing(Some(company), &[plan.fold.to_owned()]).await?;
        match standing.first() {
            Some(live) => self.follow_live(plan.fold, live).await,
            None => Ok(()),
        }
    }

    async fn follow_live(&self, view: &'static str, live: &LivePosition) -> Result<(), Fault> {
        self.board.built(live.company, view, live.position, live.build);
        self.follow_to(live.company, view, live.position).await
    }

    /// Takes what another process says that it folded; what is missing before it is read from the store.
    pub(super) async fn hear(&self, batch: Batch) -> Result<(), Fault> {
        let (company, view) = (batch.company, batch.view);
        if self.board.heard(batch) {
            return Ok(());
        }
        let position = self.store.position(company, view).await?;
        self.follow_to(company, view, position).await
    }

    async fn follow_to(&self, company: CompanyId, view: &'static str, position: Position) -> Result<(), Fault> {
        let Some(from) = self.board.position(company, view) else {
            self.board.start(company, view, position);
            return Ok(());
        };
        if from >= position {
            return Ok(());
        }
        if !self.board.is_watched() {
            self.board.announce(Batch { company, view, from, to: position, changes: None });
            return Ok(());
        }
        let changes = self.store.changes_since(company, view, from, None).await?;
        // What was read may be of a later moment than the position.
        let to = changes.iter().flatten().map(|change| change.position).max().unwrap_or(0).max(position);
        self.board.announce(Batch { company, view, from, to, changes });
        Ok(())
    }
}
