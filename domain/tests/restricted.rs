//! Money is seen by the roles that may see it: in every contract, a member that holds some is marked, or named here as open.

use cnc_domain::{
    MODULES,
    kernel::{Cents, schema::Schemas},
};
use serde_json::Value;

/// Members that hold money and are for everybody who may see what they stand in, as `stream.member`.
const OPEN: &[&str] = &[];

/// The names of members that hold money, and whether each is marked.
fn money(schema: &Value, cents: &Value, found: &mut Vec<(String, bool)>) {
    let bounds = |schema: &Value| (schema["minimum"].clone(), schema["maximum"].clone());
    for (name, member) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        if bounds(member) == bounds(cents) {
            found.push((name.clone(), member.get("x-restricted").is_some()));
        }
    }
    match schema {
        Value::Object(node) => node.values().for_each(|value| money(value, cents, found)),
        Value::Array(items) => items.iter().for_each(|item| money(item, cents, found)),
        _ => {}
    }
}

#[test]
fn every_sum_of_money_is_restricted_or_said_to_be_open() {
    let mut schemas = Schemas::default();
    let cents = schemas.recorded::<Cents>();
    let mut sums = 0;
    for rules in MODULES.iter().flat_map(|module| module.aggregates) {
        let contract = rules.contract(&mut schemas);
        let messages = contract.commands.iter().chain(&contract.events).map(|message| &message.schema);
        let mut found = Vec::new();
        messages.chain([&contract.state]).for_each(|schema| money(schema, &cents, &mut found));
        for (name, is_marked) in &found {
            let open = format!("{}.{name}", contract.stream);
            assert!(*is_marked || OPEN.contains(&open.as_str()), "{open} holds money: mark it as restricted");
        }
        sums += found.len();
        for refusal in &contract.refusals {
            let told = refusal.schema["properties"].as_object().into_iter().flat_map(|facts| facts.keys());
            let told: Vec<_> = told.filter(|name| contract.restricted.contains(*name)).collect();
            assert!(told.is_empty(), "{}: {} tells {told:?} to whoever asks", contract.stream, refusal.name);
        }
    }
    assert!(sums >= 6, "only {sums} sums were found: how money looks in a schema has changed");
}
