//! Seals: a file of a run says what it held when it was written.
//!
//! A seal is SHA-256 of the [`canonical_json`] of everything else in the file, so it does not mind how
//! the JSON is laid out. It shows an edit; it does not stop who makes a new seal.

use serde::Serialize;
use serde_json::Value;

use super::id::canonical_json;
use crate::base::digest::sha256;

/// The key that a seal stands under.
const KEY: &str = "seal";

/// What a seal says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seal {
    /// The file is as it was written.
    Whole,
    /// It was changed.
    Broken,
    /// It has none: an older version wrote it.
    Absent,
}

/// `record` as JSON with further keys and its seal.
pub(super) fn sealed(
    record: &impl Serialize,
    further: Option<(&str, String)>,
) -> serde_json::Result<Value> {
    let mut value = serde_json::to_value(record)?;
    if let Value::Object(map) = &mut value {
        map.extend(further.map(|(key, text)| (key.to_owned(), text.into())));
    }
    let seal = sha256(canonical_json(&value).as_bytes());
    if let Value::Object(map) = &mut value {
        map.insert(KEY.to_owned(), seal.into());
    }
    Ok(value)
}

/// Looks at a file's seal and takes it out.
pub(super) fn examine(value: &mut Value) -> Seal {
    let Some(seal) = value.as_object_mut().and_then(|map| map.shift_remove(KEY)) else {
        return Seal::Absent;
    };
    if seal.as_str() == Some(sha256(canonical_json(value).as_bytes()).as_str()) {
        Seal::Whole
    } else {
        Seal::Broken
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn any_change_breaks_a_seal_and_another_layout_does_not() {
        let record = json!({"a": 0.1, "b": {"d": [1, "x"], "c": null}});
        let value = sealed(&record, Some(("picture", "f".to_owned()))).unwrap();
        let pretty = serde_json::to_string_pretty(&value).unwrap();
        let mut again: Value = serde_json::from_str(&pretty).unwrap();
        assert_eq!(examine(&mut again), Seal::Whole);
        assert_eq!(again["picture"], "f");
        for (from, to) in [("0.1", "0.2"), ("\"x\"", "\"y\""), ("\"f\"", "\"g\"")] {
            let mut changed: Value = serde_json::from_str(&pretty.replace(from, to)).unwrap();
            assert_eq!(examine(&mut changed), Seal::Broken, "{from}");
        }
        assert_eq!(examine(&mut record.clone()), Seal::Absent);
    }
}
