//! Contracts, made from the types by schemars: names, docs and JSON Schemas of everything that crosses a border.

use std::collections::BTreeSet;

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value};

use super::{Aggregate, Document, aggregate};

/// Marks a member of a schema that only some roles see: `#[schemars(extend("x-restricted" = true))]`.
const RESTRICTED: &str = "x-restricted";

/// Makes schemas. Everything is inlined, so that a schema can be read and compiled by itself.
pub struct Schemas(SchemaGenerator);

/// An aggregate's messages.
#[derive(Clone, Debug)]
pub struct Contract {
    /// The name of its streams.
    pub stream: String,
    /// What it owns.
    pub about: String,
    /// What it may be asked, in the form that a sender writes (personal fields in clear), by name.
    pub commands: Vec<MessageContract>,
    /// What happens to it, in the recorded form (personal fields sealed), by name.
    pub events: Vec<MessageContract>,
    /// Why it says no, by code.
    pub refusals: Vec<MessageContract>,
    /// The schema of its state.
    pub state: Value,
    /// The members, wherever they stand, of its state and its events that only some roles see.
    pub restricted: BTreeSet<String>,
}

/// One command, event or refusal.
#[derive(Clone, Debug)]
pub struct MessageContract {
    /// Its name in snake case.
    pub name: String,
    /// Its docstring.
    pub about: String,
    /// For events: the version of the shape. For others 1.
    pub version: u32,
    /// For commands: whether it has no public route.
    pub internal: bool,
    /// For commands: whether it begins the aggregate.
    pub begins: bool,
    /// For commands: whether the work of other branches may carry it.
    pub lends: bool,
    /// The schema of its fields: always that of an object.
    pub schema: Value,
}

/// A kind of document.
#[derive(Clone, Debug)]
pub struct DocumentContract {
    /// Its name.
    pub name: &'static str,
    /// What may be filtered by.
    pub filters: &'static [&'static str],
    /// What may be sorted by, beside the key.
    pub sorts: &'static [&'static str],
    /// What only some roles see.
    pub restricted: &'static [&'static str],
    /// The filter that lists who takes part in it.
    pub participants: Option<&'static str>,
    /// Whether only who is bound to no branch may see it.
    pub company_wide: bool,
    /// Its schema.
    pub schema: Value,
}

impl Default for Schemas {
    fn default() -> Self {
        Self(SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true).into_generator())
    }
}

impl Schemas {
    /// The schema of `T` as it is recorded.
    pub fn recorded<T: JsonSchema>(&mut self) -> Value {
        recorded(self.raw::<T>())
    }

    /// The schema of `T` as it is sent.
    pub fn sent<T: JsonSchema>(&mut self) -> Value {
        sent(self.raw::<T>())
    }

    /// The schema of the part in clear of a kind of personal data, as the door makes it.
    pub fn part(&mut self, kind: &super::Kind) -> Option<Value> {
        (kind.part_schema)(&mut self.0).map(|schema| sent(schema.into()))
    }

    /// The contract of an aggregate.
    pub fn contract<A: Aggregate>(&mut self) -> Contract {
        let state = recorded(self.raw::<A>());
        let commands = variants(&sent(self.raw::<A::Command>()));
        let events = recorded(self.raw::<A::Event>());
        let mut restricted = BTreeSet::new();
        find_restricted(&state, &mut restricted);
        find_restricted(&events, &mut restricted);
        let events = variants(&events);
        Contract {
            stream: A::STREAM.into(),
            about: text(&state, "description"),
            commands: commands
                .into_iter()
                .map(|command| {
                    let is_among = |names: &[&str]| names.contains(&command.name.as_str());
                    let (internal, begins, lends) =
                        (is_among(A::INTERNAL), is_among(A::BEGINNING), is_among(A::LENDING));
                    MessageContract { internal, begins, lends, ..command }
                })
                .collect(),
            events: events
                .into_iter()
                .map(|event| MessageContract { version: aggregate::version(A::LIFTS, &event.name), ..event })
                .collect(),
            refusals: variants(&recorded(self.raw::<A::Refusal>())),
            state,
            restricted,
        }
    }

    /// The contract of a kind of document.
    pub fn document<D: Document>(&mut self) -> DocumentContract {
        DocumentContract {
            name: D::NAME,
            filters: D::FILTERS,
            sorts: D::SORTS,
            restricted: D::RESTRICTED,
            participants: D::PARTICIPANTS,
            company_wide: D::COMPANY_WIDE,
            schema: recorded(self.raw::<D>()),
        }
    }

    fn raw<T: JsonSchema>(&mut self) -> Value {
        self.0.root_schema_for::<T>().into()
    }
}

/// The members that are marked as restricted, anywhere in a schema.
fn find_restricted(schema: &Value, found: &mut BTreeSet<String>) {
    let members = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    found.extend(members.filter(|(_, member)| member.get(RESTRICTED).is_some()).map(|(name, _)| name.clone()));
    match schema {
        Value::Object(node) => node.values().for_each(|value| find_restricted(value, found)),
        Value::Array(items) => items.iter().for_each(|item| find_restricted(item, found)),
        _ => {}
    }
}

/// Splits the schema of an enum with external tagging into one contract a variant, by name.
fn variants(schema: &Value) -> Vec<MessageContract> {
    let empty = || serde_json::json!({ "type": "object", "properties": {}, "additionalProperties": false });
    let mut found = Vec::new();
    let mut push = |name: &str, about: String, schema: Value| {
        found.push(MessageContract {
            name: name.into(),
            about,
            version: 1,
            internal: false,
            begins: false,
            lends: false,
            schema,
        });
    };
    let alternatives = match schema.get("oneOf").or_else(|| schema.get("anyOf")).and_then(Value::as_array) {
        Some(several) => several.clone(),
        None => vec![schema.clone()],
    };
    for alternative in &alternatives {
        if let Some(properties) = alternative.get("properties").and_then(Value::as_object) {
            for (name, fields) in properties {
                push(name, about(alternative, fields), closed(fields.clone()));
            }
        } else if let Some(name) = alternative.get("const").and_then(Value::as_str) {
            push(name, text(alternative, "description"), empty());
        } else {
            for name in
                alternative.get("enum").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
            {
                push(name, String::new(), empty());
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn about(variant: &Value, fields: &Value) -> String {
    let own = text(variant, "description");
    if own.is_empty() { text(fields, "description") } else { own }
}

fn text(schema: &Value, member: &str) -> String {
    schema.get(member).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Says of an object's schema that it has no other members.
fn closed(mut schema: Value) -> Value {
    if let Some(object) = schema.as_object_mut() {
        object.remove("description");
        object.entry("additionalProperties").or_insert(Value::Bool(false));
    }
    schema
}

/// Personal fields as a sender writes them.
fn sent(schema: Value) -> Value {
    walk(schema, &|mut node| match node.remove("x-clear") {
        Some(clear) => {
            let mut clear = clear.as_object().cloned().unwrap_or_default();
            clear.insert("x-personal".into(), node.get("x-personal").cloned().unwrap_or_default());
            let description = node.remove("description");
            // An optional field says so in its type, which goes with the recorded form.
            let types = node.get("type").and_then(Value::as_array);
            let mut sent = if types.is_some_and(|types| types.iter().any(|name| name == "null")) {
                let either = serde_json::json!({ "anyOf": [clear, { "type": "null" }] });
                either.as_object().cloned().unwrap_or_default()
            } else {
                clear
            };
            if let Some(description) = description {
                sent.insert("description".into(), description);
            }
            sent
        }
        None => node,
    })
}

/// Personal fields as they are recorded.
fn recorded(schema: Value) -> Value {
    walk(schema, &|mut node| {
        node.remove("x-clear");
        node
    })
}

fn walk(schema: Value, change: &dyn Fn(Map<String, Value>) -> Map<String, Value>) -> Value {
    match schema {
        Value::Object(node) => {
            Value::Object(change(node).into_iter().map(|(name, value)| (name, walk(value, change))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(|item| walk(item, change)).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::{Personal, Phone};

    #[test]
    fn an_optional_personal_field_may_be_sent_as_null() {
        let schema = Schemas::default().sent::<Option<Personal<Phone>>>();
        assert_eq!(schema["anyOf"][0]["x-personal"], "phone", "{schema}");
        assert_eq!(schema["anyOf"][1]["type"], "null", "{schema}");
    }
}
