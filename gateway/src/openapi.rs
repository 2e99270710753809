//! The description of the API, `OpenAPI` 3.1, made from the catalog: an operation for every public command, state,
//! history and view. The same program always writes the same text.

mod parts;

use cnc_domain::kernel::schema::MessageContract;
use serde_json::{Map, Value, json};

use crate::catalog::{Catalog, Served, Stream, catalog};
use parts::{answer, components, header, id, no_content_needed, parameter, problems};

/// The whole document.
pub fn openapi() -> Value {
    let catalog = catalog();
    let mut paths = Map::new();
    for stream in catalog.streams() {
        of_stream(&mut paths, stream);
    }
    for view in catalog.views() {
        of_view(&mut paths, view);
    }
    of_ledger(&mut paths);
    of_service(&mut paths);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "C&C",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "An event-sourced operations system for moving companies.",
            "description": "Every action is a command, decided by its aggregate and recorded in the company's ledger. \
                Personal fields are sent in clear and kept sealed; answers show \"[sealed]\" to roles that may not see \
                them, \"[erased]\" where the key was destroyed and nobody can, and \"[unavailable]\" where it is missing, \
                which is a fault of the installation. What is wrong is said as a problem (RFC 9457), also of a target that \
                is too long (414) or headers that are too many or too large (431); only of what is no HTTP, or far larger \
                still, the status alone is sent, or the connection is closed.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "token": [] }],
        "tags": tags(catalog),
        "paths": paths,
        "components": components(),
    })
}

fn tags(catalog: &Catalog) -> Vec<Value> {
    let streams =
        catalog.streams().map(|stream| json!({ "name": stream.contract.stream, "description": stream.contract.about }));
    let rest =
        [("views", "Folded documents"), ("ledger", "The ledger and changes as they come"), ("service", "For machines")];
    streams.chain(rest.map(|(name, about)| json!({ "name": name, "description": about }))).collect()
}

fn of_stream(paths: &mut Map<String, Value>, stream: &Stream) {
    let name = &stream.contract.stream;
    for command in stream.commands() {
        let path = format!("/v1/{name}/{{id}}/{}", command.name);
        paths.insert(path, json!({ "parameters": [id()], "post": give(stream, command) }));
    }
    let state = json!({
        "operationId": format!("{name}_state"), "tags": [name], "summary": format!("The state of one {name}."),
        "parameters": [as_of()],
        "responses": problems(&["400", "401", "403", "404"], "200", answer("Its state.", &state_schema(stream), &["ETag"])),
    });
    paths.insert(format!("/v1/{name}/{{id}}"), json!({ "parameters": [id()], "get": state }));
    let page = json!({ "type": "object", "required": ["entries", "next"], "properties": {
        "entries": { "type": "array", "items": { "type": "object" }, "description": "Entries as recorded, sealed fields and all." },
        "next": { "type": ["integer", "null"], "description": "Send it as `after` for the next page." } } });
    let history = json!({
        "operationId": format!("{name}_history"), "tags": [name], "summary": format!("The entries of one {name}."),
        "parameters": [parameter("after", &count(), "Entries after this sequence."), limit()],
        "responses": problems(&["400", "401", "403", "404"], "200", answer("A page of entries.", &page, &[])),
    });
    paths.insert(format!("/v1/{name}/{{id}}/history"), json!({ "parameters": [id()], "get": history }));
}

fn give(stream: &Stream, command: &MessageContract) -> Value {
    let name = &stream.contract.stream;
    let (summary, description) = first_sentence(&command.about);
    let refusals: Vec<&str> = stream.contract.refusals.iter().map(|refusal| refusal.name.as_str()).collect();
    let schema = json!({ "$ref": "#/components/schemas/Answer" });
    let done = answer("It is recorded, or it was so already.", &schema, &["ETag", "Idempotent-Replayed"]);
    let mut operation = json!({
        "operationId": format!("{name}_{}", command.name), "tags": [name], "summary": summary,
        "parameters": [
            header("Idempotency-Key", true, &json!({ "type": "string", "minLength": 1, "maxLength": 200 }),
                "One for each command. The same key again, with a body that means the same, gives the first good answer again for \
                 30 days, and says so in `Idempotent-Replayed`. A refusal (409) leaves the key free: nothing was done, and \
                 the same again is decided anew."),
            header("If-Match", false, &json!({ "type": "string", "pattern": "^\"[0-9]{1,16}\"$" }),
                "The sequence that the stream must stand at."),
            header("Cnc-Location", false, &json!({ "type": "string", "format": "uuid" }), "The branch that it is given in."),
        ],
        "requestBody": { "required": !no_content_needed(&command.schema),
            "content": { "application/json": { "schema": command.schema } } },
        "responses": problems(&["400", "401", "403", "404", "408", "409", "412", "413", "415", "421", "422", "503"], "200", done),
        "x-refusals": refusals,
    });
    if !description.is_empty() {
        operation["description"] = description.into();
    }
    operation
}

fn state_schema(stream: &Stream) -> Value {
    json!({ "type": "object", "required": ["stream", "id", "sequence", "position", "location", "state"], "properties": {
        "stream": { "const": stream.contract.stream }, "id": { "type": "string", "format": "uuid" },
        "sequence": { "type": "integer" }, "position": { "type": "integer" },
        "location": { "type": ["string", "null"], "format": "uuid" },
        "state": parts::shown(&stream.contract.state) } })
}

/// A row as a page has it.
fn row_schema(view: &Served) -> Value {
    let mut doc = parts::shown(&view.document.schema);
    (view.view.describe)(&mut doc);
    json!({ "type": "object", "required": ["key", "position", "location", "doc"], "properties": {
        "key": { "type": "string" },
        "position": { "type": "integer", "description": "How far the view was when this last changed." },
        "location": { "type": ["string", "null"], "format": "uuid" }, "doc": doc } })
}

fn of_view(paths: &mut Map<String, Value>, view: &Served) {
    let (name, document) = (view.name(), &view.document);
    let row = row_schema(view);
    let mut alone = parts::with(
        &row,
        &[
            ("view", json!({ "const": name })),
            ("view_position", json!({ "type": "integer", "description": "How far the view was." })),
        ],
    );
    // It is there only where something is wrong.
    alone["properties"]["view_health"] = health();
    let mut parameters: Vec<Value> = document
        .filters
        .iter()
        .map(|filter| parameter(filter, &json!({ "type": "string" }), "Rows that have this value."))
        .collect();
    let sorts: Vec<String> = std::iter::once(&"key")
        .chain(document.sorts)
        .flat_map(|sort| [(*sort).to_owned(), format!("-{sort}")])
        .collect();
    parameters.extend([
        parameter("sort", &json!({ "enum": sorts }), "The order; with `-` the largest first. By key where absent."),
        parameter("cursor", &json!({ "type": "string" }), "The `next` of the page before."),
        limit(),
        at_least(),
        as_of(),
    ]);
    let page = json!({ "type": "object", "required": ["view", "position", "rows", "next"], "properties": {
        "view": { "const": name }, "position": { "type": "integer" }, "rows": { "type": "array", "items": row },
        "next": { "type": ["string", "null"] }, "health": health() } });
    let statuses = ["400", "401", "403", "404", "503"];
    let restricted = document.restricted;
    paths.insert(format!("/v1/views/{name}"), json!({ "get": {
        "operationId": format!("view_{name}"), "tags": ["views"], "summary": view.view.about, "parameters": parameters,
        "responses": problems(&statuses, "200", answer("A page.", &page, &["Cnc-Position", "Cnc-View-Health"])), "x-restricted": restricted } }));
    let key = json!({ "name": "key", "in": "path", "required": true, "schema": { "type": "string" } });
    paths.insert(format!("/v1/views/{name}/{{key}}"), json!({ "parameters": [key], "get": {
        "operationId": format!("view_{name}_row"), "tags": ["views"], "summary": format!("One row of {name}."),
        "parameters": [at_least(), as_of(), no_cache()],
        "responses": problems(&statuses, "200", answer("The row.", &alone, &["Cnc-Position", "Cnc-View-Health"])), "x-restricted": restricted } }));
}

fn of_ledger(paths: &mut Map<String, Value>) {
    let lines = json!({ "description": "Lines of JSON, each naming the SHA-256 of the line before it.",
        "headers": { "Cnc-Head": { "schema": { "type": "string" }, "description": "POSITION:HASH at this moment." } },
        "content": { "application/x-ndjson": { "schema": { "type": "string" } } } });
    let after = parameter("after", &count(), "Lines after this position.");
    let at_most = parameter("limit", &count(), "At most so many lines; all where absent.");
    paths.insert(
        "/v1/ledger".into(),
        json!({ "get": {
        "operationId": "ledger", "tags": ["ledger"], "summary": "The company's ledger, verbatim.",
        "parameters": [after, at_most], "responses": problems(&["400", "401", "403"], "200", lines) } }),
    );
    let head = json!({ "type": "object", "required": ["position", "hash"], "properties": {
        "position": { "type": "integer" }, "hash": { "type": "string", "pattern": "^[0-9a-f]{64}$" } } });
    paths.insert(
        "/v1/ledger/head".into(),
        json!({ "get": {
        "operationId": "ledger_head", "tags": ["ledger"], "summary": "The last position and the hash of its line.",
        "responses": problems(&["400", "401", "403"], "200", answer("The head.", &head, &[])) } }),
    );
    paths.insert(
        "/v1/live".into(),
        json!({ "get": {
        "operationId": "live", "tags": ["ledger"], "summary": "Changes of views as they come, over a WebSocket.",
        "description": crate::live::ABOUT,
        "responses": problems(&["400", "401", "403", "503"], "101", json!({ "description": "The socket is open." })) } }),
    );
}

fn of_service(paths: &mut Map<String, Value>) {
    let plain = |id: &str, about: &str, kind: &str, statuses: &[&str]| {
        let content = json!({ "description": about, "content": { kind: { "schema": {} } } });
        json!({ "get": { "operationId": id, "tags": ["service"], "summary": about, "security": [],
            "responses": problems(statuses, "200", content) } })
    };
    paths.insert("/docs".into(), plain("docs", "This description as a page.", "text/html", &[]));
    paths.insert("/health/live".into(), plain("health_live", "The process answers.", "application/json", &["503"]));
    paths.insert("/health/ready".into(), plain("health_ready", "It can work.", "application/json", &["503"]));
    paths.insert("/openapi.json".into(), plain("openapi", "This description.", "application/json", &[]));
    let mut problem = plain("problem", "What a problem's code means.", "application/json", &["404"]);
    let codes: Vec<&str> = crate::problems::KINDS.iter().map(|kind| kind.code).collect();
    problem["parameters"] = json!([{ "name": "code", "in": "path", "required": true,
        "schema": { "type": "string", "examples": codes }, "description": "The `code`; also every rejection's." }]);
    paths.insert("/problems/{code}".into(), problem);
}

/// What is said of a view that is not well.
fn health() -> Value {
    json!({ "type": "object", "description": "There where the view is not well; the header `Cnc-View-Health` says the same.",
        "required": ["stopped_at", "skipped"], "properties": {
            "stopped_at": { "type": ["integer", "null"], "description":
                "The position of an entry that could not be folded: the view shows nothing of it and of what came after." },
            "skipped": { "type": "integer", "description": "How many entries it left out, since an operator had them skipped." } } })
}

fn as_of() -> Value {
    let moment = json!({ "anyOf": [count(), { "type": "string", "format": "date-time" }] });
    parameter("as_of", &moment, "A position or a time: how it was then.")
}

fn at_least() -> Value {
    let about = "Waits until the view has reached this position, a bounded time; 503 says how far it is. 400 where the \
                 ledger itself has no such position.";
    parameter("at_least", &count(), about)
}

fn no_cache() -> Value {
    let about =
        "`no-cache` asks for the row as the store has it: without that it may have been read up to a second ago.";
    header("Cache-Control", false, &json!({ "type": "string", "examples": ["no-cache"] }), about)
}

/// A position, a sequence or a number of either, as a query takes it.
fn count() -> Value {
    json!({ "type": "integer", "minimum": 0, "maximum": crate::limits::NUMBER_MAX })
}

fn limit() -> Value {
    let max = crate::limits::Limits::default().page_max;
    parameter("limit", &json!({ "type": "integer", "minimum": 1, "maximum": max }), "The size of a page.")
}

/// The first sentence of a description, and the rest, each in one line.
pub(crate) fn first_sentence(about: &str) -> (String, String) {
    let about = about.split_whitespace().collect::<Vec<_>>().join(" ");
    match about.split_once(". ") {
        Some((first, rest)) => (format!("{first}."), rest.to_owned()),
        None => (about, String::new()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_public_command_and_view_has_an_operation_of_its_own_name() {
        let document = openapi();
        let paths = document["paths"].as_object().expect("has paths");
        let operations: Vec<&str> = paths
            .values()
            .flat_map(|path| ["get", "post"].into_iter().filter_map(|method| path[method]["operationId"].as_str()))
            .collect();
        assert_eq!(operations.iter().collect::<BTreeSet<_>>().len(), operations.len(), "names are unique");
        for stream in catalog().streams() {
            for command in stream.commands() {
                let name = format!("{}_{}", stream.contract.stream, command.name);
                assert!(operations.contains(&name.as_str()), "{name}");
            }
        }
        for view in catalog().views() {
            assert!(paths.contains_key(&format!("/v1/views/{}", view.name())));
        }
    }

    #[test]
    fn the_document_is_the_same_every_time() {
        assert_eq!(openapi().to_string(), openapi().to_string());
    }
}
