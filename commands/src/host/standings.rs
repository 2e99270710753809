//! What companies are, kept for a moment: every command needs it and it hardly ever changes. An append says on which of
//! these facts it was decided, so that what is kept never outlives them.

use std::{sync::Arc, time::Duration};

use cnc_domain::{
    cloud_control::Standing,
    kernel::{CompanyId, State},
    ledger::{Fault, Hash},
};
use tokio::time::Instant;

use super::Inner;
use crate::{cache::Lately, catalog::Served, request::Request};

/// The stream that says it; its id is the company's.
pub const STREAM: &str = "company";
/// The command that founds a company.
const FOUND: &str = "found";

/// How long another process' change may go unseen by who only reads.
const KEPT: Duration = Duration::from_secs(1);

/// A company as decisions see it.
#[derive(Clone)]
pub struct Facts {
    pub standing: Arc<Standing>,
    /// The state of its stream.
    pub state: State,
    /// The hash of the last entry that is a fact of it.
    pub hash: Hash,
}

/// Whether this is the founding of a company: the one command that needs none.
pub fn founds(served: &Served, request: &Request) -> bool {
    served.stream == STREAM && request.id == request.company.uuid() && request.command.name == FOUND
}

/// Where they are kept.
pub fn kept() -> Lately<CompanyId, Facts> {
    Lately::new(20_000, KEPT)
}

impl Inner {
    /// A company's facts, and whether the ledger was asked for them just now, as it is where that is asked for.
    pub(super) async fn facts(&self, company: CompanyId, fresh: bool) -> Result<(Option<Facts>, bool), Fault> {
        if let Some(facts) = self.standings.get(&company).filter(|_| !fresh) {
            return Ok((Some(facts), false));
        }
        let Some(served) = self.serving.stream(STREAM) else { return Ok((None, true)) };
        let since = Instant::now();
        // Asked before the state is read: so the state is never older than what it is known by. A company on its way from
        // another database has entries here and no head yet; it must not get keys.
        let Some(hash) = self.shelf.ledger().facts(company).await? else { return Ok((None, true)) };
        let (kept, _) = self.shelf.load(company, served, company.uuid(), true).await?;
        if kept.sequence == 0 {
            return Ok((None, true));
        }
        let standing = Arc::new((self.serving.standing)(&kept.state));
        let facts = Facts { standing, state: kept.state, hash };
        self.standings.put(company, facts.clone(), since);
        Ok((Some(facts), true))
    }
}
