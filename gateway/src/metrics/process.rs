//! What the kernel says of this process, under the names that Prometheus' own clients use.

use std::{fmt, fs};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

/// Asks anew whenever metrics are read. Where the kernel does not say, nothing is said.
#[derive(Debug)]
pub(super) struct Process;

/// What it says.
struct Usage {
    cpu_seconds: f64,
    start_seconds: f64,
    resident_bytes: u64,
    virtual_bytes: u64,
    open_fds: u64,
}

/// A process's file in `/proc`, as it is read here.
fn own(file: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/self/{file}")).ok()
}

impl Usage {
    #[expect(clippy::cast_precision_loss, reason = "2^53 ticks are three million years")]
    fn now() -> Option<Self> {
        let ticks_per_second = rustix::param::clock_ticks_per_second() as f64;
        let stat = own("stat")?;
        // The program's name, in brackets, may hold anything; what comes after it are the fields from the third on.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks =
            |field: usize| fields.get(field - 3)?.parse::<u64>().ok().map(|ticks| ticks as f64 / ticks_per_second);
        let status = own("status")?;
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
        };
        let booted = fs::read_to_string("/proc/stat").ok()?;
        let booted: f64 = booted.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
        Some(Self {
            cpu_seconds: ticks(14)? + ticks(15)?,
            start_seconds: booted + ticks(22)?,
            resident_bytes: bytes("VmRSS:")?,
            virtual_bytes: bytes("VmSize:")?,
            open_fds: fs::read_dir("/proc/self/fd").ok()?.count() as u64,
        })
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(usage) = Usage::now() else { return Ok(()) };
        let cpu = encoder.encode_descriptor(
            "process_cpu_seconds",
            "Time on processors, in user and in kernel mode",
            None,
            MetricType::Counter,
        )?;
        ConstCounter::new(usage.cpu_seconds).encode(cpu)?;
        let start = "When the process started, in seconds since the epoch";
        let start_time = encoder.encode_descriptor("process_start_time_seconds", start, None, MetricType::Gauge)?;
        ConstGauge::new(usage.start_seconds).encode(start_time)?;
        let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
        for (name, help, value) in [
            ("process_resident_memory_bytes", "Memory that is resident", usage.resident_bytes),
            ("process_virtual_memory_bytes", "Memory that is mapped", usage.virtual_bytes),
            ("process_open_fds", "File descriptors that are open", usage.open_fds),
            ("process_max_fds", "File descriptors that may be open", most),
        ] {
            let gauge = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(value).encode(gauge)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_used_time_memory_and_files() {
        let usage = Usage::now().expect("the kernel says");
        assert!(usage.resident_bytes > 1 << 20 && usage.virtual_bytes >= usage.resident_bytes);
        assert!(usage.open_fds > 2 && usage.cpu_seconds >= 0.0);
        let now = std::time::UNIX_EPOCH.elapsed().expect("is later").as_secs_f64();
        assert!((now - usage.start_seconds).abs() < 3_600.0, "{}", usage.start_seconds);
    }
}
