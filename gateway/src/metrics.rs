//! What is counted and timed, in the `OpenMetrics` text form. Labels are route templates, methods, status codes and
//! names of folds: never a company, an id or anything personal.

use std::{sync::atomic::AtomicU64, time::Duration};

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
    append_batches: Gauge<u64, AtomicU64>,
    append_commands: Gauge<u64, AtomicU64>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Asked {
    route: String,
    method: String,
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
            append_batches: Gauge::default(),
            append_commands: Gauge::default(),
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
        registry.register("fold_stopped_companies", "Companies for which a fold has stopped", self.stopped.clone());
        registry.register(
            "append_batches",
            "Transactions of the appender since the start",
            self.append_batches.clone(),
        );
        registry.register("append_commands", "Commands in those transactions", self.append_commands.clone());
    }

    /// Counts one request.
    pub fn request(&self, route: &str, method: &str, status: u16, took: Duration) {
        let asked = Asked { route: route.into(), method: method.into(), status };
        self.requests.get_or_create(&asked).inc();
        self.seconds.get_or_create(&Route { route: route.into() }).observe(took.as_secs_f64());
    }

    /// Counts a socket that the server closed.
    pub fn socket_closed(&self, reason: &'static str) {
        self.dropped.get_or_create(&Reason { reason }).inc();
    }

    /// Sets how far a fold is behind, over all companies, and for how many it has stopped.
    pub fn fold(&self, fold: &str, lag: u64, stopped: u64) {
        let name = FoldName { fold: fold.into() };
        self.lag.get_or_create(&name).set(lag);
        self.stopped.get_or_create(&name).set(stopped);
    }

    /// Sets how many transactions the appender made, and of how many commands.
    pub fn appends(&self, batches: u64, commands: u64) {
        self.append_batches.set(batches);
        self.append_commands.set(commands);
    }

    /// All of it as text.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
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
