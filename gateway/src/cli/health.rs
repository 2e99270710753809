//! `cnc health`: whether the server beside it is ready. For containers that hold no other program to ask with.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    address::resolved,
    output::{Failure, Out},
};

/// How long the whole question may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// The answer is a few hundred bytes.
const ANSWER_MAX: usize = 64 << 10;

/// Ask a running server on this machine whether it is ready
///
/// Ends with status 0 where it is, 1 where it runs and a part that it needs is not well (which is named, with the reason), and
/// 4 where nobody answers within two seconds. It opens no data folder and no database.
#[derive(Debug, clap::Args)]
pub struct Health {
    /// Where the server listens; 0.0.0.0 means this machine
    #[arg(long, env = "CNC_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDRESS:PORT", value_parser = resolved)]
    listen: SocketAddr,
}

pub fn run(command: &Health, out: Out) -> Result<(), Failure> {
    let address = reachable(command.listen);
    let (status, body) =
        ask(address).map_err(|error| Failure::fault(format!("nobody answers on http://{address}: {error}")))?;
    let parts = body["parts"].as_object().into_iter().flatten();
    let reasons = parts.filter_map(|(part, says)| Some((part, says.as_str().filter(|says| *says != "ok")?)));
    let reasons: Vec<String> = reasons.map(|(part, reason)| format!("{part}: {reason}")).collect();
    if status == 200 {
        let but = if reasons.is_empty() { String::new() } else { format!(", but {}", reasons.join("; ")) };
        return out.say(format_args!("ready{but}"), &body);
    }
    let message = if reasons.is_empty() {
        format!("not ready: http://{address} answers with status {status}")
    } else {
        format!("not ready: {}", reasons.join("; "))
    };
    Err(Failure::Found { message, facts: body })
}

/// Where one that listens everywhere is found.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// The status and the body of the answer.
fn ask(address: SocketAddr) -> io::Result<(u16, Value)> {
    let until = Instant::now() + PATIENCE;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET /health/ready HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || text.len() > ANSWER_MAX {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the answer takes too long"));
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut buffer)? {
            0 => break,
            length => text.extend_from_slice(&buffer[..length]),
        }
    }
    read(&String::from_utf8_lossy(&text)).ok_or_else(|| io::Error::other("the answer is not one of a server of ours"))
}

/// A short answer of ours comes whole, with its length.
fn read(text: &str) -> Option<(u16, Value)> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some((status, serde_json::from_str(body).unwrap_or(json!({ "body": body }))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_listens_everywhere_is_found_on_this_machine() {
        for (listens, found) in [
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("[::]:8080", "[::1]:8080"),
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("10.0.0.7:80", "10.0.0.7:80"),
        ] {
            assert_eq!(reachable(listens.parse().expect("an address")).to_string(), found);
        }
    }
}
