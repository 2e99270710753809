//! What is moved, saved and restored beside entries: keys, and what commands were answered with.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use cnc_domain::kernel::CompanyId;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::value::RawValue;
use uuid::Uuid;

/// Bytes; base64 where they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bytes(pub Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}
impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        STANDARD.decode(&*text).map(Self).map_err(de::Error::custom)
    }
}

/// What a command was answered with, under its key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AnswerRow {
    pub company: CompanyId,
    /// Made of company, actor and key.
    pub id: Uuid,
    /// When, in microseconds since 1970.
    pub at: i64,
    pub for_ever: bool,
    pub fingerprint: Bytes,
    pub answer: Box<RawValue>,
}

/// A row of a key store, by its table. Secrets are as they lie there: wrapped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "table", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum KeyRow {
    KeyCheck { store: Uuid, value: Bytes },
    Companies { company: CompanyId, secret: Bytes },
    Subjects { company: CompanyId, id: Uuid, subject: Uuid, secret: Bytes },
    Prints { company: CompanyId, tag: Bytes, token: String },
    DestroyedKeys { company: CompanyId, id: Uuid, subject: Uuid, destroyed_at: i64, destroyed_by: String },
}

/// The tables of keys that have a company, each with the column by which a company's rows are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyTable {
    Companies,
    Subjects,
    Prints,
    DestroyedKeys,
}

impl KeyTable {
    pub const ALL: [Self; 4] = [Self::Companies, Self::Subjects, Self::Prints, Self::DestroyedKeys];

    pub fn name(self) -> &'static str {
        match self {
            Self::Companies => "companies",
            Self::Subjects => "subjects",
            Self::Prints => "prints",
            Self::DestroyedKeys => "destroyed_keys",
        }
    }

    pub fn key(self) -> &'static str {
        match self {
            Self::Companies => "company",
            Self::Subjects | Self::DestroyedKeys => "id",
            Self::Prints => "tag",
        }
    }

    /// Its columns, as both back ends read them.
    pub fn columns(self) -> &'static str {
        match self {
            Self::Companies => "company, secret",
            Self::Subjects => "company, id, subject, secret",
            Self::Prints => "company, tag, token",
            Self::DestroyedKeys => "company, id, subject, destroyed_at, destroyed_by",
        }
    }
}

impl KeyRow {
    /// Its company and its key: rows are read in their order.
    pub fn place(&self) -> (Vec<u8>, Vec<u8>) {
        let bytes = |id: &Uuid| id.as_bytes().to_vec();
        match self {
            Self::KeyCheck { .. } => (Vec::new(), Vec::new()),
            Self::Companies { company, .. } => (bytes(&company.uuid()), bytes(&company.uuid())),
            Self::Subjects { company, id, .. } | Self::DestroyedKeys { company, id, .. } => {
                (bytes(&company.uuid()), bytes(id))
            }
            Self::Prints { company, tag, .. } => (bytes(&company.uuid()), tag.0.clone()),
        }
    }
}
