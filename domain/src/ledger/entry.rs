//! The bytes of an entry. They are made once, at the append, and kept verbatim; nothing re-serializes them later.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::kernel::{Actor, CommandId, CompanyId, Id, LocationId, Timestamp, marker};

/// An entry's place in its company's ledger: 1, 2, 3 … with no gap. 0 is before the first.
pub type Position = u64;
/// An entry's place in its stream: 1, 2, 3 … with no gap. 0 is before the first.
pub type Sequence = u64;

/// The largest message that carries an entry to a broker, with its headers: what a broker takes that is told nothing else.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// The largest payload of an entry. The rest of its line, and the headers of its message, have a few hundred bytes each.
pub const PAYLOAD_BYTES_MAX: usize = MESSAGE_BYTES_MAX - 8 * 1_024;

/// A SHA-256, written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Hash(pub [u8; 32]);

/// A ledger's last position and the hash of the entry there; `Head::default()` is that of an empty ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Head {
    /// The last position, 0 where the ledger is empty.
    pub position: Position,
    /// The hash of the entry there, all zeros where the ledger is empty.
    pub hash: Hash,
}

/// A stream's last entry; `StreamHead::default()` is that of a stream without entries. The hash tells it from an entry that
/// stands in the same place in another history: one that a restored database or a standby has in its stead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct StreamHead {
    /// Its sequence, 0 where the stream has none.
    pub sequence: Sequence,
    /// Its hash, all zeros where the stream has none.
    pub hash: Hash,
}

/// Whether an entry changes what every decision in its company rests on: standing, settings and plan. All of the company's
/// own stream does, but for the shapes of events, which a new version of the program adopts.
pub fn is_company_fact(company: CompanyId, (stream, id): (&str, Uuid), event: &str) -> bool {
    stream == "company" && id == company.uuid() && event != "schema_adopted"
}

/// An entry without its place, time and link, which only the head's lock can give it.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The kind of aggregate, such as `truck_journey`.
    pub stream: String,
    /// Which aggregate.
    pub id: Uuid,
    /// Its place in its stream.
    pub sequence: Sequence,
    /// What happened, such as `departed`.
    pub event: String,
    /// The version of the event's shape.
    pub version: u32,
    /// The branch that it belongs to.
    pub location: Option<LocationId>,
    /// Who did it.
    pub actor: Actor,
    /// The command that was decided.
    pub command: CommandId,
    /// The original request that this followed from.
    pub correlation: Id<marker::Correlation>,
    /// The entry that a trigger answered, or the command that carried this one.
    pub causation: Option<Uuid>,
    /// The event's fields: a JSON object.
    pub payload: Box<RawValue>,
}

/// One recorded event. Its fields stand in the order of its bytes.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Whose ledger.
    pub company: CompanyId,
    /// The place in that ledger.
    pub position: Position,
    /// The hash of the entry before, zeros for the first.
    pub previous: Hash,
    /// The kind of aggregate.
    pub stream: String,
    /// Which aggregate.
    pub id: Uuid,
    /// The place in its stream.
    pub sequence: Sequence,
    /// What happened.
    pub event: String,
    /// The version of the event's shape.
    pub version: u32,
    /// When it was recorded; never before the entry at the position before.
    pub at: Timestamp,
    /// The branch that it belongs to.
    pub location: Option<LocationId>,
    /// Who did it.
    pub actor: Actor,
    /// The command that was decided.
    pub command: CommandId,
    /// The original request that this followed from.
    pub correlation: Id<marker::Correlation>,
    /// What caused it, where a person did not.
    pub causation: Option<Uuid>,
    /// The event's fields, verbatim.
    #[schemars(with = "std::collections::BTreeMap<String, serde_json::Value>")]
    pub payload: Box<RawValue>,
}

/// The text is not an entry's line.
#[derive(Debug, thiserror::Error)]
#[error("not an entry: {0}")]
pub struct Malformed(#[from] serde_json::Error);

/// An entry without its payload, in the order of its bytes.
#[derive(Serialize)]
struct Header<'a> {
    company: CompanyId,
    position: Position,
    previous: Hash,
    stream: &'a str,
    id: Uuid,
    sequence: Sequence,
    event: &'a str,
    version: u32,
    at: Timestamp,
    location: Option<LocationId>,
    actor: &'a Actor,
    command: CommandId,
    correlation: Id<marker::Correlation>,
    causation: Option<Uuid>,
}

impl Draft {
    /// The header's text for this draft after `previous`: a JSON object with every member but the payload.
    pub fn header(&self, company: CompanyId, previous: Head, at: Timestamp) -> String {
        let header = Header {
            company,
            position: previous.position + 1,
            previous: previous.hash,
            stream: &self.stream,
            id: self.id,
            sequence: self.sequence,
            event: &self.event,
            version: self.version,
            at,
            location: self.location,
            actor: &self.actor,
            command: self.command,
            correlation: self.correlation,
            causation: self.causation,
        };
        serde_json::to_string(&header).expect("a header holds nothing that JSON cannot")
    }
}

impl Entry {
    /// Reads a line (without its newline).
    pub fn read(line: &str) -> Result<Self, Malformed> {
        Ok(serde_json::from_str(line)?)
    }

    /// The line that a header and a payload make: the payload is the header's last member.
    pub fn line(header: &str, payload: &str) -> String {
        let open = header.strip_suffix('}').unwrap_or(header);
        let mut line = String::with_capacity(open.len() + payload.len() + 12);
        line.push_str(open);
        line.push_str(",\"payload\":");
        line.push_str(payload);
        line.push('}');
        line
    }

    /// This entry's id: it follows from its company and position.
    pub fn entry_id(&self) -> Uuid {
        Id::<marker::Entry>::derived(&[b"entry", self.company.uuid().as_bytes(), &self.position.to_be_bytes()]).uuid()
    }
}

impl Hash {
    /// The SHA-256 of these bytes.
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Its 64 digits.
    pub fn digits(&self) -> [u8; 64] {
        // Reckoned rather than looked up, so that many are made at once.
        let digit = |nibble: u8| nibble + if nibble < 10 { b'0' } else { b'a' - 10 };
        let mut digits = [0; 64];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(self.0) {
            pair[0] = digit(byte >> 4);
            pair[1] = digit(byte & 15);
        }
        digits
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.digits()).unwrap_or_default())
    }
}
impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl FromStr for Hash {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err("a hash has lower-case hexadecimal digits"),
        };
        let text = text.as_bytes();
        if text.len() != 64 {
            return Err("a hash has 64 digits");
        }
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(text.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self(hash))
    }
}
impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}
impl JsonSchema for Hash {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Hash".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[0-9a-f]{64}$",
            "examples": ["e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"] })
    }
}

/// `SEQUENCE:HASH`.
impl fmt::Display for StreamHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.sequence, self.hash)
    }
}

/// `POSITION:HASH`, as `audit verify --head` takes it.
impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.position, self.hash)
    }
}
impl FromStr for Head {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (position, hash) = text.trim().split_once(':').ok_or("a head is POSITION:HASH")?;
        Ok(Self {
            position: position.parse().map_err(|_| format!("{position:?} is not a position"))?,
            hash: hash.parse().map_err(str::to_owned)?,
        })
    }
}
