use cnc_domain::{
    KINDS, MODULES,
    kernel::{CompanyId, schema::Schemas},
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Form, FormError, Kinds};
use crate::{Keyring, MasterKey};

fn kinds() -> Kinds {
    Kinds::compile(KINDS, &mut Schemas::default()).expect("the kinds compile")
}

fn form(schema: Value) -> Form {
    Form::compile(&schema, &kinds()).expect("compiles")
}

fn plan() -> Form {
    form(json!({ "type": "object", "required": ["stops", "count"], "additionalProperties": false, "properties": {
        "count": { "type": "integer", "format": "uint32", "minimum": 0, "maximum": 10 },
        "note": { "type": ["string", "null"], "maxLength": 5 },
        "id": { "type": "string", "format": "uuid" },
        "stage": { "oneOf": [{ "type": "string", "const": "ahead" }, { "type": "string", "enum": ["done", "skipped"] }] },
        "tags": { "type": "array", "uniqueItems": true, "maxItems": 2, "items": { "type": "string", "pattern": "^[a-z]+$" } },
        "more": true,
        "stops": { "type": "array", "minItems": 1, "items": { "type": "object", "required": ["at"],
            "properties": { "at": { "type": "string", "format": "date-time" } } } },
        "move": { "oneOf": [
            { "type": "object", "required": ["local"], "properties": { "local": { "type": "object",
                "required": ["hours"], "properties": { "hours": { "type": "integer" } } } } },
            { "type": "object", "required": ["far"], "properties": { "far": { "type": "boolean" } } } ] } } }))
}

#[track_caller]
fn refused(text: &str, expected: &[(&str, &str)]) {
    let errors = plan().walk(text, &kinds()).err().expect("is refused");
    let found: Vec<(&str, &str)> = errors.iter().map(|error| (error.path.as_str(), error.wrong.as_str())).collect();
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for ((path, wrong), (expected_path, part)) in found.iter().zip(expected) {
        assert_eq!(path, expected_path, "{found:?}");
        assert!(wrong.contains(part), "{wrong} does not say {part}");
    }
}

#[test]
fn a_fitting_text_passes_without_its_white_space() {
    let text = r#" { "count" : 3 , "note":null, "stage":"done", "tags":["a","b"], "more":{"x":[1,true,"\u00e9"]},
        "stops":[{"at":"2026-11-21T01:40:05Z"}], "move":{"far":true}, "id":"0192F0C1-1111-7000-8000-000000000001" } "#;
    let walked = plan().walk(text, &kinds()).expect("fits");
    let clear = walked.clear().expect("nothing is personal");
    assert_eq!(serde_json::from_str::<Value>(clear).expect("JSON"), serde_json::from_str::<Value>(text).expect("JSON"));
    assert!(!clear.contains(' '));
}

#[test]
fn every_error_is_told_with_its_path() {
    refused(
        r#"{"count":11,"note":"123456","extra":1,"id":"0192f0c1111170008000000000000001","stage":"gone","stops":[{"at":"noon"},{}]}"#,
        &[
            ("/count", "from 0 to 10"),
            ("/note", "at most 5"),
            ("/extra", "not a field"),
            ("/id", "UUID"),
            ("/stage", "one of: ahead, done, skipped"),
            ("/stops/0/at", "RFC 3339"),
            ("/stops/1/at", "required"),
        ],
    );
    refused("{}", &[("/count", "required"), ("/stops", "required")]);
    refused("[]", &[("", "must be an object")]);
    refused(r#"{"count":1,"stops":[],"a/b~c":0}"#, &[("/stops", "at least 1"), ("/a~1b~0c", "not a field")]);
    refused(r#"{"count":"1","stops":{}}"#, &[("/count", "an integer"), ("/stops", "an array")]);
}

#[test]
fn what_the_ledger_cannot_hold_is_refused() {
    let more = |value: &str| format!(r#"{{"count":1,"stops":[{{"at":"2026-11-21T01:40:05Z"}}],"more":{value}}}"#);
    refused(&more("1.0"), &[("/more", "an integer")]);
    refused(&more("[1e3]"), &[("/more/0", "an integer")]);
    refused(&more("-0"), &[("/more", "an integer")]);
    refused(&more("9007199254740992"), &[("/more", "from -9007199254740991")]);
    refused(&more("99999999999999999999999999"), &[("/more", "from -9007199254740991")]);
    refused(&more(r#"{"a":"x\u0000y"}"#), &[("/more/a", "U+0000")]);
    refused(&more(r#"{"a\u0000":1}"#), &[("/more/a\\u0000", "U+0000")]);
    refused(&more(r#""\ud800""#), &[("/more", "surrogate")]);
    refused(&more(r#""\ud800\u0041""#), &[("/more", "surrogate")]);
    refused(&more(r#""\udc00""#), &[("/more", "surrogate")]);
    refused(&more(r#"{"a":1,"a":2}"#), &[("/more/a", "twice")]);
    refused(&more(r#"{"a":1,"\u0061":2}"#), &[("/more/a", "twice")]);
    refused(r#"{"count":1,"count":1,"stops":[{"at":"2026-11-21T01:40:05Z"}]}"#, &[("/count", "twice")]);
    refused(r#"{"count":1,"stops":[{"at":"2026-11-21T01:40:05Z"}],"tags":["a","a"]}"#, &[("/tags/1", "twice")]);
    let deep = plan().walk(&more(&"[".repeat(100_000)), &kinds()).err().expect("is refused");
    assert!(deep[0].wrong.contains("too deep"), "{deep:?}");
    let closed = format!("{}{}", "[".repeat(40), "]".repeat(40));
    assert!(plan().walk(&more(&closed), &kinds()).is_err());
    assert!(plan().walk(&more(r#""\ud83d\ude9a""#), &kinds()).is_ok());
}

#[test]
fn what_is_not_json_is_refused() {
    for text in
        ["", "{", "{\"count\"", "{\"count\":}", "{\"count\":01}", "nul", "{}x", "{\"a\" 1}", "{\"more\":\"\n\"}", "{,}"]
    {
        assert!(plan().walk(text, &kinds()).is_err(), "{text}");
    }
}

#[test]
fn a_variant_is_found_by_its_name() {
    let moved = |value: &str| format!(r#"{{"count":1,"stops":[{{"at":"2026-11-21T01:40:05Z"}}],"move":{value}}}"#);
    refused(&moved(r#"{"local":{"hours":"x"}}"#), &[("/move/local/hours", "an integer")]);
    refused(&moved(r#"{"far":1}"#), &[("/move/far", "true or false")]);
    refused(&moved(r#"{"other":1}"#), &[("/move/other", "not a field"), ("/move/local", "required")]);
    refused(&moved("3"), &[("/move", "an object")]);
}

#[test]
fn errors_are_bounded() {
    let many = (0..100).map(|number| format!("\"x{number}\":0")).collect::<Vec<_>>().join(",");
    assert_eq!(plan().walk(&format!("{{{many}}}"), &kinds()).err().expect("is refused").len(), 20);
}

#[test]
fn a_schema_that_the_walk_cannot_check_is_refused() {
    for schema in [json!({ "$ref": "#/x" }), json!({ "type": "number" }), json!({ "type": "string", "format": "ipv4" })]
    {
        assert!(Form::compile(&schema, &kinds()).is_err(), "{schema}");
    }
}

#[tokio::test]
async fn personal_fields_are_sealed_and_their_form_is_checked() {
    let folder = tempfile::tempdir().expect("a folder");
    let master = MasterKey::create(&folder.path().join("master.key")).expect("a key");
    let keyring = Keyring::sqlite(folder.path(), master).await.expect("opens");
    keyring.found(CompanyId::number(1)).await.expect("makes a key");
    let form = form(json!({ "type": "object", "required": ["phone"], "properties": {
        "phone": { "type": "string", "minLength": 1, "x-personal": "phone" },
        "other": { "anyOf": [{ "type": "string", "x-personal": "phone" }, { "type": "null" }] } } }));
    let errors = form.walk(r#"{"phone":"call me","other":7}"#, &kinds()).err().expect("is refused");
    assert_eq!(errors[0].path, "/phone");
    assert!(errors.iter().all(|error| !error.wrong.contains("call me")), "{errors:?}");
    let walked = form.walk(r#"{"phone":"+1 604 555 0143","other":null}"#, &kinds()).expect("fits");
    let company = CompanyId::number(1);
    let sealed = walked.seal(&keyring, company, uuid::Uuid::from_u128(7)).await.expect("seals");
    assert!(sealed.contains(r#""other":null"#) && !sealed.contains("0143"), "{sealed}");
    let mut value: Value = serde_json::from_str(&sealed).expect("JSON");
    assert!(value["phone"]["sealed"]["print"].is_string());
    assert_eq!(keyring.open_all(company, &mut value, &|_| true).await.expect("opens"), 1);
    assert_eq!(value, json!({ "phone": "+1 604 555 0143", "other": null }));
}

/// All commands of the product.
fn forms() -> Vec<Form> {
    let (mut schemas, kinds) = (Schemas::default(), kinds());
    let contracts = MODULES.iter().flat_map(|module| module.aggregates).map(|rules| rules.contract(&mut schemas));
    let commands: Vec<_> = contracts.flat_map(|contract| contract.commands).collect();
    commands.iter().map(|command| Form::compile(&command.schema, &kinds).expect("compiles")).collect()
}

fn any_json() -> impl Strategy<Value = Value> {
    let names = "[a-z_]{1,6}|stops|window|start|at|name|phone|fixes|position|members|facts|\\PC{0,4}";
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        Just(Value::from("0192f0c1-1111-7000-8000-000000000001")),
        Just(Value::from("2026-11-21T01:40:05Z")),
    ];
    leaf.prop_recursive(6, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((names, inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn has_paths(errors: &[FormError]) -> bool {
    !errors.is_empty()
        && errors.len() <= 20
        && errors.iter().all(|error| !error.wrong.is_empty() && (error.path.is_empty() || error.path.starts_with('/')))
}

proptest! {
    #[test]
    fn any_json_fits_or_is_refused_with_paths(value in any_json()) {
        let (forms, kinds, text) = (forms_once(), kinds(), value.to_string());
        for form in forms {
            match form.walk(&text, &kinds) {
                Ok(walked) => if let Some(clear) = walked.clear() {
                    prop_assert_eq!(&serde_json::from_str::<Value>(clear).expect("JSON"), &value);
                },
                Err(errors) => prop_assert!(has_paths(&errors)),
            }
        }
    }

    #[test]
    fn any_text_is_walked_without_a_panic(text in "[\\[\\]{}:,\"\\\\a-f0-9ux.\\-+E \n]{0,40}|\\PC{0,40}") {
        let any = Form::compile(&json!(true), &kinds()).expect("compiles");
        let fits = any.walk(&text, &kinds()).is_ok();
        // What fits is JSON; the reverse does not hold, since the ledger is stricter.
        prop_assert!(!fits || serde_json::from_str::<Value>(&text).is_ok());
    }
}

fn forms_once() -> &'static [Form] {
    static FORMS: std::sync::LazyLock<Vec<Form>> = std::sync::LazyLock::new(forms);
    &FORMS
}
