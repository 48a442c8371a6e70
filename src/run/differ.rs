//! What differs between two runs, in words.

use std::collections::BTreeMap;

use serde_json::Value;

use super::record::{AdapterRecord, RunRecord};
use crate::base::hint::first_few;
use crate::base::terminal::printable;

/// What differs between the run that is `there` and the one that is wanted `here`; what decides about
/// the cells comes first. Empty where nothing does that a person could name.
pub fn differences(there: &RunRecord, here: &RunRecord) -> Vec<String> {
    let mut all = Vec::new();
    if there.kind != here.kind {
        all.push(format!("kind: {:?} there, {:?} here", there.kind, here.kind).to_lowercase());
    }
    if there.base.sha256 != here.base.sha256 {
        let (old, new) = (named(&there.base.name), named(&here.base.name));
        all.push(if old == new {
            format!("base: {new} has changed since")
        } else {
            format!("base: {old} there, {new} here")
        });
    }
    adapters(&there.adapters, &here.adapters, &mut all);
    suite(there, here, &mut all);
    if there.strengths != here.strengths {
        let (old, new) = (list(&there.strengths), list(&here.strengths));
        all.push(format!("strengths: {old} there, {new} here"));
    }
    if there.seeds != here.seeds {
        all.push(format!("seeds: {} there, {} here", list(&there.seeds), list(&here.seeds)));
    }
    maps("axis", &there.axes, &here.axes, &mut all);
    maps("setting", &there.settings, &here.settings, &mut all);
    if there.max_batch != here.max_batch {
        let rows = |rows: Option<usize>| rows.map_or("no limit".to_owned(), |n| n.to_string());
        let (old, new) = (rows(there.max_batch), rows(here.max_batch));
        all.push(format!("rows of a batch: {old} there, {new} here"));
    }
    for (name, old, new) in [
        ("dtype", &there.dtype, &here.dtype),
        ("device", &there.device, &here.device),
        ("program", &there.program, &here.program),
    ] {
        if old != new {
            all.push(format!("{name}: {} there, {} here", named(old), named(new)));
        }
    }
    all
}

fn named(text: &str) -> String {
    format!("`{}`", printable(text))
}

/// Numbers as on the command line, cut after some.
fn list<T: ToString>(values: &[T]) -> String {
    const SHOWN: usize = 12;
    let shown: Vec<String> = values.iter().take(SHOWN).map(ToString::to_string).collect();
    match values.len().saturating_sub(SHOWN) {
        0 => shown.join(","),
        more => format!("{} and {more} more", shown.join(",")),
    }
}

fn adapters(there: &[AdapterRecord], here: &[AdapterRecord], all: &mut Vec<String>) {
    let table = |list: &[AdapterRecord]| -> BTreeMap<String, Value> {
        list.iter().map(|a| (a.name.clone(), Value::from(a.sha256.as_str()))).collect()
    };
    let before = all.len();
    parts("adapter", &table(there), &table(here), all);
    let names = |list: &[AdapterRecord]| -> Vec<String> {
        list.iter().map(|adapter| adapter.name.clone()).collect()
    };
    if all.len() == before && names(there) != names(here) {
        all.push("adapters: the same in another order".to_owned());
    }
}

fn suite(there: &RunRecord, here: &RunRecord, all: &mut Vec<String>) {
    let prompts = |suite: &Value| -> BTreeMap<String, Value> {
        let list = suite["prompts"].as_array().into_iter().flatten();
        list.filter_map(|p| Some((p["id"].as_str()?.to_owned(), p.clone()))).collect()
    };
    let before = all.len();
    parts("prompt", &prompts(&there.suite), &prompts(&here.suite), all);
    if all.len() == before && there.suite_sha256 != here.suite_sha256 {
        all.push("suite: its file, or a picture that it refers to, has changed since".to_owned());
    }
}

/// Things by name: which are only there, only here, or have changed.
fn parts(
    what: &str,
    there: &BTreeMap<String, Value>,
    here: &BTreeMap<String, Value>,
    all: &mut Vec<String>,
) {
    let only = |a: &BTreeMap<String, Value>, b: &BTreeMap<String, Value>| -> Vec<String> {
        a.keys().filter(|name| !b.contains_key(*name)).cloned().collect()
    };
    let changed = there.iter().filter(|(name, old)| here.get(*name).is_some_and(|new| new != *old));
    let changed: Vec<String> = changed.map(|(name, _)| name.clone()).collect();
    for (names, how) in [
        (only(there, here), "only there"),
        (only(here, there), "only here"),
        (changed, "changed since"),
    ] {
        if !names.is_empty() {
            all.push(format!("{what} {}: {how}", first_few(&names)));
        }
    }
}

/// Values by name, with both values where they differ.
fn maps<V: PartialEq + serde::Serialize>(
    what: &str,
    there: &BTreeMap<String, V>,
    here: &BTreeMap<String, V>,
    all: &mut Vec<String>,
) {
    let shown = |value: Option<&V>| match value.map(serde_json::to_string) {
        Some(Ok(json)) => printable(&json).into_owned(),
        _ => "not set".to_owned(),
    };
    let mut names: Vec<&String> = there.keys().chain(here.keys()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let (old, new) = (there.get(name), here.get(name));
        if old != new {
            let (old, new) = (shown(old), shown(new));
            all.push(format!("{what} {}: {old} there, {new} here", named(name)));
        }
    }
}
