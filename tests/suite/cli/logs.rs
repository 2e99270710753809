//! What a server logs: lines that a program reads, which say what was asked and how it was answered, and nothing that is secret.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};

use serde_json::Value;

use super::{Operator, Server};

/// What the server says to this text, until it ends the connection.
fn told(server: &Server, text: &str) -> String {
    let mut client = std::net::TcpStream::connect(&server.address).expect("connects");
    client.write_all(text.as_bytes()).expect("sends");
    let mut said = String::new();
    drop(client.read_to_string(&mut said));
    said
}

fn ask(server: &Server, method: &str, target: &str, headers: &str) -> String {
    told(server, &format!("{method} {target} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{headers}\r\n"))
}

#[test]
fn an_answer_is_logged_with_its_route_code_company_and_time_as_values() {
    let operator = Operator::new();
    let (server, log) = operator.logged(&[]);
    let company = operator.found("Logged Movers");
    let token = operator.token(&company, "auditor");
    let id = "01920000-0000-7000-8000-000000000001";
    let bearer = format!("authorization: Bearer {}\r\n", token.trim());
    let said = ask(&server, "POST", &format!("/v1/truck_journey/{id}/depart?x=1"), &bearer);
    assert!(said.starts_with("HTTP/1.1 403"), "{said}");
    ask(&server, "GET", "/v1/ledger", "");
    server.kill();
    let log = log.join().expect("reads");
    let lines: Vec<Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    let line = |status: u64| {
        lines.iter().find(|line| line["fields"]["status"] == status).expect("is logged")["fields"].clone()
    };
    let refused = line(403);
    assert_eq!(refused["route"], "/v1/{stream}/{id}/{command}");
    assert_eq!((&refused["method"], &refused["code"]), (&"POST".into(), &"not_allowed".into()));
    assert_eq!(refused["company"], company.as_str());
    assert!(refused["duration_ms"].is_number() && refused["request"].is_string(), "{refused}");
    assert_eq!((&line(401)["code"], &line(401)["company"]), (&"unauthenticated".into(), &Value::Null));
}

#[test]
fn no_token_stands_in_a_log_however_it_was_sent() {
    let operator = Operator::new();
    let (server, log) = operator.logged(&["--log", "trace"]);
    let company = operator.found("Secret Movers");
    let token = operator.token(&company, "dispatcher");
    let (token, secret) = (token.trim(), "s3cret-in-the-address");
    let bearer = format!("authorization: Bearer {token}\r\n");
    ask(&server, "GET", &format!("/v1/ledger/head?access_token={secret}"), &bearer);
    ask(&server, "GET", &format!("/nothing/{secret}?token={token}"), "");
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for protocols in [format!("cnc.bearer, {token}"), "cnc.bearer, nonsense".into()] {
        let mut client = std::net::TcpStream::connect(&server.address).expect("connects");
        let head = format!("GET /v1/live HTTP/1.1\r\nhost: a\r\n{upgrade}sec-websocket-protocol: {protocols}\r\n\r\n");
        client.write_all(head.as_bytes()).expect("sends");
        let mut first = String::new();
        BufReader::new(client).read_line(&mut first).expect("answers");
        assert!(
            first.starts_with(if protocols.contains("nonsense") { "HTTP/1.1 401" } else { "HTTP/1.1 101" }),
            "{first}"
        );
    }
    over_http2(&server, token, secret);
    server.kill();
    let log = log.join().expect("reads");
    assert!(log.contains("/v1/ledger/head") && log.contains("\"status\":101"), "there is something to look at");
    for line in log.lines() {
        assert!(!line.contains(token) && !line.contains(secret), "{line}");
    }
}

/// The same over HTTP/2, whose headers come another way.
fn over_http2(server: &Server, token: &str, secret: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(&server.address).await.expect("connects");
        let (client, connection) = h2::client::handshake(stream).await.expect("speaks HTTP/2");
        let ends = tokio::spawn(async move { drop(connection.await) });
        let request = http::Request::builder().uri(format!("http://a/v1/ledger/head?access_token={secret}"));
        let request = request.header("authorization", format!("Bearer {token}")).body(()).expect("is a request");
        let (answer, _) = client.ready().await.expect("takes requests").send_request(request, true).expect("sends");
        assert_eq!(answer.await.expect("answers").status(), 403);
        ends.abort();
    });
}

#[test]
fn colours_are_for_terminals() {
    let operator = Operator::new();
    let mut server = operator.command(&["serve", "--listen", "127.0.0.1:0"]).spawn().expect("cnc starts");
    let mut line = String::new();
    BufReader::new(server.stdout.take().expect("is piped")).read_line(&mut line).expect("reads");
    server.kill().expect("can be killed");
    let mut log = String::new();
    server.stderr.take().expect("is piped").read_to_string(&mut log).expect("reads");
    server.wait().expect("ends");
    assert!(log.contains("listening") && !log.contains('\u{1b}'), "{log:?}");
}
