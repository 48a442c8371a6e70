use std::path::PathBuf;

use super::{ReportError, page};
use crate::run::{Cell, FORMAT, RunRecord, Scores};

/// A run as the report needs it: read from its directory, nothing computed yet.
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
}

/// The report on `runs`; of pictures it shows the paths only.
pub fn render(runs: &[RunView]) -> Result<String, ReportError> {
    render_with_pictures(runs, |_, _| None)
}

/// As [`render`], with the pictures inside the file. `picture` gives the bytes of a cell's picture
/// (PNG, JPEG, WebP or GIF; they are put in as they are), or `None` to show its path instead.
pub fn render_with_pictures(
    runs: &[RunView],
    picture: impl Fn(&RunView, &Cell) -> Option<Vec<u8>>,
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
    page::page(runs, &picture)
}
