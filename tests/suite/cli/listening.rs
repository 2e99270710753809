//! Where a server listens, for clients and for the operator, and how much is held for clients that do not read.

use std::{
    io::{Read as _, Write as _},
    time::Duration,
};

use super::{Operator, Server, Started};

fn get(address: &str, path: &str) -> String {
    let mut client = std::net::TcpStream::connect(address).expect("connects");
    write!(client, "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").expect("sends");
    let mut said = String::new();
    client.read_to_string(&mut said).expect("is text");
    said
}

#[test]
fn a_server_listens_on_a_name_and_on_ipv6() {
    for (listen, found) in [("localhost:0", "127.0.0.1:"), ("[::1]:0", "[::1]:")] {
        let operator = Operator::new();
        let server = operator.start(listen, &[], &[]).server;
        assert!(server.address.starts_with(found), "{}", server.address);
        let port = server.address.rsplit(':').next().expect("has a port");
        let asked = listen.replace(":0", &format!(":{port}"));
        assert!(operator.ok(&["health", "--listen", &asked]).starts_with("ready"), "{asked}");
    }
    let came = Operator::new().run(&["serve", "--listen", "no-such-host.invalid:1"]);
    assert!(came.status == 2 && came.err.contains("HOST:PORT"), "{}", came.err);
}

#[test]
fn an_empty_variable_is_one_that_is_not_set() {
    let operator = Operator::new();
    let variables = [
        "CNC_LEDGER",
        "CNC_NATS",
        "CNC_NATS_CREDS",
        "CNC_ROLES",
        "CNC_LOG",
        "CNC_JSON",
        "CNC_LISTEN",
        "CNC_METRICS_LISTEN",
        "CNC_MASTER_KEY_FILE",
        "CNC_TOKEN_KEY_FILE",
        "CNC_NATS_REPLICAS",
    ];
    let mut command = operator.command(&["serve", "--listen", "127.0.0.1:0"]);
    command.envs(variables.map(|name| (name, "")));
    let mut server = command.spawn().expect("cnc starts");
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(server.stdout.take().expect("is piped")), &mut line)
        .expect("reads");
    server.kill().expect("can be killed");
    let mut log = String::new();
    server.stderr.take().expect("is piped").read_to_string(&mut log).expect("reads");
    server.wait().expect("ends");
    assert!(line.starts_with("listening on "), "{line}{log}");
}

#[test]
fn metrics_are_the_operators_and_stand_on_an_address_of_their_own() {
    let operator = Operator::new();
    let Started { server, said, .. } = operator.start("127.0.0.1:0", &["--metrics-listen", "localhost:0"], &[]);
    let company = operator.found("Measured Movers");
    let token = operator.token(&company, "admin");
    let metrics = said["metrics"].as_str().expect("is said");
    let address = metrics.strip_prefix("http://").and_then(|url| url.strip_suffix("/metrics")).expect("an address");
    let text = get(address, "/metrics");
    assert!(text.contains("\ncnc_build_info{version=") && text.contains("\nprocess_open_fds "), "{text}");
    assert!(get(address, "/v1/ledger").starts_with("HTTP/1.1 404"), "it serves nothing else");
    let mut client = std::net::TcpStream::connect(&server.address).expect("connects");
    write!(
        client,
        "GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\nauthorization: Bearer {}\r\n\r\n",
        token.trim()
    )
    .expect("sends");
    let mut said = String::new();
    client.read_to_string(&mut said).expect("is text");
    assert!(said.starts_with("HTTP/1.1 404"), "{said}");
}

/// What a process holds, in bytes.
fn resident(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("is said");
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).expect("a number") << 10
}

#[test]
fn answers_that_nobody_reads_cost_next_to_nothing() {
    let operator = Operator::new();
    let server = operator.serve();
    assert!(get(&server.address, "/openapi.json").starts_with("HTTP/1.1 200"));
    let before = resident(&server);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let (asked, held) = runtime.block_on(async {
        let mut connections = Vec::new();
        let mut asked = 0;
        for _ in 0..20 {
            let stream = tokio::net::TcpStream::connect(&server.address).await.expect("connects");
            let mut builder = h2::client::Builder::new();
            builder.initial_window_size(0);
            let (client, connection) = builder.handshake::<_, &'static [u8]>(stream).await.expect("speaks HTTP/2");
            let drives = tokio::spawn(async move { drop(connection.await) });
            let mut answers = Vec::new();
            let mut client = client.ready().await.expect("takes requests");
            loop {
                let request = http::Request::builder().uri("http://a/openapi.json").header("accept-encoding", "gzip");
                let sent = client.send_request(request.body(()).expect("is a request"), true).expect("sends");
                // As many as the server takes of one connection at once.
                match tokio::time::timeout(Duration::from_millis(500), sent.0).await {
                    Ok(answer) => answers.push(answer.expect("answers")),
                    Err(_) => break,
                }
                asked += 1;
                client = client.ready().await.expect("takes requests");
            }
            connections.push((answers, drives));
        }
        let held = resident(&server).saturating_sub(before);
        for (_, drives) in &connections {
            drives.abort();
        }
        (asked, held)
    });
    eprintln!("{asked} answers that nobody read: {held} bytes");
    assert!(held < 48 << 20, "{asked} answers hold {held} bytes");
    assert!(get(&server.address, "/health/live").starts_with("HTTP/1.1 200"));
}
