//! Where wrapped keys lie. To *settle* is to put something where nothing is and to get what is there then, so that
//! processes that make the same at once agree.

use async_trait::async_trait;
use cnc_domain::{kernel::CompanyId, ledger::Fault};
use uuid::Uuid;

/// A subject's key, wrapped.
#[derive(Clone)]
pub struct Wrapped {
    pub id: Uuid,
    pub subject: Uuid,
    pub secret: Vec<u8>,
}

#[async_trait]
pub trait KeyStore: Send + Sync {
    /// A company's wrapped key.
    async fn company(&self, company: CompanyId) -> Result<Option<Vec<u8>>, Fault>;
    async fn settle_company(&self, company: CompanyId, secret: Vec<u8>) -> Result<Vec<u8>, Fault>;
    /// The key that values of a subject are sealed under now.
    async fn subject(&self, company: CompanyId, subject: Uuid) -> Result<Option<Wrapped>, Fault>;
    async fn settle_subject(&self, company: CompanyId, key: Wrapped) -> Result<Wrapped, Fault>;
    /// Those of these keys that there still are.
    async fn keys(&self, company: CompanyId, ids: Vec<Uuid>) -> Result<Vec<Wrapped>, Fault>;
    async fn settle_print(&self, company: CompanyId, tag: &[u8], token: String) -> Result<String, Fault>;
}
