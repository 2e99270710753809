//! HTTP clients that cost next to nothing, so that the server is what is measured.

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

use super::super::Outcome;

/// One connection that is kept.
pub struct Lean {
    host: String,
    stream: BufReader<TcpStream>,
}

impl Lean {
    /// Connects to `http://HOST:PORT`.
    pub async fn connect(url: &str) -> Outcome<Self> {
        let host = url.trim_start_matches("http://").split('/').next().unwrap_or_default().to_owned();
        let stream = TcpStream::connect(&host).await?;
        stream.set_nodelay(true)?;
        Ok(Self { host, stream: BufReader::new(stream) })
    }

    /// Reads a path; `from_store` has the gateway ask the database even for what it has in memory.
    pub async fn get(&mut self, path: &str, token: &str, from_store: bool) -> Outcome<Vec<u8>> {
        let cache = if from_store { "cache-control: no-cache\r\n" } else { "" };
        let host = &self.host;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\n{cache}\r\n");
        self.exchange(&request).await
    }

    /// Gives a command under a key.
    pub async fn post(&mut self, path: &str, token: &str, key: &str, body: &str) -> Outcome<Vec<u8>> {
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {token}\r\nidempotency-key: {key}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.host,
            body.len()
        );
        self.exchange(&request).await
    }

    async fn exchange(&mut self, request: &str) -> Outcome<Vec<u8>> {
        self.stream.write_all(request.as_bytes()).await?;
        let (mut status, mut length, mut line) = (String::new(), 0, String::new());
        loop {
            line.clear();
            if self.stream.read_line(&mut line).await? == 0 {
                return Err("the server closed the connection".into());
            }
            let text = line.trim_end();
            if text.is_empty() {
                break;
            }
            if status.is_empty() {
                text.clone_into(&mut status);
            } else if let Some((name, value)) = text.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse()?;
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await?;
        if status.contains(" 200 ") {
            Ok(body)
        } else {
            Err(format!("{status} {}", String::from_utf8_lossy(&body)).into())
        }
    }
}
