//! A configuration with every value decided, and where each is from.

use std::path::Path;

use serde_json::{Map, Value as Json};

use super::choices::Task;
use super::error::{ConfigError, Place};
use super::keys::{key, keys};
use super::settings::Settings;
use super::values::{Origin, Values};
use super::{check, defaults, read, tree};
use crate::base::terminal::printable;

/// A key with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key's name.
    pub key: &'static str,
    /// The first part of its name.
    pub section: &'static str,
    /// The value as YAML; `null` for none.
    pub value: String,
    /// Where it is from.
    pub origin: Origin,
    /// What the key is.
    pub meaning: &'static str,
}

/// A configuration with every value decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// What is trained.
    pub task: Task,
    /// The values.
    pub settings: Settings,
    /// The values as text, in the order of settings.
    pub entries: Vec<Entry>,
    /// What the user should know: keys that are ignored, defaults that differ from a peer's.
    pub notes: Vec<String>,
}

/// Reads the configuration at `path`: YAML, JSON, or TOML where the name ends with `.toml`.
///
/// A file that `dataset_config` names is read as well. `overrides` are `key=value`, the key by any of
/// its names, the value as YAML. `task_of` says what kind of model a base is; where it cannot, the keys
/// are asked.
pub fn load(
    path: &Path,
    overrides: &[String],
    task_of: &dyn Fn(&str) -> Option<Task>,
) -> Result<Resolved, ConfigError> {
    parse(path, &tree::read(path)?, overrides, task_of)
}

/// Reads a configuration's text; `path` names it in messages and, by its ending, says what it is.
pub fn parse(
    path: &Path,
    text: &str,
    overrides: &[String],
    task_of: &dyn Fn(&str) -> Option<Task>,
) -> Result<Resolved, ConfigError> {
    let mut values = Values::default();
    values.add_file(read::file(path, text)?)?;
    for text in overrides {
        values.add_override(read::set(text)?)?;
    }
    if let Some(key) = key("adapter.text_encoder") {
        values.settle_text_encoder(key)?;
    }
    let task = defaults::task(path, &mut values, task_of)?;
    if let (Task::Text, Some(train)) = (task, key("data.train")) {
        values.settle_metadata(train);
    }
    defaults::fill(path, &mut values, task)?;
    defaults::idle(path, &mut values, task);
    check::check(path, &mut values, task)?;
    let settings = settings(path, &values)?;
    let entry = |key: &'static super::Key| {
        let assigned = values.get(key.name)?;
        Some(Entry {
            key: key.name,
            section: key.section(),
            value: key.kind.write(&assigned.json),
            origin: assigned.origin.clone(),
            meaning: key.meaning,
        })
    };
    let entries = keys().filter_map(entry).collect();
    Ok(Resolved { task, settings, entries, notes: values.notes })
}

/// The values as fields.
fn settings(path: &Path, values: &Values) -> Result<Settings, ConfigError> {
    let mut root = Map::new();
    for key in keys() {
        let Some(assigned) = values.get(key.name) else { continue };
        put(&mut root, key.name, assigned.json.clone());
    }
    // Every kind keeps to its field's type, unless a machine's words are shorter than 64 bits.
    serde_json::from_value(Json::Object(root)).map_err(|e| ConfigError::Together {
        place: Place::File { path: path.into(), line: 1, column: 1 },
        problem: printable(&e.to_string()).into(),
        hint: "take smaller numbers".into(),
    })
}

fn put(fields: &mut Map<String, Json>, name: &str, value: Json) {
    let Some((section, rest)) = name.split_once('.') else {
        fields.insert(name.to_owned(), value);
        return;
    };
    let inner = fields.entry(section).or_insert_with(|| Json::Object(Map::new()));
    if let Json::Object(inner) = inner {
        put(inner, rest, value);
    }
}

impl Resolved {
    /// A table of every key, its value and where that is from.
    pub fn explain(&self) -> String {
        const WIDEST: usize = 40;
        let shown = |entry: &Entry| match entry.value.as_str() {
            "null" => "none".to_owned(),
            value => printable(value).into_owned(),
        };
        let width = |column: &dyn Fn(&Entry) -> usize| {
            self.entries.iter().map(column).max().unwrap_or(0).min(WIDEST)
        };
        let keys = width(&|entry| entry.key.len());
        let values = width(&|entry| shown(entry).chars().count());
        let row = |entry: &Entry| {
            let value = shown(entry);
            format!("{:keys$}  {value:values$}  {}\n", entry.key, entry.origin)
        };
        self.entries.iter().map(row).collect()
    }

    /// The configuration with every value written out; reading it gives equal settings.
    pub fn to_yaml(&self) -> String {
        let mut lines = Vec::new();
        let mut open: Vec<&str> = Vec::new();
        for entry in &self.entries {
            let mut parts: Vec<&str> = entry.key.split('.').collect();
            let leaf = parts.pop().unwrap_or(entry.key);
            let common = open.iter().zip(&parts).take_while(|(a, b)| a == b).count();
            for (depth, section) in parts.iter().enumerate().skip(common) {
                lines.push(format!("{}{section}:\n", "  ".repeat(depth)));
            }
            lines.push(format!("{}{leaf}: {}\n", "  ".repeat(parts.len()), entry.value));
            open = parts;
        }
        lines.concat()
    }
}
