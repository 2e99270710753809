//! Members that only some roles see: pay, costs and rates. They are taken out of what is shown to others, wherever they
//! stand; documents of views keep theirs apart from the start.

use std::collections::BTreeSet;

use cnc_domain::ledger::{Entry, Fault};
use serde_json::{Value, value::RawValue};

/// Takes these members out of a value.
pub(crate) fn withhold(value: &mut Value, members: &BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            object.retain(|name, _| !members.contains(name));
            object.values_mut().for_each(|value| withhold(value, members));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| withhold(item, members)),
        _ => {}
    }
}

/// An entry's line without these members: as it stands in the ledger where it has none.
pub(crate) fn withheld(line: String, members: &BTreeSet<String>) -> Result<String, Fault> {
    let broken = |cause: String| Fault::broken("reading a stream", cause);
    if !members.iter().any(|name| line.contains(name.as_str())) {
        return Ok(line);
    }
    let mut entry = Entry::read(&line).map_err(|cause| broken(cause.to_string()))?;
    let mut payload: Value = serde_json::from_str(entry.payload.get()).map_err(|cause| broken(cause.to_string()))?;
    withhold(&mut payload, members);
    entry.payload = RawValue::from_string(payload.to_string()).map_err(|cause| broken(cause.to_string()))?;
    serde_json::to_string(&entry).map_err(|cause| broken(cause.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::catalog::catalog;

    #[test]
    fn what_is_withheld_is_gone_wherever_it_stands() {
        let mut value = json!({ "rate": 1, "name": "Ann", "terms": [{ "rate": 2, "since": 3 }] });
        withhold(&mut value, &BTreeSet::from(["rate".to_owned()]));
        assert_eq!(value, json!({ "name": "Ann", "terms": [{ "since": 3 }] }));
    }

    #[test]
    fn a_view_keeps_what_is_restricted_apart() {
        for view in catalog().views() {
            let members = view.document.schema["properties"].as_object().into_iter().flatten();
            let apart: Vec<&str> = members
                .filter(|(_, member)| member.get("x-restricted").is_some())
                .map(|(name, _)| name.as_str())
                .filter(|name| view.document.restricted.contains(name))
                .collect();
            let marks = view.document.schema.to_string().matches("x-restricted").count();
            assert_eq!(marks, apart.len(), "{}: what is restricted is a member of its own, named so", view.name());
        }
    }
}
