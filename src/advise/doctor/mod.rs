//! What a training's files say, and the next configuration with one key changed.
//!
//! - [`examine`], [`examine_with`]: reads a folder (ours, sd-scripts', transformers', anything with
//!   `TensorBoard`'s files) and the verdict on a run, and gives a [`Diagnosis`]
//! - [`Finding`]: a [`Rule`] that applies, its evidence, and perhaps a [`Patch`]
//! - [`Diagnosis::next_config`]: the one most urgent patch applied to a configuration
//!
//! Invariant: a rule speaks only where what it sees is larger than the noise of what was logged; what
//! could not be judged is a note.

mod curve;
mod diagnosis;
mod edit;
mod error;
mod history;
mod read;
mod rules;

use std::path::Path;

pub use diagnosis::{Diagnosis, Finding, Patch, Rule};
pub use error::DoctorError;
pub use history::Origin;

/// Examines a training's folder, and a run of its adapter where one that was checked lies in it or beside
/// it.
pub fn examine(dir: &Path) -> Result<Diagnosis, DoctorError> {
    diagnose(dir, None)
}

/// As [`examine`], with the verdict on the run that is named.
pub fn examine_with(dir: &Path, run: &Path) -> Result<Diagnosis, DoctorError> {
    diagnose(dir, Some(run))
}

fn diagnose(dir: &Path, run: Option<&Path>) -> Result<Diagnosis, DoctorError> {
    let mut history = read::history(dir, run)?;
    let findings = rules::apply(&history);
    let mut notes = std::mem::take(&mut history.notes);
    notes.extend(rules::not_judged(&history));
    Ok(Diagnosis { origin: history.origin, read: history.read, findings, notes })
}
