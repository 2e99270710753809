//! The `cnc` binary as an operator meets it: real processes on real folders, killed where it hurts.

mod audit;
mod backup;
mod clocks;
mod demo;
mod folds;
mod health;
mod import;
mod keys;
mod kill;
mod listening;
mod logging;
mod logs;
mod lost_keys;
mod moving;
mod reading;
mod restoring;
mod secrets;
mod tokens;

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::Instant,
};

use cnc_domain::ledger::Entry;
use cnc_tests::{postgres::cluster, system::PATIENCE};
use serde_json::Value;
use tempfile::TempDir;

/// An operator with a data folder.
pub struct Operator {
    data: TempDir,
    ledger: Option<String>,
}

/// What a command came to.
pub struct Came {
    pub status: i32,
    pub out: String,
    pub err: String,
}

impl Operator {
    /// With an empty folder.
    pub fn new() -> Self {
        Self { data: tempfile::tempdir().expect("a folder"), ledger: None }
    }

    /// With an empty folder and an empty Postgres database.
    pub fn postgres() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { ledger: Some(runtime.block_on(cluster().database())), ..Self::new() }
    }

    /// With an empty folder and this Postgres database.
    pub fn on(ledger: &str) -> Self {
        Self { ledger: Some(ledger.to_owned()), ..Self::new() }
    }

    /// With a copy of another one's folder.
    pub fn copy(&self) -> Self {
        let copy = Self { ledger: self.ledger.clone(), ..Self::new() };
        for file in std::fs::read_dir(self.data()).expect("reads").flatten().filter(|file| file.path().is_file()) {
            std::fs::copy(file.path(), copy.data().join(file.file_name())).expect("copies");
        }
        copy
    }

    /// The folder, for a process that lives longer.
    pub fn into_data(self) -> TempDir {
        self.data
    }

    pub fn data(&self) -> &Path {
        self.data.path()
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cnc_under_test"));
        command.args(arguments).arg("--data").arg(self.data()).env_remove("CNC_LEDGER").env_remove("CNC_LOG");
        if let Some(ledger) = &self.ledger {
            command.arg("--ledger").arg(ledger);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, arguments: &[&str]) -> Came {
        let Output { status, stdout, stderr } = self.command(arguments).output().expect("cnc runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        Came { status: status.code().unwrap_or(-1), out: text(stdout), err: text(stderr) }
    }

    /// Runs a command that must succeed.
    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> String {
        let came = self.run(arguments);
        assert_eq!(came.status, 0, "{arguments:?}\n{}\n{}", came.out, came.err);
        came.out
    }

    /// Runs a command that must succeed and answer in JSON.
    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let out = self.ok(&[arguments, &["--json"]].concat());
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {out}"))
    }

    pub fn found(&self, name: &str) -> String {
        self.ok(&["company", "found", name]).trim().to_owned()
    }

    /// Invites somebody, who comes in at once: their id.
    pub fn invite(&self, company: &str, role: &str) -> String {
        let who = ["--role", role, "--name", "Ann Example", "--email", "ann@example.com", "--accept"];
        self.ok(&[&["user", "invite", "--company", company], &who[..]].concat()).trim().to_owned()
    }

    /// A token of somebody in this role.
    pub fn token(&self, company: &str, role: &str) -> String {
        let user = self.invite(company, role);
        self.ok(&["token", "issue", "--company", company, "--user", &user]).trim().to_owned()
    }

    /// A company's ledger, or nothing while it cannot be read.
    pub fn try_export(&self, company: &str) -> Vec<String> {
        self.run(&["audit", "export", "--company", company]).out.lines().map(str::to_owned).collect()
    }

    /// A company's ledger.
    pub fn export(&self, company: &str) -> Vec<String> {
        self.ok(&["audit", "export", "--company", company]).lines().map(str::to_owned).collect()
    }

    /// Starts a server on a free port, and waits until it listens.
    pub fn serve(&self) -> Server {
        self.serve_as(&[])
    }

    /// The same with these options.
    pub fn serve_as(&self, options: &[&str]) -> Server {
        self.start("127.0.0.1:0", options, &[]).server
    }

    /// The same with this environment.
    pub fn serve_with(&self, options: &[&str], environment: &[(&str, String)]) -> Server {
        self.start("127.0.0.1:0", options, environment).server
    }

    /// The same, with what it logs until it ends.
    pub fn logged(&self, options: &[&str]) -> (Server, JoinHandle<String>) {
        let Started { server, log, .. } = self.start("127.0.0.1:0", options, &[]);
        (server, log)
    }

    /// Starts a server that listens there with these options and this environment.
    pub fn start(&self, listen: &str, options: &[&str], environment: &[(&str, String)]) -> Started {
        let arguments = [&["serve", "--listen", listen, "--json"], options].concat();
        let environment = environment.iter().map(|(name, value)| (*name, value));
        let mut child = self.command(&arguments).envs(environment).spawn().expect("cnc starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("is piped")).read_line(&mut line).expect("reads");
        assert!(line.contains("listening"), "{line}");
        let said_so_far = child.stderr.take().expect("is piped");
        let log = Arc::<Mutex<String>>::default();
        // Somebody must read the log, or the server waits for room in the pipe.
        let logging = std::thread::spawn({
            let log = log.clone();
            move || {
                for line in BufReader::new(said_so_far).lines().map_while(Result::ok) {
                    log.lock().expect("whole").extend([line.as_str(), "\n"]);
                }
                log.lock().expect("whole").clone()
            }
        });
        let said: Value = serde_json::from_str(&line).expect("JSON");
        let address =
            said["listening"].as_str().and_then(|url| url.strip_prefix("http://")).expect("an address").into();
        Started { server: Server { child, address, log }, said, log: logging }
    }
}

/// A server that has started.
pub struct Started {
    /// It.
    pub server: Server,
    /// What it said when it listened.
    pub said: Value,
    /// What it logs, until it ends.
    pub log: JoinHandle<String>,
}

/// A server, killed where nobody stops it.
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: String,
    log: Arc<Mutex<String>>,
}

impl Server {
    /// Stops it as an operator does.
    pub fn stop(mut self) {
        let stopped = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        assert!(stopped.expect("kill runs").success());
        assert!(self.child.wait().expect("ends").success());
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills it as the kernel would when memory runs out.
    pub fn kill(mut self) {
        self.child.kill().expect("can be killed");
        self.child.wait().expect("ends");
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.log.lock().expect("whole").clone()
    }

    /// Waits until it has logged a line with all of these in it.
    #[track_caller]
    pub fn says(&self, parts: &[&str]) {
        let said = || self.log().lines().any(|line| parts.iter().all(|part| line.contains(part)));
        until(&format!("{parts:?} in the log"), said);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        cnc_tests::clock::forget(&self.child.id().to_string());
    }
}

/// Waits until something is so.
#[track_caller]
pub fn until(what: &str, mut is: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < PATIENCE, "{what} did not come");
        std::thread::yield_now();
    }
}

/// What happened in each stream, in order: what must be the same however an import came about. Times of recording,
/// positions and boxes differ from one import to the next, and are left out.
pub fn streams(lines: &[String]) -> std::collections::BTreeMap<String, Vec<String>> {
    let mut streams = std::collections::BTreeMap::<String, Vec<String>>::new();
    for line in lines {
        let entry = Entry::read(line).expect("an entry");
        let payload: Value = serde_json::from_str(entry.payload.get()).expect("JSON");
        let of = |member: &str| payload[member].to_string();
        let happened =
            format!("{} {} {} {} {}", entry.event, of("occurred_at"), of("window"), of("chunk"), of("count"));
        streams.entry(format!("{} {}", entry.stream, entry.id)).or_default().push(happened);
    }
    streams
}

/// A file in a folder of its own.
pub fn file(operator: &Operator, name: &str, content: &[u8]) -> PathBuf {
    let path = operator.data().join(name);
    std::fs::write(&path, content).expect("writes");
    path
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// The arguments that bring in a file of fixes, with a branch of its own.
pub fn bring_in<'a>(csv: &'a str, company: &'a str) -> [&'a str; 9] {
    ["import", "gps", csv, "--company", company, "--province", "US-TX", "--timezone", "America/Chicago"]
}

#[test]
fn each_kind_of_failure_has_its_own_status() {
    let operator = Operator::new();
    let nobody = "01920000-0000-7000-8000-000000000001";
    for (arguments, status) in [
        (&["no-such-command"][..], 2),
        (&["audit", "verify"], 2),
        (&["company", "list", "--log", "cnc_commands=loud"], 2),
        (&["user", "invite", "--company", nobody, "--role", "emperor", "--name", "Ann", "--email", "a@b.ca"], 2),
        (&["user", "invite", "--company", nobody, "--role", "admin", "--name", "Ann", "--email", "a@b.ca"], 3),
        (&["token", "issue", "--company", nobody], 2),
        (&["token", "issue", "--company", nobody, "--user", nobody], 3),
        (&["company", "reopen", nobody], 3),
        (&["audit", "export", "--company", nobody], 3),
        (&["audit", "verify", "/no/such/file"], 3),
        (&["import", "gps", "/no/such/file", "--company", nobody], 2),
        (&bring_in("/no/such/file", nobody), 3),
    ] {
        let came = operator.run(arguments);
        assert_eq!(came.status, status, "{arguments:?}: {}", came.err);
        assert!(!came.err.is_empty(), "{arguments:?} says why");
    }
}

#[test]
fn every_command_works_beside_a_running_server() {
    for operator in [Operator::new(), Operator::postgres()] {
        beside_a_server(&operator);
    }
}

fn beside_a_server(operator: &Operator) {
    let server = operator.serve();
    let company = operator.found("Beside Movers");
    assert!(operator.ok(&["company", "list"]).contains("Beside Movers"));
    operator.ok(&["audit", "verify", "--company", &company]);
    operator.token(&company, "dispatcher");
    operator.ok(&["folds", "status"]);
    operator.ok(&["folds", "verify"]);
    drop(server);
    operator.ok(&["audit", "verify", "--company", &company]);
}
