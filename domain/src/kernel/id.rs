//! Typed ids. Every id in the system is a UUID: new ones are version 7 and are made outside the domain; derived
//! ones (version 8) follow from what they name, so that a retry or a replay gets the same.

use std::{cmp::Ordering, fmt, hash, marker::PhantomData, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The id of one `T`: an aggregate (`Id<CrewMember>`) or one of the [`marker`]s. Written as a lower-case UUID.
pub struct Id<T: ?Sized>(Uuid, PhantomData<fn() -> T>);

/// Names for things that have ids and are known to the kernel, but whose rules (if any) live in a module.
pub mod marker {
    /// A tenant.
    pub enum Company {}
    /// A branch of a tenant.
    pub enum Location {}
    /// A person who signs in.
    pub enum User {}
    /// A program that signs in.
    pub enum ServiceAccount {}
    /// One command, as given by a person, a trigger, a deadline or a tool.
    pub enum Command {}
    /// All that followed from one original request.
    pub enum Correlation {}
    /// An event's id is that of its entry.
    pub enum Entry {}
    /// A phone or tablet of a crew.
    pub enum Device {}
    /// A piece of work sold to a customer.
    pub enum Job {}
}

/// A tenant's id; also the id of its `company` stream.
pub type CompanyId = Id<marker::Company>;
/// A branch's id; also the id of its `location` stream.
pub type LocationId = Id<marker::Location>;
/// A user's id; also the id of its `user` stream.
pub type UserId = Id<marker::User>;
/// A service account's id; also the id of its `service_account` stream.
pub type ServiceAccountId = Id<marker::ServiceAccount>;
/// A command's id.
pub type CommandId = Id<marker::Command>;

impl<T: ?Sized> Id<T> {
    /// The id with this value.
    pub const fn new(value: Uuid) -> Self {
        Self(value, PhantomData)
    }

    /// The id that follows from `parts`, the same every time (UUID version 8 over their SHA-256).
    pub fn derived(parts: &[&[u8]]) -> Self {
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hasher.finalize()[..16]);
        Self::new(uuid::Builder::from_custom_bytes(bytes).into_uuid())
    }

    /// The bare UUID.
    pub const fn uuid(self) -> Uuid {
        self.0
    }

    /// The same value as the id of something else: a company's id is also that of its `company` stream.
    pub const fn cast<U: ?Sized>(self) -> Id<U> {
        Id::new(self.0)
    }

    /// An id that no real thing has; for tests and blanks.
    pub const fn nil() -> Self {
        Self::new(Uuid::nil())
    }

    /// A readable id for tests and examples: `Id::number(7)` ends in `…0007`.
    pub const fn number(number: u128) -> Self {
        Self::new(Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0000 | number))
    }
}

// By hand, since derives would ask the same of `T`.
impl<T: ?Sized> Clone for Id<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T: ?Sized> Copy for Id<T> {}
impl<T: ?Sized> Default for Id<T> {
    fn default() -> Self {
        Self::nil()
    }
}
impl<T: ?Sized> PartialEq for Id<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl<T: ?Sized> Eq for Id<T> {}
impl<T: ?Sized> PartialOrd for Id<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<T: ?Sized> Ord for Id<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}
impl<T: ?Sized> hash::Hash for Id<T> {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}
impl<T: ?Sized> fmt::Debug for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
impl<T: ?Sized> fmt::Display for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}
impl<T: ?Sized> FromStr for Id<T> {
    type Err = uuid::Error;

    /// Reads the hyphenated lower- or upper-case form only, so that one id has one spelling in paths and tokens.
    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        if text.len() == 36 {
            Uuid::try_parse(text).map(Self::new)
        } else {
            Uuid::try_parse("not hyphenated").map(Self::new)
        }
    }
}
impl<T: ?Sized> Serialize for Id<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut buffer = Uuid::encode_buffer();
        serializer.serialize_str(self.0.as_hyphenated().encode_lower(&mut buffer))
    }
}
impl<'de, T: ?Sized> Deserialize<'de> for Id<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Uuid::deserialize(deserializer).map(Self::new)
    }
}
impl<T: ?Sized> JsonSchema for Id<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Id".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "uuid" })
    }
}
