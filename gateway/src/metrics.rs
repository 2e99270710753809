//! What is counted and timed, in the `OpenMetrics` text form. Labels are route templates, methods, status codes and
//! names of folds: never a company, an id or anything personal.

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
    },
    registry::Registry,
};

use crate::roles::Parts;

/// The media type of [`Metrics::text`].
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything that is measured.
pub struct Metrics {
    registry: Registry,
    requests: Family<Asked, Counter>,
    seconds: Family<Route, Histogram, fn() -> Histogram>,
    /// Sockets that are open.
    pub sockets: Gauge,
    dropped: Family<Reason, Counter>,
    lag: Family<FoldName, Gauge<u64, AtomicU64>>,
    stopped: Family<FoldName, Gauge<u64, AtomicU64>>,
    skipped: Family<FoldName, Gauge<u64, AtomicU64>>,
    rebuilding: Family<FoldName, Gauge<u64, AtomicU64>>,
    forked: Family<FoldName, Gauge<u64, AtomicU64>>,
    fold_held: Gauge<u64, AtomicU64>,
    append_batches: Gauge<u64, AtomicU64>,
    append_commands: Gauge<u64, AtomicU64>,
    nats: Nats,
}

/// What is measured of NATS; zero where a process has none.
#[derive(Default)]
struct Nats {
    connected: Gauge,
    waiting: Gauge<u64, AtomicU64>,
    served: Gauge<u64, AtomicU64>,
    relay_lag: Gauge<u64, AtomicU64>,
    relay_published: Gauge<u64, AtomicU64>,
    relay_failed: Gauge<u64, AtomicU64>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Asked {
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
            registry: Registry::with_prefix("cnc"),
            requests: Family::default(),
            seconds: Family::new_with_constructor(seconds),
            sockets: Gauge::default(),
            dropped: Family::default(),
            lag: Family::default(),
            stopped: Family::default(),
            skipped: Family::default(),
            rebuilding: Family::default(),
            forked: Family::default(),
            fold_held: Gauge::default(),
            append_batches: Gauge::default(),
            append_commands: Gauge::default(),
            nats: Nats::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("http_requests", "Requests by route, method and status", self.requests.clone());
        registry.register("http_request_seconds", "Time until an answer starts, by route", self.seconds.clone());
        registry.register("live_sockets", "Sockets that are open", self.sockets.clone());
        registry.register("live_closed", "Sockets closed by the server, by reason", self.dropped.clone());
        registry.register(
            "fold_lag_entries",
            "Entries that a fold has not folded yet, all companies",
            self.lag.clone(),
        );
        registry.register("fold_held_bytes", "Documents that folds hold for the next news", self.fold_held.clone());
        registry.register("fold_stopped_companies", "Companies for which a fold has stopped", self.stopped.clone());
        registry.register("fold_skipped_entries", "Entries that a fold left out, all companies", self.skipped.clone());
        let rebuilding = "Companies for which a fold is built anew, since it was of another history than the ledger's";
        registry.register("fold_rebuilding_companies", rebuilding, self.rebuilding.clone());
        let forked =
            "Builds of a fold that are of another history than the ledger's, those that were replaced among them";
        registry.register("fold_forked_builds", forked, self.forked.clone());
        registry.register(
            "append_batches",
            "Transactions of the appender since the start",
            self.append_batches.clone(),
        );
        registry.register("append_commands", "Commands in those transactions", self.append_commands.clone());
        self.nats.register(&mut self.registry);
    }

    /// Counts one request.
    pub fn request(&self, route: &str, method: &'static str, status: u16, took: Duration) {
        let route = Route { route: route.into() };
        self.seconds.get_or_create(&route).observe(took.as_secs_f64());
        self.requests.get_or_create(&Asked { route: route.route, method, status }).inc();
    }

    /// Counts a socket that the server closed.
    pub fn socket_closed(&self, reason: &'static str) {
        self.dropped.get_or_create(&Reason { reason }).inc();
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
        self.append_batches.set(batches);
        self.append_commands.set(commands);
    }

    /// Sets how the connection to NATS, the feed and the relay stand.
    pub fn parts(&self, parts: &Parts) {
        let nats = &self.nats;
        nats.connected.set(parts.nats_is_connected().unwrap_or(false).into());
        if let Some(feed) = &parts.feed {
            nats.waiting.set(feed.waiting() as u64);
            nats.served.set(feed.served());
        }
        if let Some(relay) = &parts.relay {
            nats.relay_lag.set(relay.lag.load(Ordering::Relaxed));
            nats.relay_published.set(relay.published.load(Ordering::Relaxed));
            nats.relay_failed.set(relay.failed.load(Ordering::Relaxed));
        }
    }

    /// All of it as text.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Nats {
    fn register(&self, registry: &mut Registry) {
        registry.register("nats_connected", "Whether NATS can be reached: 1 or 0", self.connected.clone());
        let feed = "Messages that were delivered here and are not folded yet";
        registry.register("feed_waiting_messages", feed, self.waiting.clone());
        let served = "Lines that folds read from messages, not from the ledger";
        registry.register("feed_served_lines", served, self.served.clone());
        let lag = "Entries of the companies of this relay that NATS has not acknowledged yet";
        registry.register("relay_lag_entries", lag, self.relay_lag.clone());
        let published = "Entries that NATS has acknowledged since the start";
        registry.register("relay_published_entries", published, self.relay_published.clone());
        registry.register("relay_failures", "Attempts to publish that failed", self.relay_failed.clone());
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
}
