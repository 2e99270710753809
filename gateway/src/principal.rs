//! Whom a token may name: a user or a service account of the company.

use std::{fmt, str::FromStr};

use cnc_domain::{
    cloud_control::{ServiceAccount, User},
    kernel::{Actor, Aggregate, Id, ServiceAccountId, UserId},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

/// Whom a token may name: `user:UUID` or `service_account:UUID`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Principal {
    /// A person.
    User(UserId),
    /// A program.
    ServiceAccount(ServiceAccountId),
}

/// The text names nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not user:UUID or service_account:UUID")]
pub struct NotAPrincipal;

impl Principal {
    /// The kind of aggregate that knows them.
    pub fn stream(self) -> &'static str {
        match self {
            Self::User(_) => User::STREAM,
            Self::ServiceAccount(_) => ServiceAccount::STREAM,
        }
    }

    /// Which aggregate.
    pub fn id(self) -> Uuid {
        match self {
            Self::User(id) => id.uuid(),
            Self::ServiceAccount(id) => id.uuid(),
        }
    }

    /// The actor of what they do in a role.
    pub fn actor(self, role: &str) -> Actor {
        let role = role.to_owned();
        match self {
            Self::User(user) => Actor::User { user, role },
            Self::ServiceAccount(service_account) => Actor::ServiceAccount { service_account, role },
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.stream(), self.id())
    }
}

impl FromStr for Principal {
    type Err = NotAPrincipal;

    fn from_str(text: &str) -> Result<Self, NotAPrincipal> {
        let (stream, id) = text.split_once(':').ok_or(NotAPrincipal)?;
        let id = Uuid::try_parse(id).ok().filter(|uuid| uuid.as_hyphenated().to_string() == id).ok_or(NotAPrincipal)?;
        match stream {
            User::STREAM => Ok(Self::User(Id::new(id))),
            ServiceAccount::STREAM => Ok(Self::ServiceAccount(Id::new(id))),
            _ => Err(NotAPrincipal),
        }
    }
}

impl Serialize for Principal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Principal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_has_one_spelling() {
        let id = "01920000-0000-7000-8000-000000000001";
        for text in [format!("user:{id}"), format!("service_account:{id}")] {
            assert_eq!(text.parse::<Principal>().map(|principal| principal.to_string()), Ok(text));
        }
        for text in [id.to_owned(), format!("tool:{id}"), format!("user:{}", id.replace('-', "")), "user:".into()] {
            assert_eq!(text.parse::<Principal>(), Err(NotAPrincipal), "{text}");
        }
    }
}
