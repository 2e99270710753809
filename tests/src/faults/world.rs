//! A split deployment with a small mover in it: two gateways, two processes that fold, a relay and another in waiting,
//! and a runner of triggers, over one Postgres and one NATS or a cluster of three.

use std::{path::Path, sync::Arc, time::Duration};

use reqwest::Client;
use serde_json::Value;
use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;
use uuid::Uuid;

use super::{
    Fault,
    load::{Load, Plans, Written},
};
use crate::{
    fixtures,
    nats::{Broker, Brokers},
    postgres::Cluster,
    split::{Part, Split},
    system::PATIENCE,
    wire::Wire,
};

/// The broker or brokers.
pub enum Nats {
    /// One, behind a wire.
    One(Broker),
    /// Three.
    Three(Brokers),
}

/// What faults strike.
pub struct World {
    pub split: Split,
    pub postgres: Cluster,
    /// The database, past the wire.
    pub database: String,
    pub nats: Nats,
    /// Between all processes and Postgres.
    pub to_postgres: Wire,
    /// Between all processes and a single broker.
    pub to_nats: Option<Wire>,
    pub gateways: Vec<Part>,
    pub folds: Vec<Part>,
    pub relays: Vec<Part>,
    pub workers: Vec<Part>,
    pub company: String,
    /// Who may do everything.
    pub token: String,
    journeys: Vec<(Uuid, Plans)>,
    pub client: Client,
    pub written: Arc<Written>,
    writers: usize,
    /// A small file system that Postgres is on, where it shall be filled.
    pub disk: Option<Disk>,
}

/// How large it is.
#[derive(Clone, Copy)]
pub struct Size {
    /// How many writers give commands.
    pub writers: usize,
    /// How many processes fold views.
    pub folds: usize,
    /// How many run triggers.
    pub workers: usize,
}

/// A file system of some megabytes in memory.
pub struct Disk {
    folder: TempDir,
}

impl World {
    /// Starts it, with a journey for each writer.
    pub async fn start(program: &Path, fault: Fault, size: Size) -> Self {
        let disk = (fault == Fault::DiskFull).then(Disk::mount);
        let postgres = match &disk {
            Some(disk) => Cluster::start_in(&disk.path()),
            None => Cluster::start(),
        };
        let database = postgres.database().await;
        let to_postgres = Wire::to(postgres.address()).await.expect("a port is free");
        let nats = if fault.needs_three() { Nats::Three(Brokers::three()) } else { Nats::One(Broker::start()) };
        let (to_nats, address) = match &nats {
            Nats::Three(brokers) => (None, brokers.url()),
            Nats::One(broker) => {
                let wire = Wire::to(broker.address()).await.expect("a port is free");
                let address = format!("nats://{}", wire.address());
                (Some(wire), address)
            }
        };
        let wired = database.replace(&postgres.address().to_string(), &to_postgres.address().to_string());
        let split = Split::new(program, &wired, &address);
        let split = if fault == Fault::ClockSteps { split.with_own_clocks() } else { split };
        let company = split.ok(&["company", "found", "Unlucky Movers"]);
        let token = split.token(&company, "admin", "12");
        let start = |role: &str, count: usize| -> Vec<Part> {
            (0..count).map(|nth| split.start(&format!("{role}-{nth}"), role)).collect()
        };
        let (gateways, folds, relays, workers) =
            (start("gateway", 2), start("folds", size.folds), start("relay", 2), start("workers", size.workers));
        let client = Client::builder().timeout(Duration::from_secs(2)).build().expect("is a client");
        let (journeys, written) = (Vec::new(), Arc::default());
        let mut world = Self {
            split,
            postgres,
            database,
            nats,
            to_postgres,
            to_nats,
            gateways,
            folds,
            relays,
            workers,
            company,
            token,
            journeys,
            client,
            written,
            writers: size.writers,
            disk,
        };
        world.set_up().await;
        world
    }

    /// A branch, and for each writer a truck and a journey.
    async fn set_up(&mut self) {
        let branch = Uuid::now_v7();
        self.must(&format!("/v1/location/{branch}/open"), &fixtures::branch("Yard")).await;
        let particulars = |plate: &str, nth: usize| fixtures::truck(&format!("{plate} {nth}"), branch);
        for nth in 0..self.writers {
            let (truck, journey) = (Uuid::now_v7(), Uuid::now_v7());
            self.must(&format!("/v1/truck/{truck}/commission"), &particulars("TRK", nth)).await;
            let plan = fixtures::journey(truck, branch, 2..9);
            self.must(&format!("/v1/truck_journey/{journey}/plan"), &plan).await;
            let spare = Uuid::now_v7();
            self.must(&format!("/v1/truck/{spare}/commission"), &particulars("SPARE", nth)).await;
            self.journeys.push((journey, Plans { branch, truck: spare, first: fixtures::now() }));
        }
    }

    async fn must(&self, path: &str, body: &Value) {
        let request = self.client.post(self.gateways[0].url(path)).bearer_auth(&self.token);
        let response = request.header("idempotency-key", Uuid::now_v7().to_string()).json(body).send().await;
        let response = response.expect("the gateway answers");
        let (status, text) = (response.status(), response.text().await.unwrap_or_default());
        assert!(status.is_success(), "{path}: {status} {text}");
    }

    /// Writers begin to report of their journeys, each to both gateways in turn.
    pub fn load(&self) -> Load {
        Load::start(self, &self.journeys)
    }

    /// Waits until so many more commands have been acknowledged.
    pub async fn go_on_for(&self, commands: u64) {
        let until = self.written.count().saturating_add(commands);
        self.written.reached(until).await;
    }

    /// Takes entries of the company as what was written, however they came, until it is stopped.
    pub fn follow_the_ledger(&self) -> tokio::task::AbortHandle {
        let (database, company, written) = (self.database.clone(), self.company.clone(), self.written.clone());
        let following = tokio::spawn(async move {
            loop {
                // The database may be away.
                if let Ok(mut connection) = PgConnection::connect(&database).await {
                    let sql = "SELECT position FROM cnc.heads WHERE company = $1::uuid";
                    while let Ok(head) = sqlx::query_scalar(sql).bind(&company).fetch_one(&mut connection).await {
                        let head: i64 = head;
                        written.are(head.unsigned_abs());
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        following.abort_handle()
    }

    /// Waits until every fold is even with the ledger, nothing waits in an outbox, and the relay has published all.
    pub async fn until_even(&self) {
        let started = std::time::Instant::now();
        loop {
            let status = self.split.json(&["folds", "status"]);
            let even = !status.is_empty() && status.iter().all(|fold| fold["lag"] == 0 || !fold["poison"].is_null());
            if even && self.all_sent().await && self.published_all().await {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "folds or relay stay behind: {status:#?}\n{}", self.logs());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Whether nothing that triggers sent waits, and no deadline has run out.
    async fn all_sent(&self) -> bool {
        let sql = "SELECT NOT EXISTS (SELECT FROM cnc.outbox) AND NOT EXISTS
                   (SELECT FROM cnc.deadlines WHERE due_at <= extract(epoch FROM now()) * 1000000)";
        let Ok(mut database) = PgConnection::connect(&self.database).await else { return false };
        sqlx::query_scalar(sql).fetch_one(&mut database).await.unwrap_or(false)
    }

    async fn published_all(&self) -> bool {
        let Ok(head) = self.head().await else { return false };
        super::verdict::positions_in_stream(self).await.is_some_and(|positions| positions.contains(&head))
    }

    /// The ledger's last position.
    pub async fn head(&self) -> Result<u64, String> {
        let request = self.client.get(self.gateways[0].url("/v1/ledger/head")).bearer_auth(&self.token);
        let head: Value =
            request.send().await.map_err(|error| error.to_string())?.json().await.map_err(|error| error.to_string())?;
        head["position"].as_u64().ok_or_else(|| head.to_string())
    }

    /// A client of the broker itself, past the wire.
    pub async fn broker(&self) -> async_nats::Client {
        match &self.nats {
            Nats::One(broker) => broker.client().await,
            Nats::Three(brokers) => brokers.client().await,
        }
    }

    /// All processes.
    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        [&self.gateways, &self.folds, &self.relays, &self.workers].into_iter().flatten()
    }

    /// The last lines of all processes.
    pub fn logs(&self) -> String {
        let last = |part: &Part| {
            let log = part.log();
            let lines: Vec<&str> = log.lines().rev().take(12).collect();
            format!("--- {}\n{}\n", part.name(), lines.into_iter().rev().collect::<Vec<_>>().join("\n"))
        };
        self.parts().map(last).collect()
    }
}

impl Disk {
    /// Only root can mount; a machine whose root cannot either cannot run this fault.
    fn mount() -> Self {
        let folder = tempfile::Builder::new().prefix("cnc-disk-").tempdir().expect("a temporary folder");
        let mount = ["-t", "tmpfs", "-o", "size=400m,mode=755", "tmpfs"];
        let done = std::process::Command::new("mount").args(mount).arg(folder.path()).status();
        assert!(done.is_ok_and(|status| status.success()), "a file system can be mounted (as root)");
        Self { folder }
    }

    /// Where it is mounted.
    pub fn path(&self) -> std::path::PathBuf {
        self.folder.path().to_owned()
    }

    /// Fills it to the last byte.
    pub fn fill(&self) {
        use std::io::Write as _;
        let mut ballast = std::fs::File::create(self.folder.path().join("ballast")).expect("a file can be made");
        let block = vec![0; 1 << 20];
        while ballast.write_all(&block).is_ok() {}
        while ballast.write_all(&block[..512]).is_ok() {}
    }

    /// Makes room again.
    pub fn free(&self) {
        std::fs::remove_file(self.folder.path().join("ballast")).expect("the file can be removed");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: whoever still has files open there ends by himself.
        drop(std::process::Command::new("umount").arg("--lazy").arg(self.folder.path()).status());
    }
}
