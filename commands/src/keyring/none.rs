//! No keys at all: for processes that neither seal nor open, so that nothing can be taken from them.

use async_trait::async_trait;
use cnc_domain::{kernel::CompanyId, ledger::Fault};
use uuid::Uuid;

use super::store::{Destruction, KeyCheck, KeyStore, Wrapped};

pub struct NoKeys;

fn none<T>() -> Result<T, Fault> {
    Err(Fault::broken("use the key store", "this process has no keys: its roles need none"))
}

#[async_trait]
impl KeyStore for NoKeys {
    async fn check(&self) -> Result<Option<KeyCheck>, Fault> {
        none()
    }

    async fn settle_check(&self, _: KeyCheck) -> Result<KeyCheck, Fault> {
        none()
    }

    async fn companies(&self) -> Result<Vec<CompanyId>, Fault> {
        none()
    }

    async fn company(&self, _: CompanyId) -> Result<Option<Vec<u8>>, Fault> {
        none()
    }

    async fn settle_company(&self, _: CompanyId, _: Vec<u8>) -> Result<Vec<u8>, Fault> {
        none()
    }

    async fn subject(&self, _: CompanyId, _: Uuid) -> Result<Option<Wrapped>, Fault> {
        none()
    }

    async fn settle_subject(&self, _: CompanyId, _: Wrapped) -> Result<Wrapped, Fault> {
        none()
    }

    async fn keys(&self, _: CompanyId, _: Vec<Uuid>) -> Result<Vec<Wrapped>, Fault> {
        none()
    }

    async fn destroyed(&self, _: CompanyId, _: Vec<Uuid>) -> Result<Vec<Uuid>, Fault> {
        none()
    }

    async fn destroy(&self, _: CompanyId, _: Uuid, _: Destruction) -> Result<Option<Uuid>, Fault> {
        none()
    }

    async fn settle_print(&self, _: CompanyId, _: &[u8], _: String) -> Result<String, Fault> {
        none()
    }
}
