//! An example of an integration: it keeps a copy of a company's ledger, as a partner's system would.
//!
//! `integration_consumer URL SEED_FILE COMPANY NAME FILE [GATEWAY TOKEN_FILE]` appends lines to FILE, and goes on where it
//! ends. It needs of NATS only what every client has (publish, subscribe, an inbox), and no rights but those of
//! `cnc integration add`; of a gateway, a token of the role `auditor`:
//!
//! - It asks its durable consumer for the next messages, which come to an inbox of its own.
//! - What it has already (a repeat) it acknowledges and drops.
//! - Where one comes too early, it reads what lies between from the gateway: the stream may not keep it any more. Without a
//!   gateway, or where that does not answer, it gives the message back for a while.
//! - Each line must be the company's, and name the SHA-256 of the line before it. So nothing was left out, added or changed
//!   on the way.
//! - A message with the header `Cnc-Fork-After: POSITION` says that the ledger was put back: it forgets what it had after that
//!   position, and passes over what the stream held of it before. What it was told of forks stands in FILE.forks.
//! - It acknowledges a line only when it is on its disk. Killed at any moment, it gets the rest again.

use std::{
    error::Error,
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    time::Duration,
};

use async_nats::{Client, ConnectOptions, Message, StatusCode};
use cnc_domain::ledger::{Hash, Head, Position};
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
/// The header of a message that says that the ledger was put back.
const FORK_AFTER: &str = "Cnc-Fork-After";

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (arguments, gateway) = match arguments.as_slice() {
        [first @ .., gateway, token] if first.len() == 5 => (first, Some(Gateway::new(gateway, token)?)),
        all => (all, None),
    };
    let [url, seed, company, name, file] = arguments else {
        return Err("integration_consumer URL SEED_FILE COMPANY NAME FILE [GATEWAY TOKEN_FILE]".into());
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
            answer(&client, gateway.as_ref(), &mut copy, message).await?;
            left -= 1;
        }
    }
}

async fn answer(client: &Client, gateway: Option<&Gateway>, copy: &mut Copy, message: Message) -> Result<(), Failure> {
    let line = std::str::from_utf8(&message.payload)?;
    let reply = message.reply.ok_or("a message of a consumer can be answered")?;
    let sequence = stream_sequence(&reply)?;
    if let Some(after) = message.headers.as_ref().and_then(|headers| headers.get(FORK_AFTER)) {
        copy.fork(Fork { after: after.as_str().parse()?, sequence })?;
    }
    if copy.is_forgotten(line, sequence)? {
        return Ok(client.publish(reply, "+ACK".into()).await?);
    }
    let mut taken = copy.take(line)?;
    if let (Taken::Early(position), Some(gateway)) = (taken, gateway) {
        match gateway.read_before(position, copy).await {
            Ok(()) => taken = copy.take(line)?,
            Err(failure) if failure.is::<reqwest::Error>() => eprintln!("{failure}; it is tried again"),
            Err(failure) => return Err(failure),
        }
    }
    copy.file.sync_data()?;
    let answer = if taken == Taken::Kept { "+ACK" } else { LATER };
    Ok(client.publish(reply, answer.into()).await?)
}

/// A message's place in the stream, which the subject for its answer names:
/// `$JS.ACK.<stream>.<consumer>.<times>.<place>.<of the consumer>.<time>.<waiting>`, in newer brokers with more before it.
fn stream_sequence(reply: &str) -> Result<u64, Failure> {
    let parts: Vec<&str> = reply.split('.').collect();
    let place = if parts.len() < 11 { parts.get(5) } else { parts.get(7) };
    Ok(place.ok_or("the answer's subject names no place")?.parse()?)
}

/// Where a company's ledger can be read from any position on.
struct Gateway {
    client: reqwest::Client,
    ledger: String,
    token: String,
}

impl Gateway {
    fn new(url: &str, token_file: &str) -> Result<Self, Failure> {
        let client = reqwest::Client::builder().connect_timeout(SILENCE).read_timeout(SILENCE).build()?;
        let token = std::fs::read_to_string(token_file)?.trim().to_owned();
        Ok(Self { client, ledger: format!("{url}/v1/ledger"), token })
    }

    /// Takes the lines that the copy lacks before this one, as they come. An answer that is cut off is an error: what came
    /// of it is taken.
    async fn read_before(&self, position: Position, copy: &mut Copy) -> Result<(), Failure> {
        let after = copy.head.position;
        let url = format!("{}?after={after}&limit={}", self.ledger, position - after - 1);
        let mut answer = self.client.get(url).bearer_auth(&self.token).send().await?.error_for_status()?;
        let mut text = Vec::new();
        while let Some(part) = answer.chunk().await? {
            text.extend_from_slice(&part);
            let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            for line in std::str::from_utf8(&text[..whole])?.lines() {
                copy.take(line)?;
            }
            text.drain(..whole);
        }
        Ok(())
    }
}

/// What became of a line.
#[derive(Clone, Copy, PartialEq)]
enum Taken {
    /// It is in the file, or was.
    Kept,
    /// Those before this position are not there yet.
    Early(Position),
}

/// The ledger was put back.
#[derive(Clone, Copy)]
struct Fork {
    /// What came after this position is no more.
    after: Position,
    /// Where the message stands in the stream that said so: what stands before it is of what is no more.
    sequence: u64,
}

/// A company's lines so far, and where they end.
struct Copy {
    company: String,
    file: File,
    head: Head,
    /// The forks that it was told of, and the file in which they stand.
    forks: Vec<Fork>,
    forks_file: String,
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
        let forks_file = format!("{path}.forks");
        let mut forks = Vec::new();
        for line in std::fs::read_to_string(&forks_file).unwrap_or_default().lines() {
            let (after, sequence) = line.split_once(' ').ok_or("a fork is a position and a place")?;
            forks.push(Fork { after: after.parse()?, sequence: sequence.parse()? });
        }
        let mut copy = Self { company: company.to_owned(), file, head: Head::default(), forks, forks_file };
        copy.keep_up_to(Position::MAX)?;
        Ok(copy)
    }

    /// Keeps the lines up to a position, and drops the others.
    fn keep_up_to(&mut self, position: Position) -> Result<(), Failure> {
        let mut text = String::new();
        self.file.rewind()?;
        self.file.read_to_string(&mut text)?;
        let (mut head, mut bytes) = (Head::default(), 0);
        for line in text.lines().take(usize::try_from(position).unwrap_or(usize::MAX)) {
            head = Head { position: head.position + 1, hash: Hash::of(line) };
            bytes += line.len() + 1;
        }
        self.file.set_len(bytes as u64)?;
        self.file.seek(SeekFrom::End(0))?;
        self.head = head;
        Ok(())
    }

    /// Forgets what it had after a fork; once, however often it is told. Killed in between, it is told again, and forgets the
    /// same.
    fn fork(&mut self, fork: Fork) -> Result<(), Failure> {
        if self.forks.iter().any(|known| known.sequence >= fork.sequence) {
            return Ok(());
        }
        if fork.after < self.head.position {
            eprintln!("the ledger was put back: what came after {} is forgotten", fork.after);
            self.keep_up_to(fork.after)?;
            self.file.sync_data()?;
        }
        // One that goes back as far says all that those before it said.
        self.forks.retain(|known| known.after < fork.after);
        self.forks.push(fork);
        let new = format!("{}.new", self.forks_file);
        let mut file = File::create(&new)?;
        for Fork { after, sequence } in &self.forks {
            writeln!(file, "{after} {sequence}")?;
        }
        file.sync_all()?;
        Ok(std::fs::rename(new, &self.forks_file)?)
    }

    /// Whether a line is one of those that it was told to forget: they may be delivered again.
    fn is_forgotten(&self, line: &str, sequence: u64) -> Result<bool, Failure> {
        let entry: serde_json::Value = serde_json::from_str(line)?;
        let position = entry["position"].as_u64();
        Ok(self.forks.iter().any(|fork| sequence < fork.sequence && position > Some(fork.after)))
    }

    /// Takes a line, which is on the disk when the file has been synced.
    fn take(&mut self, line: &str) -> Result<Taken, Failure> {
        let entry: serde_json::Value = serde_json::from_str(line)?;
        if entry["company"] != self.company {
            return Err("a line of another company".into());
        }
        let position = entry["position"].as_u64().ok_or("an entry has a position")?;
        if position <= self.head.position {
            return Ok(Taken::Kept);
        }
        if position > self.head.position + 1 {
            return Ok(Taken::Early(position));
        }
        if entry["previous"].as_str() != Some(self.head.hash.to_string().as_str()) {
            return Err(format!("the line at {position} does not continue the one before it").into());
        }
        self.file.write_all(format!("{line}\n").as_bytes())?;
        self.head = Head { position, hash: Hash::of(line) };
        Ok(Taken::Kept)
    }
}
