//! The description of what goes over NATS, `AsyncAPI` 3.0, made from the catalog: a channel for every event and every view.
//! Messages refer to the JSON Schemas beside it. The same program always writes the same text.

use cnc_domain::{
    kernel::{CompanyId, schema::MessageContract},
    ledger::subject,
};
use serde_json::{Map, Value, json};

use crate::{
    catalog::{Served, catalog},
    openapi::first_sentence,
};

/// The whole document.
pub fn asyncapi() -> Value {
    let (mut channels, mut operations, mut messages) = (Map::new(), Map::new(), Map::new());
    let mut add = |name: String, channel: Value, message: Value, summary: String| {
        let reference = json!({ "$ref": format!("#/channels/{name}") });
        operations
            .insert(format!("tell_{name}"), json!({ "action": "send", "channel": reference, "summary": summary }));
        channels.insert(name.clone(), channel);
        messages.insert(name, message);
    };
    for stream in catalog().streams() {
        for event in &stream.contract.events {
            let stream = &stream.contract.stream;
            let name = format!("{stream}-{}", event.name);
            let address = subject::of_entry_named("{company}", stream, &event.name);
            add(name.clone(), channel(&name, &address), entry(stream, event), first_sentence(&event.about).0);
        }
    }
    for view in catalog().views() {
        let name = format!("view-{}", view.name());
        let address = subject::of_changes_named("{company}", view.name());
        add(name.clone(), channel(&name, &address), changes(view), format!("Changes of {}.", view.name()));
    }
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "C&C over NATS",
            "version": env!("CARGO_PKG_VERSION"),
            "description": format!("Entries of ledgers come over JetStream, from the stream `{}`: at least once, verbatim, \
                mostly in order. Settle repeats and disorder by `position`, and check each line's hash against the next \
                line's `previous`. Changes of views come over core NATS, for processes of the gateway alone, which decide \
                who sees what. An integration reads its company's entries from a durable consumer of its own: see \
                deploy/nats/README.md.", subject::STREAM),
            "license": { "name": "MIT OR Apache-2.0" },
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": messages,
            "schemas": { "CloudEvent": headers() },
            "parameters": { "company": { "description": "The company's id, a UUID.",
                "examples": [CompanyId::number(1).to_string()] } },
        },
    })
}

fn channel(name: &str, address: &str) -> Value {
    json!({
        "address": address,
        "parameters": { "company": { "$ref": "#/components/parameters/company" } },
        "messages": { "message": { "$ref": format!("#/components/messages/{name}") } },
    })
}

/// A line of a ledger, whose payload has the event's shape.
fn entry(stream: &str, event: &MessageContract) -> Value {
    let MessageContract { name, version, about, .. } = event;
    json!({
        "name": format!("cnc.{stream}.{name}.v{version}"),
        "title": format!("{stream} {name}"),
        "summary": first_sentence(about).0,
        "contentType": "application/json",
        "headers": { "$ref": "#/components/schemas/CloudEvent" },
        "payload": { "allOf": [
            { "$ref": "./entry.json" },
            { "type": "object", "properties": {
                "stream": { "const": stream }, "event": { "const": name },
                "payload": { "$ref": format!("./events/{stream}.{name}.v{version}.json") } } },
        ] },
    })
}

/// A batch of changes of a view, or a part of one.
fn changes(view: &Served) -> Value {
    let name = view.name();
    let location = json!({ "type": ["string", "null"], "format": "uuid" });
    let row = json!({ "type": ["object", "null"], "required": ["doc", "restricted"], "properties": {
        "doc": { "$ref": format!("./views/{name}.json") },
        "restricted": { "description": "Members that only some roles may see." } } });
    let change = json!({ "type": "object", "required": ["key", "location", "was_location", "row"], "properties": {
        "key": { "type": "string" }, "location": location, "was_location": location, "row": row } });
    let position = |about: &str| json!({ "type": "integer", "minimum": 0, "description": about });
    json!({
        "name": format!("cnc.views.{name}"),
        "title": format!("changes of {name}"),
        "summary": view.view.about,
        "contentType": "application/json",
        "payload": { "type": "object", "required": ["from", "to", "part", "parts", "changes"], "properties": {
            "from": position("Where the view stood before: another place than where one is means that messages were missed."),
            "to": position("Where it stands after it."),
            "part": position("Which part of a batch this is, from 0 on."),
            "parts": position("How many parts the batch has."),
            "changes": { "type": ["array", "null"], "items": change,
                "description": "What changed; null where it is not known what: read the view." } } },
    })
}

/// The headers of an entry's message.
fn headers() -> Value {
    let text = |about: &str| json!({ "type": "string", "description": about });
    let properties = json!({
        "ce-specversion": { "const": "1.0" },
        "ce-id": text("The message's id: `<company>:<position>:<hash>`; with the place of a message in the stream behind it \
            where the entry is published again after the ledger was put back."),
        "ce-source": text("`/companies/<company>`."),
        "ce-type": text("`cnc.<stream>.<event>.v<version>`."),
        "ce-time": { "type": "string", "format": "date-time", "description": "When it was recorded." },
        "ce-subject": text("`<stream>/<id>`: which aggregate."),
        "ce-datacontenttype": { "const": "application/json" },
        "content-type": { "const": "application/json" },
        subject::HASH_HEADER: { "type": "string", "pattern": "^[0-9a-f]{64}$",
            "description": "The SHA-256 of the body: the next entry's `previous`." },
        "Nats-Msg-Id": text("The message's id, by which the broker drops repeats."),
    });
    let required: Vec<String> = properties.as_object().into_iter().flat_map(Map::keys).cloned().collect();
    let fork = json!({ "type": "string", "pattern": "^[0-9]+$",
        "description": "A position. The ledger was put back, since its database was: what was sent after this position, in \
            messages before this one, is no more. Forget it, and then take this message's entry as any other." });
    let mut properties = properties;
    properties[subject::FORK_AFTER_HEADER] = fork;
    json!({ "type": "object", "description": "CloudEvents 1.0 in binary mode.", "required": required,
        "properties": properties })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_and_view_has_a_channel_whose_schemas_are_there() {
        let document = asyncapi();
        let files = crate::contracts::files();
        let events = catalog().streams().map(|stream| stream.contract.events.len()).sum::<usize>();
        let channels = document["channels"].as_object().expect("is an object");
        assert_eq!(channels.len(), events + catalog().views().count());
        let text = document.to_string();
        let referred: Vec<&str> =
            text.split("\"$ref\":\"./").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(referred.len() > channels.len());
        for path in referred {
            assert!(files.contains_key(path), "{path} is no file of schemas/");
        }
    }
}
