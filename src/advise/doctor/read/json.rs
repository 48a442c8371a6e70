//! JSON as Python writes it.

use std::borrow::Cow;

use serde_json::Value;

use super::super::history::as_number;

/// Python's `json` writes `NaN`, `Infinity` and `-Infinity`, which JSON does not have: `null` here.
pub(super) fn without_nan(text: &str) -> Cow<'_, str> {
    if !["NaN", "Infinity"].iter().any(|word| text.contains(word)) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let (mut quoted, mut escaped, mut rest) = (false, false, text);
    while let Some(c) = rest.chars().next() {
        let word = ["-Infinity", "Infinity", "NaN"].into_iter().find(|w| rest.starts_with(w));
        if let (false, Some(word)) = (quoted, word) {
            plain.push_str("null");
            rest = rest.strip_prefix(word).unwrap_or_default();
            continue;
        }
        quoted ^= c == '"' && !escaped;
        escaped = quoted && c == '\\' && !escaped;
        plain.push(c);
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
    }
    Cow::Owned(plain)
}

/// A number that a log has under `key`: NaN where it is `null`, nothing where it is not there.
pub(super) fn number(object: &Value, key: &str) -> Option<f64> {
    match object.get(key)? {
        Value::Null => Some(f64::NAN),
        Value::String(text) if ["nan", "inf", "-inf"].contains(&text.as_str()) => Some(f64::NAN),
        value => as_number(value),
    }
}

/// A step.
pub(super) fn step(object: &Value) -> Option<u64> {
    object.get("step").and_then(Value::as_u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_s_numbers_become_null_outside_of_text() {
        let text = r#"{"a": NaN, "b": [-Infinity, Infinity], "NaN": "é NaN \" NaN \\", "c": NaN}"#;
        let value: Value = serde_json::from_str(&without_nan(text)).unwrap();
        assert_eq!(
            value,
            serde_json::json!({"a": null, "b": [null, null], "NaN": "é NaN \" NaN \\", "c": null})
        );
        assert!(number(&value, "a").unwrap().is_nan());
        assert_eq!(number(&value, "x"), None);
    }
}
