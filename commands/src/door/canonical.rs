//! One text for all JSON texts that mean the same: what a retry is compared by. A device that sends a command again may have
//! read and written it anew, with members in another order, other white space, numbers and escapes.

use std::fmt::Write as _;

use serde_json::{Number, Value};

/// The text for all of this meaning. One that has none, because no reader could hold it, stands for itself.
pub fn canonical(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    match serde_json::from_str(text) {
        Ok(value) => write(&value, &mut out),
        Err(_) => out.push_str(text),
    }
    out
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            list(members, out, ('{', '}'), |(name, value), out| {
                string(name, out);
                out.push(':');
                write(value, out);
            });
        }
        Value::Array(items) => list(items.iter().collect(), out, ('[', ']'), write),
        Value::String(text) => string(text, out),
        Value::Number(figure) => number(figure, out),
        Value::Bool(_) | Value::Null => push(value, out),
    }
}

fn list<T>(items: Vec<T>, out: &mut String, (open, close): (char, char), write: impl Fn(T, &mut String)) {
    out.push(open);
    for (nth, item) in items.into_iter().enumerate() {
        if nth > 0 {
            out.push(',');
        }
        write(item, out);
    }
    out.push(close);
}

fn string(text: &str, out: &mut String) {
    push(format_args!("{}", Value::from(text)), out);
}

/// A whole number has no fraction and no exponent, however it was spelled.
fn number(figure: &Number, out: &mut String) {
    /// Beyond it, not every whole number is one that a fraction can be read as.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match figure.as_f64() {
        Some(float) if figure.is_f64() && float.fract() == 0.0 && float.abs() <= EXACT => {
            #[allow(clippy::cast_possible_truncation, reason = "it is whole and small enough")]
            push(float as i64, out);
        }
        _ => push(figure, out),
    }
}

fn push(part: impl std::fmt::Display, out: &mut String) {
    // A String takes everything.
    let _ = write!(out, "{part}");
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn what_means_the_same_has_one_text() {
        let text = r#"{"a":[1,-0.5,"é/\n",true,null],"b":{"c":100,"d":""}}"#;
        for same in [
            text,
            r#"{"b":{"d":"","c":100},"a":[1,-0.5,"é/\n",true,null]}"#,
            " {\n\t\"a\" : [ 1 , -0.5 , \"é/\\n\" , true , null ] , \"b\" : { \"c\" : 100 , \"d\" : \"\" } }\r\n",
            r#"{"\u0061":[1.0,-5e-1,"\u00e9\/\u000a",true,null],"b":{"c":1e2,"d":""}}"#,
            r#"{"a":[10e-1,-0.50,"\u00E9\u002f\n",true,null],"b":{"c":100.000,"d":""}}"#,
        ] {
            assert_eq!(canonical(same), text);
        }
        assert_eq!(canonical("-0.0"), canonical("0"));
    }

    #[test]
    fn what_differs_in_meaning_differs_in_text() {
        let texts = [
            r#"{"a":1}"#,
            r#"{"a":"1"}"#,
            r#"{"a":1.5}"#,
            r#"{"a":[1]}"#,
            r#"{"a":null}"#,
            "{}",
            r#"{"A":1}"#,
            r#"{"a":-1}"#,
            r#"{"a":9007199254740993}"#,
            r#"{"a":9007199254740992}"#,
            r#"{"a":["1","2"]}"#,
            r#"{"a":["2","1"]}"#,
            r#"{"a":["1,2"]}"#,
            r#"{"a":"é"}"#,
            r#"{"a":"e\u0301"}"#,
        ];
        let canonical: std::collections::BTreeSet<String> = texts.iter().map(|text| canonical(text)).collect();
        assert_eq!(canonical.len(), texts.len(), "{canonical:#?}");
    }

    #[test]
    fn what_no_reader_can_hold_stands_for_itself() {
        for text in [r#"{"a":1e999}"#, r#"{"a":"\ud800"}"#, "{"] {
            assert_eq!(canonical(text), text);
        }
    }
}
