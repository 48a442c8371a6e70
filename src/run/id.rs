//! What cells and plans are called by. Both hashes are frozen: a change would make every finished cell
//! of every run unknown.

use std::fmt::Write as _;

use serde_json::Value;

use crate::base::digest::sha256;

/// The id of a cell: SHA-256 of [`canonical_json`] of everything that determines it, 64 lower-case
/// hexadecimal digits.
pub fn cell_id(parts: &Value) -> String {
    sha256(canonical_json(parts).as_bytes())
}

/// The hash of a plan: SHA-256 over the sorted ids joined by newlines. The order of `ids` is no matter.
pub fn plan_hash<S: AsRef<str>>(ids: &[S]) -> String {
    let mut sorted: Vec<&str> = ids.iter().map(AsRef::as_ref).collect();
    sorted.sort_unstable();
    sha256(sorted.join("\n").as_bytes())
}

/// Whether `text` is 64 lower-case hexadecimal digits, so that it is safe as the name of a file.
pub fn is_cell_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// One text for each JSON value: no spaces; keys sorted by their UTF-8 bytes; strings escaped only
/// where JSON demands it (`\"`, `\\`, `\b`, `\f`, `\n`, `\r`, `\t`, other control characters as
/// `\u00xx`); numbers without exponent in the fewest digits that read back as the same number, a whole
/// float without a point and -0 as 0, so that `1`, `1.0` and `1e0` are one.
pub fn canonical_json(value: &Value) -> String {
    let mut text = String::new();
    write_value(value, &mut text);
    text
}

fn write_value(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(float) => drop(write!(out, "{}", float + 0.0)), // -0 becomes 0
            None => drop(write!(out, "{number}")),
        },
        Value::String(text) => write_string(text, out),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_value(item, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            let mut entries: Vec<(&String, &Value)> = map.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            out.push('{');
            for (index, (key, item)) in entries.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_string(key, out);
                out.push(':');
                write_value(item, out);
            }
            out.push('}');
        }
    }
}

fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => drop(write!(out, "\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_encoding_is_the_documented_one() {
        let value = json!({
            "é": 1, "b": [1.0, -0.0, 0.1, 1e-7, 1e21, -2.5, u64::MAX, -3], "a": {"z": null, "y": true},
            "text": "\"\\/\u{8}\u{c}\n\r\t\u{1}\u{7f}é😀",
        });
        // By hand from the rules.
        assert_eq!(
            canonical_json(&value),
            "{\"a\":{\"y\":true,\"z\":null},\"b\":[1,0,0.1,0.0000001,1000000000000000000000,-2.5,18446744073709551615,-3],\
             \"text\":\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\u{7f}é😀\",\"é\":1}"
        );
    }

    #[test]
    fn ids_are_frozen() {
        // printf '%s' '{"prompt":"a red star","seed":1,"strength":0.4}' | sha256sum
        let id = cell_id(&json!({"strength": 0.4, "seed": 1, "prompt": "a red star"}));
        assert_eq!(id, "382809b6064646adddf5d69e9de7f674cf33f91ac29713fe147d321a17d1694d");
        assert!(is_cell_id(&id));
        // printf 'a\nb\nc' | sha256sum
        assert_eq!(
            plan_hash(&["c", "a", "b"]),
            "ea7fb08b7a2dc4619ffb7c7bb38d95a2047935fa165d71b12efd3852a2e6d0cc"
        );
        // printf '' | sha256sum
        assert_eq!(
            plan_hash::<&str>(&[]),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    #[test]
    fn equal_numbers_give_equal_ids_and_other_values_do_not() {
        assert_eq!(cell_id(&json!([1])), cell_id(&json!([1.0])));
        assert_eq!(cell_id(&json!([0])), cell_id(&json!([-0.0])));
        assert_ne!(cell_id(&json!([1])), cell_id(&json!(["1"])));
        assert_ne!(cell_id(&json!([0.1 + 0.2])), cell_id(&json!([0.3])));
        assert_ne!(cell_id(&json!({"a": null})), cell_id(&json!({})));
    }

    #[test]
    fn only_ids_are_ids() {
        for text in ["", "ab", "../../x", &"A".repeat(64), &"g".repeat(64), &"a".repeat(65)] {
            assert!(!is_cell_id(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_encoding_reads_back(text in ".*", float in any::<f64>(), int in any::<i64>()) {
            prop_assume!(float.is_finite());
            let value = json!({"text": text, "float": float, "int": int});
            let again: Value = serde_json::from_str(&canonical_json(&value)).unwrap();
            prop_assert_eq!(&again["text"], &value["text"]);
            prop_assert_eq!(&again["int"], &value["int"]);
            prop_assert_eq!(again["float"].as_f64(), Some(float));
        }
    }
}
