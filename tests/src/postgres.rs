//! Real Postgres clusters, made by `initdb` in a temporary folder, on a free port: of the distribution's package, and of
//! newer servers beside it. `CNC_POSTGRES` says which, with colons between: folders of programs, or the versions 16, 17 and
//! 18, which come from npm. Where it says nothing, that is 18.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::{debian, embedded, shell::Shell};

/// Long enough for a busy machine; only a test that fails waits for it.
const PATIENCE: Duration = Duration::from_mins(1);

/// Which servers there are beside the distribution's where nothing is said.
const BESIDE: &str = "18";

/// A running Postgres server with data of its own.
pub struct Cluster {
    bin: PathBuf,
    port: u16,
    folder: PathBuf,
    shell: Shell,
    databases: AtomicU32,
}

/// The cluster that all tests of this process share. Each test makes its own database in it.
pub fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(Cluster::start)
}

/// The same, and one of each other server that is there: what is promised of Postgres is promised of all.
pub fn clusters() -> impl Iterator<Item = &'static Cluster> {
    static BESIDE: OnceLock<Vec<Cluster>> = OnceLock::new();
    let beside = || servers_beside().into_iter().map(|bin| Cluster::of(bin, &std::env::temp_dir())).collect();
    std::iter::once(cluster()).chain(BESIDE.get_or_init(beside))
}

/// The programs of the servers beside the distribution's.
fn servers_beside() -> Vec<PathBuf> {
    let named = std::env::var("CNC_POSTGRES").unwrap_or_else(|_| BESIDE.to_owned());
    let one = |name: &str| if name.contains('/') { Some(name.into()) } else { embedded::programs(name) };
    named.split(':').filter(|name| !name.is_empty()).filter_map(one).collect()
}

impl Cluster {
    /// Starts another cluster, for a test that crashes it. It stops when it is dropped or the process ends.
    pub fn start() -> Self {
        Self::start_in(&std::env::temp_dir())
    }

    /// The same with its data below `parent`.
    pub fn start_in(parent: &Path) -> Self {
        Self::of(programs(), parent)
    }

    /// Starts a new cluster of the same server, in which nothing is.
    #[must_use]
    pub fn another(&self) -> Self {
        Self::of(self.bin.clone(), &std::env::temp_dir())
    }

    fn of(bin: PathBuf, parent: &Path) -> Self {
        let folder = tempfile::Builder::new().prefix("cnc-postgres-").tempdir_in(parent).expect("a folder").keep();
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
        let mut command = unprivileged(&folder);
        command.args(["-c", include_str!("cluster.sh"), "cluster"]).arg(&bin).arg(&folder).arg(port.to_string());
        let cluster = Self { bin, port, folder, shell: Shell::run(command), databases: AtomicU32::new(0) };
        cluster.wait_until_it_listens();
        cluster
    }

    /// Where it listens.
    pub fn address(&self) -> std::net::SocketAddr {
        std::net::SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Which server it is, as its program says.
    pub fn version(&self) -> String {
        let said = Command::new(self.bin.join("postgres")).arg("--version").output().expect("the server can be run");
        String::from_utf8_lossy(&said.stdout).trim().to_owned()
    }

    /// The address of one of its databases.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }

    /// Makes a new, empty database and returns its address.
    pub async fn database(&self) -> String {
        self.database_with("").await
    }

    /// The same with these options of `CREATE DATABASE`.
    pub async fn database_with(&self, options: &str) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let started = Instant::now();
        // Right after a start the server may listen and not yet answer.
        let mut admin = loop {
            match PgConnection::connect(&self.url("postgres")).await {
                Ok(connection) => break connection,
                Err(error) if started.elapsed() > PATIENCE => panic!("no connection: {error}\n{}", self.log()),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        admin.execute(format!("CREATE DATABASE {name} {options}").as_str()).await.expect("a database can be made");
        self.url(&name)
    }

    /// Stops the server as a power cut would, and starts it again; when this returns, the one before is gone.
    pub fn crash(&self) {
        self.shell.order("crash");
    }

    fn wait_until_it_listens(&self) {
        let started = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(
                !self.shell.has_ended() && started.elapsed() < PATIENCE,
                "Postgres does not start:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

/// One of the newest server's programs, such as `pgbench`.
pub fn program(name: &str) -> PathBuf {
    programs().join(name)
}

/// The newest installed server's programs; the server is installed where there is none.
fn programs() -> PathBuf {
    debian::need("postgresql", || newest().is_some());
    newest().expect("the server is installed")
}

fn newest() -> Option<PathBuf> {
    let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest =
        installed.map(|entry| entry.path()).filter(|path| version(path) >= Some(15)).max_by_key(|path| version(path));
    newest.map(|path| path.join("bin")).filter(|bin| bin.join("initdb").exists())
}

/// A shell that may run Postgres, which refuses to run as root; the folder becomes its user's.
fn unprivileged(folder: &Path) -> Command {
    if !debian::is_root() {
        return Command::new("sh");
    }
    let known = Command::new("id").args(["-u", "postgres"]).output().is_ok_and(|output| output.status.success());
    let user = if known { "postgres" } else { "nobody" };
    let owned = Command::new("chown").arg(user).arg(folder).status().is_ok_and(|status| status.success());
    assert!(owned, "the temporary folder can be given to {user}");
    let mut command = Command::new("setpriv");
    command.args(["--reuid", user, "--clear-groups", "sh"]).current_dir(folder);
    command
}
