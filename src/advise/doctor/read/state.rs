//! `trainer_state.json` of transformers' `Trainer`.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::super::curve::Curve;
use super::super::error::DoctorError;
use super::super::history::{History, Origin, Task};
use super::json::{number, step, without_nan};
use super::{number_in, text};

/// Whether there is such a state among the files; of several checkpoints' the newest counts, which
/// holds the whole history.
pub(super) fn read(files: &[PathBuf], history: &mut History) -> Result<bool, DoctorError> {
    let age = |path: &&PathBuf| {
        let folder = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
        // A state outside of the checkpoints was saved at the end.
        if folder.starts_with("checkpoint") { number_in(&folder).unwrap_or(0) } else { u64::MAX }
    };
    let states = files.iter().filter(|path| path.ends_with("trainer_state.json"));
    let Some(path) = states.max_by_key(age) else { return Ok(false) };
    let state: Value =
        serde_json::from_str(&without_nan(&text(path)?)).map_err(|error| DoctorError::Log {
            path: path.clone(),
            line: error.line(),
            problem: format!("not JSON: {error}"),
            hint: "name the folder of a whole checkpoint; this one was cut off",
        })?;
    let empty = Vec::new();
    let log = state.get("log_history").and_then(Value::as_array).unwrap_or(&empty);
    let curve = |keys: &[&str]| {
        Curve::new(log.iter().filter_map(|entry| {
            Some((step(entry)?, keys.iter().find_map(|key| number(entry, key))?))
        }))
    };
    history.loss = curve(&["loss"]);
    history.held_out = curve(&["eval_loss", "eval_validation_loss"]);
    history.grad_norm = curve(&["grad_norm"]);
    history.rate = curve(&["learning_rate"]);
    if let Some(steps) = state.get("max_steps").filter(|steps| steps.as_u64() > Some(0)) {
        history.settings.insert("run.steps".to_owned(), steps.clone());
    }
    history.origin = Origin::Transformers;
    history.task = Some(Task::Text);
    history.read.push(path.clone());
    Ok(true)
}
