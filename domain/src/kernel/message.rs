//! A message has two parts, a *name* and *fields*, as routes, subjects and entries hold it: `departed` and
//! `{"to":…}`. In Rust it is a variant of an enum with serde's default (external) tagging, in snake case. This file
//! splits a variant into its parts and joins them again, without a tag in the payload and without buffering.

use std::fmt;

use schemars::JsonSchema;
use serde::{
    Deserialize, Serialize, Serializer,
    de::{self, DeserializeOwned, DeserializeSeed, EnumAccess, IntoDeserializer, VariantAccess, Visitor},
    ser::{self, Impossible, SerializeStructVariant},
};
use serde_json::value::RawValue;

/// A command or an event as data.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Message {
    /// The variant's name in snake case.
    pub name: String,
    /// The variant's fields: a JSON object, verbatim.
    #[schemars(with = "std::collections::BTreeMap<String, serde_json::Value>")]
    pub fields: Box<RawValue>,
}

/// Two messages are equal when their bytes are.
impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.fields.get() == other.fields.get()
    }
}

/// A message could not be read as what it was said to be.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {cause}")]
pub struct Unreadable {
    /// The message's name.
    pub name: String,
    /// What does not fit.
    pub cause: String,
}

impl Message {
    /// Splits a variant into its name and fields.
    ///
    /// # Panics
    /// If `variant` is not an enum's unit, newtype (of a struct) or struct variant, or has a map with keys that are not
    /// strings: a mistake in a definition, which the first test of that variant finds.
    pub fn split(variant: &impl Serialize) -> Self {
        variant.serialize(Splitter).expect("a message is a variant with named fields")
    }

    /// Joins the parts to a variant.
    pub fn join<T: DeserializeOwned>(name: &str, fields: &str) -> Result<T, Unreadable> {
        T::deserialize(Parts { name, fields })
            .map_err(|cause| Unreadable { name: name.into(), cause: cause.to_string() })
    }

    /// This message as a variant.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Unreadable> {
        Self::join(&self.name, self.fields.get())
    }
}

/// Writes one variant as a [`Message`].
struct Splitter;

struct Fields {
    name: &'static str,
    text: Vec<u8>,
}

fn message(name: &'static str, text: Vec<u8>) -> Result<Message, serde_json::Error> {
    let text = String::from_utf8(text).map_err(ser::Error::custom)?;
    Ok(Message { name: name.to_owned(), fields: RawValue::from_string(text)? })
}

impl SerializeStructVariant for Fields {
    type Ok = Message;
    type Error = serde_json::Error;

    fn serialize_field<T: ?Sized + Serialize>(&mut self, key: &'static str, value: &T) -> Result<(), Self::Error> {
        self.text.push(if self.text.is_empty() { b'{' } else { b',' });
        serde_json::to_writer(&mut self.text, key)?;
        self.text.push(b':');
        serde_json::to_writer(&mut self.text, value)
    }

    fn end(mut self) -> Result<Message, Self::Error> {
        if self.text.is_empty() {
            self.text.push(b'{');
        }
        self.text.push(b'}');
        message(self.name, self.text)
    }
}

/// The serializer methods that no variant with named fields calls.
macro_rules! not_a_variant {
    ($($method:ident($($argument:ty),*) -> $ok:ty;)*) => { $(
        fn $method(self, $(_: $argument),*) -> Result<$ok, Self::Error> {
            Err(ser::Error::custom("not a variant with named fields"))
        }
    )* };
}

type Never = Impossible<Message, serde_json::Error>;

impl Serializer for Splitter {
    type Ok = Message;
    type Error = serde_json::Error;
    type SerializeSeq = Never;
    type SerializeTuple = Never;
    type SerializeTupleStruct = Never;
    type SerializeTupleVariant = Never;
    type SerializeMap = Never;
    type SerializeStruct = Never;
    type SerializeStructVariant = Fields;

    fn serialize_unit_variant(self, _: &'static str, _: u32, name: &'static str) -> Result<Message, Self::Error> {
        message(name, b"{}".to_vec())
    }

    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        value: &T,
    ) -> Result<Message, Self::Error> {
        message(name, serde_json::to_vec(value)?)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Fields, Self::Error> {
        Ok(Fields { name, text: Vec::with_capacity(128) })
    }

    fn serialize_some<T: ?Sized + Serialize>(self, _: &T) -> Result<Message, Self::Error> {
        self.serialize_none()
    }

    fn serialize_newtype_struct<T: ?Sized + Serialize>(self, _: &'static str, _: &T) -> Result<Message, Self::Error> {
        self.serialize_none()
    }

    not_a_variant! {
        serialize_bool(bool) -> Message;
        serialize_i8(i8) -> Message;
        serialize_i16(i16) -> Message;
        serialize_i32(i32) -> Message;
        serialize_i64(i64) -> Message;
        serialize_u8(u8) -> Message;
        serialize_u16(u16) -> Message;
        serialize_u32(u32) -> Message;
        serialize_u64(u64) -> Message;
        serialize_f32(f32) -> Message;
        serialize_f64(f64) -> Message;
        serialize_char(char) -> Message;
        serialize_str(&str) -> Message;
        serialize_bytes(&[u8]) -> Message;
        serialize_none() -> Message;
        serialize_unit() -> Message;
        serialize_unit_struct(&'static str) -> Message;
        serialize_seq(Option<usize>) -> Never;
        serialize_tuple(usize) -> Never;
        serialize_tuple_struct(&'static str, usize) -> Never;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Never;
        serialize_map(Option<usize>) -> Never;
        serialize_struct(&'static str, usize) -> Never;
    }
}

/// Reads a name and fields as the variant of that name.
struct Parts<'a> {
    name: &'a str,
    fields: &'a str,
}

impl<'a> Parts<'a> {
    fn whole<T>(
        self,
        read: impl FnOnce(&mut serde_json::Deserializer<serde_json::de::StrRead<'a>>) -> Result<T, serde_json::Error>,
    ) -> Result<T, serde_json::Error> {
        let mut json = serde_json::Deserializer::from_str(self.fields);
        let value = read(&mut json)?;
        json.end()?;
        Ok(value)
    }
}

impl<'de> de::Deserializer<'de> for Parts<'de> {
    type Error = serde_json::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_enum(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct
        seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl<'de> EnumAccess<'de> for Parts<'de> {
    type Error = serde_json::Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Self::Error> {
        let name: de::value::StrDeserializer<'de, serde_json::Error> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for Parts<'de> {
    type Error = serde_json::Error;

    fn unit_variant(self) -> Result<(), Self::Error> {
        struct AnyObject;
        impl<'de> Visitor<'de> for AnyObject {
            type Value = ();
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
                while map.next_entry::<de::IgnoredAny, de::IgnoredAny>()?.is_some() {}
                Ok(())
            }
        }
        self.whole(|json| de::Deserializer::deserialize_map(json, AnyObject))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Self::Error> {
        self.whole(|json| seed.deserialize(json))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Self::Error> {
        Err(de::Error::custom("a message has named fields"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.whole(|json| de::Deserializer::deserialize_struct(json, "", fields, visitor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Plan {
        stops: Vec<u8>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Command {
        Plan(Plan),
        Depart { to: Option<String> },
        ReturnToYard,
        Nothing {},
    }

    #[test]
    fn a_variant_splits_into_a_name_and_fields_and_joins_again() {
        for (variant, name, fields) in [
            (Command::Plan(Plan { stops: vec![1, 2] }), "plan", r#"{"stops":[1,2]}"#),
            (Command::Depart { to: None }, "depart", r#"{"to":null}"#),
            (Command::ReturnToYard, "return_to_yard", "{}"),
            (Command::Nothing {}, "nothing", "{}"),
        ] {
            let parts = Message::split(&variant);
            assert_eq!((parts.name.as_str(), parts.fields.get()), (name, fields));
            assert_eq!(parts.read::<Command>().expect("joins"), variant);
        }
    }

    #[test]
    fn an_unknown_name_is_unreadable() {
        assert!(Message::join::<Command>("fly", "{}").is_err());
    }

    #[test]
    fn text_after_the_fields_is_unreadable() {
        assert!(Message::join::<Command>("depart", r#"{"to":null} {}"#).is_err());
    }

    #[test]
    fn a_recorded_message_ignores_fields_that_it_does_not_know() {
        assert_eq!(
            Message::join::<Command>("depart", r#"{"to":"a","later":1}"#).expect("joins"),
            Command::Depart { to: Some("a".into()) }
        );
    }
}
