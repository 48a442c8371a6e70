//! One key of a YAML text changed, every other byte kept.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use serde_saphyr::Spanned;

/// A mapping's entries with their places, or anything else.
enum Node {
    Map(Vec<(Spanned<String>, Spanned<Node>)>),
    List,
    Scalar,
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_str<E>(self, _: &str) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        while access.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Node::List)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = access.next_entry()? {
            map.push(entry);
        }
        Ok(Node::Map(map))
    }
}

/// `yaml` with `key` (`section.key`, or a key at the top) set to a scalar. A key or section that is
/// missing is added. The result is read back, so what comes out differs in that one key.
pub(super) fn set(yaml: &str, key: &str, value: &Value) -> Result<String, String> {
    let mut expected = read(yaml)?;
    let path: Vec<&str> = key.split('.').collect();
    put(&mut expected, &path, value)?;
    let changed = splice(yaml, &path, value)?;
    match read(&changed) {
        Ok(found) if found == expected => Ok(changed),
        _ => Err("it is written in a way that cannot be edited in place".to_owned()),
    }
}

fn read(yaml: &str) -> Result<Value, String> {
    let value = serde_saphyr::from_str::<Value>(yaml)
        .map_err(|e| format!("not valid YAML: {}", e.without_snippet()))?;
    Ok(if value.is_null() { Value::Object(Map::new()) } else { value })
}

fn put(tree: &mut Value, path: &[&str], value: &Value) -> Result<(), String> {
    let Some((last, sections)) = path.split_last() else { return Ok(()) };
    let mut map = tree;
    for section in sections {
        let below = map.as_object_mut().map(|map| map.entry(*section).or_insert(Value::Null));
        map = below.ok_or("the configuration is not a mapping")?;
        if map.is_null() {
            *map = Value::Object(Map::new());
        }
    }
    let map = map.as_object_mut().ok_or("its section is not a mapping")?;
    if map.get(*last).is_some_and(|old| old.is_object() || old.is_array()) {
        return Err("its value is a list or a mapping".to_owned());
    }
    map.insert((*last).to_owned(), value.clone());
    Ok(())
}

/// The text with the value replaced where it stands, or the key added.
fn splice(yaml: &str, path: &[&str], value: &Value) -> Result<String, String> {
    let scalar = scalar(value);
    let root: Option<Spanned<Node>> = serde_saphyr::from_str(yaml).map_err(|e| e.to_string())?;
    let line_end = if yaml.contains("\r\n") { "\r\n" } else { "\n" };
    let mut node = root.as_ref();
    for (depth, name) in path.iter().enumerate() {
        let entries = match node.map(|node| &node.value) {
            Some(Node::Map(entries)) => entries.as_slice(),
            _ => &[],
        };
        if let Some((_, below)) = entries.iter().find(|(key, _)| key.value == *name) {
            node = Some(below);
            continue;
        }
        let missing = path.get(depth..).unwrap_or_default();
        return match entries.first() {
            Some((first, _)) if depth > 0 => add_before(yaml, first, missing, &scalar, line_end),
            _ if depth == 0 => Ok(append(yaml, missing, &scalar, line_end)),
            _ => Err("its section is empty".to_owned()),
        };
    }
    let range = node.and_then(|node| range(yaml, node)).ok_or("its place is not known")?;
    Ok(format!("{}{scalar}{}", &yaml[..range.start], &yaml[range.end..]))
}

/// JSON's scalars are YAML's, but `PyYAML` takes `1e-6` for text.
fn scalar(value: &Value) -> String {
    match value.as_f64().filter(|_| value.is_f64()) {
        Some(number) if number.fract() == 0.0 => format!("{number:.1}"),
        Some(number) => number.to_string(),
        None => value.to_string(),
    }
}

/// The bytes of a scalar, its quotes included.
fn range(yaml: &str, node: &Spanned<Node>) -> Option<std::ops::Range<usize>> {
    let span = node.defined.span();
    let start = usize::try_from(span.byte_offset()?).ok()?;
    let end = start.checked_add(usize::try_from(span.byte_len()?).ok()?)?;
    yaml.get(start..end).filter(|text| !text.is_empty()).map(|_| start..end)
}

/// The key as a neighbour in front of the first one of its section: on lines of its own, or in the
/// same braces.
fn add_before(
    yaml: &str,
    first: &Spanned<String>,
    missing: &[&str],
    scalar: &str,
    line_end: &str,
) -> Result<String, String> {
    let at = first.defined.span().byte_offset().and_then(|at| usize::try_from(at).ok());
    let (before, after) = at
        .and_then(|at| yaml.split_at_checked(at))
        .ok_or("the place of its section is not known")?;
    let indent = before.rsplit('\n').next().unwrap_or_default();
    let added = if indent.chars().all(|c| c == ' ') {
        let lines = block(missing, scalar, indent, line_end);
        format!("{}{indent}", lines.strip_prefix(indent).unwrap_or(&lines))
    } else {
        let inner = format!("{}: {scalar}", missing.join(": {"));
        format!("{inner}{}, ", "}".repeat(missing.len().saturating_sub(1)))
    };
    Ok(format!("{before}{added}{after}"))
}

/// The key, with its section, at the end of the text.
fn append(yaml: &str, missing: &[&str], scalar: &str, line_end: &str) -> String {
    let ends = yaml.is_empty() || yaml.ends_with('\n');
    let line = if ends { "" } else { line_end };
    format!("{yaml}{line}{}", block(missing, scalar, "", line_end))
}

/// Keys one below the other, each two spaces further in, the last with the value.
fn block(keys: &[&str], scalar: &str, indent: &str, line_end: &str) -> String {
    let mut text = String::new();
    for (depth, key) in keys.iter().enumerate() {
        let deeper = "  ".repeat(depth);
        let value = if depth + 1 == keys.len() { [" ", scalar] } else { ["", ""] };
        text.extend([indent, &deeper, key, ":", value[0], value[1], line_end]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    const CONFIG: &str = "# a training\nadapter:\n  rank: 16   # the rank\n  alpha: 1.0  # its scale\n\
                          optimizer: {learning_rate: 1e-4, kind: adamw}\nvalidation:\n  patience: null\n\
                          data:\n  train: \"a # b\"\n  image:\n    caption_extension: '.txt' # kohya\n";

    fn changed(key: &str, value: &Value) -> (String, String) {
        let after = set(CONFIG, key, value).unwrap();
        let pairs: Vec<_> = CONFIG.lines().zip(after.lines()).filter(|(a, b)| a != b).collect();
        assert_eq!((pairs.len(), CONFIG.lines().count()), (1, after.lines().count()), "{after}");
        (pairs[0].0.to_owned(), pairs[0].1.to_owned())
    }

    #[test]
    fn one_value_changes_and_comments_stay() {
        for (key, value, line) in [
            ("adapter.alpha", json!(16), "  alpha: 16  # its scale"),
            ("adapter.rank", json!(32), "  rank: 32   # the rank"),
            ("adapter.rank", json!(1e-7), "  rank: 0.0000001   # the rank"),
            ("adapter.rank", json!(15.0), "  rank: 15.0   # the rank"),
            (
                "optimizer.learning_rate",
                json!(5e-5),
                "optimizer: {learning_rate: 0.00005, kind: adamw}",
            ),
            ("validation.patience", json!(3), "  patience: 3"),
            (
                "data.image.caption_extension",
                json!(".caption"),
                "    caption_extension: \".caption\" # kohya",
            ),
        ] {
            assert_eq!(changed(key, &value).1, line);
        }
    }

    #[test]
    fn missing_keys_and_sections_are_added() {
        let added = |key: &str| set(CONFIG, key, &json!(3)).unwrap();
        assert_eq!(added("adapter.dropout"), CONFIG.replace("  rank", "  dropout: 3\n  rank"));
        assert_eq!(
            added("optimizer.beta1"),
            CONFIG.replace("{learning_rate", "{beta1: 3, learning_rate")
        );
        assert_eq!(
            added("optimizer.a.b"),
            CONFIG.replace("{learning_rate", "{a: {b: 3}, learning_rate")
        );
        assert_eq!(added("data.a.b"), CONFIG.replace("  train", "  a:\n    b: 3\n  train"));
        assert_eq!(added("run.steps"), format!("{CONFIG}run:\n  steps: 3\n"));
        assert_eq!(set("", "run.steps", &json!(3)).unwrap(), "run:\n  steps: 3\n");
        assert_eq!(set("r: 1", "lora_alpha", &json!(3)).unwrap(), "r: 1\nlora_alpha: 3\n");
        assert_eq!(
            set("a:\r\n  b: 1\r\n", "a.c", &json!(3)).unwrap(),
            "a:\r\n  c: 3\r\n  b: 1\r\n"
        );
    }

    #[test]
    fn what_cannot_be_edited_is_said() {
        for (yaml, key, problem) in [
            ("a: [1]", "a", "a list or a mapping"),
            ("a: 1", "a.b", "section is not a mapping"),
            ("a: &x 1\nb: *x\n", "b", "in place"),
            ("a: [", "b", "not valid YAML"),
            ("- 1", "a.b", "not a mapping"),
        ] {
            let error = set(yaml, key, &json!(3)).unwrap_err();
            assert!(error.contains(problem), "{yaml}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_edited_in_one_key_or_refused(yaml in "[a-c:\\- {}\\[\\],#'\"&*|>~é\r\n0-9]{0,60}") {
            if let Ok(after) = set(&yaml, "a.b", &json!(3)) {
                prop_assert_eq!(&read(&after).unwrap()["a"]["b"], &json!(3));
                prop_assert!(after.len() < yaml.len() + 40, "{}", after);
            }
        }
    }
}
