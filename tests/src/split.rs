//! A deployment split over processes: real `cnc serve` processes, each with roles of its own, over one Postgres and one
//! NATS. Each can be killed, frozen and started again.

use std::{
    io::{BufRead as _, BufReader},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    clock::{self, OwnClock},
    nats::free_port,
};

/// Long enough for a busy machine; only what fails waits for it.
const PATIENCE: Duration = Duration::from_mins(2);

/// Where the processes of one installation meet.
pub struct Split {
    program: PathBuf,
    data: TempDir,
    ledger: String,
    nats: String,
    /// Whether each process has a clock of its own.
    own_clocks: bool,
}

/// One process.
pub struct Part {
    name: String,
    port: u16,
    log: PathBuf,
    /// Where it has one of its own.
    clock: Option<OwnClock>,
    command: Vec<String>,
    running: Mutex<Option<Running>>,
}

struct Running {
    shell: Child,
    process: String,
}

impl Split {
    /// An installation of this `cnc` program with an empty data folder. The addresses are what its processes are given.
    pub fn new(program: &Path, ledger: &str, nats: &str) -> Self {
        let data = tempfile::Builder::new().prefix("cnc-split-").tempdir().expect("a temporary folder");
        let (program, ledger, nats) = (program.to_owned(), ledger.to_owned(), nats.to_owned());
        Self { program, data, ledger, nats, own_clocks: false }
    }

    /// The same, with a clock of its own for each process that is started, which [`Part::set_clock`] sets.
    #[must_use]
    pub fn with_own_clocks(mut self) -> Self {
        self.own_clocks = true;
        self
    }

    /// Starts a process with these roles, separated by commas, and waits until it listens.
    pub fn start(&self, name: &str, roles: &str) -> Part {
        let port = free_port();
        let text = |path: &Path| path.to_str().expect("a plain path").to_owned();
        let listen = format!("127.0.0.1:{port}");
        let [program, data] = [&self.program, self.data.path()].map(text);
        let options = ["--roles", roles, "--listen", &listen, "--ledger", &self.ledger, "--nats", &self.nats];
        let clock = self.own_clocks.then(|| OwnClock::in_file(self.data.path().join(format!("{name}.clock"))));
        let environment = clock.iter().flat_map(OwnClock::environment).map(|(name, value)| format!("{name}={value}"));
        let mut command: Vec<String> = std::iter::once("env".into()).chain(environment).collect();
        command.extend([program, "serve".into(), "--data".into(), data]);
        command.extend(options.map(String::from));
        let log = self.data.path().join(format!("{name}.log"));
        let part = Part { name: name.into(), port, log, clock, command, running: Mutex::default() };
        part.start_again();
        part
    }

    /// Runs another command of the program on the same ledger: its status and standard output. `ledger` is where this
    /// one command finds it.
    pub fn run(&self, arguments: &[&str], ledger: &str) -> (i32, String) {
        let output = self.command(arguments, ledger).stderr(Stdio::inherit()).output().expect("cnc can be started");
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Another command of the program on a ledger, to be started.
    fn command(&self, arguments: &[&str], ledger: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).arg("--data").arg(self.data.path()).args(["--ledger", ledger]).stdin(Stdio::null());
        command
    }

    /// Starts a command on the same ledger. It is killed when nobody waits for it any more.
    pub fn spawn(&self, arguments: &[&str]) -> tokio::process::Child {
        let mut command = tokio::process::Command::from(self.command(arguments, &self.ledger));
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command.spawn().expect("cnc can be started")
    }

    /// Runs a command that must succeed, and returns what it says without the newline.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let (status, out) = self.run(arguments, &self.ledger);
        assert_eq!(status, 0, "cnc {arguments:?} failed: {out}");
        out.trim_end().to_owned()
    }

    /// The same as JSON, a value a line.
    pub fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let out = self.ok(&[arguments, &["--json"]].concat());
        out.lines().map(|line| serde_json::from_str(line).expect("is JSON")).collect()
    }

    /// A token of somebody in this role, good for so many hours.
    pub fn token(&self, company: &str, role: &str, hours: &str) -> String {
        let who = ["--role", role, "--name", "Ann Example", "--email", "ann@example.com", "--accept"];
        let user = self.ok(&[&["user", "invite", "--company", company], &who[..]].concat());
        self.ok(&["token", "issue", "--company", company, "--user", &user, "--hours", hours])
    }

    /// The folder with keys and logs.
    pub fn data(&self) -> &Path {
        self.data.path()
    }
}

impl Part {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Kills it as `kill -9` does; when this returns it is gone.
    pub fn kill(&self) {
        let running = self.running().take();
        if let Some(Running { mut shell, process }) = running {
            drop(shell.stdin.take());
            shell.wait().expect("the shell ends");
            if self.clock.is_some() {
                clock::forget(&process);
            }
        }
    }

    /// Starts it, and waits until it listens. As an orchestrator does, it starts it once more where it gives up, perhaps
    /// because a server was away.
    pub fn start_again(&self) {
        let started = Instant::now();
        self.launch();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(started.elapsed() < PATIENCE, "{} does not start:\n{}", self.name, self.log());
            if !self.is_alive() {
                self.kill();
                self.launch();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether it runs, or stands still.
    pub fn is_alive(&self) -> bool {
        let Some(process) = self.running().as_ref().map(|running| running.process.clone()) else { return false };
        // One that has ended is a zombie until its shell is told to look.
        std::fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
    }

    fn launch(&self) {
        let mut command = Command::new("sh");
        command.args(["-c", include_str!("split.sh"), "part"]).arg(&self.log).args(&self.command);
        let mut shell = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell can be started");
        let mut process = String::new();
        BufReader::new(shell.stdout.take().expect("piped")).read_line(&mut process).expect("the shell says its id");
        *self.running() = Some(Running { shell, process: process.trim().into() });
    }

    /// Stops it where it stands: it lives, and does nothing.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    /// Sets its clock so many seconds ahead of the machine's, or behind it. Only time of day moves: what is measured goes on.
    pub fn set_clock(&self, ahead: i64) {
        self.clock.as_ref().expect("it has a clock of its own").set(ahead);
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> Option<u64> {
        let process = self.running().as_ref()?.process.clone();
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.split_whitespace().next()?.parse().ok()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn signal(&self, signal: &str) {
        if let Some(running) = self.running().as_ref() {
            let done = Command::new("kill").args(["-s", signal, &running.process]).status();
            assert!(done.is_ok_and(|status| status.success()), "{} can be told {signal}", self.name);
        }
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.kill();
    }
}
