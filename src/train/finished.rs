//! Trainings that lie on disk: whether one came to its end, or can go on.

use std::fs;
use std::io;

use serde::Deserialize;

use super::TrainError;
use super::checkpoint::Checkpoints;
use super::trainer::Ending;
use super::training::{Outcome, file_name};
use crate::config::Settings;

/// The last line of `train.jsonl` of a training that is over.
#[derive(Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Last {
    End { step: usize, ending: Ending },
}

/// What the training of these settings left, where it came to its end and all of it is there; no base
/// is opened. Whether it was made with the same settings is for `config.yaml` to tell.
pub fn finished(settings: &Settings) -> Result<Option<Outcome>, TrainError> {
    let folder = &settings.output.dir;
    let Some(Last::End { step, ending }) = last(settings)? else { return Ok(None) };
    if ending == Ending::Stopped {
        return Ok(None);
    }
    let Some(saved) = Checkpoints::new(folder, 1).newest()? else { return Ok(None) };
    let state = saved.state;
    let adapter = folder.join(file_name(settings, ""));
    // the adapters are written after the line
    let best = state.best.filter(|(_, step)| *step != state.step);
    let best = best.map(|_| folder.join(file_name(settings, "-best")));
    let whole = adapter.exists() && best.as_ref().is_none_or(|best| best.exists());
    Ok((whole && state.step == step).then_some(Outcome { ending, state, adapter, best }))
}

/// Whether the folder has a checkpoint, from which the training of these settings goes on.
pub fn has_begun(settings: &Settings) -> bool {
    Checkpoints::new(&settings.output.dir, 1).any()
}

/// The log's last line, where that is an end.
fn last(settings: &Settings) -> Result<Option<Last>, TrainError> {
    let path = settings.output.dir.join("train.jsonl");
    let log = match fs::read(&path) {
        Ok(log) => log,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(TrainError::Read { path, source }),
    };
    let line = log.strip_suffix(b"\n").and_then(|log| log.rsplit(|byte| *byte == b'\n').next());
    Ok(line.and_then(|line| serde_json::from_slice(line).ok()))
}
