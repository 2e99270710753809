//! A ledger that several hosts share, on each back end and in memory, and that can be put back under them.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use cnc_commands::{
    Host,
    ledger::memory::{Server, Snapshot},
};
use cnc_domain::{
    kernel::Timestamp,
    ledger::{Fault, Weather},
};

use cnc_tests::postgres::Cluster;

use super::{COMPANY, found, host_over};
use crate::ledger::Ground;

/// Runs each case on both back ends and in memory.
macro_rules! on_all {
    ($($case:ident),* $(,)?) => {
        crate::ledger::on_both!(crate::host::place::Place; $($case),*);
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$case(crate::host::place::Place::memory()).await;
            })*
        }
    };
}
pub(crate) use on_all;

/// Where a ledger is.
pub(crate) struct Place {
    /// Has the keys, and the ledger where there is no server in memory.
    ground: Ground,
    memory: Option<Server>,
    kept: Mutex<Option<Snapshot>>,
}

/// Nothing takes long, nothing fails.
struct Calm;

#[async_trait]
impl Weather for Calm {
    async fn before(&self, _: &'static str) -> Result<(), Fault> {
        Ok(())
    }
    async fn after(&self, _: &'static str) -> Result<(), Fault> {
        Ok(())
    }
    fn now(&self) -> Timestamp {
        cnc_tests::fixtures::now()
    }
}

impl Place {
    pub(crate) fn sqlite() -> Self {
        Self { ground: Ground::sqlite(), memory: None, kept: Mutex::default() }
    }

    pub(crate) async fn on(cluster: &Cluster) -> Self {
        Self { ground: Ground::on(cluster).await, memory: None, kept: Mutex::default() }
    }

    pub(crate) fn memory() -> Self {
        Self { memory: Some(Server::new(Arc::new(Calm))), ..Self::sqlite() }
    }

    /// A host here, as a process of its own would start it.
    pub(crate) async fn host(&self, adopt_schemas: bool) -> Host {
        match &self.memory {
            Some(server) => host_over(Arc::new(server.ledger(Arc::new(Calm))), &self.ground, adopt_schemas).await,
            None => host_over(self.ground.ledger().await, &self.ground, adopt_schemas).await,
        }
    }

    /// A host here, of a company that is founded.
    pub(crate) async fn founded(&self) -> Host {
        let host = self.host(false).await;
        found(&host, COMPANY).await;
        host
    }

    /// Keeps a copy of all that is recorded.
    pub(crate) async fn keep_copy(&self) {
        match &self.memory {
            Some(server) => *self.kept.lock().expect("whole") = Some(server.snapshot()),
            None => self.ground.keep_copy().await,
        }
    }

    /// Puts the copy back under the hosts: what was recorded since is lost, and nobody is told.
    pub(crate) async fn put_back(&self) {
        match &self.memory {
            Some(server) => server.restore(self.kept.lock().expect("whole").take().expect("a copy was kept")),
            None => self.ground.put_back().await,
        }
    }
}
