//! `datasets`: sd-scripts' lists of datasets and subsets, axolotl's list of files.
//!
//! One dataset can be held, with one subset of pictures and one of regularization pictures.

use std::path::Path;

use super::error::ConfigError;
use super::keys;
use super::peers;
use super::tree::{self, Entry, Node, Value};

/// The entries of a configuration with `datasets` (beside it `general`) and the file that
/// `dataset_config` names written out as plain keys.
pub(super) fn flatten(entries: Vec<Entry>) -> Result<Vec<Entry>, ConfigError> {
    let entries = write_out(entries)?;
    let mut flat = Vec::with_capacity(entries.len());
    for entry in entries {
        flat_entry(entry, &mut flat)?;
    }
    Ok(flat)
}

fn flat_entry(entry: Entry, flat: &mut Vec<Entry>) -> Result<(), ConfigError> {
    match (entry.key.as_str(), entry.node.value) {
        ("dataset_config", Value::Scalar(file)) => {
            flat.extend(file_entries(Path::new(&file))?);
        }
        // lora-scripts writes it below `[dataset_arguments]`.
        (_, Value::Map(inner)) if inner.iter().any(|inner| inner.key == "dataset_config") => {
            for inner in inner {
                flat_entry(inner, flat)?;
            }
        }
        (_, Value::Empty) if entry.key == "dataset_config" => {}
        (_, value) => {
            let node = Node { value, place: entry.node.place };
            flat.push(Entry { key: entry.key, place: entry.place, node });
        }
    }
    Ok(())
}

fn file_entries(path: &Path) -> Result<Vec<Entry>, ConfigError> {
    let root = tree::parse(path, &tree::read(path)?)?;
    let Value::Map(entries) = root.value else { return Ok(Vec::new()) };
    if let Some(other) = entries.iter().find(|e| !["general", "datasets"].contains(&&*e.key)) {
        return Err(ConfigError::UnknownKey {
            place: other.place.clone(),
            key: other.key.as_str().into(),
            hint: "a dataset configuration has `general` and `datasets`".into(),
        });
    }
    write_out(entries)
}

/// `general` and `datasets` among `entries` as plain keys; a lower level wins.
fn write_out(mut entries: Vec<Entry>) -> Result<Vec<Entry>, ConfigError> {
    let is_datasets = |e: &Entry| e.key == "datasets" && matches!(e.node.value, Value::List(_));
    let Some(at) = entries.iter().position(is_datasets) else { return Ok(entries) };
    let datasets = entries.remove(at);
    let general = match entries.iter().position(|e| e.key == "general") {
        Some(at) => map(entries.remove(at).node)?,
        None => Vec::new(),
    };
    let mut plain = general;
    let mut subsets = None;
    for mut entry in map(only(datasets.node, "one dataset")?)? {
        if entry.key == "subsets" {
            subsets = Some(entry.node);
            continue;
        }
        let dotted = format!("datasets.{}", entry.key);
        if keys::by_alias(&dotted).is_some()
            || peers::ignored(&dotted).is_some()
            || peers::refused(&dotted).is_some()
        {
            entry.key = dotted;
        }
        replace(&mut plain, entry);
    }
    if let Some(subsets) = subsets {
        for entry in subset_entries(subsets)? {
            replace(&mut plain, entry);
        }
    }
    entries.extend(plain);
    Ok(entries)
}

fn replace(entries: &mut Vec<Entry>, entry: Entry) {
    entries.retain(|other| other.key != entry.key);
    entries.push(entry);
}

/// The one subset's entries, and the folder of regularization pictures.
fn subset_entries(node: Node) -> Result<Vec<Entry>, ConfigError> {
    let place = node.place.clone();
    let Value::List(items) = node.value else { return Err(several(&node, "one subset")) };
    let (mut pictures, mut regularization) = (Vec::new(), Vec::new());
    for item in items {
        let place = item.place.clone();
        let mut entries = map(item)?;
        let is_reg =
            entries.iter().any(|e| e.key == "is_reg" && !peers::is_neutral(&e.node, &["false"]));
        entries.retain(|entry| entry.key != "is_reg");
        if is_reg { &mut regularization } else { &mut pictures }.push((place, entries));
    }
    let place =
        |subsets: &[(_, _)]| subsets.get(1).map_or(place.clone(), |(at, _)| Clone::clone(at));
    if pictures.len() != 1 || regularization.len() > 1 {
        let place = if pictures.len() > 1 { place(&pictures) } else { place(&regularization) };
        let node = Node { value: Value::List(Vec::new()), place };
        return Err(several(&node, "one subset of pictures, and one of regularization at most"));
    }
    let mut entries: Vec<Entry> = pictures.into_iter().flat_map(|(_, entries)| entries).collect();
    for mut entry in regularization.into_iter().flat_map(|(_, entries)| entries) {
        match entry.key.as_str() {
            "image_dir" => {
                "reg_data_dir".clone_into(&mut entry.key);
                entries.push(entry);
            }
            "num_repeats" if peers::is_neutral(&entry.node, &["1"]) => {}
            _ => {
                return Err(ConfigError::Unsupported {
                    place: entry.place,
                    key: entry.key.into(),
                    found: entry.node.found(),
                    hint: "a subset of regularization pictures has `image_dir` only".into(),
                });
            }
        }
    }
    Ok(entries)
}

/// The only item of a list.
fn only(node: Node, what: &str) -> Result<Node, ConfigError> {
    let place = node.place.clone();
    match node.value {
        Value::List(mut items) if items.len() == 1 => {
            Ok(items.pop().unwrap_or(Node { value: Value::Empty, place }))
        }
        Value::List(items) => {
            let place = items.get(1).map_or(place, |second| second.place.clone());
            Err(several(&Node { value: Value::List(items), place }, what))
        }
        _ => Err(several(&node, what)),
    }
}

fn several(node: &Node, what: &str) -> ConfigError {
    ConfigError::Value {
        place: node.place.clone(),
        key: "datasets".into(),
        found: match &node.value {
            Value::List(items) if items.is_empty() => "an empty list".into(),
            Value::List(items) => format!("a list of {}", items.len()).into(),
            _ => node.found(),
        },
        expected: what.into(),
        hint: "put the pictures below one folder, in folders `10_name` for ten repeats".into(),
    }
}

fn map(node: Node) -> Result<Vec<Entry>, ConfigError> {
    match node.value {
        Value::Map(entries) => Ok(entries),
        Value::Empty => Ok(Vec::new()),
        _ => Err(ConfigError::Value {
            place: node.place.clone(),
            key: "datasets".into(),
            found: node.found(),
            expected: "keys with values".into(),
            hint: "write `path: ` or `image_dir: ` and a path".into(),
        }),
    }
}
