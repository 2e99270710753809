//! A ledger that fails, or panics, while it is told to.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};

use async_trait::async_trait;
use cnc_domain::{
    kernel::{CompanyId, Timestamp},
    ledger::{
        Answered, Append, AppendError, Appended, Fault, Feed, Hash, Head, Ledger, LedgerTime, Notification, Position,
        Sequence,
    },
};
use uuid::Uuid;

/// What it does instead of its work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Whim {
    /// Its work.
    #[default]
    Works,
    /// Every append fails.
    Fails,
    /// Nothing can be asked of it.
    Away,
    /// Everything panics.
    Panics,
    /// Who asks for all heads is never answered.
    Hangs,
}

/// A ledger over another one.
pub struct Faulty {
    ledger: Arc<dyn Ledger>,
    /// What it does now.
    pub whim: Mutex<Whim>,
    /// How many batches have failed.
    pub failed: AtomicU32,
}

impl Faulty {
    pub fn over(ledger: Arc<dyn Ledger>) -> Arc<Self> {
        Arc::new(Self { ledger, whim: Mutex::default(), failed: AtomicU32::new(0) })
    }

    pub fn does(&self, whim: Whim) {
        *self.whim.lock().expect("whole") = whim;
    }

    fn inner(&self) -> Result<&dyn Ledger, Fault> {
        let whim = *self.whim.lock().expect("whole");
        assert!(whim != Whim::Panics, "the ledger panics");
        if whim == Whim::Away {
            return Err(Fault::passing("asking the ledger", "the cable is cut"));
        }
        Ok(&*self.ledger)
    }
}

#[async_trait]
impl Feed for Faulty {
    async fn heads(&self) -> Result<Vec<(CompanyId, Head)>, Fault> {
        if *self.whim.lock().expect("whole") == Whim::Hangs {
            return std::future::pending().await;
        }
        self.inner()?.heads().await
    }
    async fn head(&self, company: CompanyId) -> Result<Option<Head>, Fault> {
        self.inner()?.head(company).await
    }
    async fn read(&self, company: CompanyId, after: Position, limit: usize) -> Result<Vec<String>, Fault> {
        self.inner()?.read(company, after, limit).await
    }
    async fn read_stream(
        &self,
        company: CompanyId,
        stream: &str,
        id: Uuid,
        after: Sequence,
        limit: usize,
    ) -> Result<Vec<String>, Fault> {
        self.inner()?.read_stream(company, stream, id, after, limit).await
    }
    async fn position_at(&self, company: CompanyId, at: Timestamp) -> Result<Position, Fault> {
        self.inner()?.position_at(company, at).await
    }
    async fn changed(&self, cursor: u64) -> Notification {
        self.ledger.changed(cursor).await
    }
}

#[async_trait]
impl Ledger for Faulty {
    async fn append(&self, batch: Vec<Append>) -> Result<Vec<Result<Appended, AppendError>>, Fault> {
        if *self.whim.lock().expect("whole") == Whim::Fails {
            self.failed.fetch_add(1, Ordering::Relaxed);
            return Err(Fault::passing("append", "the disk is full"));
        }
        self.inner()?.append(batch).await
    }
    async fn facts(&self, company: CompanyId) -> Result<Option<Hash>, Fault> {
        self.inner()?.facts(company).await
    }
    async fn answered(&self, company: CompanyId, actor: &str, key: &str) -> Result<Option<Answered>, Fault> {
        self.inner()?.answered(company, actor, key).await
    }
    async fn forget_answers(&self, before: Timestamp) -> Result<u64, Fault> {
        self.inner()?.forget_answers(before).await
    }
    async fn time(&self) -> Result<LedgerTime, Fault> {
        self.inner()?.time().await
    }
}
