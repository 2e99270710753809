//! How much memory this process holds.

/// Resident memory in KiB, as Linux tells it.
pub fn resident_kib() -> Result<f64, Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS in /proc/self/status")?;
    Ok(line.split_whitespace().nth(1).ok_or("no figure in VmRSS")?.parse()?)
}
