//! What is measured: a gateway, a relay, and a process that folds and runs triggers, over one Postgres and one NATS.

use std::{path::PathBuf, sync::Arc};

use cnc_commands::ledger::PostgresLedger;
use cnc_domain::{kernel::CompanyId, ledger::Ledger};
use cnc_tests::{
    fixtures,
    nats::Broker,
    postgres::Cluster,
    split::{Part, Split},
};
use serde_json::Value;
use uuid::Uuid;

use super::{
    super::{Outcome, rows},
    lean::Lean,
};

/// Journeys that are reported of.
pub const JOURNEYS: usize = 100;

/// The processes, and a company with journeys in it.
pub struct World {
    pub split: Split,
    pub postgres: Cluster,
    pub database: String,
    pub gateway: Part,
    pub folds: Part,
    pub relay: Part,
    pub company: CompanyId,
    pub token: String,
    pub journeys: Arc<Vec<Uuid>>,
    _nats: Broker,
}

impl World {
    /// Starts it.
    pub async fn start() -> Outcome<Self> {
        let postgres = Cluster::start();
        let database = postgres.database().await;
        let nats = Broker::start();
        let split = Split::new(&program()?, &database, &nats.url());
        let company = split.ok(&["company", "found", "Measured Movers"]);
        let token = split.token(&company, "admin", "12");
        let gateway = split.start("gateway", "gateway");
        let folds = split.start("folds", "folds,workers");
        let relay = split.start("relay", "relay");
        let journeys = plan(&gateway, &token).await?;
        let (company, journeys) = (company.parse()?, Arc::new(journeys));
        Ok(Self { split, postgres, database, gateway, folds, relay, company, token, journeys, _nats: nats })
    }

    /// Appends entries to another company until it has so many, beside the gateway: only folds and relay see them.
    pub async fn fill(&self, entries: u64) -> Outcome<CompanyId> {
        let ledger: Arc<dyn Ledger> = Arc::new(PostgresLedger::connect(&self.database).await?);
        let company: CompanyId = self.split.ok(&["company", "found", "Filled Movers"]).parse()?;
        rows::fill(&ledger, company, entries).await?;
        Ok(company)
    }
}

async fn plan(gateway: &Part, token: &str) -> Outcome<Vec<Uuid>> {
    let mut lean = Lean::connect(&gateway.url("")).await?;
    let (mut journeys, mut last) = (Vec::new(), Vec::new());
    let mut give =
        async |path: String, body: Value| lean.post(&path, token, &Uuid::now_v7().to_string(), &body.to_string()).await;
    let branch = Uuid::now_v7();
    give(format!("/v1/location/{branch}/open"), fixtures::branch("Yard")).await?;
    for nth in 0..JOURNEYS {
        let (truck, journey) = (Uuid::now_v7(), Uuid::now_v7());
        give(format!("/v1/truck/{truck}/commission"), fixtures::truck(&format!("TRK {nth}"), branch)).await?;
        last = give(format!("/v1/truck_journey/{journey}/plan"), fixtures::journey(truck, branch, 2..9)).await?;
        journeys.push(journey);
    }
    let last: Value = serde_json::from_slice(&last)?;
    let seen = format!("/v1/views/dispatch_board?limit=1&at_least={}", last["position"]);
    lean.get(&seen, token, false).await?;
    Ok(journeys)
}

/// The `cnc` program, built with optimisation.
fn program() -> Outcome<PathBuf> {
    let mut cargo = std::process::Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    if !cargo.args(["build", "--release", "--package", "cnc-gateway"]).status()?.success() {
        return Err("cnc cannot be built".into());
    }
    Ok(std::env::current_exe()?.with_file_name("cnc"))
}
