//! Where rules differ by place.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A province, territory or state, by its ISO 3166-2 code: `CA-ON`, `US-WA`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Province(String);

impl Province {
    /// Its code.
    pub fn code(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Province {
    type Error = &'static str;

    fn try_from(code: String) -> Result<Self, &'static str> {
        let known = code.split_once('-').is_some_and(|(country, part)| {
            ["CA", "US"].contains(&country) && part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_uppercase())
        });
        if known { Ok(Self(code)) } else { Err("not the code of a Canadian province or a US state, such as CA-ON") }
    }
}
impl From<Province> for String {
    fn from(province: Province) -> Self {
        province.0
    }
}
impl std::str::FromStr for Province {
    type Err = &'static str;

    fn from_str(code: &str) -> Result<Self, &'static str> {
        code.to_owned().try_into()
    }
}
impl fmt::Display for Province {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl JsonSchema for Province {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Province".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^(CA|US)-[A-Z]{2}$", "examples": ["CA-ON"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_province_is_an_iso_code() {
        assert_eq!("CA-ON".parse::<Province>().expect("a code").code(), "CA-ON");
        for wrong in ["", "ON", "CA-", "CA-on", "CA-ONT", "FR-75", "CA-O1"] {
            assert!(wrong.parse::<Province>().is_err(), "{wrong}");
        }
    }
}
