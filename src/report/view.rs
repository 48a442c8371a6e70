use std::path::{Path, PathBuf};

use super::{ReportError, page};
use crate::run::{Ablation, Cell, Experiment, FORMAT, RunRecord, Scores, Verdict};

/// A run as the report needs it: read from its directory, nothing computed yet. Pictures stay there
/// and are read when the report is made.
#[derive(Debug, Clone)]
pub struct RunView {
    /// The name of the run directory.
    pub title: String,
    /// The run directory as given on the command line; pictures lie below it.
    pub path: PathBuf,
    /// Its `run.json`.
    pub record: RunRecord,
    /// The cells that are there, in any order.
    pub cells: Vec<Cell>,
    /// Ids of cells of the plan that are not there.
    pub missing: Vec<String>,
    /// Its `scores.json`.
    pub scores: Scores,
    /// Its `ablation.json`, if it has one.
    pub ablation: Option<Ablation>,
    /// Its `verdict.json`, if it was judged.
    pub verdict: Option<Verdict>,
}

/// The report on `runs`, to lie in the directory of the first: links to whole pictures lead from
/// there.
pub fn render(runs: &[RunView]) -> Result<String, ReportError> {
    let first = runs.first().ok_or(ReportError::NoRun)?;
    render_in(&first.path, runs)
}

/// The report on `runs`, to lie in `folder`.
pub fn render_in(folder: &Path, runs: &[RunView]) -> Result<String, ReportError> {
    render_all(folder, runs, None)
}

/// The report on the runs of an experiment, its ranking first, to lie in `folder`.
pub fn render_experiment(
    folder: &Path,
    runs: &[RunView],
    experiment: &Experiment,
) -> Result<String, ReportError> {
    render_all(folder, runs, Some(experiment))
}

fn render_all(
    folder: &Path,
    runs: &[RunView],
    experiment: Option<&Experiment>,
) -> Result<String, ReportError> {
    if runs.is_empty() {
        return Err(ReportError::NoRun);
    }
    for run in runs {
        for found in [run.record.format, run.scores.format] {
            if found != FORMAT {
                return Err(ReportError::Format {
                    path: run.path.clone(),
                    found,
                    expected: FORMAT,
                });
            }
        }
    }
    page::page(runs, folder, experiment)
}
