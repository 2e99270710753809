//! The commands that make a journey of a run, and the ids that they go to. All ids follow from company, vehicle, trip, a day and
//! a number: the first journey of that trip that began on that day is the first, however its fixes came.

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

/// The longest plate that a truck may have.
const PLATE_MAX: usize = 20;
/// How many digits of a truck's id tell its plate from others that end alike.
const PLATE_MARK: usize = 8;
/// A longer name of a vehicle is no part of its driver's.
const NAME_MAX: usize = 60;

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
        let plate = self.plate(&vehicle.name);
        let name = if vehicle.name.chars().count() > NAME_MAX { &plate } else { &vehicle.name };
        let truck = json!({
            "plate": plate, "size_ft": 26, "volume_cuft": 16_800, "home_location": self.location, "cost_per_hour": 0,
        });
        let driver = json!({
            "name": format!("Driver of vehicle {name}"), "phone": "000 000 0000", "roles": ["driver"],
            "home_location": self.location, "hourly_rate": 0, "employment_class": "provincial", "duty": "general",
            "province": province, "licence": { "class": "heavy", "expires": "9999-12-31T00:00:00Z" },
        });
        Vec::from([
            step("truck", self.truck.uuid(), "commission", "commissioned", truck),
            step("crew_member", self.driver.uuid(), "hire", "hired", driver),
        ])
    }

    /// A plate that no other vehicle has. A name that is too long for one ends like the vehicle's, and in what follows from all
    /// of it.
    fn plate(self, vehicle: &str) -> String {
        let length = vehicle.chars().count();
        if length <= PLATE_MAX {
            return vehicle.to_owned();
        }
        let id = self.truck.uuid().simple().to_string();
        let (tail, mark) = (PLATE_MAX - PLATE_MARK - 1, &id[id.len() - PLATE_MARK..]);
        vehicle.chars().skip(length - tail).chain(['~']).chain(mark.chars()).collect()
    }

    /// The ids of a journey on one of the vehicle's trips: the `nth` that began on a day, which is counted since 1970 in UTC.
    pub fn trip(self, vehicle: &str, trip: &str, day: i64, nth: u32) -> Trip {
        let (day, nth) = (day.to_be_bytes(), nth.to_be_bytes());
        let parts: [&[u8]; 4] = [vehicle.as_bytes(), trip.as_bytes(), &day, &nth];
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_vehicles_have_one_plate_however_long_their_names_are() {
        let names = [
            "1001",
            "urn:rut:vehicle:line31:1001",
            "urn:rut:vehicle:line31:1002",
            "urn:rut:vehicle:line32:1001",
            "eine-sehr-lange-Bezeichnung-für-einen-Lkw-1",
            "eine-sehr-lange-Bezeichnung-für-einen-Lkw-2",
        ];
        let plates: BTreeSet<String> = names
            .iter()
            .map(|name| Fleet::of(CompanyId::number(1), Id::number(2), name).plate(name))
            .inspect(|plate| assert!(plate.chars().count() <= PLATE_MAX, "{plate}"))
            .collect();
        assert_eq!(plates.len(), names.len(), "{plates:?}");
        assert!(plates.contains("1001") && plates.iter().any(|plate| plate.starts_with("line31:1001~")), "{plates:?}");
    }
}
