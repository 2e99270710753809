//! Reading what an aggregate is, now or in the past.

use cnc_domain::kernel::{CompanyId, State};
use uuid::Uuid;

use super::Host;
use crate::{
    catalog::Served,
    request::{AsOf, HostError, Shown},
    shelf::Kept,
};

impl Host {
    /// An aggregate's state, now or in the past, with its personal fields sealed. `None` where it has (or had) no
    /// entries.
    pub async fn state(
        &self,
        company: CompanyId,
        stream: &str,
        id: Uuid,
        as_of: Option<AsOf>,
    ) -> Result<Option<Shown>, HostError> {
        let inner = &self.0;
        let served = inner.serving.stream(stream).ok_or(HostError::UnknownStream)?;
        let kept = match as_of {
            None => inner.shelf.load(company, served, id, true).await?.0,
            Some(AsOf::Position(position)) => inner.shelf.past(company, served, id, position).await?,
            Some(AsOf::Time(at)) => {
                let position = self.ledger().position_at(company, at).await?;
                inner.shelf.past(company, served, id, position).await?
            }
        };
        Ok(shown(served, &kept))
    }

    /// An aggregate's state as its own rules know it, as it was at most a second ago; what this process has recorded itself
    /// is in it at once. `None` where it has no entries.
    pub async fn state_lately(&self, company: CompanyId, stream: &str, id: Uuid) -> Result<Option<State>, HostError> {
        let served = self.0.serving.stream(stream).ok_or(HostError::UnknownStream)?;
        let kept = self.0.shelf.lately(company, served, id).await?;
        Ok((kept.sequence > 0).then_some(kept.state))
    }

    /// The same as the ledger says now.
    pub async fn state_now(&self, company: CompanyId, stream: &str, id: Uuid) -> Result<Option<State>, HostError> {
        let served = self.0.serving.stream(stream).ok_or(HostError::UnknownStream)?;
        let (kept, _) = self.0.shelf.load(company, served, id, true).await?;
        Ok((kept.sequence > 0).then_some(kept.state))
    }
}

fn shown(served: &Served, kept: &Kept) -> Option<Shown> {
    (kept.sequence > 0).then(|| Shown {
        state: served.rules.show(&kept.state),
        sequence: kept.sequence,
        position: kept.position,
        location: served.rules.location(&kept.state),
        rules: served.rules,
        kept: kept.state.clone(),
    })
}
