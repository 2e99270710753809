//! A small moving company and its day, played by real commands up to now: what `cnc demo` shows.

use cnc_commands::{Host, HostError, Request};
use cnc_domain::{
    kernel::{Actor, CompanyId, Id, LocationId, Message, Minutes, Timestamp, UserId},
    ledger::Fault,
};
use serde_json::{Value, json, value::RawValue};
use uuid::Uuid;

/// A place as latitude and longitude in 1e-7 degrees.
type Place = (i32, i32);

const YARD_TORONTO: Place = (436_460_000, -795_230_000);
const YARD_OTTAWA: Place = (453_780_000, -757_050_000);

/// One journey of the day, in minutes from now.
struct Trip {
    truck: &'static str,
    branch: Branch,
    crew: &'static [&'static str],
    recommended: u32,
    window: (i64, i64),
    stops: &'static [(&'static str, &'static str, Place)],
    /// When the truck left for, reached, began and finished each stop; what lies ahead has not happened.
    steps: &'static [[i64; 4]],
    /// How far it got before it left: told, and said yes.
    told: (i64, i64),
    back: Option<i64>,
}

#[derive(Clone, Copy, PartialEq)]
enum Branch {
    Toronto,
    Ottawa,
}

/// A time that has not come.
const AHEAD: i64 = i64::MAX;

const TRIPS: &[Trip] = &[
    Trip {
        truck: "CNC 101",
        branch: Branch::Toronto,
        crew: &["Maya Okafor", "Liam Tremblay"],
        recommended: 2,
        window: (-420, -60),
        stops: &[
            ("load", "88 Roncesvalles Ave, Toronto", (436_400_000, -794_460_000)),
            ("unload", "41 Kew Beach Ave, Toronto", (436_680_000, -793_000_000)),
        ],
        steps: &[[-415, -385, -380, -260], [-255, -215, -210, -130]],
        told: (-480, -470),
        back: Some(-90),
    },
    Trip {
        truck: "CNC 102",
        branch: Branch::Toronto,
        crew: &["Noah Singh", "Chloe Martin", "Owen Wright"],
        recommended: 3,
        window: (-240, 180),
        stops: &[
            ("load", "1200 Bay St, Toronto", (436_690_000, -793_900_000)),
            ("unload", "15 Lakeshore Rd E, Mississauga", (435_510_000, -795_860_000)),
        ],
        steps: &[[-235, -200, -195, -60], [-50, AHEAD, AHEAD, AHEAD]],
        told: (-300, -290),
        back: None,
    },
    Trip {
        truck: "CNC 103",
        branch: Branch::Toronto,
        crew: &["Ava Chen"],
        recommended: 3,
        window: (-30, 300),
        stops: &[
            ("load", "300 Dufferin St, Toronto", (436_390_000, -794_270_000)),
            ("storage", "C&C Storage, Etobicoke", (436_200_000, -795_500_000)),
        ],
        steps: &[[-25, -5, AHEAD, AHEAD]],
        told: (-90, -80),
        back: None,
    },
    Trip {
        truck: "CNC 201",
        branch: Branch::Ottawa,
        crew: &["Emma Roy", "Lucas Gagnon"],
        recommended: 2,
        window: (-120, 240),
        stops: &[
            ("load", "410 Bank St, Ottawa", (454_120_000, -756_930_000)),
            ("unload", "22 Rue Laval, Gatineau", (454_280_000, -757_150_000)),
        ],
        steps: &[[-110, -95, -90, AHEAD]],
        told: (-180, -170),
        back: None,
    },
    Trip {
        truck: "CNC 202",
        branch: Branch::Ottawa,
        crew: &["Ethan Levesque", "Zoe Park"],
        recommended: 2,
        window: (20, 260),
        stops: &[
            ("load", "9 Sussex Dr, Ottawa", (454_430_000, -756_960_000)),
            ("unload", "70 Elgin St, Ottawa", (454_200_000, -756_930_000)),
        ],
        steps: &[],
        told: (-10, AHEAD),
        back: None,
    },
];

/// What was played.
#[derive(Clone, Copy, Debug)]
pub struct Played {
    /// The company.
    pub company: CompanyId,
    /// Its dispatcher.
    pub dispatcher: UserId,
    /// How many commands it took; none where it was played before.
    pub commands: u64,
}

/// The demonstration company's id: always the same, so that a second start finds it.
pub fn company() -> CompanyId {
    Id::derived(&[b"demo company"])
}

/// Plays the day up to `now`, unless this data folder has it already.
pub async fn play(host: &Host, now: Timestamp) -> Result<Played, Fault> {
    let mut player = Player { host, company: company(), actor: Actor::tool("demo"), now, commands: 0 };
    let dispatcher: UserId = named("user", "Dana Brooks");
    if host.ledger().head(company()).await?.is_none() {
        player.set_up(dispatcher).await?;
        player.actor = Actor::User { user: dispatcher, role: "dispatcher".into() };
        for trip in TRIPS {
            player.trip(trip).await?;
        }
    }
    Ok(Played { company: company(), dispatcher, commands: player.commands })
}

fn named<T>(what: &str, name: &str) -> Id<T> {
    Id::derived(&[b"demo", what.as_bytes(), name.as_bytes()])
}

fn place((lat_e7, lon_e7): Place) -> Value {
    json!({ "lat_e7": lat_e7, "lon_e7": lon_e7 })
}

impl Branch {
    const fn name(self) -> &'static str {
        match self {
            Self::Toronto => "Toronto West",
            Self::Ottawa => "Ottawa",
        }
    }

    const fn yard(self) -> Place {
        match self {
            Self::Toronto => YARD_TORONTO,
            Self::Ottawa => YARD_OTTAWA,
        }
    }

    fn id(self) -> LocationId {
        named("location", self.name())
    }
}

struct Player<'a> {
    host: &'a Host,
    company: CompanyId,
    actor: Actor,
    now: Timestamp,
    commands: u64,
}

impl Player<'_> {
    /// So many minutes from now.
    fn at(&self, minutes: i64) -> Timestamp {
        let length = Minutes(u32::try_from(minutes.unsigned_abs()).unwrap_or(u32::MAX));
        if minutes < 0 { self.now.minus(length) } else { self.now.plus(length) }
    }

    async fn set_up(&mut self, dispatcher: UserId) -> Result<(), Fault> {
        let founding = json!({
            "name": "Maple & Main Movers", "currency": "CAD", "region": "ca-central", "plan": { "modules": [] },
        });
        self.give("company", self.company.uuid(), "found", founding).await?;
        for branch in [Branch::Toronto, Branch::Ottawa] {
            let opening = json!({
                "name": branch.name(), "province": "CA-ON", "timezone": "America/Toronto", "yard": place(branch.yard()),
            });
            self.give("location", branch.id().uuid(), "open", opening).await?;
        }
        let invitation = json!({
            "name": "Dana Brooks", "email": "dana@maple-main.example", "role": "dispatcher", "locations": null,
        });
        self.give("user", dispatcher.uuid(), "invite", invitation).await?;
        self.actor = Actor::User { user: dispatcher, role: "dispatcher".into() };
        self.give("user", dispatcher.uuid(), "accept", json!({})).await?;
        self.actor = Actor::tool("demo");
        for trip in TRIPS {
            let truck = json!({
                "plate": trip.truck, "size_ft": 26, "volume_cuft": 16_800, "home_location": trip.branch.id(),
                "cost_per_hour": 4_500,
            });
            self.give("truck", named::<()>("truck", trip.truck).uuid(), "commission", truck).await?;
            for (nth, name) in trip.crew.iter().enumerate() {
                self.hire(name, nth == 0, trip.branch).await?;
            }
        }
        Ok(())
    }

    async fn hire(&mut self, name: &str, drives: bool, branch: Branch) -> Result<(), Fault> {
        let (role, duty) = if drives { ("driver", "city_driver") } else { ("mover", "general") };
        let licence = drives.then(|| json!({ "class": "light", "expires": "2031-06-30T00:00:00Z" }));
        let hire = json!({
            "name": name, "phone": format!("+1 416 555 01{:02}", name.len()), "roles": [role],
            "home_location": branch.id(), "hourly_rate": if drives { 3_100 } else { 2_400 },
            "employment_class": "provincial", "duty": duty, "province": "CA-ON", "licence": licence,
        });
        self.give("crew_member", named::<()>("crew", name).uuid(), "hire", hire).await
    }

    async fn trip(&mut self, trip: &Trip) -> Result<(), Fault> {
        let journey = named::<()>("journey", trip.truck).uuid();
        let stop = |nth: usize| named::<()>("stop", &format!("{} {nth}", trip.truck)).uuid();
        let stops: Vec<Value> = trip
            .stops
            .iter()
            .enumerate()
            .map(|(nth, (kind, address, position))| {
                json!({ "stop": stop(nth), "kind": kind, "address": address, "position": place(*position) })
            })
            .collect();
        let window = json!({ "start": self.at(trip.window.0), "end": self.at(trip.window.1) });
        let plan = json!({
            "truck": named::<()>("truck", trip.truck), "location": trip.branch.id(), "window": window, "stops": stops,
            "recommended_crew": trip.recommended, "estimated_minutes": trip.window.1 - trip.window.0,
        });
        self.give("truck_journey", journey, "plan", plan).await?;
        let crew = trip.crew.iter().enumerate();
        let members: Vec<Value> =
            crew.map(|(nth, name)| json!({ "member": named::<()>("crew", name), "driver": nth == 0 })).collect();
        self.give("truck_journey", journey, "assign_crew", json!({ "members": members })).await?;
        self.step(journey, "dispatch", json!({}), trip.told.0).await?;
        self.step(journey, "acknowledge", json!({}), trip.told.1).await?;
        let mut from = trip.branch.yard();
        for (nth, ([left, arrived, began, done], (_, _, to))) in trip.steps.iter().zip(trip.stops).enumerate() {
            let there = json!({ "stop": stop(nth) });
            self.step(journey, "depart", json!({ "to": stop(nth), "position": place(from) }), *left).await?;
            self.drive(journey, nth, (*left, *arrived), (from, *to)).await?;
            self.step(journey, "arrive", there.clone(), *arrived).await?;
            self.step(journey, "start_work", there.clone(), *began).await?;
            self.step(journey, "finish_work", there, *done).await?;
            from = *to;
        }
        self.step(journey, "return_to_yard", json!({}), trip.back.unwrap_or(AHEAD)).await
    }

    /// A fix a minute along the way, up to now.
    async fn drive(
        &mut self,
        journey: Uuid,
        chunk: usize,
        (left, arrived): (i64, i64),
        (from, to): (Place, Place),
    ) -> Result<(), Fault> {
        let usual = 40; // minutes that a drive takes which has not ended yet, and then some
        let minutes = if arrived == AHEAD { usual * 2 } else { arrived - left };
        let part = |a: i32, b: i32, minute: i64| i64::from(a) + (i64::from(b) - i64::from(a)) * minute / minutes;
        let fixes: Vec<Value> = (0..=minutes)
            .filter(|minute| left + minute <= 0)
            .map(|minute| {
                json!({
                    "at": self.at(left + minute), "lat_e7": part(from.0, to.0, minute),
                    "lon_e7": part(from.1, to.1, minute), "speed_cm_s": 900, "accuracy_m": 8,
                })
            })
            .collect();
        let device = named::<()>("tablet", &journey.to_string());
        let gps = json!({ "device": device, "chunk": chunk, "fixes": fixes });
        self.give("truck_journey", journey, "record_gps", gps).await
    }

    /// A step of a crew at a time, where that time has come.
    async fn step(&mut self, journey: Uuid, name: &str, mut fields: Value, minutes: i64) -> Result<(), Fault> {
        if minutes == AHEAD {
            return Ok(());
        }
        fields["occurred_at"] = json!(self.at(minutes));
        self.give("truck_journey", journey, name, fields).await
    }

    async fn give(&mut self, stream: &str, id: Uuid, name: &str, fields: Value) -> Result<(), Fault> {
        let broken = |why: String| Fault::broken("playing the demonstration", format!("{stream} {name}: {why}"));
        let fields = RawValue::from_string(fields.to_string()).map_err(|error| broken(error.to_string()))?;
        let command = Message { name: name.into(), fields };
        let request = Request::internal(self.company, stream, id, command, self.actor.clone());
        self.commands += 1;
        match self.host.execute(request).await {
            Ok(answer) => answer.rejection.map_or(Ok(()), |rejection| Err(broken(rejection.to_string()))),
            Err(HostError::Fault(fault)) => Err(fault),
            Err(other) => Err(broken(other.to_string())),
        }
    }
}
