//! An example of an integration: it keeps a copy of a company's ledger, as a partner's system would.
//!
//! `integration_consumer URL SEED_FILE COMPANY NAME FILE` appends lines to FILE, and goes on where it ends. It needs of NATS
//! only what every client has (publish, subscribe, an inbox), and no rights but those of `cnc integration add`:
//!
//! - It asks its durable consumer for the next messages, which come to an inbox of its own.
//! - What it has already (a repeat) it acknowledges and drops; what comes too early it gives back for a while.
//! - Each line must be the company's, and name the SHA-256 of the line before it. So nothing was left out, added or changed
//!   on the way.
//! - It acknowledges a line only when it is on its disk. Killed at any moment, it gets the rest again.

use std::{
    error::Error,
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    time::Duration,
};

use async_nats::{Client, ConnectOptions, Message, StatusCode};
use cnc_domain::ledger::{Hash, Head};
use futures::StreamExt as _;

type Failure = Box<dyn Error + Send + Sync>;

/// How long the broker holds a request that it has nothing for, in nanoseconds; and how many messages it may send for one.
const REQUEST: &str = r#"{"batch":100,"expires":5000000000}"#;
/// After this silence the request or its answer was lost: another is made.
const SILENCE: Duration = Duration::from_secs(7);
/// How long to wait where the consumer is not there.
const AWAY: Duration = Duration::from_secs(1);
/// Gives a message back, to be delivered again in a second.
const LATER: &str = r#"-NAK {"delay":1000000000}"#;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, seed, company, name, file] = arguments.as_slice() else {
        return Err("integration_consumer URL SEED_FILE COMPANY NAME FILE".into());
    };
    let durable = format!("integration_{company}_{name}");
    let options = ConnectOptions::with_nkey(std::fs::read_to_string(seed)?.trim().to_owned());
    let client = options.custom_inbox_prefix(format!("_INBOX_{durable}")).connect(url.as_str()).await?;
    let mut copy = Copy::open(company, file)?;
    let inbox = client.new_inbox();
    let mut messages = client.subscribe(inbox.clone()).await?;
    let next = format!("$JS.API.CONSUMER.MSG.NEXT.CNC.{durable}");
    loop {
        client.publish_with_reply(next.clone(), inbox.clone(), REQUEST.into()).await?;
        let mut left = 100;
        while left > 0 {
            let Ok(message) = tokio::time::timeout(SILENCE, messages.next()).await else { break };
            let message = message.ok_or("the connection is closed")?;
            // Without a body that is an entry: there is nothing (more) for this request.
            if let Some(status) = message.status {
                if status == StatusCode::NO_RESPONDERS {
                    tokio::time::sleep(AWAY).await;
                }
                break;
            }
            answer(&client, &mut copy, message).await?;
            left -= 1;
        }
    }
}

async fn answer(client: &Client, copy: &mut Copy, message: Message) -> Result<(), Failure> {
    let line = std::str::from_utf8(&message.payload)?;
    let answer = if copy.take(line)? { "+ACK" } else { LATER };
    let reply = message.reply.ok_or("a message of a consumer can be answered")?;
    Ok(client.publish(reply, answer.into()).await?)
}

/// A company's lines so far, and where they end.
struct Copy {
    company: String,
    file: File,
    head: Head,
}

impl Copy {
    fn open(company: &str, path: &str) -> Result<Self, Failure> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        // A line without its end was being written when the process was killed.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        file.set_len(whole as u64)?;
        file.seek(SeekFrom::End(0))?;
        let mut head = Head::default();
        for line in text[..whole].lines() {
            head = Head { position: head.position + 1, hash: Hash::of(line) };
        }
        Ok(Self { company: company.to_owned(), file, head })
    }

    /// Takes a line, and says whether it need not come again.
    fn take(&mut self, line: &str) -> Result<bool, Failure> {
        let entry: serde_json::Value = serde_json::from_str(line)?;
        if entry["company"] != self.company {
            return Err("a line of another company".into());
        }
        let position = entry["position"].as_u64().ok_or("an entry has a position")?;
        if position <= self.head.position {
            return Ok(true);
        }
        if position > self.head.position + 1 {
            return Ok(false);
        }
        if entry["previous"].as_str() != Some(self.head.hash.to_string().as_str()) {
            return Err(format!("the line at {position} does not continue the one before it").into());
        }
        self.file.write_all(format!("{line}\n").as_bytes())?;
        self.file.sync_data()?;
        self.head = Head { position, hash: Hash::of(line) };
        Ok(true)
    }
}
