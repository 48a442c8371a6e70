//! The YAML of a policy, value by value: what is wrong names its line.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeBounds;
use std::path::Path;

use super::error::CheckError;
use crate::base::hint::nearest;
use crate::base::terminal::printable;
use crate::base::yaml::{self, Kind, Node};

/// Values of a mapping by key.
pub(super) type Fields<'a> = BTreeMap<&'static str, &'a Node>;

/// A policy's text, for places and letters.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub path: &'a Path,
    pub text: &'a str,
}

impl<'a> Source<'a> {
    /// A mapping's entries by key, all of them known and none twice.
    pub fn fields(
        self,
        node: &'a Node,
        what: &str,
        known: &[&'static str],
    ) -> Result<Fields<'a>, CheckError> {
        let Kind::Map(entries) = &node.value else {
            return Err(self.wrong(
                node,
                what,
                "a mapping",
                &format!("known keys: {}", known.join(", ")),
            ));
        };
        let mut fields = Fields::new();
        for (key, value) in entries {
            let (line, name) = (yaml::place(key).0, key.value.as_str());
            let Some(known_name) = known.iter().find(|known| **known == name) else {
                let hint = nearest(name, known.iter().copied()).map_or_else(
                    || format!("known keys: {}", known.join(", ")),
                    |near| format!("did you mean `{near}`?"),
                );
                return Err(self.error(
                    line,
                    format!("unknown key `{}` of {what}", printable(name)),
                    hint,
                ));
            };
            if fields.insert(known_name, value).is_some() {
                return Err(self.error(
                    line,
                    format!("key `{known_name}` occurs twice"),
                    "remove one of the two",
                ));
            }
        }
        Ok(fields)
    }

    pub fn list(self, node: &'a Node, what: &str) -> Result<&'a [Node], CheckError> {
        match &node.value {
            Kind::List(list) => Ok(list),
            Kind::Empty => Ok(&[]),
            _ => Err(self.wrong(
                node,
                what,
                "a list",
                "write one rule after another, each starting with `- id: …`",
            )),
        }
    }

    pub fn chosen<T: Copy>(
        self,
        fields: &Fields<'a>,
        key: &str,
        known: &[(&str, T)],
        usual: T,
    ) -> Result<T, CheckError> {
        fields.get(key).map_or(Ok(usual), |node| self.choice(node, &format!("`{key}`"), known))
    }

    pub fn choice<T: Copy>(
        self,
        node: &'a Node,
        what: &str,
        known: &[(&str, T)],
    ) -> Result<T, CheckError> {
        let found = yaml::letters(self.text, node).unwrap_or_default();
        known.iter().find(|(name, _)| *name == found).map(|(_, value)| *value).ok_or_else(|| {
            let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
            let near = nearest(found, names.iter().copied());
            let hint = near.map_or_else(
                || "write one of these".to_owned(),
                |near| format!("did you mean `{near}`?"),
            );
            self.wrong(node, what, &format!("one of {}", names.join(", ")), &hint)
        })
    }

    pub fn text(self, node: &'a Node, key: &str) -> Result<String, CheckError> {
        let text = yaml::letters(self.text, node).filter(|text| !text.trim().is_empty());
        text.map(str::to_owned).ok_or_else(|| {
            self.wrong(
                node,
                &format!("`{key}`"),
                "text",
                "put text with special characters in quotes",
            )
        })
    }

    pub fn number(
        self,
        node: &Node,
        what: &str,
        range: impl RangeBounds<f64>,
        expected: &str,
    ) -> Result<f64, CheckError> {
        let value = if let Kind::Plain(value) = &node.value { value.as_f64() } else { None };
        value.filter(|value| range.contains(value)).ok_or_else(|| {
            self.wrong(node, what, expected, "write a plain number, without quotes or a unit")
        })
    }

    pub fn count(self, node: &Node, key: &str) -> Result<usize, CheckError> {
        let value = if let Kind::Plain(value) = &node.value { value.as_u64() } else { None };
        value.and_then(|value| usize::try_from(value).ok()).ok_or_else(|| {
            self.wrong(
                node,
                &format!("`{key}`"),
                "a whole number from 0",
                "write a plain number, such as 8",
            )
        })
    }

    pub fn wrong(self, node: &Node, what: &str, expected: &str, hint: &str) -> CheckError {
        let found = match &node.value {
            Kind::Empty => "empty".to_owned(),
            Kind::List(_) => "a list".to_owned(),
            Kind::Map(_) => "a mapping".to_owned(),
            Kind::Text(text) => format!("`{}`", printable(text)),
            Kind::Plain(value) => format!("`{value}`"),
            Kind::Odd => "no finite number".to_owned(),
        };
        self.error(line_of(node), format!("{what} is {found}: expected {expected}"), hint)
    }

    pub fn error(self, line: u32, problem: String, hint: impl fmt::Display) -> CheckError {
        CheckError::Policy {
            path: self.path.to_owned(),
            line: line.max(1),
            problem,
            hint: hint.to_string(),
        }
    }
}

/// The line that a value starts in.
pub(super) fn line_of(node: &Node) -> u32 {
    yaml::place(node).0
}
