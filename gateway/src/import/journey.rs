//! The commands that make a journey of a run, and the ids that they go to. All ids follow from company, vehicle, trip and
//! the run's first fix, so that the same run is the same journey however often it is brought in.

use cnc_domain::{
    calendar_capacity::Truck,
    command_control::truck_journey::{Stop, TruckJourney},
    crew_customer::CrewMember,
    kernel::{CompanyId, Id, LocationId, Timestamp, marker},
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    runs::{Run, Vehicle},
    table::Row,
};

/// One command of the import.
#[derive(Clone, Debug)]
pub struct Step {
    /// The kind of aggregate.
    pub stream: &'static str,
    /// Which one.
    pub id: Uuid,
    /// The command's name.
    pub name: &'static str,
    /// The event that shows that it was done.
    pub event: &'static str,
    /// The command's fields, personal ones in clear.
    pub fields: Value,
    /// What tells this step from others of the same name to the same aggregate.
    pub nth: u64,
}

/// The ids of a vehicle.
#[derive(Clone, Copy, Debug)]
pub struct Fleet {
    company: CompanyId,
    location: LocationId,
    /// The truck that the vehicle is.
    pub truck: Id<Truck>,
    /// Who drives it.
    pub driver: Id<CrewMember>,
    /// Its receiver.
    pub tracker: Id<marker::Device>,
}

/// The ids of a run.
#[derive(Clone, Copy, Debug)]
pub struct Trip {
    fleet: Fleet,
    /// The journey.
    pub journey: Id<TruckJourney>,
    stop: Id<Stop>,
}

fn derived<T>(company: CompanyId, what: &str, parts: &[&[u8]]) -> Id<T> {
    let company = company.uuid();
    let named: [&[u8]; 3] = [b"import gps", what.as_bytes(), company.as_bytes()];
    Id::derived(&[&named, parts].concat())
}

/// The branch that imported trucks belong to where the operator names none.
#[derive(Clone, Debug)]
pub struct Branch {
    /// The province or state, such as `CA-ON`.
    pub province: String,
    /// The IANA name of the time zone.
    pub timezone: String,
}

impl Branch {
    /// Its id.
    pub fn id(company: CompanyId) -> LocationId {
        derived(company, "location", &[])
    }

    /// Opens it. Its yard is where the first fix is, to the whole degree: a yard is no secret, but a fix is.
    pub fn open(&self, company: CompanyId, yard: &Row) -> Step {
        Step {
            stream: "location",
            id: Self::id(company).uuid(),
            name: "open",
            event: "opened",
            fields: json!({
                "name": "Imported vehicles",
                "province": self.province,
                "timezone": self.timezone,
                "yard": { "lat_e7": whole_degrees(yard.lat_e7.0), "lon_e7": whole_degrees(yard.lon_e7.0) },
            }),
            nth: 0,
        }
    }
}

fn step(stream: &'static str, id: Uuid, name: &'static str, event: &'static str, fields: Value) -> Step {
    Step { stream, id, name, event, fields, nth: 0 }
}

impl Fleet {
    /// The ids of `vehicle`.
    pub fn of(company: CompanyId, location: LocationId, vehicle: &str) -> Self {
        let name = vehicle.as_bytes();
        Self {
            company,
            location,
            truck: derived(company, "truck", &[name]),
            driver: derived(company, "driver", &[name]),
            tracker: derived(company, "tracker", &[name]),
        }
    }

    /// Commissions the truck and hires its driver. Another system's fixes say nothing of either: a usual moving truck, and
    /// somebody who may drive it.
    pub fn steps(self, vehicle: &Vehicle, province: &str) -> Vec<Step> {
        let plate: String = vehicle.name.chars().take(20).collect();
        let truck = json!({
            "plate": plate, "size_ft": 26, "volume_cuft": 16_800, "home_location": self.location, "cost_per_hour": 0,
        });
        let driver = json!({
            "name": format!("Driver of vehicle {plate}"), "phone": "000 000 0000", "roles": ["driver"],
            "home_location": self.location, "hourly_rate": 0, "employment_class": "provincial", "duty": "general",
            "province": province, "licence": { "class": "heavy", "expires": "9999-12-31T00:00:00Z" },
        });
        Vec::from([
            step("truck", self.truck.uuid(), "commission", "commissioned", truck),
            step("crew_member", self.driver.uuid(), "hire", "hired", driver),
        ])
    }

    /// The ids of one of the vehicle's runs.
    pub fn trip(self, vehicle: &str, run: &Run) -> Trip {
        let first = run.rows.first().map_or(0, |row| row.at.micros()).to_be_bytes();
        let parts: [&[u8]; 3] = [vehicle.as_bytes(), run.trip.as_bytes(), &first];
        Trip {
            fleet: self,
            journey: derived(self.company, "journey", &parts),
            stop: derived(self.company, "stop", &parts),
        }
    }
}

impl Trip {
    /// The receiver.
    pub fn tracker(&self) -> Id<marker::Device> {
        self.fleet.tracker
    }

    /// From the plan to leaving the yard.
    pub fn start(&self, run: &Run) -> Vec<Step> {
        let (Some(first), Some(last)) = (run.rows.first(), run.rows.last()) else { return Vec::new() };
        let Fleet { location, truck, driver, .. } = self.fleet;
        // A trip of another system has no loads: one stop where it ends is all that is known of it.
        let stop = json!({ "stop": self.stop, "kind": "other", "position": position(last), "window": run.window });
        let plan = json!({
            "truck": truck, "location": location, "window": run.window, "stops": [stop], "recommended_crew": 1,
        });
        let at = run.window.start;
        Vec::from([
            self.step("plan", "planned", plan),
            self.step("assign_crew", "crew_assigned", json!({ "members": [{ "member": driver, "driver": true }] })),
            self.step("dispatch", "dispatched", json!({ "occurred_at": at })),
            self.step("acknowledge", "acknowledged", json!({ "occurred_at": at })),
            self.step(
                "depart",
                "departed",
                json!({ "to": self.stop, "position": position(first), "occurred_at": first.at }),
            ),
        ])
    }

    /// One chunk of fixes.
    pub fn gps(&self, chunk: u64, rows: &[Row]) -> Step {
        let fixes: Vec<Value> = rows.iter().map(fix).collect();
        let fields = json!({ "device": self.fleet.tracker, "chunk": chunk, "fixes": fixes });
        Step { nth: chunk, ..self.step("record_gps", "gps_recorded", fields) }
    }

    /// From reaching the last stop to being back.
    pub fn end(&self, run: &Run) -> Vec<Step> {
        let Some(last) = run.rows.last() else { return Vec::new() };
        let at = |at: Timestamp| json!({ "stop": self.stop, "occurred_at": at });
        Vec::from([
            self.step(
                "arrive",
                "arrived",
                json!({ "stop": self.stop, "position": position(last), "occurred_at": last.at }),
            ),
            self.step("start_work", "work_started", at(last.at)),
            self.step("finish_work", "work_finished", at(last.at)),
            self.step("return_to_yard", "returned", json!({ "occurred_at": last.at })),
        ])
    }

    fn step(&self, name: &'static str, event: &'static str, fields: Value) -> Step {
        step("truck_journey", self.journey.uuid(), name, event, fields)
    }
}

fn whole_degrees(e7: i32) -> i32 {
    e7 / 10_000_000 * 10_000_000
}

fn position(row: &Row) -> Value {
    json!({ "lat_e7": row.lat_e7, "lon_e7": row.lon_e7 })
}

fn fix(row: &Row) -> Value {
    let mut fix = json!({ "at": row.at, "lat_e7": row.lat_e7, "lon_e7": row.lon_e7 });
    if let Some(speed) = row.speed_cm_s {
        fix["speed_cm_s"] = json!(speed);
    }
    fix
}
