//! The bodies of the commands that set up a small mover.

use std::ops::Range;

use cnc_domain::kernel::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

const MINUTE: i64 = 60_000_000;

/// The time now.
pub fn now() -> Timestamp {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(now.as_micros()).unwrap_or(i64::MAX))
}

/// Opens a branch.
pub fn branch(name: &str) -> Value {
    json!({ "name": name, "province": "CA-NS", "timezone": "America/Halifax",
        "yard": { "lat_e7": 446_000_000, "lon_e7": -635_000_000 } })
}

/// Commissions a truck of a branch.
pub fn truck(plate: &str, branch: Uuid) -> Value {
    json!({ "plate": plate, "size_ft": 26, "volume_cuft": 17_000, "home_location": branch, "cost_per_hour": 4_500 })
}

/// Takes on a mover of a branch.
pub fn hire(branch: Uuid) -> Value {
    json!({ "name": "Ada Planted", "phone": "+1 416 555 0101", "roles": ["mover"], "home_location": branch,
        "hourly_rate": 2_400, "employment_class": "provincial", "duty": "general", "province": "CA-ON",
        "licence": null })
}

/// Plans a journey for two, in a window that is these hours from now.
pub fn journey(truck: Uuid, branch: Uuid, hours: Range<i64>) -> Value {
    let hour = |hour: i64| Timestamp::from_micros(now().micros() + hour * 60 * MINUTE);
    json!({ "truck": truck, "location": branch, "recommended_crew": 2,
        "window": { "start": hour(hours.start), "end": hour(hours.end) }, "stops": [{ "kind": "load" }] })
}

/// Plans a journey in a window that has passed, the `nth` before `first`: a trigger warns of it at once.
pub fn late_journey(truck: Uuid, branch: Uuid, first: Timestamp, nth: usize) -> Value {
    let start = first.micros() - i64::try_from(2 * nth + 2).unwrap_or(i64::MAX) * MINUTE;
    json!({ "truck": truck, "location": branch, "recommended_crew": 0,
        "window": { "start": Timestamp::from_micros(start), "end": Timestamp::from_micros(start + MINUTE) },
        "stops": [{ "kind": "load" }] })
}
