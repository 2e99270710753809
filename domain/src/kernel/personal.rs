//! Personal data. `Personal<Phone>` is sealed or it does not exist: the door seals it in a command's text before
//! anything is parsed, and domain code, folds and views only ever hold the sealed form.
//!
//! A kind of personal data is a [`Clear`] type. Its schema is what a sender writes; [`Clear::check`] is its form; what a
//! rule needs in clear is its [`Clear::Part`], derived by the door and kept beside the box.

use std::{fmt, marker::PhantomData};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned};
use uuid::Uuid;

/// The clear form of one kind of personal data. Only the door and those who may unseal ever hold one.
pub trait Clear: Serialize + DeserializeOwned + JsonSchema + 'static {
    /// The kind's name, bound into the box.
    const KIND: &'static str;
    /// Whether equal values get an equal print, so that they can be matched while sealed.
    const PRINTS: bool = false;
    /// What a rule needs in clear, such as a province; `Nothing` mostly. It may hold personal fields of its own, which
    /// are sealed in turn.
    type Part: Part;

    /// Whether the value has the form of its kind.
    fn check(&self) -> Result<(), String>;

    /// The text under which two values are the same person's same value. For kinds that print.
    fn canonical(&self) -> String {
        String::new()
    }

    /// Makes the part, as the door does, with personal fields of its own still in clear.
    fn part(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
}

/// What is left in clear beside a box.
pub trait Part:
    Clone + fmt::Debug + PartialEq + Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static
{
    /// Whether there is nothing to leave.
    const EMPTY: bool = false;
}

/// No part in clear. Written as nothing at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Nothing;
impl Part for Nothing {
    const EMPTY: bool = true;
}

/// A sealed value of the kind `K`, and its part in clear.
pub struct Personal<K: Clear> {
    /// The box.
    pub sealed: Sealed,
    part: Option<K::Part>,
    kind: PhantomData<fn() -> K>,
}

/// A box, as it stands in entries: AES-256-GCM under a key of the subject, bound to company, subject and kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Sealed {
    /// The kind of personal data, so that who holds the line alone can say what was sealed.
    pub kind: String,
    /// Whose data it is: a person's id, or a journey's for its places.
    pub subject: Uuid,
    /// Which of the subject's keys.
    pub key: Uuid,
    /// The nonce: 12 bytes in base64 (URL alphabet, no padding).
    #[schemars(extend("examples" = ["AAECAwQFBgcICQoL"]))]
    pub nonce: String,
    /// Ciphertext and tag in base64 (URL alphabet, no padding).
    #[serde(rename = "box")]
    #[schemars(extend("examples" = ["c2FtcGxlIGNpcGhlcnRleHQgYW5kIHRhZw"]))]
    pub ciphertext: String,
    /// A random token that equal values of a kind share within a company.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub print: Option<String>,
}

impl<K: Clear> Personal<K> {
    /// Puts a box and its part together.
    pub fn new(sealed: Sealed, part: K::Part) -> Self {
        Self { sealed, part: Some(part), kind: PhantomData }
    }

    /// What the door left in clear. `None` only for kinds that leave nothing.
    pub fn part(&self) -> Option<&K::Part> {
        self.part.as_ref()
    }

    /// A made-up sealed value for tests of rules, which never look inside.
    pub fn sample(subject: impl Into<Uuid>, tag: &str, part: K::Part) -> Self {
        let sealed = Sealed {
            kind: K::KIND.into(),
            subject: subject.into(),
            key: Uuid::nil(),
            nonce: "AAAAAAAAAAAAAAAA".into(),
            ciphertext: tag.into(),
            print: None,
        };
        Self::new(sealed, part)
    }
}

impl<K: Clear> Clone for Personal<K> {
    fn clone(&self) -> Self {
        Self { sealed: self.sealed.clone(), part: self.part.clone(), kind: PhantomData }
    }
}
impl<K: Clear> PartialEq for Personal<K> {
    fn eq(&self, other: &Self) -> bool {
        self.sealed == other.sealed && self.part == other.part
    }
}
impl<K: Clear> fmt::Debug for Personal<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Personal<{}>", K::KIND)
    }
}

/// The members of a sealed value.
#[derive(Serialize, Deserialize)]
struct Form<P> {
    sealed: Sealed,
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<P>,
}

impl<K: Clear> Serialize for Personal<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let part = self.part.clone().filter(|_| !K::Part::EMPTY);
        Form { sealed: self.sealed.clone(), part }.serialize(serializer)
    }
}
impl<'de, K: Clear> Deserialize<'de> for Personal<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Form { sealed, part } = Form::<K::Part>::deserialize(deserializer)?;
        Ok(Self { sealed, part, kind: PhantomData })
    }
}
impl<K: Clear> JsonSchema for Personal<K> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Personal_{}", K::KIND).into()
    }
    /// The recorded form; `x-clear` is the sent one, which [`super::schema`] puts in its place for commands.
    fn json_schema(schemas: &mut SchemaGenerator) -> Schema {
        let sealed = Sealed::json_schema(schemas);
        let clear = K::json_schema(schemas);
        if K::Part::EMPTY {
            return json_schema!({ "type": "object", "x-personal": K::KIND, "x-clear": clear,
                "properties": { "sealed": sealed }, "required": ["sealed"], "additionalProperties": false });
        }
        let part = K::Part::json_schema(schemas);
        json_schema!({ "type": "object", "x-personal": K::KIND, "x-clear": clear,
            "properties": { "sealed": sealed, "part": part }, "required": ["sealed", "part"], "additionalProperties": false })
    }
}

/// A kind of personal data, its type erased: what the door must know of it.
#[derive(Clone, Copy)]
pub struct Kind {
    /// The kind's name.
    pub name: &'static str,
    /// Whether it prints.
    pub prints: bool,
    /// Reads a clear value's text.
    pub open: fn(&str) -> Result<Opened, String>,
    /// The schema of its part as the door makes it (personal fields in clear), where it has one.
    pub part_schema: fn(&mut SchemaGenerator) -> Option<Schema>,
}

/// What the door learns from a clear value.
pub struct Opened {
    /// The text under which it equals others.
    pub canonical: String,
    /// Its part, with personal fields of its own still in clear; `Null` where the kind has none.
    pub part: serde_json::Value,
}

/// The kind `K`, for the `KINDS` list.
pub const fn kind<K: Clear>() -> Kind {
    fn open<K: Clear>(text: &str) -> Result<Opened, String> {
        let value: K = serde_json::from_str(text).map_err(|error| error.to_string())?;
        value.check()?;
        Ok(Opened { canonical: value.canonical(), part: value.part() })
    }
    fn part_schema<K: Clear>(schemas: &mut SchemaGenerator) -> Option<Schema> {
        (!K::Part::EMPTY).then(|| K::Part::json_schema(schemas))
    }
    Kind { name: K::KIND, prints: K::PRINTS, open: open::<K>, part_schema: part_schema::<K> }
}

macro_rules! text_kinds {
    ($($(#[$doc:meta])* $name:ident = $kind:literal, $max:literal, prints: $prints:literal, $check:expr, $canonical:expr;)*) => { $(
        $(#[$doc])*
        #[derive(Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        #[schemars(inline)]
        pub struct $name(#[schemars(length(min = 1, max = $max))] pub String);
        impl Clear for $name {
            const KIND: &'static str = $kind;
            const PRINTS: bool = $prints;
            type Part = Nothing;
            fn check(&self) -> Result<(), String> {
                let check: fn(&str) -> Result<(), String> = $check;
                check(&self.0)
            }
            fn canonical(&self) -> String {
                let canonical: fn(&str) -> String = $canonical;
                canonical(&self.0)
            }
        }
    )* };
}

text_kinds! {
    /// A person's name.
    Name = "name", 200, prints: false, not_blank, str::to_lowercase;
    /// A telephone number: 7 to 15 digits (ITU-T E.164), with the usual separators.
    Phone = "phone", 40, prints: true, is_phone, digits;
    /// An e-mail address.
    Email = "email", 254, prints: true, is_email, |text| text.trim().to_lowercase();
    /// A postal address in one line.
    Address = "address", 400, prints: false, not_blank, str::to_lowercase;
    /// Free text that may speak of a person.
    Words = "text", 4000, prints: false, not_blank, str::to_lowercase;
}

fn not_blank(text: &str) -> Result<(), String> {
    if text.trim().is_empty() { Err("must not be blank".into()) } else { Ok(()) }
}

fn digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

fn is_phone(text: &str) -> Result<(), String> {
    let usual = |letter: char| letter.is_ascii_digit() || " +-().x".contains(letter);
    if text.chars().all(usual) && (7..=15).contains(&digits(text).len()) {
        Ok(())
    } else {
        Err("must be a telephone number of 7 to 15 digits, such as +1 604 555 0143".into())
    }
}

fn is_email(text: &str) -> Result<(), String> {
    let valid = text.trim().split_once('@').is_some_and(|(name, domain)| {
        !name.is_empty()
            && domain.contains('.')
            && !domain.starts_with('.')
            && !domain.ends_with('.')
            && !text.trim().contains(char::is_whitespace)
            && !domain.contains('@')
    });
    if valid { Ok(()) } else { Err("must be an e-mail address, such as ann@example.com".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_spellings_of_a_phone_number_are_one() {
        let one = Phone("+1 (604) 555-0143".into());
        let other = Phone("16045550143".into());
        assert!(one.check().is_ok() && other.check().is_ok());
        assert_eq!(one.canonical(), other.canonical());
    }

    #[test]
    fn what_is_no_phone_number_or_address_is_refused() {
        assert!(Phone("call me".into()).check().is_err());
        assert!(Email("ann at example".into()).check().is_err());
        assert!(Name("  ".into()).check().is_err());
    }

    #[test]
    fn a_sealed_value_without_a_part_has_only_its_box() {
        let phone = Personal::<Phone>::sample(Uuid::nil(), "Ym94", Nothing);
        let text = serde_json::to_string(&phone).expect("writes");
        assert!(text.starts_with(r#"{"sealed":{"kind":"phone","#) && !text.contains("part"), "{text}");
        assert_eq!(serde_json::from_str::<Personal<Phone>>(&text).expect("reads").sealed, phone.sealed);
    }
}
