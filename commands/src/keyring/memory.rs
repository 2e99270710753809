//! Wrapped keys in memory.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use cnc_domain::{kernel::CompanyId, ledger::Fault};
use uuid::Uuid;

use super::{
    Keyring, MasterKey, locked,
    store::{Destruction, KeyCheck, KeyStore, Wrapped},
};

/// A store of keys that outlives the simulated processes that use it.
#[derive(Clone, Default)]
pub struct MemoryKeys(Arc<Mutex<Tables>>);

#[derive(Default)]
struct Tables {
    check: Option<KeyCheck>,
    destroyed: BTreeMap<(CompanyId, Uuid), Destruction>,
    companies: BTreeMap<CompanyId, Vec<u8>>,
    subjects: BTreeMap<(CompanyId, Uuid), Wrapped>,
    prints: BTreeMap<(CompanyId, Vec<u8>), String>,
}

impl MemoryKeys {
    /// The keyring of one process.
    pub fn keyring(&self, master: MasterKey) -> Keyring {
        Keyring::over(Box::new(self.clone()), master)
    }
}

#[async_trait]
impl KeyStore for MemoryKeys {
    async fn check(&self) -> Result<Option<KeyCheck>, Fault> {
        Ok(locked(&self.0).check.clone())
    }

    async fn settle_check(&self, check: KeyCheck) -> Result<KeyCheck, Fault> {
        Ok(locked(&self.0).check.get_or_insert(check).clone())
    }

    async fn companies(&self) -> Result<Vec<CompanyId>, Fault> {
        Ok(locked(&self.0).companies.keys().copied().collect())
    }

    async fn company(&self, company: CompanyId) -> Result<Option<Vec<u8>>, Fault> {
        Ok(locked(&self.0).companies.get(&company).cloned())
    }

    async fn settle_company(&self, company: CompanyId, secret: Vec<u8>) -> Result<Vec<u8>, Fault> {
        Ok(locked(&self.0).companies.entry(company).or_insert(secret).clone())
    }

    async fn subject(&self, company: CompanyId, subject: Uuid) -> Result<Option<Wrapped>, Fault> {
        Ok(locked(&self.0).subjects.get(&(company, subject)).cloned())
    }

    async fn settle_subject(&self, company: CompanyId, key: Wrapped) -> Result<Wrapped, Fault> {
        Ok(locked(&self.0).subjects.entry((company, key.subject)).or_insert(key).clone())
    }

    async fn keys(&self, company: CompanyId, ids: Vec<Uuid>) -> Result<Vec<Wrapped>, Fault> {
        let tables = locked(&self.0);
        let own = tables.subjects.iter().filter(|((of, _), key)| *of == company && ids.contains(&key.id));
        Ok(own.map(|(_, key)| key.clone()).collect())
    }

    async fn destroyed(&self, company: CompanyId, ids: Vec<Uuid>) -> Result<Vec<Uuid>, Fault> {
        let tables = locked(&self.0);
        Ok(ids.into_iter().filter(|id| tables.destroyed.contains_key(&(company, *id))).collect())
    }

    async fn destroy(&self, company: CompanyId, subject: Uuid, record: Destruction) -> Result<Option<Uuid>, Fault> {
        let mut tables = locked(&self.0);
        let id = tables.subjects.remove(&(company, subject)).map(|key| key.id);
        tables.destroyed.extend(id.map(|id| ((company, id), record)));
        Ok(id)
    }

    async fn settle_print(&self, company: CompanyId, tag: &[u8], token: String) -> Result<String, Fault> {
        Ok(locked(&self.0).prints.entry((company, tag.to_vec())).or_insert(token).clone())
    }
}
