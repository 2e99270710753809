//! The live board over a WebSocket: snapshot, changes, scope, resumption, and what ends a socket.

use std::time::Duration;

use cnc_domain::kernel::{CompanyId, Seconds};
use cnc_gateway::{limits::Limits, principal::Principal};
use cnc_tests::{
    fixtures::now,
    mover::{ADDRESS, Mover, answered},
    staff::Person,
    system::{PATIENCE, Running},
};
use futures::{SinkExt, StreamExt};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{self, Message, client::IntoClientRequest, handshake::client::Request, http::HeaderValue},
};
use uuid::Uuid;

use super::mover;
use crate::ledger::{Ground, on_both};

on_both!(
    a_snapshot_is_followed_by_changes,
    who_resumes_is_told_what_was_missed_removals_too,
    who_claims_to_have_seen_the_future_must_ask_anew,
    who_watches_a_view_that_is_built_anew_where_it_stood_must_ask_anew,
    a_branch_hears_only_of_itself,
    frames_hold_no_personal_data_for_who_may_not_see_it,
);

pub struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    /// Connects as a browser does, its token in the second subprotocol.
    pub async fn connect(mover: &Mover, token: &str) -> Self {
        Self::open(Self::request(mover, token)).await
    }

    /// Connects by this request.
    pub async fn open(request: Request) -> Self {
        let (socket, response) = connect_async(request).await.expect("opens");
        assert_eq!(response.headers()["sec-websocket-protocol"], "cnc.bearer");
        Self(socket)
    }

    /// There is no place for another one.
    async fn is_refused(mover: &Mover, token: &str) {
        Self::is_refused_to(Self::request(mover, token)).await;
    }

    /// There is no place for who sends this request.
    pub async fn is_refused_to(request: Request) {
        match connect_async(request).await {
            Err(tungstenite::Error::Http(response)) => assert_eq!(response.status(), 503),
            other => panic!("one socket more: {:?}", other.map(|_| ())),
        }
    }

    /// A request that a proxy forwards for somebody.
    pub fn request_from(mover: &Mover, token: &str, forwarded: &str) -> Request {
        let mut request = Self::request(mover, token);
        request.headers_mut().insert("x-forwarded-for", HeaderValue::from_str(forwarded).expect("is a value"));
        request
    }

    fn request(mover: &Mover, token: &str) -> Request {
        let url = mover.running.url("/v1/live").replace("http://", "ws://");
        let mut request = url.into_client_request().expect("is a request");
        let protocols = HeaderValue::from_str(&format!("cnc.bearer, {token}")).expect("is a value");
        request.headers_mut().insert("sec-websocket-protocol", protocols);
        request
    }

    async fn send(&mut self, message: &Value) {
        self.0.send(Message::text(message.to_string())).await.expect("sends");
    }

    pub async fn subscribe(&mut self, view: &str, after: Option<u64>) {
        self.send(&json!({ "subscribe": { "id": "a", "view": view, "after": after } })).await;
    }

    /// The next message of the server.
    pub async fn next(&mut self) -> Value {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.0.next()).await.expect("comes in time");
            match message.expect("is open").expect("is readable") {
                Message::Text(text) => return serde_json::from_str(&text).expect("is JSON"),
                Message::Close(frame) => return json!({ "closed": frame.map(|frame| u16::from(frame.code)) }),
                _ => {}
            }
        }
    }

    /// The next change that says something of this row.
    pub async fn change_of(&mut self, key: Uuid) -> Value {
        let mut told = None;
        loop {
            let message = self.next().await;
            let change = message.get("change").unwrap_or_else(|| panic!("{message} is no change")).clone();
            if let Some(told) = told {
                assert_eq!(change["previous"], told, "each names the one before");
            }
            told = Some(change["position"].clone());
            if change.to_string().contains(&key.to_string()) {
                return change;
            }
        }
    }
}

async fn tag(mover: &Mover, nth: usize, tag: &str) -> u64 {
    let path = format!("/v1/truck_journey/{}/tag", mover.journeys[nth]);
    let answer = mover.post(&mover.token("dispatcher").await, &path, &json!({ "tag": tag })).await.good();
    answer["position"].as_u64().expect("is a position")
}

async fn settle(mover: &Mover) {
    let head = mover.head().await;
    mover.get(&mover.token("admin").await, &format!("/v1/views/dispatch_board?at_least={head}")).await.good();
}

async fn who_watches_a_view_that_is_built_anew_where_it_stood_must_ask_anew(ground: Ground) {
    let mover = mover(ground).await;
    settle(&mover).await;
    let mut client = Client::connect(&mover, &mover.token("dispatcher").await).await;
    client.subscribe("dispatch_board", None).await;
    let position = client.next().await["snapshot"]["position"].as_u64().expect("is a position");
    // As an operator does it, beside the server.
    let company = Some(mover.company);
    let rebuilt = mover.running.system.rooms.engine().rebuild(company, "dispatch_board").await.expect("rebuilds");
    assert_eq!((rebuilt[0].position, &rebuilt[0].stopped), (position, &None));
    assert_eq!(client.next().await, json!({ "requery": { "id": "a" } }));
    client.subscribe("dispatch_board", Some(position)).await;
    assert_eq!(client.next().await, json!({ "requery": { "id": "a" } }), "who was away must, too");
    client.subscribe("dispatch_board", None).await;
    assert_eq!(client.next().await["snapshot"]["position"], position);
}

async fn a_snapshot_is_followed_by_changes(ground: Ground) {
    let mover = mover(ground).await;
    settle(&mover).await;
    let mut client = Client::connect(&mover, &mover.token("dispatcher").await).await;
    client.subscribe("dispatch_board", None).await;
    let snapshot = client.next().await["snapshot"].clone();
    assert_eq!((snapshot["rows"].as_array().map(Vec::len), &snapshot["more"]), (Some(2), &json!(false)));
    let position = tag(&mover, 0, "fragile").await;
    let change = client.change_of(mover.journeys[0]).await;
    assert!(change["position"].as_u64() >= Some(position) && change["rows"][0].to_string().contains("fragile"));
    let path = format!("/v1/truck_journey/{}/cancel", mover.journeys[0]);
    mover.post(&mover.token("dispatcher").await, &path, &json!({ "reason": "rain" })).await.good();
    let change = client.change_of(mover.journeys[0]).await;
    assert_eq!(change["removed"], json!([mover.journeys[0]]));
    client.send(&json!({ "ping": 7 })).await;
    assert_eq!(client.next().await, json!({ "pong": 7 }));
}

async fn who_resumes_is_told_what_was_missed_removals_too(ground: Ground) {
    let mover = mover(ground).await;
    settle(&mover).await;
    let after = mover.head().await;
    tag(&mover, 1, "fragile").await;
    let path = format!("/v1/truck_journey/{}/cancel", mover.journeys[0]);
    mover.post(&mover.token("dispatcher").await, &path, &json!({ "reason": "rain" })).await.good();
    settle(&mover).await;
    let mut client = Client::connect(&mover, &mover.token("dispatcher").await).await;
    client.subscribe("dispatch_board", Some(after)).await;
    let change = client.next().await["change"].clone();
    assert_eq!(change["previous"], after);
    assert_eq!(change["removed"], json!([mover.journeys[0]]));
    assert_eq!(change["rows"][0]["key"], mover.journeys[1].to_string());
}

async fn who_claims_to_have_seen_the_future_must_ask_anew(ground: Ground) {
    let mover = mover(ground).await;
    let mut client = Client::connect(&mover, &mover.token("dispatcher").await).await;
    client.subscribe("dispatch_board", Some(1_000_000)).await;
    assert_eq!(client.next().await, json!({ "requery": { "id": "a" } }));
}

async fn a_branch_hears_only_of_itself(ground: Ground) {
    let mover = mover(ground).await;
    settle(&mover).await;
    let mut client = Client::connect(&mover, &mover.token_at("dispatcher", 0).await).await;
    client.subscribe("dispatch_board", None).await;
    let snapshot = client.next().await["snapshot"].clone();
    assert_eq!(snapshot["rows"].as_array().map(Vec::len), Some(1));
    tag(&mover, 1, "theirs").await;
    tag(&mover, 0, "mine").await;
    let change = client.change_of(mover.journeys[0]).await.to_string();
    assert!(change.contains("mine") && !change.contains("theirs") && !change.contains(&mover.journeys[1].to_string()));
}

async fn frames_hold_no_personal_data_for_who_may_not_see_it(ground: Ground) {
    let mover = mover(ground).await;
    settle(&mover).await;
    for (role, opened) in [("dispatcher", true), ("auditor", false)] {
        let mut client = Client::connect(&mover, &mover.token(role).await).await;
        client.subscribe("journey_track", None).await;
        let frame = client.next().await.to_string();
        assert_eq!(frame.contains(ADDRESS), opened, "{role}: {frame}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_or_cannot_be_subscribed_is_an_error_and_not_the_end() {
    let mover = Mover::start().await;
    let mut client = Client::connect(&mover, &mover.token("driver").await).await;
    client.subscribe("dispatch_board", None).await;
    assert_eq!(client.next().await["error"]["code"], "not_allowed");
    client.subscribe("nothing", None).await;
    assert_eq!(client.next().await["error"]["code"], "not_found");
    for filters in [json!({ "colour": "red" }), json!({ "journey": "\0" })] {
        client.send(&json!({ "subscribe": { "id": "a", "view": "journey_track", "filters": filters } })).await;
        assert_eq!(client.next().await["error"]["code"], "bad_subscription");
    }
    client.subscribe("journey_track", None).await;
    assert!(client.next().await["snapshot"].is_object());
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_and_an_expired_token_close_the_socket_with_a_reason() {
    let mover = Mover::start().await;
    let mut client = Client::connect(&mover, &mover.token("dispatcher").await).await;
    client.send(&json!({ "shout": {} })).await;
    assert_eq!(client.next().await["closed"], 4400);
    let mut client = Client::connect(&mover, &mover.token("dispatcher").await).await;
    client.send(&json!({ "ping": "x".repeat(20_000) })).await;
    assert_eq!(client.next().await["closed"], 1009);
    let (user, _) = mover.running.invite(mover.company, Person::of("dispatcher")).await;
    let expires = now().plus(Seconds(2));
    let token = mover.running.issue_until(mover.company, Principal::User(user), expires).await.token;
    let mut client = Client::connect(&mover, &token).await;
    assert_eq!(client.next().await["closed"], 4401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_the_url_or_none_opens_nothing() {
    let mover = Mover::start().await;
    let token = mover.token("dispatcher").await;
    let open = |path: String| {
        let request = mover.request(Method::GET, &path).header("upgrade", "websocket").header("connection", "upgrade");
        answered(request.header("sec-websocket-version", "13").header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="))
    };
    open("/v1/live".into()).await.problem(401, "unauthenticated");
    open(format!("/v1/live?token={token}")).await.problem(401, "unauthenticated");
    open(format!("/v1/live?access_token={token}")).await.problem(401, "unauthenticated");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_dropped_and_others_are_served() {
    let mover = Mover::start().await;
    settle(&mover).await;
    let mut slow = Client::connect(&mover, &mover.token("dispatcher").await).await;
    let ping = json!({ "ping": "x".repeat(15_000) });
    let dropped = async {
        // Each ping is answered in full; whoever does not read the answers soon has more of them waiting than fit.
        while slow.0.send(Message::text(ping.to_string())).await.is_ok() {}
    };
    tokio::time::timeout(PATIENCE, dropped).await.expect("is dropped in time");
    let text = mover.running.metrics().await;
    assert!(text.contains("cnc_live_closed_total{reason=\"too slow\"} 1"), "{text}");
    let mut client = Client::connect(&mover, &mover.token("dispatcher").await).await;
    client.subscribe("dispatch_board", None).await;
    assert!(client.next().await["snapshot"].is_object());
}

/// A mover whose server bounds its callers so.
pub async fn limited(limits: Limits) -> Mover {
    Mover::on(Running::limited(limits).await.expect("starts")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_gives_no_sign_of_life_is_dropped_and_one_that_does_stays() {
    let mover = limited(Limits { heartbeat: Duration::from_millis(150), ..Limits::default() }).await;
    let token = mover.token("dispatcher").await;
    let silent = Client::connect(&mover, &token).await;
    // Whoever reads answers pings, as every browser does.
    let mut client = Client::connect(&mover, &token).await;
    let dropped = async {
        loop {
            if mover.running.metrics().await.contains("cnc_live_closed_total{reason=\"no sign of life\"} 1") {
                return;
            }
            client.send(&json!({ "ping": 1 })).await;
            assert_eq!(client.next().await, json!({ "pong": 1 }));
        }
    };
    tokio::time::timeout(PATIENCE, dropped).await.expect("is dropped in time");
    drop(silent);
    client.subscribe("dispatch_board", None).await;
    assert!(client.next().await["snapshot"].is_object());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_company_leaves_others_room_for_sockets() {
    let mover = limited(Limits { sockets: 2, sockets_each: 1, ..Limits::default() }).await;
    let other = CompanyId::new(Uuid::now_v7());
    mover.found(other).await;
    let token = mover.token("dispatcher").await;
    let _client = Client::connect(&mover, &token).await;
    Client::is_refused(&mover, &token).await;
    let token = mover.running.token(other, "dispatcher", None).await;
    Client::connect(&mover, &token).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_and_their_subscriptions_are_bounded() {
    let mover = limited(Limits { sockets: 1, subscriptions: 2, ..Limits::default() }).await;
    let token = mover.token("dispatcher").await;
    let mut client = Client::connect(&mover, &token).await;
    for (id, code) in [("a", None), ("b", None), ("b", Some("bad_subscription")), ("c", Some("bad_subscription"))] {
        client.send(&json!({ "subscribe": { "id": id, "view": "alerts" } })).await;
        let said = client.next().await;
        assert_eq!(said["error"]["code"].as_str(), code, "{id}: {said}");
    }
    client.send(&json!({ "unsubscribe": { "id": "a" } })).await;
    client.send(&json!({ "subscribe": { "id": "c", "view": "alerts" } })).await;
    assert!(client.next().await["snapshot"].is_object(), "there is room again");
    Client::is_refused(&mover, &token).await;
    client.0.close(None).await.expect("closes");
    let opens = async { while connect_async(Client::request(&mover, &token)).await.is_err() {} };
    tokio::time::timeout(PATIENCE, opens).await.expect("there is room again");
}
