//! What operations are made of: parameters, answers, and the schemas that many share.

use serde_json::{Map, Value, json};

/// The id of a path.
pub fn id() -> Value {
    json!({ "name": "id", "in": "path", "required": true, "schema": { "type": "string", "format": "uuid" },
        "description": "The aggregate. For a new one, make a UUID (version 7)." })
}

/// A parameter of a query.
pub fn parameter(name: &str, schema: &Value, about: &str) -> Value {
    json!({ "name": name, "in": "query", "required": false, "schema": schema, "description": about })
}

/// A header of a request.
pub fn header(name: &str, required: bool, schema: &Value, about: &str) -> Value {
    json!({ "name": name, "in": "header", "required": required, "schema": schema, "description": about })
}

/// A JSON answer and its headers.
pub fn answer(about: &str, schema: &Value, headers: &[&str]) -> Value {
    let headers: Map<String, Value> = headers
        .iter()
        .map(|name| ((*name).to_owned(), json!({ "$ref": format!("#/components/headers/{name}") })))
        .collect();
    json!({ "description": about, "headers": headers, "content": { "application/json": { "schema": schema } } })
}

/// One good answer, and problems by their status.
pub fn problems(statuses: &[&str], good: &str, answer: Value) -> Value {
    let mut responses = Map::new();
    responses.insert(good.to_owned(), answer);
    for status in statuses {
        responses.insert((*status).to_owned(), json!({ "$ref": format!("#/components/responses/{}", named(status)) }));
    }
    Value::Object(responses)
}

fn named(status: &str) -> &'static str {
    RESPONSES.iter().find(|(found, ..)| *found == status).map_or("Problem", |(_, name, _)| name)
}

const RESPONSES: [(&str, &str, &str); 12] = [
    ("400", "Malformed", "The request is malformed."),
    ("401", "Unauthenticated", "There is no token, or it is invalid or expired."),
    ("403", "Forbidden", "This role may not, or the company is not in business."),
    ("404", "NotFound", "It is not there, or not yours."),
    ("408", "TooSlow", "The body came too slowly."),
    ("409", "Rejected", "Rejected by a business rule: `code` and `facts` say why."),
    ("412", "Changed", "The stream does not stand where If-Match says."),
    ("413", "TooLarge", "The body is too large."),
    ("415", "NotJson", "The body must be JSON, and not encoded."),
    ("421", "CompanyMoved", "The company has moved to another installation: command it there."),
    ("422", "Unfitting", "Fields do not fit (`errors`), or the idempotency key was used for something else."),
    ("503", "Unavailable", "Not now: try again after `Retry-After` seconds."),
];

/// Whether an empty body is enough for this command.
pub fn no_content_needed(schema: &Value) -> bool {
    schema.get("required").and_then(Value::as_array).is_none_or(Vec::is_empty)
}

/// A recorded schema as answers show it: a personal field is its clear value, `"[sealed]"`, `"[erased]"` or
/// `"[unavailable]"`.
pub fn shown(schema: &Value) -> Value {
    match schema {
        Value::Object(node) if node.contains_key("x-personal") => {
            json!({ "x-personal": node["x-personal"], "description": "Clear for those who may see it, else \"[sealed]\", \"[erased]\" or \"[unavailable]\"." })
        }
        Value::Object(node) => Value::Object(node.iter().map(|(name, value)| (name.clone(), shown(value))).collect()),
        Value::Array(items) => Value::Array(items.iter().map(shown).collect()),
        other => other.clone(),
    }
}

/// An object's schema with further members, all of them required.
pub fn with(object: &Value, members: &[(&str, Value)]) -> Value {
    let mut object = object.clone();
    for (name, schema) in members {
        object["properties"][name] = schema.clone();
        if let Some(required) = object["required"].as_array_mut() {
            required.push((*name).into());
        }
    }
    object
}

/// What many operations share.
pub fn components() -> Value {
    let problem = json!({ "$ref": "#/components/schemas/Problem" });
    let responses: Map<String, Value> = RESPONSES
        .iter()
        .map(|(_, name, about)| {
            let content = json!({ "application/problem+json": { "schema": problem } });
            ((*name).to_owned(), json!({ "description": about, "content": content }))
        })
        .collect();
    json!({
        "securitySchemes": { "token": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT" } },
        "headers": {
            "ETag": { "schema": { "type": "string" }, "description": "The stream's sequence, for If-Match." },
            "Idempotent-Replayed": { "schema": { "const": "true" }, "description": "There where this was answered before, under the same Idempotency-Key, and nothing was done now." },
            "Cnc-Position": { "schema": { "type": "integer" }, "description": "The ledger position of this answer." },
            "Cnc-View-Health": { "schema": { "type": "string", "examples": ["stopped;position=12, skipped;entries=1"] },
                "description": "There where the view is not well: an entry stopped it, or entries were skipped." },
        },
        "schemas": {
            "Answer": { "type": "object", "required": ["command", "position", "sequence", "recorded"], "properties": {
                "command": { "type": "string", "format": "uuid" },
                "position": { "type": "integer", "description": "Send it as `at_least` to see this in a view." },
                "sequence": { "type": "integer" },
                "recorded": { "type": "integer", "description": "Entries in all streams; 0 where it was so already." } } },
            "Problem": { "type": "object", "required": ["type", "title", "status", "detail", "code"], "properties": {
                "type": { "type": "string", "format": "uri-reference" }, "title": { "type": "string" },
                "status": { "type": "integer" }, "detail": { "type": "string" },
                "code": { "type": "string", "description": "Stable: what a program should look at." },
                "facts": { "type": "object", "description": "What a rejection rests on." },
                "by": { "type": "string", "description": "Which aggregate refused, as `stream/id`, where it was not the one that was asked." },
                "sequence": { "type": "integer", "description": "Where the stream stands, which If-Match did not say." },
                "position": { "type": "integer", "description": "How far the view is, which has not reached `at_least` or is built anew." },
                "until": { "type": "integer", "description": "From where on a view that is built anew is shown." },
                "skew_seconds": { "type": "integer", "description": "How far the server's clock is ahead; behind where negative." },
                "parts": { "type": "object", "additionalProperties": { "type": "string" },
                    "description": "The parts that the process works with: each `ok`, or the reason why not." },
                "errors": { "type": "array", "items": { "type": "object", "required": ["path", "wrong"],
                    "properties": { "path": { "type": "string" }, "wrong": { "type": "string" } } } },
                "error": { "type": "string", "description": "Names a fault in the server's log." } } },
        },
        "responses": responses,
    })
}
