//! From YAML to a suite: the keys at its top.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use serde_json::Value;

use super::MAX_SUITE;
use super::error::SuiteError;
use super::model::Suite;
use super::prompts;
use super::seeds::{SeedError, parse_seeds};
use super::settings::{AXES, SETTINGS, Settings, axis_value, is_text};
use super::strengths::{StrengthError, Strengths};
use super::yaml::{Kind, Node, Source};
use crate::base::digest::sha256;

const KEYS: [&str; 7] =
    ["name", "description", "defaults", "seeds", "strengths", "prompts", "axes"];

impl Suite {
    /// Reads the file at `path`.
    pub fn open(path: &Path) -> Result<Self, SuiteError> {
        let fail = |source| SuiteError::Read { path: path.to_owned(), source };
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(fail)?;
        file.take(MAX_SUITE as u64 + 1).read_to_end(&mut bytes).map_err(fail)?;
        if bytes.len() > MAX_SUITE {
            return Err(SuiteError::TooLarge { path: path.to_owned() });
        }
        match std::str::from_utf8(&bytes) {
            Ok(text) => Self::parse(path, text),
            Err(_) => Err(SuiteError::NotText { path: path.to_owned() }),
        }
    }

    /// Reads a suite's text; `path` names it in messages and, by its stem, a suite without a name.
    pub fn parse(path: &Path, text: &str) -> Result<Self, SuiteError> {
        let source = Source { path, text };
        let root = source.read()?;
        let fields = source.fields(&root, "the suite", &KEYS, |key| {
            SETTINGS.contains(&key).then(|| format!("`{key}` belongs below `defaults`"))
        })?;
        let value = |key: &str| fields.get(key).map(|(_, node)| *node);
        let text_of = |key: &'static str| {
            value(key).map(|node| source.text(node, &format!("`{key}`"))).transpose()
        };
        let mut suite = Self {
            path: path.to_owned(),
            sha256: sha256(text.as_bytes()),
            name: match text_of("name")? {
                Some(name) => name,
                None => path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            },
            description: text_of("description")?,
            defaults: match value("defaults") {
                Some(node) => source.settings(node, "`defaults`")?,
                None => Settings::default(),
            },
            seeds: value("seeds").map_or(Ok(vec![1]), |node| source.seeds(node))?,
            strengths: value("strengths")
                .map_or_else(|| Ok(Strengths::default()), |node| source.strengths(node))?,
            prompts: Vec::new(),
            axes: value("axes").map_or_else(|| Ok(BTreeMap::new()), |node| source.axes(node))?,
            warnings: Vec::new(),
        };
        let prompts = value("prompts").unwrap_or(&root);
        prompts::read(source, prompts, value("prompts").is_some(), &mut suite)?;
        suite.cells()?;
        Ok(suite)
    }
}

impl<'a> Source<'a> {
    /// A node's text; numbers and `true` are taken as they were written.
    pub(super) fn text(self, node: &'a Node, what: &str) -> Result<String, SuiteError> {
        self.letters(node).map(str::to_owned).ok_or_else(|| {
            self.wrong(node, what, "text", "put text with special characters in quotes")
        })
    }

    /// A list's items.
    pub(super) fn list(
        self,
        node: &'a Node,
        what: &str,
        hint: &str,
    ) -> Result<&'a [Node], SuiteError> {
        match &node.value {
            Kind::List(list) => Ok(list),
            _ => Err(self.wrong(node, what, "a list", hint)),
        }
    }

    /// A mapping of settings.
    pub(super) fn settings(self, node: &'a Node, what: &str) -> Result<Settings, SuiteError> {
        let mut settings = Settings::default();
        for (key, (_, value)) in self.fields(node, what, &SETTINGS, |_| None)? {
            let json = self.json(value, is_text(key));
            settings.set(key, &json).map_err(|e| SuiteError::Setting {
                place: self.place(value),
                source: Box::new(e),
            })?;
        }
        Ok(settings)
    }

    /// A node as JSON; `text` takes plain scalars by their letters.
    fn json(self, node: &Node, text: bool) -> Value {
        match &node.value {
            Kind::Empty => Value::Null,
            Kind::Text(text) => Value::from(text.as_str()),
            Kind::Plain(value) if !text => value.clone(),
            Kind::Plain(_) | Kind::Odd => Value::from(self.letters(node).unwrap_or_default()),
            Kind::List(list) => list.iter().map(|item| self.json(item, text)).collect(),
            Kind::Map(_) => Value::Object(serde_json::Map::new()),
        }
    }

    /// Strengths: a list of numbers, or the text that `--strengths` takes.
    fn strengths(self, node: &'a Node) -> Result<Strengths, SuiteError> {
        let fail = |node: &Node| {
            let place = self.place(node);
            move |source| SuiteError::Strength { place, source }
        };
        let Kind::List(list) = &node.value else {
            return match (self.letters(node), &node.value) {
                (Some(text), _) => text.parse().map_err(fail(node)),
                (None, Kind::Empty) => Err(fail(node)(StrengthError::Empty)),
                (None, _) => {
                    let hint = "write `[0, 0.4, 0.8]`, or `0:1.5:0.25` for start, end and step";
                    Err(self.wrong(node, "`strengths`", "a list of numbers, or a range", hint))
                }
            };
        };
        let mut values = Vec::with_capacity(list.len());
        for item in list {
            let value = match &item.value {
                Kind::Plain(value) => value.as_f64(),
                _ => None,
            };
            let value = value.ok_or_else(|| {
                let letters = self.letters(item).map(str::to_owned);
                let found = letters.unwrap_or_else(|| self.found(item));
                fail(item)(match item.value {
                    Kind::Odd => StrengthError::Range(found),
                    _ => StrengthError::Number(found),
                })
            })?;
            Strengths::new(&[value]).map_err(fail(item))?;
            values.push(value);
        }
        Strengths::new(&values).map_err(fail(node))
    }

    /// Seeds: a list of integers, or the text that `--seeds` takes.
    fn seeds(self, node: &'a Node) -> Result<Vec<u64>, SuiteError> {
        let fail = |node: &Node, source| SuiteError::Seed { place: self.place(node), source };
        let Kind::List(list) = &node.value else {
            return match (self.letters(node), &node.value) {
                (Some(text), _) => parse_seeds(text).map_err(|e| fail(node, e)),
                (None, Kind::Empty) => Err(fail(node, SeedError::Empty)),
                (None, _) => {
                    Err(self.wrong(node, "`seeds`", "a list of whole numbers", "write `[1, 2, 3]`"))
                }
            };
        };
        let mut seeds = Vec::with_capacity(list.len());
        let mut seen = std::collections::BTreeSet::new();
        for item in list {
            let seed = match &item.value {
                Kind::Plain(value) => value.as_u64(),
                _ => None,
            };
            let Some(seed) = seed else {
                let letters = self.letters(item).map(str::to_owned);
                let found = letters.unwrap_or_else(|| self.found(item));
                return Err(fail(item, SeedError::Number(found)));
            };
            if !seen.insert(seed) {
                return Err(fail(item, SeedError::Repeated(seed)));
            }
            seeds.push(seed);
        }
        if seeds.is_empty() { Err(fail(node, SeedError::Empty)) } else { Ok(seeds) }
    }

    /// The further axes.
    fn axes(self, node: &'a Node) -> Result<BTreeMap<String, Vec<Value>>, SuiteError> {
        let fields = self.fields(node, "`axes`", &AXES, |key| match key {
            "strengths" | "strength" => {
                Some("write `strengths:` at the top of the suite".to_owned())
            }
            "seeds" | "seed" => Some("write `seeds:` at the top of the suite".to_owned()),
            _ => SETTINGS.contains(&key).then(|| {
                format!("`{key}` cannot be an axis; set it below `defaults`, or in a prompt's `settings`")
            }),
        })?;
        let mut axes = BTreeMap::new();
        for (axis, (_, node)) in fields {
            let what = format!("axis `{axis}`");
            let hint = format!("write `{axis}: [first, second]`");
            let list = self.list(node, &what, &hint)?;
            if list.is_empty() {
                return Err(SuiteError::Value {
                    place: self.place(node),
                    what,
                    found: "an empty list".to_owned(),
                    expected: "a list of at least one value",
                    hint: hint.into(),
                });
            }
            axes.insert(axis.to_owned(), self.axis(axis, list)?);
        }
        Ok(axes)
    }

    fn axis(self, axis: &'static str, list: &'a [Node]) -> Result<Vec<Value>, SuiteError> {
        let mut seen = std::collections::BTreeSet::new();
        let mut values = Vec::with_capacity(list.len());
        for item in list {
            let place = self.place(item);
            let value = match axis_value(axis, &self.json(item, is_text(axis))) {
                Ok(value) => value,
                Err(e) => return Err(SuiteError::Setting { place, source: Box::new(e) }),
            };
            let json = value.to_string();
            if seen.contains(&json) {
                let value = format!("`{}`", crate::base::terminal::printable(&json));
                return Err(SuiteError::RepeatedValue { place, axis, value });
            }
            seen.insert(json);
            values.push(value);
        }
        Ok(values)
    }
}
