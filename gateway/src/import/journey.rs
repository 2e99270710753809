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
pub fn own_location(company: CompanyId) -> LocationId {
    derived(company, "location", &[])
}

/// Opens that branch.
pub fn open_location(company: CompanyId) -> Step {
    Step {
        stream: "location",
        id: own_location(company).uuid(),
        name: "open",
        fields: json!({ "name": "Imported vehicles" }),
        nth: 0,
    }
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

    /// Acquires the truck and hires its driver.
    pub fn steps(&self, vehicle: &Vehicle) -> Vec<Step> {
        Vec::from([
            self.step("truck", self.truck.uuid(), "acquire", json!({ "name": vehicle.name })),
            self.step("crew_member", self.driver.uuid(), "hire", json!({ "name": vehicle.name })),
        ])
    }

    fn step(&self, stream: &'static str, id: Uuid, name: &'static str, fields: Value) -> Step {
        Step { stream, id, name, fields, nth: 0 }
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
            self.step("plan", plan),
            self.step("assign_crew", json!({ "members": [{ "member": driver, "driver": true }] })),
            self.step("dispatch", json!({ "occurred_at": at })),
            self.step("acknowledge", json!({ "occurred_at": at })),
            self.step("depart", json!({ "to": self.stop, "position": position(first), "occurred_at": first.at })),
        ])
    }

    /// One chunk of fixes.
    pub fn gps(&self, chunk: u64, rows: &[Row]) -> Step {
        let fixes: Vec<Value> = rows.iter().map(fix).collect();
        let fields = json!({ "device": self.fleet.tracker, "chunk": chunk, "fixes": fixes });
        Step { nth: chunk, ..self.step("record_gps", fields) }
    }

    /// From reaching the last stop to being back.
    pub fn end(&self, run: &Run) -> Vec<Step> {
        let Some(last) = run.rows.last() else { return Vec::new() };
        let at = |at: Timestamp| json!({ "stop": self.stop, "occurred_at": at });
        Vec::from([
            self.step("arrive", json!({ "stop": self.stop, "position": position(last), "occurred_at": last.at })),
            self.step("start_work", at(last.at)),
            self.step("finish_work", at(last.at)),
            self.step("return_to_yard", json!({ "occurred_at": last.at })),
        ])
    }

    fn step(&self, name: &'static str, fields: Value) -> Step {
        self.fleet.step("truck_journey", self.journey.uuid(), name, fields)
    }
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
