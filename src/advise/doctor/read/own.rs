//! `train.jsonl` and `config.yaml` of our own trainer.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use super::super::curve::Curve;
use super::super::error::DoctorError;
use super::super::history::{Captions, Guard, History, Origin, Task};
use super::json::{number, step, without_nan};
use super::{files, text};

/// The curves while they are read.
#[derive(Default)]
struct Curves {
    loss: Vec<(u64, f64)>,
    held_out: Vec<(u64, f64)>,
    grad_norm: Vec<(u64, f64)>,
    rate: Vec<(u64, f64)>,
    delta: Vec<(u64, f64)>,
}

impl Curves {
    fn all(&mut self) -> [&mut Vec<(u64, f64)>; 5] {
        [&mut self.loss, &mut self.held_out, &mut self.grad_norm, &mut self.rate, &mut self.delta]
    }
}

/// Whether there is such a log in `dir`.
pub(super) fn read(dir: &Path, history: &mut History) -> Result<bool, DoctorError> {
    let path = dir.join("train.jsonl");
    if !path.is_file() {
        return Ok(false);
    }
    let log = text(&path)?;
    let mut curves = Curves::default();
    let lines: Vec<&str> = log.lines().collect();
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        match serde_json::from_str::<Value>(&without_nan(line)) {
            Ok(event) => take(&event, &mut curves, history),
            // A power cut may tear the last line.
            Err(_) if at + 1 == lines.len() => {
                history.notes.push(format!("the last line of {} is cut off", path.display()));
            }
            Err(error) => {
                return Err(DoctorError::Log {
                    path,
                    line: at + 1,
                    problem: format!("not JSON: {error}"),
                    hint: "remove the line; every other line is read on its own",
                });
            }
        }
    }
    history.origin = Origin::LoraEval;
    if history.ended.is_none() {
        history
            .notes
            .push("the log has no end: the training runs, was cut off or gave up".to_owned());
    }
    history.loss = Curve::new(curves.loss);
    history.held_out = Curve::new(curves.held_out);
    history.grad_norm = Curve::new(curves.grad_norm);
    history.rate = Curve::new(curves.rate);
    history.delta = Curve::new(curves.delta);
    history.read.push(path);
    settings(&dir.join("config.yaml"), history)?;
    if matches!(history.captions, Some(Captions::Empty(_))) {
        history.sidecar = history.word("data.train").and_then(|folder| sidecar(Path::new(folder)));
    }
    Ok(true)
}

fn take(event: &Value, curves: &mut Curves, history: &mut History) {
    let at = step(event).unwrap_or(0);
    let text = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    match event.get("event").and_then(Value::as_str).unwrap_or_default() {
        "start" => {
            if at > 0 {
                history.restarts.push(at);
            }
            // What came after the checkpoint is done again.
            curves.all().into_iter().for_each(|curve| curve.retain(|(step, _)| *step <= at));
            history.guards.retain(|guard| guard.step <= at);
            history.ended = None;
            start(event, history);
        }
        "step" => {
            let add = |curve: &mut Vec<(u64, f64)>, key: &str| {
                curve.extend(number(event, key).map(|value| (at, value)));
            };
            add(&mut curves.loss, "loss");
            add(&mut curves.grad_norm, "grad_norm");
            add(&mut curves.rate, "lr");
            // Absent between two measurements, then `null`.
            curves.delta.extend(number(event, "delta").filter(|d| d.is_finite()).map(|d| (at, d)));
        }
        "held_out" => curves.held_out.extend(number(event, "loss").map(|loss| (at, loss))),
        "guard" => {
            let samples = event.get("samples").and_then(Value::as_array).map_or(0, Vec::len);
            let (kind, action) = (text("kind"), text("action"));
            history.guards.push(Guard { step: at, kind, action, samples });
        }
        "end" => history.ended = Some(text("reason")),
        _ => {}
    }
}

fn start(event: &Value, history: &mut History) {
    let count = |key: &str| event.get(key).and_then(Value::as_u64);
    history.scale = number(event, "scale").filter(|scale| scale.is_finite());
    history.task = match event.get("task").and_then(Value::as_str) {
        Some("text") => Some(Task::Text),
        Some("image") => Some(Task::Image),
        _ => None,
    };
    history.captions = match (count("examples"), count("empty_captions")) {
        (Some(examples), Some(empty)) if examples > 0 && empty >= examples => {
            Some(Captions::Empty(examples))
        }
        (_, Some(_)) => Some(Captions::Read),
        _ => None,
    };
}

/// The resolved configuration by canonical keys, as far as its values are scalars.
fn settings(path: &Path, history: &mut History) -> Result<(), DoctorError> {
    if !path.is_file() {
        history.notes.push(format!("{} is missing, so settings are unknown", path.display()));
        return Ok(());
    }
    let tree: Value = serde_saphyr::from_str(&text(path)?).map_err(|error| {
        let error = error.without_snippet();
        let line = error.location().map_or(1, |place| place.line());
        DoctorError::Log {
            path: path.to_owned(),
            line: usize::try_from(line).unwrap_or(1).max(1),
            problem: format!("not valid YAML: {error}"),
            hint: "put the file back as the training wrote it",
        }
    })?;
    flatten("", tree, history);
    history.read.push(path.to_owned());
    Ok(())
}

fn flatten(prefix: &str, value: Value, history: &mut History) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let path = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
                flatten(&path, value, history);
            }
        }
        Value::Array(_) => {}
        scalar => drop(history.settings.insert(prefix.to_owned(), scalar)),
    }
}

/// The most frequent ending of files that share their stem with a picture in the folder.
fn sidecar(folder: &Path) -> Option<String> {
    const PICTURES: [&str; 5] = ["png", "jpg", "jpeg", "webp", "bmp"];
    let (mut pictures, mut others) = (BTreeSet::new(), Vec::new());
    for path in files(folder).ok()? {
        let Some(ending) = path.extension().map(|e| e.to_string_lossy().into_owned()) else {
            continue;
        };
        let stem = path.with_extension("");
        if PICTURES.contains(&ending.to_lowercase().as_str()) {
            pictures.insert(stem);
        } else {
            others.push((stem, ending));
        }
    }
    let mut endings: BTreeMap<String, usize> = BTreeMap::new();
    for (_, ending) in others.into_iter().filter(|(stem, _)| pictures.contains(stem)) {
        *endings.entry(format!(".{ending}")).or_default() += 1;
    }
    endings.into_iter().max_by_key(|(_, count)| *count).map(|(ending, _)| ending)
}
