//! Values that fit a schema, the same every time: the payloads of golden entries.

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::kernel::{Id, Minutes, Timestamp};

/// Makes values that fit schemas. Ids and times count on, so that no two are the same and a window goes forward.
#[derive(Debug, Default)]
pub struct Sampler {
    ids: u32,
    minutes: u32,
}

impl Sampler {
    /// A value that fits `schema` as our contracts use it: inlined, objects with all their members, of alternatives the
    /// first that is not null.
    pub fn value(&mut self, schema: &Value) -> Value {
        if let Some(example) = schema.get("examples").and_then(|examples| examples.get(0)) {
            return example.clone();
        }
        if let Some(constant) = schema.get("const") {
            return constant.clone();
        }
        if let Some(first) = first(schema.get("enum")) {
            return first.clone();
        }
        if let Some(first) = first(schema.get("oneOf")).or_else(|| first(schema.get("anyOf"))) {
            return self.value(&first.clone());
        }
        match kind(schema) {
            Some("object") => self.object(schema),
            Some("array") => self.array(schema),
            Some("string") => self.string(schema),
            Some("integer" | "number") => Self::integer(schema),
            Some("null") => Value::Null,
            _ => Value::Bool(true),
        }
    }

    fn object(&mut self, schema: &Value) -> Value {
        let mut members = Map::new();
        for (name, member) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            members.insert(name.clone(), self.value(member));
        }
        if let Some(more) = schema.get("additionalProperties").filter(|more| more.is_object() && members.is_empty()) {
            members.insert("example".into(), self.value(more));
        }
        // A box says what kind of data is in it.
        if let (Some(kind), Some(sealed)) = (schema.get("x-personal"), members.get_mut("sealed")) {
            sealed["kind"] = kind.clone();
        }
        Value::Object(members)
    }

    fn array(&mut self, schema: &Value) -> Value {
        let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or(0).max(1);
        let item = schema.get("items").cloned().unwrap_or(Value::Bool(true));
        (0..least).map(|_| self.value(&item)).collect()
    }

    fn string(&mut self, schema: &Value) -> Value {
        match schema.get("format").and_then(Value::as_str) {
            Some("uuid") => {
                self.ids += 1;
                Value::String(self.id().to_string())
            }
            Some("date-time") => {
                self.minutes += 10;
                let start = Timestamp::from_seconds(1_782_900_000);
                Value::String(start.plus(Minutes(self.minutes)).to_string())
            }
            _ => "example".into(),
        }
    }

    fn id(&self) -> Uuid {
        Id::<()>::number(u128::from(1000 + self.ids)).uuid()
    }

    fn integer(schema: &Value) -> Value {
        let bound = |name: &str| schema.get(name).and_then(Value::as_i64);
        1.max(bound("minimum").unwrap_or(1)).min(bound("maximum").unwrap_or(i64::MAX)).into()
    }
}

fn first(alternatives: Option<&Value>) -> Option<&Value> {
    let alternatives = alternatives?.as_array()?;
    alternatives.iter().find(|schema| !schema.is_null() && kind(schema) != Some("null"))
}

/// A schema's type; of several the first that is not null.
fn kind(schema: &Value) -> Option<&str> {
    match schema.get("type")? {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null"),
        kind => kind.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_sample_fits_its_schema() {
        let schema = json!({ "type": "object", "properties": {
            "id": { "type": "string", "format": "uuid" },
            "window": { "type": "object", "properties": {
                "start": { "type": "string", "format": "date-time" }, "end": { "type": "string", "format": "date-time" } } },
            "note": { "type": ["string", "null"] },
            "class": { "oneOf": [{ "const": "light" }, { "const": "heavy" }] },
            "count": { "type": "integer", "minimum": 5 },
            "members": { "type": "array", "items": { "type": "boolean" } },
            "more": { "anyOf": [{ "type": "null" }, { "enum": ["x"] }] } } });
        assert_eq!(
            Sampler::default().value(&schema),
            json!({ "id": "01920000-0000-7000-8000-0000000003e9",
                "window": { "start": "2026-07-01T10:10:00.000000Z", "end": "2026-07-01T10:20:00.000000Z" },
                "note": "example", "class": "light", "count": 5, "members": [true], "more": "x" })
        );
    }
}
