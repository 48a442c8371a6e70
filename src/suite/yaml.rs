//! YAML as a tree of values with their places, within limits.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Budget, Error, Location, Options, Spanned};

use super::MAX_SUITE;
use super::error::{Place, SuiteError};
use crate::base::hint::nearest;
use crate::base::terminal::printable;

/// A value and where it is.
pub(super) type Node = Spanned<Kind>;

/// A value.
#[derive(Debug)]
pub(super) enum Kind {
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

/// A file's text, for values as written and for places in errors.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
}

impl<'a> Source<'a> {
    /// Reads the whole text.
    pub(super) fn read(self) -> Result<Node, SuiteError> {
        if self.text.len() > MAX_SUITE {
            return Err(SuiteError::TooLarge { path: self.path.to_owned() });
        }
        serde_saphyr::from_str_with_options(self.text, options()).map_err(|e| self.syntax(&e))
    }

    /// Where a node stands (for an alias: where its anchor does).
    pub(super) fn place<T>(self, node: &Spanned<T>) -> Place {
        self.at(node.defined.line(), node.defined.column())
    }

    fn at(self, line: u64, column: u64) -> Place {
        // A file of 4 MiB has fewer lines and columns than 2^32.
        let [line, column] = [line, column].map(|n| u32::try_from(n).unwrap_or(u32::MAX));
        Place { path: self.path.to_owned(), line, column }
    }

    fn syntax(self, error: &Error) -> SuiteError {
        let error = error.without_snippet();
        let location = error.location().unwrap_or(Location::UNKNOWN);
        let (line, column) = (location.line().max(1), location.column().max(1));
        let place = self.at(line, column);
        let (problem, hint) = match error {
            Error::MultipleDocuments { .. } => (
                "a second document starts here".to_owned(),
                "a suite is one document; remove what follows `---`, or make it a file of its own",
            ),
            Error::Budget { .. }
            | Error::AliasReplayCounterOverflow { .. }
            | Error::AliasReplayLimitExceeded { .. }
            | Error::AliasExpansionLimitExceeded { .. }
            | Error::AliasReplayStackDepthExceeded { .. } => (
                "more values, aliases or nesting than a suite may have".to_owned(),
                "at most 100000 values, 32 levels deep; split the suite",
            ),
            other => {
                let text = other.to_string();
                let end = format!(" at line {}, column {}", location.line(), location.column());
                let text = text.strip_suffix(&end).unwrap_or(&text);
                (
                    printable(text).into_owned(),
                    "check the indentation, and put text with special characters in quotes",
                )
            }
        };
        SuiteError::Syntax { place, problem, hint }
    }

    /// A scalar's text: quoted text as it is, numbers and `true` in the letters that were written.
    pub(super) fn letters(self, node: &'a Node) -> Option<&'a str> {
        match &node.value {
            Kind::Text(text) => Some(text),
            Kind::Plain(_) | Kind::Odd => {
                let span = node.defined.span();
                let start = usize::try_from(span.byte_offset()?).ok()?;
                let end = start.checked_add(usize::try_from(span.byte_len()?).ok()?)?;
                self.text.get(start..end)
            }
            Kind::Empty | Kind::List(_) | Kind::Map(_) => None,
        }
    }

    /// A node in words, for an error: `` `3` ``, `empty`, `a list`.
    pub(super) fn found(self, node: &Node) -> String {
        match &node.value {
            Kind::Empty => "empty".to_owned(),
            Kind::List(_) => "a list".to_owned(),
            Kind::Map(_) => "a mapping".to_owned(),
            Kind::Plain(value) => {
                format!("`{}`", self.letters(node).map_or(value.to_string(), str::to_owned))
            }
            Kind::Text(_) | Kind::Odd => {
                format!("`{}`", printable(self.letters(node).unwrap_or("?")))
            }
        }
    }

    /// A value of the wrong kind.
    pub(super) fn wrong(
        self,
        node: &Node,
        what: &str,
        expected: &'static str,
        hint: impl Into<Box<str>>,
    ) -> SuiteError {
        let (place, found) = (self.place(node), self.found(node));
        SuiteError::Value { place, what: what.to_owned(), found, expected, hint: hint.into() }
    }

    /// A mapping's entries by key, all of them known. An empty value is an empty mapping.
    pub(super) fn fields(
        self,
        node: &'a Node,
        what: &str,
        known: &[&'static str],
        elsewhere: impl Fn(&str) -> Option<String>,
    ) -> Result<Fields<'a>, SuiteError> {
        let entries = match &node.value {
            Kind::Map(entries) => entries.as_slice(),
            Kind::Empty => &[],
            _ => {
                let hint = format!("known keys: {}", known.join(", "));
                return Err(self.wrong(node, what, "a mapping", hint));
            }
        };
        let mut fields: Fields<'a> = BTreeMap::new();
        for (key, value) in entries {
            let place = self.place(key);
            let name = key.value.as_str();
            let Some(known_name) = known.iter().find(|known| **known == name) else {
                let hint =
                    elsewhere(name).unwrap_or_else(|| match nearest(name, known.iter().copied()) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => format!("known keys: {}", known.join(", ")),
                    });
                return Err(SuiteError::UnknownKey { place, key: name.to_owned(), hint });
            };
            if let Some((first, _)) = fields.get(known_name) {
                let first = first.line;
                return Err(SuiteError::RepeatedKey { place, key: name.to_owned(), first });
            }
            fields.insert(known_name, (place, value));
        }
        Ok(fields)
    }
}

/// A mapping's values by key, with the places of the keys.
pub(super) type Fields<'a> = BTreeMap<&'static str, (Place, &'a Node)>;

/// Limits that a suite written by a person never meets.
fn options() -> Options {
    let mut budget = Budget::default();
    budget.max_reader_input_bytes = Some(MAX_SUITE);
    budget.flow_nesting_limit = 32;
    budget.max_depth = 32;
    budget.max_documents = 2; // the second is an error of its own
    budget.max_events = 400_000;
    budget.max_nodes = 100_000;
    budget.max_aliases = 10_000;
    budget.max_anchors = 10_000;
    budget.max_recorded_anchor_events = 100_000;
    budget.max_recorded_anchor_bytes = 4 * MAX_SUITE;
    budget.max_total_scalar_bytes = 4 * MAX_SUITE;
    let mut options = Options::default();
    options.budget = Some(budget);
    options.alias_limits.max_total_replayed_events = 100_000;
    options.alias_limits.max_replay_stack_depth = 32;
    options.duplicate_keys = DuplicateKeyPolicy::PassThrough; // `fields` names both lines
    options.non_finite_float_policy = NonFiniteFloatPolicy::PassThrough;
    options.strict_booleans = true;
    options.with_snippet = false;
    options
}
