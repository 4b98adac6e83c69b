//! How does a document look that people sign? Canonical JSON (RFC 8785) of text, whole numbers, truth, lists and objects.
//! Only the canonical form is read: two texts of one document would be two digests of it.

use serde_json::Value;

/// Not a canonical document: whoever wrote it must write it anew.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not canonical JSON: {0}")]
pub struct JsonError(pub &'static str);

/// The canonical form. Numbers are whole and below 2^53 here, where RFC 8785 and `serde_json` write the same digits.
pub fn canonical(value: &Value) -> String {
    let mut out = String::new();
    write(value, &mut out);
    out
}

/// Reads a text that is the canonical form of what it says; every text in it is printable ASCII.
pub fn read(text: &str) -> Result<Value, JsonError> {
    if !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Err(JsonError("it holds something other than printable ASCII"));
    }
    let value: Value = serde_json::from_str(text).map_err(|_| JsonError("it is not JSON"))?;
    plain(&value)?;
    if canonical(&value) == text {
        Ok(value)
    } else {
        Err(JsonError("keys are not sorted, or it is written otherwise"))
    }
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { "," });
                write(item, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            // By UTF-16 code units (RFC 8785, 3.2.3).
            members.sort_by_cached_key(|(key, _)| key.encode_utf16().collect::<Vec<_>>());
            out.push('{');
            for (index, (key, member)) in members.into_iter().enumerate() {
                out.push_str(if index == 0 { "" } else { "," });
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write(member, out);
            }
            out.push('}');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => out.push_str(&value.to_string()),
    }
}

fn plain(value: &Value) -> Result<(), JsonError> {
    match value {
        Value::Null => Err(JsonError("it holds a null")),
        Value::Bool(_) => Ok(()),
        Value::Number(number) => match number.as_u64() {
            Some(whole) if whole <= MOST => Ok(()),
            _ => Err(JsonError("a number is not whole and below 2^53")),
        },
        Value::String(text) if printable(text) => Ok(()),
        Value::String(_) => Err(JsonError("a text holds something other than printable ASCII")),
        Value::Array(items) => items.iter().try_for_each(plain),
        Value::Object(members) => members.iter().try_for_each(|(key, member)| {
            if printable(key) { plain(member) } else { Err(JsonError("a key is not printable ASCII")) }
        }),
    }
}

/// What every person's terminal shows as it is.
pub fn printable(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

/// The largest whole number that every reader of JSON keeps.
pub const MOST: u64 = (1 << 53) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_canonical_form_is_sorted_and_without_spaces() {
        let value = serde_json::json!({"b": [1, true, "x\"\\/"], "a": {"é": 2, "z": 1}, "aa": []});
        let text = r#"{"a":{"z":1,"é":2},"aa":[],"b":[1,true,"x\"\\/"]}"#;
        assert_eq!(canonical(&value), text);
    }

    #[test]
    fn only_the_canonical_form_is_read() {
        let text = r#"{"a":{"b":"c \" \\"},"n":9007199254740991,"s":[true,"x"]}"#;
        assert_eq!(canonical(&read(text).unwrap()), text);
        for other in [
            r#"{"b":1,"a":2}"#,
            r#"{"a": 1}"#,
            r#"{"a":1,"a":1}"#,
            r#"{"a":1.0}"#,
            r#"{"a":-1}"#,
            r#"{"a":9007199254740992}"#,
            r#"{"a":1e3}"#,
            r#"{"a":null}"#,
            r#"{"a":"\u0041"}"#,
            r#"{"a":"\n"}"#,
            r#"{"a":"\u00e9"}"#,
            r#"{"a":"é"}"#,
            r#"{"a":1} "#,
            "",
            "{",
        ] {
            assert!(read(other).is_err(), "{other}");
        }
    }
}
