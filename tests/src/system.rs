//! A whole system in the test's own process, on a data folder that goes away with it.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use cnc_domain::ledger::Fault;
use cnc_gateway::{
    limits::Limits,
    nats::NatsAccess,
    roles::Role,
    run::{Config, System},
};
use tempfile::TempDir;

use crate::staff::Place;

/// How long anything that a test waits for may take before the test fails.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// A running system and its data folder.
pub struct Running {
    /// The system.
    pub system: System,
    data: Arc<TempDir>,
    /// The tokens that were issued for tests, by whose they are.
    pub(crate) issued: Mutex<HashMap<Place, String>>,
}

/// What a system is started with, beside what all tests share.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    /// The Postgres database; `SQLite` where there is none.
    pub ledger: Option<String>,
    /// The addresses of NATS.
    pub nats: Option<String>,
    /// Its roles; the usual where none are named.
    pub roles: Option<Vec<Role>>,
    /// What its callers may ask for at most.
    pub limits: Limits,
}

impl Running {
    /// Starts one on SQLite.
    pub async fn sqlite() -> Result<Self, Fault> {
        Self::start(Shape::default(), Arc::new(new_folder())).await
    }

    /// Starts one on a Postgres database.
    pub async fn postgres(url: &str) -> Result<Self, Fault> {
        Self::shaped(Shape { ledger: Some(url.to_owned()), ..Shape::default() }).await
    }

    /// Starts one on SQLite that bounds its callers so.
    pub async fn limited(limits: Limits) -> Result<Self, Fault> {
        Self::shaped(Shape { limits, ..Shape::default() }).await
    }

    /// Starts one of this shape.
    pub async fn shaped(shape: Shape) -> Result<Self, Fault> {
        Self::start(shape, Arc::new(new_folder())).await
    }

    /// Starts one of this shape on a folder that is there.
    pub async fn within(shape: Shape, folder: TempDir) -> Result<Self, Fault> {
        Self::start(shape, Arc::new(folder)).await
    }

    /// Starts another process of the same installation: with the same keys.
    pub async fn beside(&self, shape: Shape) -> Result<Self, Fault> {
        Self::start(shape, self.data.clone()).await
    }

    async fn start(shape: Shape, data: Arc<TempDir>) -> Result<Self, Fault> {
        let Shape { ledger, nats, roles, limits } = shape;
        let config = Config {
            data: data.path().to_owned(),
            ledger,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            limits,
            metrics_listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            nats: nats.map(|urls| NatsAccess::new(urls, None)),
            roles,
            ..Config::default()
        };
        Ok(Self { system: System::start(config).await?, data, issued: Mutex::default() })
    }

    /// Stops it, and starts another one on the same data.
    pub async fn restart(self, ledger: Option<String>) -> Result<Self, Fault> {
        let Self { system, data, .. } = self;
        system.stop().await;
        Self::start(Shape { ledger, ..Shape::default() }, data).await
    }

    /// Its data folder.
    pub fn data(&self) -> &std::path::Path {
        self.data.path()
    }

    /// The address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.system.address)
    }

    /// What it measures, as the operator reads it.
    pub async fn metrics(&self) -> String {
        let address = self.system.metrics_address.expect("listens for the operator");
        let response = reqwest::get(format!("http://{address}/metrics")).await.expect("answers");
        response.error_for_status().expect("is good").text().await.expect("is text")
    }

    /// Stops it as an operator would.
    pub async fn stop(self) {
        self.system.stop().await;
    }
}

fn new_folder() -> TempDir {
    tempfile::tempdir().expect("the temporary folder can be written")
}
