//! Tokens name somebody whom the ledger knows, and are good only as long as it says so: on every gateway, and on sockets.

use std::time::{Duration, Instant};

use cnc_domain::{
    cloud_control::tokens::TokenId,
    kernel::{Actor, CompanyId, Id, Minutes, ServiceAccountId, UserId},
    ledger::Entry,
};
use cnc_gateway::{limits::Limits, principal::Principal, tokens::Claims};
use cnc_tests::{
    fixtures::now,
    mover::Mover,
    staff::Person,
    system::{PATIENCE, Running, Shape},
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{live::Client, mover};
use crate::ledger::{Ground, on_both};

on_both!(
    a_token_that_the_ledger_does_not_know_is_no_token,
    a_service_account_acts_under_its_own_name,
    a_socket_closes_at_once_when_its_bearer_is_shut_out,
);

/// A token that is rightly signed, for which nothing stands in the ledger.
fn signed(mover: &Mover, jti: TokenId, bearer: Principal, company: CompanyId) -> String {
    let times = (now(), now().plus(Minutes(10)));
    let claims = Claims::new(jti, bearer, company, "dispatcher", times);
    mover.running.system.rooms.tokens.issue(&claims).expect("signs")
}

async fn a_token_that_the_ledger_does_not_know_is_no_token(ground: Ground) {
    let mover = mover(ground).await;
    let (user, token) = mover.running.invite(mover.company, Person::of("dispatcher")).await;
    let alerts = async |token: &str| mover.get(token, "/v1/views/alerts").await;
    alerts(&token).await.good();
    let nobody = UserId::new(Uuid::now_v7());
    for bearer in [Principal::User(nobody), Principal::User(user), Principal::ServiceAccount(Id::new(user.uuid()))] {
        let unknown = signed(&mover, Id::new(Uuid::now_v7()), bearer, mover.company);
        alerts(&unknown).await.problem(401, "unauthenticated");
    }
    // A token of one company is nothing to another, whatever it says of itself.
    let other = CompanyId::new(Uuid::now_v7());
    mover.found(other).await;
    let known = mover.running.issue(mover.company, Principal::User(user), Minutes(10)).await;
    let elsewhere = signed(&mover, known.claims.jti, Principal::User(user), other);
    alerts(&elsewhere).await.problem(401, "unauthenticated");
    // One is taken back, and the other stays.
    let admin = mover.token("admin").await;
    let revoke = format!("/v1/user/{user}/revoke_token");
    mover.post(&admin, &revoke, &json!({ "token": known.claims.jti })).await.good();
    alerts(&known.token).await.problem(401, "unauthenticated");
    alerts(&token).await.good();
    let row = format!("/v1/views/users/{user}?at_least={}", mover.head().await);
    let tokens = mover.get(&admin, &row).await.good()["doc"]["tokens"].clone();
    assert_eq!(tokens.as_object().map(serde_json::Map::len), Some(1), "{tokens}");
    // Those who are bound to a branch see nothing of a list that is of all branches.
    mover.get(&mover.token_at("admin", 0).await, &row).await.problem(403, "not_allowed");
}

async fn a_service_account_acts_under_its_own_name(ground: Ground) {
    let mover = mover(ground).await;
    let (admin, account) = (mover.token("admin").await, ServiceAccountId::new(Uuid::now_v7()));
    let path = format!("/v1/service_account/{account}");
    let registration = json!({ "name": "Night shift", "role": "dispatcher", "locations": null });
    mover.post(&admin, &format!("{path}/register"), &registration).await.good();
    let issued = mover.running.issue(mover.company, Principal::ServiceAccount(account), Minutes(10)).await;
    let tag = format!("/v1/truck_journey/{}/tag", mover.journeys[0]);
    let answer = mover.post(&issued.token, &tag, &json!({ "tag": "night" })).await.good();
    let at = answer["position"].as_u64().expect("a position");
    let line = mover.running.system.rooms.ledger.read(mover.company, at - 1, 1).await.expect("reads").remove(0);
    let actor = Entry::read(&line).expect("an entry").actor;
    assert_eq!(actor, Actor::ServiceAccount { service_account: account, role: "dispatcher".into() });
    let session = format!("/v1/dispatch_session/{}/open", Uuid::now_v7());
    let refused = mover.post(&issued.token, &session, &json!({ "location": mover.branches[0] })).await;
    refused.problem(409, "not_a_person");
    mover.post(&admin, &format!("{path}/retire"), &json!({})).await.good();
    mover.post(&issued.token, &tag, &json!({ "tag": "late" })).await.problem(401, "unauthenticated");
}

/// How a bearer is shut out, or becomes somebody else, by an admin's command.
fn ends(token: TokenId) -> [(&'static str, Value); 4] {
    [
        ("lock", json!({ "reason": "a lost phone" })),
        ("change_role", json!({ "role": "manager", "locations": null })),
        ("revoke_token", json!({ "token": token })),
        ("remove", json!({})),
    ]
}

async fn a_socket_closes_at_once_when_its_bearer_is_shut_out(ground: Ground) {
    let mover = mover(ground).await;
    let admin = mover.token("admin").await;
    for (nth, (command, body)) in ends(Id::nil()).into_iter().enumerate() {
        let (user, _) = mover.running.invite(mover.company, Person::of("dispatcher")).await;
        let issued = mover.running.issue(mover.company, Principal::User(user), Minutes(10)).await;
        let body = if command == "revoke_token" { json!({ "token": issued.claims.jti }) } else { body };
        // Whether it has subscribed to anything or not.
        let mut client = Client::connect(&mover, &issued.token).await;
        if nth % 2 == 0 {
            client.subscribe("alerts", None).await;
            assert!(client.next().await["snapshot"].is_object());
        }
        mover.post(&admin, &format!("/v1/user/{user}/{command}"), &body).await.good();
        let begun = Instant::now();
        while client.next().await["closed"] != 4401 {}
        let took = begun.elapsed();
        assert!(took < Limits::default().heartbeat / 3, "{command}: {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_useless_on_every_gateway_within_a_second() {
    let Ground::Postgres(url) = Ground::postgres().await else { unreachable!("it is Postgres") };
    let mover = Mover::on(Running::postgres(&url).await.expect("starts")).await;
    let other = mover.running.beside(Shape { ledger: Some(url), ..Shape::default() }).await.expect("starts");
    let (user, _) = mover.running.invite(mover.company, Person::of("dispatcher")).await;
    let issued = mover.running.issue(mover.company, Principal::User(user), Minutes(10)).await;
    let client = reqwest::Client::new();
    let there = async || {
        let request = client.get(other.url("/v1/views/alerts")).bearer_auth(&issued.token);
        request.send().await.expect("answers").status().as_u16()
    };
    assert_eq!(there().await, 200);
    let revoke = format!("/v1/user/{user}/revoke_token");
    let body = json!({ "token": issued.claims.jti });
    mover.post(&mover.token("admin").await, &revoke, &body).await.good();
    let begun = Instant::now();
    while there().await != 401 {
        assert!(begun.elapsed() < PATIENCE, "it is still good");
    }
    let took = begun.elapsed();
    assert!(took < Duration::from_millis(1_500), "{took:?}");
    other.stop().await;
}
