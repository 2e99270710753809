//! What is counted and timed, in the `OpenMetrics` text form. Labels are route templates, methods, status codes and
//! names of folds: never a company, an id or anything personal.

mod process;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use cnc_projections::FoldStatus;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};

use self::process::Process;
use crate::parts::Parts;

/// The media type of [`Metrics::text`].
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything that is measured.
pub struct Metrics {
    registry: Registry,
    requests: Family<Answered, Counter>,
    seconds: Family<Route, Histogram, fn() -> Histogram>,
    /// Sockets that are open.
    pub sockets: Gauge,
    closed: Family<Reason, Counter>,
    /// Connections of clients.
    pub(crate) connections: Connections,
    waiting: Gauge<u64, AtomicU64>,
    lag: Family<FoldName, Gauge<u64, AtomicU64>>,
    stopped: Family<FoldName, Gauge<u64, AtomicU64>>,
    skipped: Family<FoldName, Gauge<u64, AtomicU64>>,
    rebuilding: Family<FoldName, Gauge<u64, AtomicU64>>,
    forked: Family<FoldName, Gauge<u64, AtomicU64>>,
    fold_held: Gauge<u64, AtomicU64>,
    append_batches: Counter,
    append_commands: Counter,
    pools: Family<Pool, Gauge<u64, AtomicU64>>,
    nats: Nats,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Pool {
    pool: &'static str,
    state: &'static str,
}

/// What is measured of connections. Clones count together.
#[derive(Clone, Default)]
pub(crate) struct Connections {
    /// Those that are open.
    pub open: Gauge,
    cut: Family<Reason, Counter>,
}

impl Connections {
    /// Counts one that the server ended, or did not let begin.
    pub fn cut(&self, reason: &'static str) {
        self.cut.get_or_create(&Reason { reason }).inc();
    }
}

/// What is measured of NATS; zero where a process has none.
#[derive(Default)]
struct Nats {
    configured: Gauge,
    connected: Gauge,
    waiting: Gauge<u64, AtomicU64>,
    served: Counter,
    relay_lag: Gauge<u64, AtomicU64>,
    relay_published: Counter,
    relay_failed: Counter,
    relay_forks: Counter,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Answered {
    route: String,
    method: &'static str,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Route {
    route: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// How a fold stands, over all companies.
#[derive(Clone, Copy, Debug, Default)]
pub struct FoldFigures {
    /// How many entries it is behind.
    pub lag: u64,
    /// For how many companies it has stopped.
    pub stopped: u64,
    /// How many entries it left out.
    pub skipped: u64,
    /// For how many companies it is built anew.
    pub rebuilding: u64,
    /// How many of its builds are of another history than the ledger's.
    pub forked: u64,
}

impl FoldFigures {
    /// Adds how it stands in one company.
    pub fn add(&mut self, status: &FoldStatus) {
        self.forked += u64::from(status.forked);
        if matches!(status.standing, "live" | "building") {
            self.lag += status.lag;
            self.stopped += u64::from(status.poison.is_some());
            self.skipped += status.skipped;
            self.rebuilding += u64::from(status.rebuilding_until.is_some());
        }
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct FoldName {
    fold: String,
}

fn seconds() -> Histogram {
    // 0.5 ms to 16 s.
    Histogram::new(exponential_buckets(0.0005, 2.0, 16))
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            requests: Family::default(),
            seconds: Family::new_with_constructor(seconds),
            sockets: Gauge::default(),
            closed: Family::default(),
            connections: Connections::default(),
            waiting: Gauge::default(),
            lag: Family::default(),
            stopped: Family::default(),
            skipped: Family::default(),
            rebuilding: Family::default(),
            forked: Family::default(),
            fold_held: Gauge::default(),
            append_batches: Counter::default(),
            append_commands: Counter::default(),
            pools: Family::default(),
            nats: Nats::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        self.registry.register_collector(Box::new(Process));
        let registry = self.registry.sub_registry_with_prefix("cnc");
        registry.register("build", "The program", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        registry.register("http_requests", "Requests by route, method and status", self.requests.clone());
        let about = "Time until an answer starts, by route";
        registry.register_with_unit("http_request_duration", about, Unit::Seconds, self.seconds.clone());
        registry.register("http_connections", "Connections that are open", self.connections.open.clone());
        let about = "Connections that the server ended or refused, by reason";
        registry.register("http_connections_cut", about, self.connections.cut.clone());
        let about = "What was made for clients who have not read it yet";
        registry.register_with_unit("http_waiting", about, Unit::Bytes, self.waiting.clone());
        registry.register("live_sockets", "Sockets that are open", self.sockets.clone());
        registry.register("live_closed", "Sockets closed by the server, by reason", self.closed.clone());
        registry.register(
            "fold_lag_entries",
            "Entries that a fold has not folded yet, all companies",
            self.lag.clone(),
        );
        let about = "Documents that folds hold for the next news";
        registry.register_with_unit("fold_held", about, Unit::Bytes, self.fold_held.clone());
        registry.register("fold_stopped_companies", "Companies for which a fold has stopped", self.stopped.clone());
        registry.register("fold_skipped_entries", "Entries that a fold left out, all companies", self.skipped.clone());
        let rebuilding = "Companies for which a fold is built anew, since it was of another history than the ledger's";
        registry.register("fold_rebuilding_companies", rebuilding, self.rebuilding.clone());
        let forked =
            "Builds of a fold that are of another history than the ledger's, those that were replaced among them";
        registry.register("fold_forked_builds", forked, self.forked.clone());
        registry.register("append_batches", "Transactions of the appender", self.append_batches.clone());
        registry.register("append_commands", "Commands in those transactions", self.append_commands.clone());
        let about = "Connections to the database, by what they are for and whether they are in use";
        registry.register("pool_connections", about, self.pools.clone());
        self.nats.register(registry);
    }

    /// Counts one request.
    pub fn request(&self, route: &str, method: &'static str, status: u16, took: Duration) {
        let route = Route { route: route.into() };
        self.seconds.get_or_create(&route).observe(took.as_secs_f64());
        self.requests.get_or_create(&Answered { route: route.route, method, status }).inc();
    }

    /// Counts a socket that the server closed.
    pub fn socket_closed(&self, reason: &'static str) {
        self.closed.get_or_create(&Reason { reason }).inc();
    }

    /// Sets how a fold stands, over all companies.
    pub fn fold(&self, fold: &str, figures: &FoldFigures) {
        let name = FoldName { fold: fold.into() };
        let FoldFigures { lag, stopped, skipped, rebuilding, forked } = *figures;
        self.lag.get_or_create(&name).set(lag);
        self.stopped.get_or_create(&name).set(stopped);
        self.skipped.get_or_create(&name).set(skipped);
        self.rebuilding.get_or_create(&name).set(rebuilding);
        self.forked.get_or_create(&name).set(forked);
    }

    /// Sets how much folds hold between two pieces of news.
    pub fn folds_hold(&self, bytes: usize) {
        self.fold_held.set(bytes as u64);
    }

    /// Sets how many transactions the appender made, and of how many commands.
    pub fn appends(&self, batches: u64, commands: u64) {
        set(&self.append_batches, batches);
        set(&self.append_commands, commands);
    }

    /// Sets how many connections of a pool are open, and how many of those nobody uses.
    pub fn pool(&self, pool: &'static str, open: usize, idle: usize) {
        for (state, count) in [("idle", idle), ("used", open.saturating_sub(idle))] {
            self.pools.get_or_create(&Pool { pool, state }).set(count as u64);
        }
    }

    /// Sets how many bytes wait to be read by clients.
    pub fn waiting(&self, bytes: usize) {
        self.waiting.set(bytes as u64);
    }

    /// Sets how the connection to NATS, the feed and the relay stand.
    pub fn parts(&self, parts: &Parts) {
        let nats = &self.nats;
        nats.configured.set(parts.nats.is_some().into());
        nats.connected.set(parts.nats_is_connected().unwrap_or(false).into());
        if let Some(feed) = &parts.feed {
            nats.waiting.set(feed.waiting() as u64);
            set(&nats.served, feed.served());
        }
        if let Some(relay) = &parts.relay {
            nats.relay_lag.set(relay.lag.load(Ordering::Relaxed));
            set(&nats.relay_published, relay.published.load(Ordering::Relaxed));
            set(&nats.relay_failed, relay.failed.load(Ordering::Relaxed));
            set(&nats.relay_forks, relay.forks.load(Ordering::Relaxed));
        }
    }

    /// All of it as text.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// Sets what is counted elsewhere, and so only grows.
fn set(counter: &Counter, count: u64) {
    counter.inner().store(count, Ordering::Relaxed);
}

impl Nats {
    fn register(&self, registry: &mut Registry) {
        let configured = "Whether the process works with NATS: 1 or 0";
        registry.register("nats_configured", configured, self.configured.clone());
        registry.register("nats_connected", "Whether NATS can be reached: 1 or 0", self.connected.clone());
        let feed = "Messages that were delivered here and are not folded yet";
        registry.register("feed_waiting_messages", feed, self.waiting.clone());
        let served = "Lines that folds read from messages, not from the ledger";
        registry.register("feed_served_lines", served, self.served.clone());
        let lag = "Entries of the companies of this relay that NATS has not acknowledged yet";
        registry.register("relay_lag_entries", lag, self.relay_lag.clone());
        let published = "Entries that NATS has acknowledged";
        registry.register("relay_published_entries", published, self.relay_published.clone());
        registry.register("relay_failures", "Attempts to publish that failed", self.relay_failed.clone());
        let forks = "Ledgers that were found to have parted from what was published of them";
        registry.register("relay_forks", forks, self.relay_forks.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_counted_by_route_and_status() {
        let metrics = Metrics::default();
        metrics.request("/v1/views/{view}", "GET", 200, Duration::from_millis(3));
        let text = metrics.text().expect("writes");
        assert!(
            text.contains(r#"cnc_http_requests_total{route="/v1/views/{view}",method="GET",status="200"} 1"#),
            "{text}"
        );
        assert!(text.ends_with("# EOF\n"));
    }

    /// Metrics of which each has been measured once.
    fn measured() -> String {
        let metrics = Metrics::default();
        metrics.request("/docs", "GET", 200, Duration::from_millis(3));
        metrics.socket_closed("too slow");
        metrics.connections.cut("idle");
        metrics.fold("alerts", &FoldFigures { lag: 1, ..FoldFigures::default() });
        metrics.pool("ledger_read", 2, 1);
        metrics.text().expect("writes")
    }

    #[test]
    fn every_metric_that_an_alert_names_is_measured() {
        let rules = include_str!("../../deploy/prometheus/alerts.yaml");
        let (text, mut named) = (measured(), 0);
        let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        for name in rules.split(|letter| !is_part(letter)) {
            if name.starts_with("cnc_") || name.starts_with("process_") {
                named += 1;
                let is_there =
                    text.lines().any(|line| line.starts_with(name) && !line[name.len()..].starts_with(is_part));
                assert!(is_there, "deploy/prometheus/alerts.yaml names {name}, which is not in\n{text}");
            }
        }
        assert!(named > 15, "only {named} names were found");
    }

    #[test]
    fn names_end_with_what_is_counted() {
        for line in measured().lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').expect("has a type");
            let ends = |units: &[&str]| units.iter().any(|unit| name.ends_with(unit));
            assert!(!name.ends_with("_total"), "{name}: counters get it when they are written");
            assert!(kind != "histogram" || ends(&["_seconds", "_bytes"]), "{name}");
            assert!(!ends(&["_ms", "_millis", "_kb"]), "{name} is in no base unit");
        }
    }

    #[test]
    fn what_only_grows_is_a_counter_and_the_program_says_which_it_is() {
        let metrics = Metrics::default();
        metrics.appends(2, 7);
        metrics.connections.cut("idle");
        let text = metrics.text().expect("writes");
        for line in [
            "cnc_append_commands_total 7\n",
            "cnc_http_connections_cut_total{reason=\"idle\"} 1\n",
            concat!("cnc_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1\n"),
            "\nprocess_cpu_seconds_total ",
            "\nprocess_resident_memory_bytes ",
        ] {
            assert!(text.contains(line), "{line} is not in {text}");
        }
    }
}
