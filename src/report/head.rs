//! What was run: base, adapters, counts, and the line that lets a reader run it again.

use serde::Serialize;
use serde_json::Value;

use super::{ReportError, RunView, number, text};
use crate::run::{AdapterRecord, RunKind, RunRecord};

/// Most ids of missing cells that are listed.
const MISSING: usize = 200;

/// Head and foot of a run.
#[derive(Debug, Serialize)]
pub struct Head {
    title: String,
    path: String,
    suite: String,
    what: &'static str,
    base: String,
    base_description: String,
    adapters: Vec<Adapter>,
    /// The reproducible signature.
    signature: Vec<Item>,
    planned: usize,
    present: usize,
    missing: usize,
    missing_ids: Vec<String>,
    missing_more: usize,
    notes: Vec<String>,
    created: String,
    program: String,
    metrics: Vec<Metric>,
    settings: String,
}

#[derive(Debug, Serialize)]
struct Adapter {
    name: String,
    path: String,
    kinds: String,
    ranks: String,
    matched: usize,
    modules: usize,
    unmatched: Vec<String>,
    unmatched_more: usize,
}

#[derive(Debug, Serialize)]
struct Item {
    name: String,
    value: String,
    /// The whole hash, or nothing.
    title: String,
}

#[derive(Debug, Serialize)]
struct Metric {
    label: String,
    id: String,
    unit: String,
    about: String,
    signature: String,
}

/// Head and foot of `run`.
pub fn head(run: &RunView) -> Result<Head, ReportError> {
    let record = &run.record;
    let suite_name = record.suite.get("name").and_then(Value::as_str).unwrap_or(&run.title);
    let metrics = run.scores.metrics.iter().map(|metric| Metric {
        label: metric.label.clone(),
        id: metric.metric.clone(),
        unit: metric.unit.clone(),
        about: metric.about.clone(),
        signature: metric.signature.clone(),
    });
    Ok(Head {
        title: run.title.clone(),
        path: run.path.display().to_string(),
        suite: suite_name.to_owned(),
        what: match record.kind {
            RunKind::Text => "text",
            RunKind::Image => "image",
        },
        base: record.base.name.clone(),
        base_description: record.base.description.clone(),
        adapters: record.adapters.iter().map(adapter).collect(),
        signature: signature(record),
        planned: record.plan.cells.len(),
        present: run.cells.len(),
        missing: run.missing.len(),
        missing_ids: run.missing.iter().take(MISSING).map(|id| text::short_hash(id)).collect(),
        missing_more: run.missing.len().saturating_sub(MISSING),
        notes: notes(run),
        created: record.created.clone(),
        program: record.program.clone(),
        metrics: metrics.collect(),
        settings: settings(run)?,
    })
}

/// The notes of the scores, and one where they are older than the cells.
fn notes(run: &RunView) -> Vec<String> {
    let mut notes = run.scores.notes.clone();
    if run.scores.present != run.cells.len() && !run.scores.metrics.is_empty() {
        notes.push(format!(
            "The scores are of {}, but the run now has {}: compute them again before relying on \
             them.",
            text::count(run.scores.present, "cell"),
            run.cells.len()
        ));
    }
    notes
}

fn adapter(adapter: &AdapterRecord) -> Adapter {
    const SHOWN: usize = 50;
    let kinds: Vec<String> =
        adapter.kinds.iter().map(|(kind, n)| format!("{kind} × {n}")).collect();
    let ranks: Vec<String> = match adapter.ranks.len() {
        0 => vec!["none".to_owned()],
        1 => adapter.ranks.keys().map(usize::to_string).collect(),
        _ => adapter.ranks.iter().map(|(rank, n)| format!("{rank} × {n}")).collect(),
    };
    Adapter {
        name: adapter.name.clone(),
        path: adapter.path.clone(),
        kinds: kinds.join(", "),
        ranks: ranks.join(", "),
        matched: adapter.matched,
        modules: adapter.matched + adapter.unmatched.len(),
        unmatched: adapter.unmatched.iter().take(SHOWN).cloned().collect(),
        unmatched_more: adapter.unmatched.len().saturating_sub(SHOWN),
    }
}

/// Everything that determines the outputs, in one line.
fn signature(record: &RunRecord) -> Vec<Item> {
    let item =
        |name: &str, value: String| Item { name: name.to_owned(), value, title: String::new() };
    let hash = |name: &str, hash: &str| Item {
        name: name.to_owned(),
        value: text::short_hash(hash),
        title: hash.to_owned(),
    };
    let list = |values: Vec<String>| values.join(", ");
    let mut items =
        vec![item("program", record.program.clone()), hash("base", &record.base.sha256)];
    items.extend(record.adapters.iter().map(|one| hash(&one.name, &one.sha256)));
    items.push(hash("suite", &record.suite_sha256));
    items.push(hash("plan", &record.plan.sha256));
    items.push(item("dtype", record.dtype.clone()));
    items.push(item("device", record.device.clone()));
    items.push(item("seeds", list(record.seeds.iter().map(u64::to_string).collect())));
    let strengths = record.strengths.iter().map(|s| number::axis(*s)).collect();
    items.push(item("strengths", list(strengths)));
    for (name, values) in &record.axes {
        items.push(item(name, list(values.iter().map(text::value).collect())));
    }
    let settings = record.settings.iter();
    items.extend(settings.map(|(name, value)| item(name, text::value(value))));
    items
}

/// The record as JSON, with the number of cells instead of their ids.
fn settings(run: &RunView) -> Result<String, ReportError> {
    let error = |source| ReportError::Record { path: run.path.clone(), source };
    let mut record = serde_json::to_value(&run.record).map_err(error)?;
    if let Some(cells) = record.pointer_mut("/plan/cells") {
        *cells = Value::from(run.record.plan.cells.len());
    }
    serde_json::to_string_pretty(&record).map_err(error)
}
