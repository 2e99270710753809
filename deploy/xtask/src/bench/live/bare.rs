//! A bare axum handler in a process of its own, as the gateway is: what answering at all costs here.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
};

use axum::{Router, routing::get};

use super::super::Outcome;

/// The process, which ends with this.
pub struct Bare {
    child: Child,
    /// Where it answers.
    pub url: String,
}

impl Bare {
    /// Starts this program again, to answer every request with these bytes.
    pub fn start(body: &[u8]) -> Outcome<Self> {
        let file = tempfile::NamedTempFile::new()?;
        std::fs::write(&file, body)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bench", "bare"]).arg(file.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let mut url = String::new();
        BufReader::new(child.stdout.take().ok_or("piped")?).read_line(&mut url)?;
        Ok(Self { child, url: url.trim().into() })
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // It has nothing to lose.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Answers with a file's bytes, after saying where, until it is killed.
pub async fn serve(body: &Path) -> Outcome {
    let body = std::fs::read(body)?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}", listener.local_addr()?);
    std::io::stdout().flush()?;
    let answer = move || {
        let body = body.clone();
        async move { ([("content-type", "application/json")], body) }
    };
    Ok(axum::serve(listener, Router::new().route("/", get(answer))).await?)
}
