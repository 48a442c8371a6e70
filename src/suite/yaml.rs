//! A suite's YAML: nodes, their places and words for errors.

use std::collections::BTreeMap;
use std::path::Path;

use serde_saphyr::Spanned;

use super::MAX_SUITE;
use super::error::{Place, SuiteError};
use crate::base::hint::nearest;
use crate::base::terminal::printable;
use crate::base::yaml::{self, Fault, FaultKind};
pub(super) use crate::base::yaml::{Kind, Node};

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
        yaml::read(self.text).map_err(|fault| self.syntax(fault))
    }

    /// Where a node stands (for an alias: where its anchor does).
    pub(super) fn place<T>(self, node: &Spanned<T>) -> Place {
        let (line, column) = yaml::place(node);
        Place { path: self.path.to_owned(), line, column }
    }

    fn syntax(self, fault: Fault) -> SuiteError {
        let place = Place { path: self.path.to_owned(), line: fault.line, column: fault.column };
        let (problem, hint) = match fault.kind {
            FaultKind::SecondDocument => (
                "a second document starts here".to_owned(),
                "a suite is one document; remove what follows `---`, or make it a file of its own",
            ),
            FaultKind::Limits => (
                "more values, aliases or nesting than a suite may have".to_owned(),
                "at most 100000 values, 32 levels deep; split the suite",
            ),
            FaultKind::Syntax(problem) => {
                (problem, "check the indentation, and put text with special characters in quotes")
            }
        };
        SuiteError::Syntax { place, problem, hint }
    }

    /// A scalar's text: quoted text as it is, numbers and `true` in the letters that were written.
    pub(super) fn letters(self, node: &'a Node) -> Option<&'a str> {
        yaml::letters(self.text, node)
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
