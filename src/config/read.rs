//! From a tree to keys with their meanings: sections flattened, argument lists taken apart.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::datasets;
use super::error::{ConfigError, Place};
use super::keys::{self, Alias, Key, keys};
use super::kind::Kind;
use super::peers;
use super::tree::{self, Entry, Node, Value};
use crate::base::hint::nearest;

/// What a key means.
#[derive(Debug, Clone, Copy)]
pub(super) enum Meaning {
    /// It sets a key of ours, perhaps by another name.
    Setting(&'static Key, Option<&'static Alias>),
    /// Nothing, and why.
    Ignored(&'static str),
    /// What is not implemented: the values that do no harm, and what to do.
    Refused(&'static [&'static str], &'static str),
}

/// A key with its value.
#[derive(Debug)]
pub(super) struct Given {
    /// As written, below its section.
    pub(super) written: String,
    pub(super) place: Place,
    pub(super) node: Node,
    pub(super) meaning: Meaning,
}

/// A configuration's keys, in its order.
pub(super) fn file(path: &Path, text: &str) -> Result<Vec<Given>, ConfigError> {
    let root = tree::parse(path, text)?;
    let mut reader = Reader { sections_matter: !tree::is_toml(path), ..Reader::default() };
    match root.value {
        Value::Empty => {}
        Value::Map(entries) => {
            for entry in datasets::flatten(entries)? {
                reader.entry("", entry)?;
            }
        }
        _ => {
            return Err(ConfigError::Value {
                found: root.found(),
                place: root.place,
                key: "the configuration".into(),
                expected: "keys with values".into(),
                hint: "write lines like `lora_rank: 8`".into(),
            });
        }
    }
    Ok(reader.given)
}

/// The keys of one override, `key.path=value`.
pub(super) fn set(text: &str) -> Result<Vec<Given>, ConfigError> {
    let place = Place::Set(Arc::from(text));
    let (path, value) = text
        .split_once('=')
        .filter(|(path, _)| !path.trim().is_empty())
        .ok_or_else(|| ConfigError::Override { text: text.into() })?;
    let mut path = path.trim();
    while let Some((first, rest)) = path.split_once('.') {
        if !first.ends_with("_config") {
            break;
        }
        path = rest;
    }
    let (section, key) = path.rsplit_once('.').unwrap_or(("", path));
    let node = tree::parse_override(&place, value)?;
    let mut reader = Reader { sections_matter: true, ..Reader::default() };
    reader.entry(section, Entry { key: key.to_owned(), place, node })?;
    Ok(reader.given)
}

#[derive(Default)]
struct Reader {
    /// Whether an unknown section is an error; sd-scripts' TOML may have any.
    sections_matter: bool,
    seen: BTreeMap<String, Place>,
    given: Vec<Given>,
}

impl Reader {
    fn entry(&mut self, section: &str, entry: Entry) -> Result<(), ConfigError> {
        let full = join(section, &entry.key);
        let meaning = meaning(section, &entry.key);
        match entry.node.value {
            Value::Empty if keys::is_section(&full) && meaning.is_none() => {
                self.once(&full, &entry.place)
            }
            Value::Map(entries) if has_dotted(&full) => {
                self.once(&full, &entry.place)?;
                self.below(&full, entries)
            }
            Value::Map(entries)
                if !takes_map(meaning)
                    && (entry.key.ends_with("_config") || !self.sections_matter) =>
            {
                if self.sections_matter {
                    self.once(&full, &entry.place)?;
                }
                self.below("", entries)
            }
            value if ["network_args", "optimizer_args"].contains(&entry.key.as_str()) => {
                self.once(&full, &entry.place)?;
                let node = Node { value, place: entry.node.place };
                self.below(&entry.key, arguments(&entry.key, &node)?)
            }
            value => {
                let is_map = matches!(value, Value::Map(_));
                let node = Node { value, place: entry.node.place };
                match meaning {
                    Some(meaning) => self.push(full, entry.place, node, meaning),
                    None => Err(unknown(section, &entry.key, entry.place, is_map)),
                }
            }
        }
    }

    fn below(&mut self, section: &str, entries: Vec<Entry>) -> Result<(), ConfigError> {
        entries.into_iter().try_for_each(|entry| self.entry(section, entry))
    }

    fn push(
        &mut self,
        written: String,
        place: Place,
        node: Node,
        meaning: Meaning,
    ) -> Result<(), ConfigError> {
        self.once(&written, &place)?;
        self.given.push(Given { written, place, node, meaning });
        Ok(())
    }

    fn once(&mut self, full: &str, place: &Place) -> Result<(), ConfigError> {
        match self.seen.insert(full.to_owned(), place.clone()) {
            None => Ok(()),
            Some(first) => {
                Err(ConfigError::RepeatedKey { place: place.clone(), key: full.into(), first })
            }
        }
    }
}

/// Whether a key's value may be a mapping. A setting's may not where it is not one of patterns, so that
/// sections of other trainers may be called as a key is (`[dataset]`).
fn takes_map(meaning: Option<Meaning>) -> bool {
    match meaning {
        Some(Meaning::Setting(key, _)) => matches!(key.kind, Kind::Ranks | Kind::Alphas),
        other => other.is_some(),
    }
}

fn join(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}

/// Whether some name lies below `path`: a section of ours, or a list of arguments.
fn has_dotted(path: &str) -> bool {
    keys::is_section(path) || foreign_names().any(|name| keys::is_below(path, name))
}

fn foreign_names() -> impl Iterator<Item = &'static str> {
    let aliases = keys().flat_map(|key| key.aliases.iter().map(|alias| alias.name));
    let ignored = peers::IGNORED.iter().map(|(name, _)| *name);
    aliases.chain(ignored).chain(peers::REFUSED.iter().map(|(name, ..)| *name))
}

/// What `key` means below `section`. Peers' names may stand in any section of ours.
pub(super) fn meaning(section: &str, key: &str) -> Option<Meaning> {
    let full = join(section, key);
    let by_name = |name: &str| {
        keys::by_alias(name)
            .map(|(key, alias)| Meaning::Setting(key, Some(alias)))
            .or_else(|| peers::ignored(name).map(Meaning::Ignored))
            .or_else(|| peers::refused(name).map(|(same, hint)| Meaning::Refused(same, hint)))
    };
    keys::key(&full)
        .map(|key| Meaning::Setting(key, None))
        .or_else(|| by_name(&full))
        .or_else(|| keys::is_section(section).then(|| by_name(key)).flatten())
}

fn unknown(section: &str, key: &str, place: Place, is_map: bool) -> ConfigError {
    let hint = if ["job", "process"].contains(&key) {
        "ai-toolkit's configurations are not read; write `base`, `data` and `adapter`".to_owned()
    } else if is_map {
        format!("sections are {}, and any name that ends with `_config`", sections())
    } else if let Some(inner) = keys().find(|inner| keys::is_below(&join(section, key), inner.name))
    {
        format!("`{key}` is a section: write for example `{}`", inner.name)
    } else if let Some(other) = keys().find(|other| other.leaf() == key) {
        let home = other.name.trim_end_matches(key).trim_end_matches('.');
        format!("`{key}` belongs below `{home}`")
    } else {
        let below = keys().filter(|k| keys::is_below(section, k.name)).map(Key::leaf);
        let ours = keys().map(|key| if section.is_empty() { key.name } else { key.leaf() });
        let arguments = foreign_names()
            .filter(|name| keys::is_below(section, name))
            .filter_map(|name| name.split_once('.').map(|(_, leaf)| leaf));
        let near = nearest(key, below.chain(arguments))
            .or_else(|| nearest(key, foreign_names().chain(ours)));
        match near {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("sections are {}", sections()),
        }
    };
    ConfigError::UnknownKey { place, key: join(section, key).into(), hint: hint.into() }
}

fn sections() -> String {
    let mut names: Vec<&str> =
        keys().filter(|key| key.section() != key.name).map(Key::section).collect();
    names.dedup();
    format!("`{}`", names.join("`, `"))
}

/// sd-scripts' `["conv_dim=4", "conv_alpha=1"]`, or the same in one text.
fn arguments(name: &str, node: &Node) -> Result<Vec<Entry>, ConfigError> {
    let wrong = |node: &Node| ConfigError::Value {
        place: node.place.clone(),
        key: name.into(),
        found: node.found(),
        expected: "a list of `key=value`".into(),
        hint: format!("for example `{name} = [\"{}\"]`", example(name)).into(),
    };
    let mut list = Vec::new();
    let mut add = |node: &Node, text: &str| {
        let (key, value) = text.split_once('=').ok_or_else(|| wrong(node))?;
        list.extend(argument(key.trim(), value.trim(), &node.place));
        Ok(())
    };
    match &node.value {
        Value::Empty => {}
        Value::Scalar(text) => {
            text.split_whitespace().try_for_each(|part| add(node, part))?;
        }
        Value::List(items) => {
            for item in items {
                match &item.value {
                    Value::Scalar(text) => add(item, text)?,
                    _ => return Err(wrong(item)),
                }
            }
        }
        Value::Map(_) => return Err(wrong(node)),
    }
    Ok(list)
}

fn example(name: &str) -> &'static str {
    if name == "network_args" { "conv_dim=4" } else { "weight_decay=0.01" }
}

fn argument(key: &str, value: &str, place: &Place) -> Vec<Entry> {
    let entry = |key: &str, value: &str| {
        let value = value.trim();
        let value = if value.is_empty() { Value::Empty } else { Value::Scalar(value.to_owned()) };
        let node = Node { value, place: place.clone() };
        Entry { key: key.to_owned(), place: place.clone(), node }
    };
    let pair = value.trim_matches(['(', ')', '[', ']']).split_once(',');
    match (key, pair) {
        ("betas", Some((first, second))) => vec![entry("beta1", first), entry("beta2", second)],
        _ => vec![entry(key, value)],
    }
}
