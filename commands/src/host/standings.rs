//! What companies are, kept for a moment: every command needs it and it hardly ever changes.

use std::{sync::Arc, time::Duration};

use cnc_domain::{cloud_control::Standing, kernel::CompanyId, ledger::Fault};
use tokio::time::Instant;

use super::Inner;
use crate::cache::Lately;

/// The stream that says it; its id is the company's.
pub const STREAM: &str = "company";
/// The command that founds a company.
pub const FOUND: &str = "found";

/// How long another process' change may go unseen by commands that are accepted.
const KEPT: Duration = Duration::from_secs(1);

/// Where standings are kept.
pub fn kept() -> Lately<CompanyId, Arc<Standing>> {
    Lately::new(20_000, KEPT)
}

impl Inner {
    /// A company's standing; read anew where that is asked for.
    pub(super) async fn standing(&self, company: CompanyId, fresh: bool) -> Result<Option<Arc<Standing>>, Fault> {
        if let Some(standing) = self.standings.get(&company).filter(|_| !fresh) {
            return Ok(Some(standing));
        }
        let Some(served) = self.serving.stream(STREAM) else { return Ok(None) };
        // A company on its way from another database has entries here and no head yet; it must not get keys.
        if self.shelf.ledger().head(company).await?.is_none() {
            return Ok(None);
        }
        let (kept, _) = self.shelf.load(company, served, company.uuid(), true).await?;
        if kept.sequence == 0 {
            return Ok(None);
        }
        let standing = Arc::new((self.serving.standing)(&kept.state));
        self.standings.put(company, Arc::clone(&standing), Instant::now());
        Ok(Some(standing))
    }
}
