//! Where wrapped keys lie. To *settle* is to put something where nothing is and to get what is there then, so that
//! processes that make the same at once agree.

use async_trait::async_trait;
use cnc_domain::{
    kernel::{CompanyId, Timestamp},
    ledger::Fault,
};
use uuid::Uuid;

/// A subject's key, wrapped.
#[derive(Clone)]
pub struct Wrapped {
    pub id: Uuid,
    pub subject: Uuid,
    pub secret: Vec<u8>,
}

/// A constant that is sealed under the master key whose keys a store holds, and bound to that store: another master key is
/// noticed before anything is sealed under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyCheck {
    pub store: Uuid,
    pub value: Vec<u8>,
}

/// That keys of a subject were destroyed: only of these is anybody erased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destruction {
    /// When.
    pub at: Timestamp,
    /// By whom, or by which entry.
    pub by: String,
}

#[async_trait]
pub trait KeyStore: Send + Sync {
    /// What tells whether a master key is the one of this store.
    async fn check(&self) -> Result<Option<KeyCheck>, Fault>;
    async fn settle_check(&self, check: KeyCheck) -> Result<KeyCheck, Fault>;
    /// The companies that have a key here.
    async fn companies(&self) -> Result<Vec<CompanyId>, Fault>;
    /// A company's wrapped key.
    async fn company(&self, company: CompanyId) -> Result<Option<Vec<u8>>, Fault>;
    async fn settle_company(&self, company: CompanyId, secret: Vec<u8>) -> Result<Vec<u8>, Fault>;
    /// The key that values of a subject are sealed under now.
    async fn subject(&self, company: CompanyId, subject: Uuid) -> Result<Option<Wrapped>, Fault>;
    async fn settle_subject(&self, company: CompanyId, key: Wrapped) -> Result<Wrapped, Fault>;
    /// Those of these keys that there still are.
    async fn keys(&self, company: CompanyId, ids: Vec<Uuid>) -> Result<Vec<Wrapped>, Fault>;
    /// Those of these keys whose destruction is recorded.
    async fn destroyed(&self, company: CompanyId, ids: Vec<Uuid>) -> Result<Vec<Uuid>, Fault>;
    /// Destroys the key of a subject and records it, in one transaction. The key's id; `None` where there is none.
    async fn destroy(&self, company: CompanyId, subject: Uuid, record: Destruction) -> Result<Option<Uuid>, Fault>;
    async fn settle_print(&self, company: CompanyId, tag: &[u8], token: String) -> Result<String, Fault>;
    /// Leaves nothing beside the store's file that the next start would have to bring in.
    async fn close(&self) -> Result<(), Fault> {
        Ok(())
    }
}
