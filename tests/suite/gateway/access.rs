//! Who gets in, and what for: every route, every command, every role, every other company's id.

use cnc_domain::{
    cloud_control::roles::{ROLES, actions, may},
    kernel::{CompanyId, Id, Minutes, Timestamp},
};
use cnc_gateway::{catalog::catalog, openapi::openapi, principal::Principal, tokens::Claims};
use cnc_tests::mover::{Mover, answered};
use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use super::mover;
use crate::ledger::{Ground, on_both};

on_both!(
    another_companys_ids_are_404_everywhere,
    who_is_bound_to_a_branch_sees_and_does_nothing_elsewhere,
    a_suspended_company_does_nothing_until_it_is_reinstated,
    a_locked_user_is_shut_out_at_once,
);

/// Every operation of the description that needs a token, its path filled in.
fn operations(id: Uuid) -> Vec<(Method, String)> {
    let document = openapi();
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().expect("has paths") {
        let path = path.replace("{id}", &id.to_string()).replace("{key}", &id.to_string());
        for (verb, method) in [("get", Method::GET), ("post", Method::POST)] {
            if item.get(verb).is_some_and(|operation| operation.get("security").is_none()) {
                found.push((method, path.clone()));
            }
        }
    }
    assert!(found.len() > 60, "only {} operations were found", found.len());
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_says_401_without_a_good_token() {
    let mover = Mover::start().await;
    let before = mover.head().await;
    let long_ago = Timestamp::from_seconds(1_000_000_000);
    let (nobody, times) = (Principal::User(Id::number(1)), (long_ago, long_ago.plus(Minutes(1))));
    let other = Claims::new(Id::number(1), nobody, mover.company, "admin", times);
    let expired = mover.running.system.rooms.tokens.issue(&other).expect("signs");
    for (method, path) in operations(mover.journeys[0]) {
        let bare = answered(mover.request(method.clone(), &path)).await;
        bare.problem(401, "unauthenticated");
        for token in ["nonsense", expired.as_str()] {
            let answer = answered(mover.request(method.clone(), &path).bearer_auth(token)).await;
            assert!(answer.headers.contains_key("www-authenticate"), "{path}");
            answer.problem(401, "unauthenticated");
        }
    }
    assert_eq!(mover.head().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_open_is_open_and_hardened() {
    let mover = Mover::start().await;
    for path in ["/openapi.json", "/docs", "/health/live", "/health/ready", "/problems/not_found"] {
        let answer = answered(mover.request(Method::GET, path)).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        assert!(answer.headers["content-security-policy"].to_str().expect("is text").contains("default-src 'none'"));
        assert!(answer.headers.contains_key("x-request-id"));
    }
    answered(mover.request(Method::GET, "/problems/nothing")).await.problem(404, "not_found");
    answered(mover.request(Method::GET, "/nothing")).await.problem(404, "not_found");
    answered(mover.request(Method::DELETE, "/health/live")).await.problem(405, "method_not_allowed");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_is_for_the_roles_that_the_matrix_names() {
    let mover = Mover::start().await;
    for role in ROLES {
        let token = mover.token(role).await;
        for stream in catalog().streams() {
            let name = &stream.contract.stream;
            for command in stream.commands() {
                // An unknown field is refused by the door, after the role was asked: so nothing is ever recorded here.
                let path = format!("/v1/{name}/{}/{}", Uuid::now_v7(), command.name);
                let answer = mover.post(&token, &path, &json!({ "no_such_field": 1 })).await;
                let allowed = may(role, &stream.action(&command.name));
                assert_eq!(answer.status.as_u16(), if allowed { 422 } else { 403 }, "{role} {path} {}", answer.body);
            }
            let answer = mover.get(&token, &format!("/v1/{name}/{}", Uuid::now_v7())).await;
            assert_eq!(answer.status.as_u16(), if may(role, &stream.reading()) { 404 } else { 403 }, "{role} {name}");
        }
        for view in catalog().views() {
            let answer = mover.get(&token, &format!("/v1/views/{}", view.name())).await;
            assert_eq!(
                answer.status.as_u16(),
                if may(role, view.reading()) { 200 } else { 403 },
                "{role} {}",
                view.name()
            );
        }
        for (path, action) in [("/v1/ledger", "ledger.read"), ("/v1/ledger/head", "ledger.read")] {
            let answer = mover.get(&token, path).await;
            assert_eq!(answer.status.as_u16(), if may(role, action) { 200 } else { 403 }, "{role} {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn internal_and_unknown_commands_streams_and_views_are_404() {
    let mover = Mover::start().await;
    let admin = mover.token("admin").await;
    for stream in catalog().streams() {
        for command in stream.contract.commands.iter().filter(|command| command.internal) {
            let path = format!("/v1/{}/{}/{}", stream.contract.stream, mover.journeys[0], command.name);
            mover.post(&admin, &path, &json!({})).await.problem(404, "not_found");
        }
    }
    let id = mover.journeys[0];
    mover.post(&admin, &format!("/v1/truck_journey/{id}/fly"), &json!({})).await.problem(404, "not_found");
    mover.post(&admin, &format!("/v1/spaceship/{id}/depart"), &json!({})).await.problem(404, "not_found");
    mover.get(&admin, &format!("/v1/spaceship/{id}")).await.problem(404, "not_found");
    mover.get(&admin, "/v1/views/nothing").await.problem(404, "not_found");
    mover.get(&admin, "/v1/truck_journey/17").await.problem(400, "bad_id");
}

async fn another_companys_ids_are_404_everywhere(ground: Ground) {
    let mover = mover(ground).await;
    let other = CompanyId::new(Uuid::now_v7());
    mover.found(other).await;
    let stranger = mover.running.token(other, "admin", None).await;
    let board = format!("/v1/views/dispatch_board?at_least={}", mover.head().await);
    assert_eq!(mover.get(&mover.token("admin").await, &board).await.good()["rows"].as_array().map(Vec::len), Some(2));
    let ours = [
        ("truck_journey", mover.journeys[0]),
        ("truck", mover.trucks[0]),
        ("location", mover.branches[0].uuid()),
        ("company", mover.company.uuid()),
    ];
    for (stream, id) in ours {
        for path in
            [format!("/v1/{stream}/{id}"), format!("/v1/{stream}/{id}/history"), format!("/v1/{stream}/{id}?as_of=1")]
        {
            mover.get(&stranger, &path).await.problem(404, "not_found");
        }
    }
    let head = mover.running.system.rooms.ledger.head(other).await.expect("answers").expect("was founded").position;
    for view in catalog().views() {
        let name = view.name();
        mover.get(&stranger, &format!("/v1/views/{name}/{}", mover.journeys[0])).await.problem(404, "not_found");
        // Of those who sign in they see themselves.
        let own = usize::from(name == "users");
        let rows = mover.get(&stranger, &format!("/v1/views/{name}?at_least={head}")).await.good()["rows"].clone();
        assert_eq!(rows.as_array().map(Vec::len), Some(own), "{name}: {rows}");
    }
    let before = mover.head().await;
    let path = format!("/v1/truck_journey/{}/cancel", mover.journeys[0]);
    let answer = mover.post(&stranger, &path, &json!({ "reason": "mischief" })).await;
    assert!(answer.status.is_client_error(), "{}", answer.status);
    assert_eq!(mover.head().await, before);
}

async fn who_is_bound_to_a_branch_sees_and_does_nothing_elsewhere(ground: Ground) {
    let mover = mover(ground).await;
    let mine = mover.token_at("dispatcher", 0).await;
    let theirs = mover.journeys[1];
    mover.get(&mine, &format!("/v1/truck_journey/{}", mover.journeys[0])).await.good();
    mover.get(&mine, &format!("/v1/truck_journey/{theirs}")).await.problem(404, "not_found");
    mover.get(&mine, &format!("/v1/truck_journey/{theirs}/history")).await.problem(404, "not_found");
    mover.get(&mine, &format!("/v1/views/dispatch_board/{theirs}")).await.problem(404, "not_found");
    let board = mover.get(&mine, &format!("/v1/views/dispatch_board?at_least={}", mover.head().await)).await.good();
    assert_eq!(board["rows"].as_array().map(Vec::len), Some(1));
    assert_eq!(board["rows"][0]["key"], mover.journeys[0].to_string());
    let cancel = json!({ "reason": "mischief" });
    mover.post(&mine, &format!("/v1/truck_journey/{theirs}/cancel"), &cancel).await.problem(404, "not_found");
    let new = format!("/v1/truck_journey/{}/plan", Uuid::now_v7());
    mover.post(&mine, &new, &mover.plan(1)).await.problem(404, "not_found");
    mover.get(&mover.token_at("admin", 0).await, "/v1/ledger").await.problem(403, "not_allowed");
}

async fn a_suspended_company_does_nothing_until_it_is_reinstated(ground: Ground) {
    let mover = mover(ground).await;
    let (admin, company) = (mover.token("admin").await, mover.company);
    mover.post(&admin, &format!("/v1/company/{company}/suspend"), &json!({ "reason": "unpaid" })).await.good();
    mover.get(&admin, "/v1/views/alerts").await.problem(403, "company_not_in_business");
    let path = format!("/v1/truck_journey/{}/cancel", mover.journeys[0]);
    mover.post(&admin, &path, &json!({ "reason": "x" })).await.problem(403, "company_not_in_business");
    mover.post(&admin, &format!("/v1/company/{company}/reinstate"), &json!({})).await.good();
    mover.get(&admin, "/v1/views/alerts").await.good();
}

async fn a_locked_user_is_shut_out_at_once(ground: Ground) {
    let mover = mover(ground).await;
    let admin = mover.token("admin").await;
    let user = Uuid::now_v7();
    let invite = json!({ "name": "Ann Example", "email": "ann@example.com", "role": "dispatcher", "locations": null });
    mover.post(&admin, &format!("/v1/user/{user}/invite"), &invite).await.good();
    let theirs = mover.running.issue(mover.company, Principal::User(Id::new(user)), Minutes(10)).await.token;
    mover.get(&theirs, "/v1/views/alerts").await.problem(401, "unauthenticated");
    mover.post(&theirs, &format!("/v1/user/{user}/accept"), &json!({})).await.good();
    mover.get(&theirs, "/v1/views/alerts").await.good();
    mover.post(&admin, &format!("/v1/user/{user}/lock"), &json!({ "reason": "lost phone" })).await.good();
    mover.get(&theirs, "/v1/views/alerts").await.problem(401, "unauthenticated");
    mover.post(&admin, &format!("/v1/user/{user}/unlock"), &json!({})).await.good();
    let duties = json!({ "role": "driver", "locations": null });
    mover.post(&admin, &format!("/v1/user/{user}/change_role"), &duties).await.good();
    mover.get(&theirs, "/v1/views/alerts").await.problem(401, "unauthenticated");
}

#[test]
fn every_view_is_for_the_roles_that_the_matrix_names() {
    let named: Vec<&str> = actions().collect();
    for view in catalog().views() {
        assert!(named.contains(&view.reading()), "say in MATRIX who may read {}", view.name());
    }
    let views = named.iter().filter(|action| action.starts_with("view."));
    assert_eq!(views.count(), catalog().views().count(), "the matrix names a view that there is not");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_problem_names_a_page_that_says_what_it_means() {
    let mover = Mover::start().await;
    let (dispatcher, journey) = (mover.token("dispatcher").await, mover.journeys[0]);
    let missing =
        mover.get(&dispatcher, &format!("/v1/truck_journey/{}", Uuid::now_v7())).await.problem(404, "not_found");
    let rejected = mover.post(&dispatcher, &format!("/v1/truck_journey/{journey}/depart"), &json!({})).await;
    assert_eq!(rejected.status, 409, "{}", rejected.body);
    for problem in [missing, rejected.body] {
        let page = answered(mover.request(Method::GET, problem["type"].as_str().expect("is an address"))).await.good();
        let meanings = page["meanings"].as_array().expect("is a list");
        assert!(meanings.iter().any(|meaning| meaning["status"] == problem["status"]), "{page}");
        assert_eq!((&page["code"], &page["type"]), (&problem["code"], &problem["type"]));
    }
}
