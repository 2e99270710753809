//! The filters and sorts of a query, on documents in memory: for a view as of then, and for changes on their way to a
//! socket. A store does the same by its indexes.

use std::cmp::Ordering;

use serde_json::Value;

/// Whether a document has these values. A member that is a list matches by any of its elements.
pub(crate) fn matches(doc: &Value, filters: &[(String, String)]) -> bool {
    filters.iter().all(|(path, wanted)| match member(doc, path) {
        Some(Value::Array(items)) => items.iter().any(|item| is(item, wanted)),
        Some(value) => is(value, wanted),
        None => false,
    })
}

/// The order of two documents by a member, smallest first and those without it last.
pub(crate) fn compare(one: &Value, other: &Value, path: &str) -> Ordering {
    match (member(one, path), member(other, path)) {
        (Some(Value::Number(one)), Some(Value::Number(other))) => one.as_i64().cmp(&other.as_i64()),
        (Some(Value::String(one)), Some(Value::String(other))) => one.cmp(other),
        (Some(Value::Bool(one)), Some(Value::Bool(other))) => one.cmp(other),
        (one, other) => absent(one).cmp(&absent(other)),
    }
}

fn absent(value: Option<&Value>) -> bool {
    value.is_none_or(Value::is_null)
}

fn member<'a>(doc: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(doc, |value, name| value.get(name))
}

fn is(value: &Value, wanted: &str) -> bool {
    match value {
        Value::String(text) => text == wanted,
        Value::Number(number) => number.to_string() == wanted,
        Value::Bool(truth) => truth.to_string() == wanted,
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_matches_by_value_path_and_element() {
        let doc = json!({ "stage": "loading", "tags": ["late", "heavy"], "window": { "open": true, "day": 3 } });
        let matches = |path: &str, value: &str| matches(&doc, &[(path.into(), value.into())]);
        assert!(matches("stage", "loading") && matches("tags", "late") && matches("window.open", "true"));
        assert!(matches("window.day", "3") && !matches("window.day", "4"));
        assert!(
            !matches("stage", "transit")
                && !matches("tags", "lat")
                && !matches("nothing", "")
                && !matches("window", "")
        );
    }

    #[test]
    fn documents_without_the_member_come_last() {
        let (one, two, none) = (json!({ "n": 1 }), json!({ "n": 2 }), json!({}));
        assert_eq!(compare(&one, &two, "n"), Ordering::Less);
        assert_eq!(compare(&none, &two, "n"), Ordering::Greater);
        assert_eq!(compare(&none, &none, "n"), Ordering::Equal);
    }
}
