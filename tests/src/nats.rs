//! Real NATS servers with JetStream, from the distribution's package or the program that `CNC_NATS_SERVER` names, on
//! free ports and with storage in a temporary folder.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        OnceLock,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use async_nats::{Client, jetstream};

use crate::{debian, shell::Shell};

/// Long enough for a busy machine; only a test that fails waits for it.
const PATIENCE: Duration = Duration::from_mins(1);

/// A NATS server with storage of its own.
pub struct Broker {
    port: u16,
    monitor: u16,
    folder: PathBuf,
    shell: Shell,
}

/// The broker that all tests of this process share, with all that is in it.
pub fn broker() -> &'static Broker {
    static BROKER: OnceLock<Broker> = OnceLock::new();
    BROKER.get_or_init(Broker::start)
}

impl Broker {
    /// Starts one that lets everybody in. It stops when it is dropped or the process ends.
    pub fn start() -> Self {
        Self::with_config("")
    }

    /// Starts one with settings of its own. Address and port are the harness', whatever they say; so
    /// is `jetstream`, which they leave out.
    pub fn with_config(settings: &str) -> Self {
        let broker = Self::spawn(free_port(), settings);
        broker.wait_until_ready();
        broker
    }

    fn spawn(port: u16, settings: &str) -> Self {
        let monitor = free_port();
        let folder = tempfile::Builder::new().prefix("cnc-nats-").tempdir().expect("a temporary folder").keep();
        configure(&folder, settings);
        let mut command = Command::new("sh");
        command.args(["-c", include_str!("nats.sh"), "nats"]).arg(program()).arg(&folder);
        command.args(["-a", "127.0.0.1", "-p", &port.to_string(), "-m", &monitor.to_string()]);
        Self { port, monitor, folder, shell: Shell::run(command) }
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Where it listens.
    pub fn address(&self) -> std::net::SocketAddr {
        std::net::SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// A new client, which is let in without a password.
    pub async fn client(&self) -> Client {
        async_nats::connect(self.url()).await.expect("the broker lets us in")
    }

    /// `JetStream` as a new client sees it.
    pub async fn jetstream(&self) -> jetstream::Context {
        jetstream::new(self.client().await)
    }

    /// Stops it as `kill -9` does; when this returns it is gone.
    pub fn kill(&self) {
        self.shell.order("kill");
    }

    /// Starts it again after [`Broker::kill`], on the same port, with what it had stored.
    pub fn start_again(&self) {
        self.shell.order("start");
        self.wait_until_ready();
    }

    /// Kills it, and starts it again with nothing in its storage.
    pub fn wipe(&self) {
        self.start_again_after("wipe");
    }

    /// Keeps a copy of its storage for [`Broker::forget_what_followed`].
    pub fn remember(&self) {
        self.start_again_after("remember");
    }

    /// Kills it, and starts it again with what it had stored at [`Broker::remember`], as after a power cut before the
    /// rest was on its disk.
    pub fn forget_what_followed(&self) {
        self.start_again_after("recall");
    }

    /// Ends it, so that all is on its disk, and starts it again with the messages that it had at [`Broker::remember`] and
    /// its consumers standing where they stood, as after a power cut at which only theirs was on the disk.
    pub fn forget_messages_that_followed(&self) {
        self.shell.order("end");
        self.shell.order("unfollow");
        self.start_again();
    }

    /// Kills it, has this done to its storage, and starts it again.
    fn start_again_after(&self, order: &str) {
        self.kill();
        self.shell.order(order);
        self.start_again();
    }

    /// Ends it, and starts it again with other settings.
    pub fn restart(&self, settings: &str) {
        self.shell.order("end");
        configure(&self.folder, settings);
        self.start_again();
    }

    /// Gives it other settings while it runs, as an operator who edits its file and has it read again.
    pub fn reload(&self, settings: &str) {
        let before = self.log().matches("Reloaded server configuration").count();
        configure(&self.folder, settings);
        self.shell.order("reload");
        self.wait_for("read its settings again", || {
            self.log().matches("Reloaded server configuration").count() > before
        });
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn wait_until_ready(&self) {
        self.wait_for("start", || is_healthy(self.monitor).unwrap_or(false));
    }

    fn wait_for(&self, what: &str, is_so: impl Fn() -> bool) {
        let started = Instant::now();
        while !is_so() {
            assert!(started.elapsed() < PATIENCE, "nats-server does not {what}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A cluster of three brokers, in which a stream can have three copies.
pub struct Brokers {
    nodes: [Broker; 3],
}

impl Brokers {
    /// Starts them, and waits until they have a leader.
    pub fn three() -> Self {
        let routes: [u16; 3] = std::array::from_fn(|_| free_port());
        let all = routes.map(|port| format!("\"nats://127.0.0.1:{port}\"")).join(", ");
        let nodes = std::array::from_fn(|nth| {
            let settings = format!(
                "server_name: node_{nth}\ncluster {{ name: cnc, listen: \"127.0.0.1:{}\", routes: [{all}] }}\n",
                routes[nth]
            );
            Broker::spawn(free_port(), &settings)
        });
        let brokers = Self { nodes };
        brokers.nodes.iter().for_each(Broker::wait_until_ready);
        brokers
    }

    /// One of them.
    pub fn node(&self, nth: usize) -> &Broker {
        &self.nodes[nth]
    }

    /// The addresses of all, separated by commas.
    pub fn url(&self) -> String {
        self.nodes.each_ref().map(Broker::url).join(",")
    }

    /// A new client that knows all of them.
    pub async fn client(&self) -> Client {
        let addresses = self.nodes.each_ref().map(|node| node.url().parse().expect("is an address"));
        let addresses: Vec<async_nats::ServerAddr> = addresses.to_vec();
        async_nats::connect(addresses).await.expect("a broker lets us in")
    }

    /// Kills one of them.
    pub fn kill(&self, nth: usize) {
        self.nodes[nth].kill();
    }

    /// Starts one again that was killed.
    pub fn start_again(&self, nth: usize) {
        self.nodes[nth].start_again();
    }

    /// Starts those again that were killed, and waits until they are ready: of three, two must be there for that.
    pub fn start_all_again(&self, killed: &[usize]) {
        for nth in killed {
            self.nodes[*nth].shell.order("start");
        }
        for nth in killed {
            self.nodes[*nth].wait_until_ready();
        }
    }
}

/// Writes the settings. Storage stands among them: a server that was told of it otherwise forgets it when it reads them
/// again.
fn configure(folder: &Path, settings: &str) {
    let settings = format!("{settings}\njetstream {{ store_dir: \"{}\" }}\n", folder.join("data").display());
    std::fs::write(folder.join("config"), settings).expect("the folder can be written");
}

/// Whether the server says that it and its streams are ready.
fn is_healthy(monitor: u16) -> std::io::Result<bool> {
    let mut connection = TcpStream::connect(("127.0.0.1", monitor))?;
    connection.set_read_timeout(Some(Duration::from_secs(5)))?;
    connection.write_all(b"GET /healthz HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    Ok(answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200"))
}

/// A port that nobody listens on. It is none of those that clients are given: otherwise, while a broker is down, somebody
/// else's connection could take its port, and a client that tries to connect to it could reach itself.
pub(crate) fn free_port() -> u16 {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    // Test processes that run side by side begin far from each other.
    let start = || std::process::id().wrapping_mul(997) % u32::from(COUNT);
    let next = NEXT.get_or_init(|| AtomicU16::new(start().try_into().unwrap_or_default()));
    let mut tried = 0;
    loop {
        let port = FIRST + next.fetch_add(1, Ordering::Relaxed) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
        tried += 1;
        assert!(tried < COUNT, "no port is free");
    }
}

/// What the server says of a file of settings, with these variables; `Err` where it would not start with them.
pub fn check(settings: &Path, variables: &[(&str, String)]) -> Result<(), String> {
    let mut command = Command::new(program());
    command.arg("-t").arg("-c").arg(settings).envs(variables.iter().map(|(name, value)| (name, value)));
    let said = command.output().expect("runs");
    if said.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&said.stderr).into_owned()) }
}

/// The server; its package is installed where there is none.
fn program() -> PathBuf {
    if let Some(named) = std::env::var_os("CNC_NATS_SERVER") {
        return named.into();
    }
    debian::need("nats-server", || installed().is_some());
    installed().expect("the server is installed")
}

/// Debian puts it where only root looks.
fn installed() -> Option<PathBuf> {
    let candidates = ["nats-server", "/usr/sbin/nats-server"];
    candidates.into_iter().find(|program| debian::runs(program)).map(PathBuf::from)
}
