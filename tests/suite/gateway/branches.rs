//! What somebody who is bound to branches, or who sees only what they take part in, is told and may do.

use cnc_domain::{
    cloud_control::roles::{ROLES, may, may_see_restricted},
    contracts::sample::Sampler,
    kernel::LocationId,
};
use cnc_gateway::catalog::catalog;
use cnc_tests::{
    fixtures,
    mover::{Answered, Mover, answered},
    staff::Person,
};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{live::Client, mover};
use crate::ledger::{Ground, on_both};

on_both!(
    another_branchs_id_is_answered_as_one_that_does_not_exist,
    work_that_borrowed_can_always_let_go,
    who_is_bound_to_a_branch_gives_nothing_beyond_it,
    pay_and_costs_are_for_those_who_may_see_them,
    a_mover_sees_and_does_what_concerns_their_own_journeys,
);

/// An aggregate of each kind, all of the second branch.
async fn theirs(mover: &Mover, stream: &str) -> Option<Uuid> {
    let (id, branch) = (Uuid::now_v7(), mover.branches[1]);
    let give = async |name: &str, fields: Value| mover.running.give(mover.company, stream, id, name, &fields).await;
    match stream {
        "alert" => {
            // No trigger watches this, and settles it.
            let about = json!({ "stream": "truck", "id": mover.trucks[1] });
            let due = fixtures::now();
            give("raise", json!({ "about": about, "location": branch, "kind": "no_fix", "due": due, "facts": {} }))
                .await;
        }
        "crew_member" => return Some(mover.hire(1).await),
        "dispatch_session" => {
            let (user, token) = mover.running.invite(mover.company, Person::of("dispatcher")).await;
            let session = cnc_domain::command_control::DispatchSession::id(user, branch);
            let path = format!("/v1/dispatch_session/{session}/open");
            mover.post(&token, &path, &json!({ "location": branch })).await.good();
            return Some(session.uuid());
        }
        "location" => return Some(branch.uuid()),
        "service_account" => {
            give("register", json!({ "name": "Export", "role": "dispatcher", "locations": [branch] })).await;
        }
        "truck" => return Some(mover.trucks[1]),
        "truck_journey" => return Some(mover.journeys[1]),
        "user" => {
            let person = Person::of("dispatcher").within(std::slice::from_ref(&branch));
            return Some(mover.running.invite(mover.company, person).await.0.uuid());
        }
        // It is of no branch.
        "company" => return None,
        stream => panic!("say here how a {stream} of a branch comes to be"),
    }
    Some(id)
}

/// What an answer says, but for which request it answers.
fn said(answer: Answered) -> (u16, Value) {
    let mut body = answer.body;
    if let Some(members) = body.as_object_mut() {
        members.remove("instance");
    }
    (answer.status.as_u16(), body)
}

async fn another_branchs_id_is_answered_as_one_that_does_not_exist(ground: Ground) {
    let mover = mover(ground).await;
    let bound = mover.invite(Person::of("admin").within(&mover.branches[..1])).await;
    for stream in catalog().streams() {
        let name = &stream.contract.stream;
        let Some(theirs) = theirs(&mover, name).await else { continue };
        let before = mover.head().await;
        for path in ["", "/history", "?as_of=1"] {
            let get = async |id: Uuid| said(mover.get(&bound, &format!("/v1/{name}/{id}{path}")).await);
            let (one, other) = (get(theirs).await, get(Uuid::now_v7()).await);
            assert_eq!((one.0, &one), (404, &other), "{name}{path}");
        }
        for command in stream.commands() {
            let body = match (name.as_str(), command.name.as_str()) {
                ("truck_journey", "plan") => mover.plan(0),
                ("truck_journey", "record_gps") => {
                    let fix = json!({ "at": fixtures::now(), "lat_e7": 1, "lon_e7": 1 });
                    json!({ "device": Uuid::now_v7(), "chunk": 0, "fixes": [fix] })
                }
                ("crew_member", "hire") => fixtures::hire(mover.branches[1].uuid()),
                ("truck", "commission") => fixtures::truck("THEIRS", mover.branches[1].uuid()),
                ("location", "open") => fixtures::branch("Theirs"),
                ("user", "invite") => json!({ "name": "Ann", "email": "ann@example.com", "role": "mover",
                    "locations": [mover.branches[1]] }),
                ("service_account", "register") => {
                    json!({ "name": "Export", "role": "mover", "locations": [mover.branches[1]] })
                }
                ("user", "change_role") => json!({ "role": "mover", "locations": [mover.branches[1]] }),
                _ => Sampler::default().value(&command.schema),
            };
            for tag in [None, Some("\"0\""), Some("\"1\""), Some("\"7\"")] {
                let post = async |id: Uuid| {
                    let path = format!("/v1/{name}/{id}/{}", command.name);
                    let request = mover.request(Method::POST, &path).bearer_auth(&bound).json(&body);
                    let request = request.header("idempotency-key", Uuid::now_v7().to_string());
                    said(answered(tag.into_iter().fold(request, |request, tag| request.header("if-match", tag))).await)
                };
                let one = post(theirs).await;
                let other = post(Uuid::now_v7()).await;
                assert_eq!(one, other, "{name}.{} {tag:?}", command.name);
                assert!(command.begins || one.0 == 404, "{name}.{} {tag:?}: {} {}", command.name, one.0, one.1);
            }
        }
        assert_eq!(mover.head().await, before, "{name}");
    }
    // What would begin something under an id that is free does so; under theirs it begins nothing.
    let free = fixtures::journey(mover.trucks[0], mover.branches[0].uuid(), 20..28);
    let plan = |journey: Uuid| format!("/v1/truck_journey/{journey}/plan");
    mover.post(&bound, &plan(mover.journeys[1]), &free).await.problem(404, "not_found");
    mover.post(&bound, &plan(Uuid::now_v7()), &free).await.good();
}

async fn work_that_borrowed_can_always_let_go(ground: Ground) {
    let mover = mover(ground).await;
    let dispatcher = mover.invite(Person::of("dispatcher").within(&mover.branches[..1])).await;
    let truck = Uuid::now_v7();
    let particulars = fixtures::truck("LENT", mover.branches[1].uuid());
    mover.running.give(mover.company, "truck", truck, "commission", &particulars).await;
    let (one, two, suspended) = (mover.hire(1).await, mover.hire(1).await, mover.hire(1).await);
    let why = json!({ "reason": "a secret" });
    mover.running.give(mover.company, "crew_member", suspended, "suspend", &why).await;
    let give = async |name: &str, body: Value| {
        mover.post(&dispatcher, &format!("/v1/truck_journey/{}/{name}", mover.journeys[0]), &body).await
    };
    let crew = |member: Uuid| json!({ "members": [{ "member": member, "driver": false }] });
    for member in [one, two] {
        give("assign_crew", crew(member)).await.good();
    }
    give("reassign_truck", json!({ "truck": truck })).await.good();
    let refused = give("assign_crew", crew(suspended)).await.problem(409, "suspended");
    assert!(!refused.to_string().contains("a secret"), "{refused}");
    mover.get(&dispatcher, &format!("/v1/crew_member/{one}")).await.problem(404, "not_found");
    give("release_crew", json!({ "member": one })).await.good();
    give("reassign_truck", json!({ "truck": mover.trucks[0] })).await.good();
    give("reassign_truck", json!({ "truck": truck })).await.good();
    give("cancel", json!({ "reason": "rain" })).await.good();
    for (stream, id) in [("truck", truck), ("crew_member", one), ("crew_member", two)] {
        let shown = mover.running.system.rooms.host.state(mover.company, stream, id, None).await.expect("is read");
        assert_eq!(shown.expect("is there").state["reservations"], json!([]), "{stream}");
    }
}

async fn who_is_bound_to_a_branch_gives_nothing_beyond_it(ground: Ground) {
    let mover = mover(ground).await;
    let [mine, other] = mover.branches;
    let bound = mover.invite(Person::of("admin").within(&[mine])).await;
    let before = mover.head().await;
    let invite = async |locations: Option<&[LocationId]>| {
        let body = json!({ "name": "Ann", "email": "ann@example.com", "role": "admin", "locations": locations });
        mover.post(&bound, &format!("/v1/user/{}/invite", Uuid::now_v7()), &body).await
    };
    for locations in [None, Some(&[mine, other][..]), Some(&[other])] {
        let refused = invite(locations).await.problem(409, "outside_your_branches");
        assert_eq!(refused["facts"]["yours"], json!([mine]));
    }
    let (company, reason) = (mover.company, json!({ "reason": "mischief" }));
    for (name, body) in [
        ("close", reason.clone()),
        ("suspend", reason.clone()),
        ("change_plan", json!({ "modules": ["cloud_control"] })),
        ("set_audit_mode", json!({ "enabled": true })),
        ("change_settings", json!({ "settings": {} })),
        ("restore_settings", json!({ "version": 0 })),
    ] {
        let answer = mover.post(&bound, &format!("/v1/company/{company}/{name}"), &body).await;
        answer.problem(409, "outside_your_branches");
    }
    let opening = mover.post(&bound, &format!("/v1/location/{}/open", Uuid::now_v7()), &fixtures::branch("Mine")).await;
    opening.problem(409, "outside_your_branches");
    mover.post(&bound, &format!("/v1/location/{mine}/close"), &reason).await.problem(409, "outside_your_branches");
    assert_eq!(mover.head().await, before);
    // A colleague who works everywhere is seen, and is nobody's to lock but theirs who work everywhere too.
    let (boss, _) = mover.running.invite(company, Person::of("admin")).await;
    mover.get(&bound, &format!("/v1/user/{boss}")).await.good();
    mover.post(&bound, &format!("/v1/user/{boss}/lock"), &reason).await.problem(409, "outside_your_branches");
    // Nor is somebody of another branch made to act as one of theirs.
    let body = |member: Uuid| {
        json!({ "name": "Ann", "email": "ann@example.com", "role": "mover", "locations": [mine],
        "crew_member": member })
    };
    for member in [mover.hire(1).await, Uuid::now_v7()] {
        let invited = mover.post(&bound, &format!("/v1/user/{}/invite", Uuid::now_v7()), &body(member)).await;
        invited.problem(404, "not_found");
    }
    let member = mover.hire(0).await;
    mover.post(&bound, &format!("/v1/user/{}/invite", Uuid::now_v7()), &body(member)).await.good();
    invite(Some(&[mine])).await.good();
}

async fn pay_and_costs_are_for_those_who_may_see_them(ground: Ground) {
    let mover = mover(ground).await;
    let member = mover.hire(0).await;
    for role in ROLES {
        let token = mover.invite(Person::of(role)).await;
        for (stream, id, secret) in
            [("crew_member", member, "hourly_rate"), ("truck", mover.trucks[0], "cost_per_hour")]
        {
            if !may(role, &format!("{stream}.read")) {
                continue;
            }
            for path in ["", "?as_of=100", "/history"] {
                let seen = mover.get(&token, &format!("/v1/{stream}/{id}{path}")).await.good().to_string();
                assert_eq!(seen.contains(secret), may_see_restricted(role), "{role} {stream}{path}: {seen}");
                assert!(seen.contains("home_location"), "{role} {stream}{path}: {seen}");
            }
        }
    }
}

async fn a_mover_sees_and_does_what_concerns_their_own_journeys(ground: Ground) {
    let mover = mover(ground).await;
    // They are of the second branch, and are lent to a journey of the first.
    let member = mover.hire(1).await;
    let (own, other) = (mover.journeys[0], mover.journeys[1]);
    let token = mover.invite(Person::of("mover").within(&mover.branches[1..]).being(member)).await;
    let nobody = mover.invite(Person::of("driver")).await;
    let give = async |journey: Uuid, name: &str, body: Value| {
        mover.running.give(mover.company, "truck_journey", journey, name, &body).await;
    };
    let crew = json!({ "members": [{ "member": member, "driver": false }] });
    give(own, "assign_crew", crew).await;
    for journey in mover.journeys {
        give(journey, "dispatch", json!({})).await;
    }
    let track = format!("/v1/views/journey_track?at_least={}", mover.head().await);
    let rows = |answer: Value| answer["rows"].as_array().expect("has rows").clone();
    let seen = rows(mover.get(&token, &track).await.good());
    assert_eq!(seen.iter().map(|row| row["key"].clone()).collect::<Vec<_>>(), [json!(own)]);
    assert!(rows(mover.get(&nobody, &track).await.good()).is_empty());
    let past = rows(mover.get(&token, &format!("{track}&as_of={}", mover.head().await)).await.good());
    assert_eq!(past.len(), 1);
    for path in ["/v1/truck_journey/ID", "/v1/truck_journey/ID/history", "/v1/views/journey_track/ID"] {
        mover.get(&token, &path.replace("ID", &own.to_string())).await.good();
        mover.get(&token, &path.replace("ID", &other.to_string())).await.problem(404, "not_found");
        mover.get(&nobody, &path.replace("ID", &own.to_string())).await.problem(404, "not_found");
    }
    let mut client = Client::connect(&mover, &token).await;
    client.subscribe("journey_track", None).await;
    let snapshot = client.next().await["snapshot"].clone();
    assert_eq!(snapshot["rows"].as_array().map(Vec::len), Some(1), "{snapshot}");
    let acknowledge = |journey: Uuid| format!("/v1/truck_journey/{journey}/acknowledge");
    mover.post(&token, &acknowledge(other), &json!({})).await.problem(404, "not_found");
    mover.post(&token, &acknowledge(own), &json!({})).await.good();
    let before = mover.head().await;
    give(own, "release_crew", json!({ "member": member })).await;
    while client.next().await["change"]["removed"] != json!([own]) {}
    let track = format!("/v1/views/journey_track?at_least={}", mover.head().await);
    assert!(rows(mover.get(&token, &track).await.good()).is_empty());
    assert!(rows(mover.get(&token, &format!("{track}&as_of={before}")).await.good()).is_empty());
    mover.get(&token, &format!("/v1/truck_journey/{own}")).await.problem(404, "not_found");
    mover.get(&token, &format!("/v1/truck_journey/{own}?as_of={before}")).await.problem(404, "not_found");
    mover
        .post(&token, &format!("/v1/truck_journey/{own}/report_status"), &json!({ "status": "other" }))
        .await
        .problem(404, "not_found");
}
