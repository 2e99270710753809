//! Clients that would hold the server down: who does not read, who does not finish what they say, who takes all places. They are
//! cut or turned away, and others are served.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use cnc_gateway::limits::Limits;
use cnc_tests::{
    mover::{Mover, answered},
    staff::Person,
    system::{PATIENCE, Running},
};
use h2::client::SendRequest;
use reqwest::Method;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use super::live::{Client, limited};

/// Short enough to wait for.
fn hasty() -> Limits {
    let soon = Duration::from_millis(200);
    Limits { head: soon, body: soon, stall: soon, idle: 4 * soon, ..Limits::default() }
}

const DESCRIPTION: &str = "GET /openapi.json HTTP/1.1\r\nhost: a\r\n\r\n";

/// A client that says this.
pub async fn says(mover: &Mover, text: &str) -> TcpStream {
    let mut client = TcpStream::connect(mover.running.system.address).await.expect("connects");
    client.write_all(text.as_bytes()).await.expect("sends");
    client
}

/// All that the server says until it ends the connection.
pub async fn heard(mut client: TcpStream) -> String {
    let mut text = Vec::new();
    // A connection that is cut may say so as an error.
    drop(tokio::time::timeout(PATIENCE, client.read_to_end(&mut text)).await.expect("the server ends the connection"));
    String::from_utf8_lossy(&text).into_owned()
}

/// Waits until so many connections were cut for this reason.
async fn cut(mover: &Mover, reason: &str, count: usize) {
    let line = format!("cnc_http_connections_cut_total{{reason=\"{reason}\"}} {count}\n");
    let cut = async { while !mover.running.metrics().await.contains(&line) {} };
    tokio::time::timeout(PATIENCE, cut).await.unwrap_or_else(|_| panic!("{line} does not come"));
}

/// A client that speaks HTTP/2 and takes so many bytes of all answers together. Whoever drops it ends it.
async fn over_http2(mover: &Mover, window: u32) -> (SendRequest<Bytes>, impl Drop) {
    struct Ends(tokio::task::JoinHandle<()>);
    impl Drop for Ends {
        fn drop(&mut self) {
            self.0.abort();
        }
    }
    let stream = TcpStream::connect(mover.running.system.address).await.expect("connects");
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(window);
    let (client, connection) = builder.handshake::<_, Bytes>(stream).await.expect("speaks HTTP/2");
    (client, Ends(tokio::spawn(async move { drop(connection.await) })))
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_never_read_are_cut_and_make_room_for_others() {
    let mover = Mover::on(Running::limited(Limits { connections: 9, ..hasty() }).await.expect("starts")).await;
    let mut deaf = Vec::new();
    for _ in 0..8 {
        // More than sockets take by themselves.
        deaf.push(says(&mover, &DESCRIPTION.repeat(4)).await);
    }
    cut(&mover, "does not read", 8).await;
    let client = says(&mover, "GET /health/live HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(heard(client).await.contains("alive"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http2_client_has_few_streams_and_is_cut_where_it_takes_nothing_of_one_of_them() {
    let limits = Limits { streams: 4, heartbeat: Duration::from_millis(100), ..hasty() };
    let mover = Mover::on(Running::limited(limits).await.expect("starts")).await;
    for window in [0, 10] {
        let (mut client, ends) = over_http2(&mover, window).await;
        let mut answers = Vec::new();
        for _ in 0..4 {
            client = client.ready().await.expect("takes requests");
            let request = request_over_http2("/openapi.json");
            answers.push(client.send_request(request, true).expect("sends").0);
        }
        let one_more = client.ready().await.expect("takes requests").send_request(request_over_http2("/docs"), true);
        let waits = tokio::time::timeout(Duration::from_millis(50), one_more.expect("sends").0).await;
        assert!(waits.is_err() || waits.is_ok_and(|answer| answer.is_err()), "a fifth one has to wait");
        // The connection answers pings, and the client reads: only of the answers it takes nothing, or almost nothing.
        cut(&mover, "does not read", if window == 0 { 1 } else { 2 }).await;
        drop((answers, ends));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http2_client_that_asks_nothing_is_cut_though_it_answers_pings() {
    let limits = Limits { heartbeat: Duration::from_millis(100), ..hasty() };
    let mover = Mover::on(Running::limited(limits).await.expect("starts")).await;
    let (client, ends) = over_http2(&mover, 65_535).await;
    cut(&mover, "no request", 1).await;
    drop((client, ends));
    let (client, ends) = over_http2(&mover, 65_535).await;
    let mut client = client.ready().await.expect("takes requests");
    let (answer, _) = client.send_request(request_over_http2("/health/live"), true).expect("sends");
    assert_eq!(answer.await.expect("answers").status(), 200);
    cut(&mover, "idle", 1).await;
    drop(ends);
}

/// A request as HTTP/2 carries it.
fn request_over_http2(path: &str) -> http::Request<()> {
    http::Request::builder().uri(format!("http://a{path}")).body(()).expect("is a request")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_is_given_up_and_one_without_a_token_is_not_waited_for() {
    let mover = Mover::on(Running::limited(hasty()).await.expect("starts")).await;
    let path = format!("/v1/truck_journey/{}/tag", mover.journeys[0]);
    let begin = |token: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\nidempotency-key: k\r\n\
             content-length: 100\r\n\r\n{{\"tag\":"
        )
    };
    let answer = heard(says(&mover, &begin(&mover.token("dispatcher").await)).await).await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("\"code\":\"slow_body\""), "{answer}");
    let answer = heard(says(&mover, &begin("nonsense")).await).await;
    assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("\"code\":\"unauthenticated\""), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_leaves_others_room_for_connections() {
    let limits = Limits { connections_per_address: 3, ..Limits::default() };
    let mover = Mover::on(Running::limited(limits).await.expect("starts")).await;
    let from = async |ip: [u8; 4]| {
        let socket = TcpSocket::new_v4().expect("is a socket");
        socket.bind(SocketAddr::from((ip, 0))).expect("is an address of this machine");
        let mut client = socket.connect(mover.running.system.address).await.expect("connects");
        // Whoever is turned away may be so before anything is sent.
        drop(client.write_all(b"GET /health/live HTTP/1.1\r\nhost: a\r\n\r\n").await);
        let mut answer = [0; 12];
        client.read_exact(&mut answer).await.ok().map(|_| client)
    };
    let mut held = Vec::new();
    while let Some(client) = from([127, 0, 0, 9]).await {
        held.push(client);
        assert!(held.len() <= 3, "one address has more than its share");
    }
    assert_eq!(held.len(), 3);
    assert!(from([127, 0, 0, 8]).await.is_some(), "another address is served");
    drop(held);
    let again = async { while from([127, 0, 0, 9]).await.is_none() {} };
    tokio::time::timeout(PATIENCE, again).await.expect("there is room again");
}

/// A token of one more user of the mover.
async fn token_of(mover: &Mover) -> String {
    mover.invite(Person::of("dispatcher")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_user_or_address_leaves_others_room_for_sockets() {
    let limits = Limits { sockets_per_user: 2, sockets_per_address: 3, ..Limits::default() };
    let header = "x-forwarded-for".parse().expect("is a header");
    let mover = limited(Limits { client_address: Some(header), ..limits }).await;
    let [one, other, third] = [token_of(&mover).await, token_of(&mover).await, token_of(&mover).await];
    let here = |token: &str| Client::request_from(&mover, token, "9.9.9.9, 10.0.0.1");
    let _first = [Client::open(here(&one)).await, Client::open(here(&one)).await];
    Client::is_refused_to(here(&one)).await;
    let _second = Client::open(here(&other)).await;
    Client::is_refused_to(here(&third)).await;
    // What a client writes into the header itself does not count.
    Client::is_refused_to(Client::request_from(&mover, &third, "10.0.0.2, 10.0.0.1")).await;
    Client::open(Client::request_from(&mover, &third, "10.0.0.2")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_one_user_does_not_read_are_bounded_and_others_get_theirs() {
    let limits = Limits { waiting_bytes_per_user: 64 << 10, ..Limits::default() };
    let mover = Mover::on(Running::limited(limits).await.expect("starts")).await;
    let (token, other) = (token_of(&mover).await, token_of(&mover).await);
    let (path, dispatcher) = (format!("/v1/truck_journey/{}/tag", mover.journeys[0]), mover.token("dispatcher").await);
    for nth in 0..45 {
        mover.post(&dispatcher, &path, &json!({ "tag": format!("tag-{nth}") })).await.good();
    }
    let path = format!("/v1/truck_journey/{}/history?limit=100", mover.journeys[0]);
    let (mut client, ends) = over_http2(&mover, 0).await;
    let mut unread = Vec::new();
    let refused = loop {
        client = client.ready().await.expect("takes requests");
        let request = http::Request::builder().uri(format!("http://a{path}"));
        let request = request.header("authorization", format!("Bearer {token}")).body(()).expect("is a request");
        let answer = client.send_request(request, true).expect("sends").0.await.expect("answers");
        if answer.status() != 200 || unread.len() > 10 {
            break answer;
        }
        unread.push(answer);
    };
    assert_eq!(refused.status(), 503, "after {} answers", unread.len());
    let ask = |token: &str| answered(mover.request(Method::GET, &path).bearer_auth(token));
    ask(&other).await.good();
    assert_eq!(ask(&token).await.status, 503);
    drop((unread, refused, client, ends));
    let again = async { while !ask(&token).await.status.is_success() {} };
    tokio::time::timeout(PATIENCE, again).await.expect("there is room again");
}
