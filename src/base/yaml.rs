//! YAML as a tree of values with their places, within limits.
//!
//! At most [`MAX_BYTES`], 100 000 values, 32 levels deep, one document. Keys may be repeated: who reads
//! the tree knows which lines to name.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Budget, Error, Location, Options, Spanned};

use super::terminal::printable;

/// Largest text, in bytes.
pub const MAX_BYTES: usize = 4 << 20;

/// A value and where it is.
pub type Node = Spanned<Kind>;

/// A value.
#[derive(Debug)]
pub enum Kind {
    /// Nothing, `~` or `null`.
    Empty,
    /// Quoted or plain text.
    Text(String),
    /// `true`, `false` or a finite number.
    Plain(Value),
    /// A number that is not finite or wider than 64 bits.
    Odd,
    /// A list.
    List(Vec<Node>),
    /// A mapping in its order, keys possibly repeated.
    Map(Vec<(Spanned<String>, Node)>),
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KindVisitor)
    }
}

struct KindVisitor;

impl<'de> Visitor<'de> for KindVisitor {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Empty)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Kind, E> {
        Ok(Kind::Plain(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Kind, E> {
        Ok(Kind::Plain(Value::from(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Kind, E> {
        Ok(Kind::Plain(Value::from(value)))
    }

    fn visit_i128<E>(self, _: i128) -> Result<Kind, E> {
        Ok(Kind::Odd)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Kind, E> {
        Ok(Kind::Odd)
    }

    fn visit_f64<E>(self, value: f64) -> Result<Kind, E> {
        Ok(Number::from_f64(value).map_or(Kind::Odd, |number| Kind::Plain(Value::Number(number))))
    }

    fn visit_str<E>(self, value: &str) -> Result<Kind, E> {
        Ok(Kind::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Kind, A::Error> {
        let mut list = Vec::new();
        while let Some(node) = access.next_element()? {
            list.push(node);
        }
        Ok(Kind::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Kind, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = access.next_entry()? {
            map.push(entry);
        }
        Ok(Kind::Map(map))
    }
}

/// Why a text is not such a tree, and where.
#[derive(Debug)]
pub struct Fault {
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// Why.
    pub kind: FaultKind,
}

/// Why a text is not such a tree.
#[derive(Debug)]
pub enum FaultKind {
    /// A second document.
    SecondDocument,
    /// More values, aliases or nesting than the limits.
    Limits,
    /// Not YAML, in the parser's words.
    Syntax(String),
}

/// Reads the whole text.
pub fn read(text: &str) -> Result<Node, Fault> {
    serde_saphyr::from_str_with_options(text, options()).map_err(|e| fault(&e))
}

fn fault(error: &Error) -> Fault {
    let error = error.without_snippet();
    let location = error.location().unwrap_or(Location::UNKNOWN);
    let kind = match error {
        Error::MultipleDocuments { .. } => FaultKind::SecondDocument,
        Error::Budget { .. }
        | Error::AliasReplayCounterOverflow { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => FaultKind::Limits,
        other => {
            let text = other.to_string();
            let end = format!(" at line {}, column {}", location.line(), location.column());
            FaultKind::Syntax(printable(text.strip_suffix(&end).unwrap_or(&text)).into_owned())
        }
    };
    let (line, column) = narrow(location);
    Fault { line: line.max(1), column: column.max(1), kind }
}

/// Line and column of a node (for an alias: of its anchor).
pub fn place<T>(node: &Spanned<T>) -> (u32, u32) {
    narrow(node.defined)
}

/// A text of 4 MiB has fewer lines and columns than 2^32.
fn narrow(location: Location) -> (u32, u32) {
    let narrow = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    (narrow(location.line()), narrow(location.column()))
}

/// A scalar's text: quoted text as it is, numbers and `true` in the letters of `source`, the text
/// that the tree was read from.
pub fn letters<'a>(source: &'a str, node: &'a Node) -> Option<&'a str> {
    match &node.value {
        Kind::Text(text) => Some(text),
        Kind::Plain(_) | Kind::Odd => {
            let span = node.defined.span();
            let start = usize::try_from(span.byte_offset()?).ok()?;
            let end = start.checked_add(usize::try_from(span.byte_len()?).ok()?)?;
            source.get(start..end)
        }
        Kind::Empty | Kind::List(_) | Kind::Map(_) => None,
    }
}

/// Limits that a file written by a person never meets.
fn options() -> Options {
    let mut budget = Budget::default();
    budget.max_reader_input_bytes = Some(MAX_BYTES);
    budget.flow_nesting_limit = 32;
    budget.max_depth = 32;
    budget.max_documents = 2; // the second is an error of its own
    budget.max_events = 400_000;
    budget.max_nodes = 100_000;
    budget.max_aliases = 10_000;
    budget.max_anchors = 10_000;
    budget.max_recorded_anchor_events = 100_000;
    budget.max_recorded_anchor_bytes = 4 * MAX_BYTES;
    budget.max_total_scalar_bytes = 4 * MAX_BYTES;
    let mut options = Options::default();
    options.budget = Some(budget);
    options.alias_limits.max_total_replayed_events = 100_000;
    options.alias_limits.max_replay_stack_depth = 32;
    options.duplicate_keys = DuplicateKeyPolicy::PassThrough; // readers name both lines
    options.non_finite_float_policy = NonFiniteFloatPolicy::PassThrough;
    options.strict_booleans = true;
    options.with_snippet = false;
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_knows_its_place_and_its_letters() {
        let text = "a: 1\nb: [2e-4, \"3\"]\n";
        let root = read(text).unwrap();
        let Kind::Map(entries) = &root.value else { panic!("{root:?}") };
        let (key, list) = &entries[1];
        assert_eq!((key.value.as_str(), place(key)), ("b", (2, 1)));
        let Kind::List(items) = &list.value else { panic!("{list:?}") };
        assert_eq!(letters(text, &items[0]), Some("2e-4"));
        assert_eq!(letters(text, &items[1]), Some("3"));
        assert_eq!(place(&items[1]), (2, 11));
    }

    #[test]
    fn a_second_document_and_deep_nesting_are_faults_of_their_own() {
        assert!(matches!(read("a: 1\n---\nb: 2\n").unwrap_err().kind, FaultKind::SecondDocument));
        let deep = "- ".repeat(40) + "a";
        let fault = read(&deep).unwrap_err();
        assert!(matches!(fault.kind, FaultKind::Limits), "{fault:?}");
        let fault = read("a: [1\n").unwrap_err();
        assert!(matches!(fault.kind, FaultKind::Syntax(_)) && fault.line >= 1);
    }
}
