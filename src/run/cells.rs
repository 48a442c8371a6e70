//! The cells of a run, and what is made from them.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Component, Path, PathBuf};

use rayon::prelude::*;
use serde::Serialize;

use super::directory::{MAX_CELL, Run, read};
use super::error::RunError;
use super::id::is_cell_id;
use super::lock::is_temporary;
use super::record::{Cell, RunKind, Scores};
use super::seal::sealed;
use super::verdict::Verdict;
use super::verify::PICTURE;
use crate::base::atomic::{AtomicFile, sync_folder};
use crate::base::digest::sha256;

/// What to do about a cell that cannot be used.
const ANEW: &str = "run the same `lora-eval grid` again; it makes the cell anew";

/// Which cells of a plan are finished.
#[derive(Default, Debug)]
pub struct Scan {
    /// Ids of those that are whole.
    pub present: BTreeSet<String>,
    /// Files that are there and cannot be trusted; their cells count as absent.
    pub damaged: Vec<RunError>,
}

/// All cells of a run.
#[derive(Debug)]
pub struct Cells {
    /// Those that are finished, in the order of the plan.
    pub found: Vec<Cell>,
    /// Ids of those that are not, in the order of the plan.
    pub missing: Vec<String>,
    /// Files below `cells/` that no cell of the plan has, sorted.
    pub extra: Vec<PathBuf>,
}

impl Run {
    /// Writes a finished cell so that it lasts through a power cut. `false` says that a whole one was
    /// there, which is kept as it is. After an error there is no file of that name that was not there
    /// before. For a cell with a picture see [`Run::write_picture`].
    pub fn write_cell(&self, cell: &Cell) -> Result<bool, RunError> {
        let path = self.cell_path(&cell.cell)?;
        let text = encode(cell, None)?;
        if self.is_whole(&cell.cell) {
            return Ok(false);
        }
        write(&path, &text)?;
        Ok(true)
    }

    /// As [`Run::write_cell`], for a cell whose output is a picture: `png` is written first, and what is
    /// left of a cell that has lost its picture is replaced together with it.
    pub fn write_picture(&self, mut cell: Cell, png: &[u8]) -> Result<bool, RunError> {
        let path = self.cell_path(&cell.cell)?;
        if self.is_whole(&cell.cell) {
            return Ok(false);
        }
        cell.output = self.write_output(&cell.cell, "png", png)?;
        write(&path, &encode(&cell, Some((PICTURE, sha256(png))))?)?;
        Ok(true)
    }

    fn is_whole(&self, id: &str) -> bool {
        self.cell(id).is_ok_and(|whole| whole.is_some())
    }

    /// The cell `id`; `None` where it is not finished. A file that is damaged is an error that names it.
    pub fn cell(&self, id: &str) -> Result<Option<Cell>, RunError> {
        let path = self.cell_path(id)?;
        let Some(cell) = line(id, &path)? else { return Ok(None) };
        let damaged = |problem| RunError::Damaged { path: path.clone(), problem, hint: ANEW };
        if self.record().kind == RunKind::Image {
            match self.output_path(&cell) {
                Some(picture) if picture.is_file() => {}
                Some(_) => {
                    return Err(damaged(format!("its picture `{}` is missing", cell.output)));
                }
                None => {
                    return Err(damaged(format!(
                        "its output `{}` is not below the run",
                        cell.output
                    )));
                }
            }
        }
        Ok(Some(cell))
    }

    /// Which cells of the plan are finished, read in parallel.
    pub fn scan(&self) -> Result<Scan, RunError> {
        let plan = &self.record().plan.cells;
        let read: Vec<_> = plan.par_iter().map(|id| self.cell(id).map(|c| c.is_some())).collect();
        let mut scan = Scan { present: BTreeSet::new(), damaged: Vec::new() };
        for (id, result) in plan.iter().zip(read) {
            match result {
                Ok(true) => drop(scan.present.insert(id.clone())),
                Ok(false) => {}
                Err(error @ RunError::Damaged { .. }) => scan.damaged.push(error),
                Err(error) => return Err(error),
            }
        }
        Ok(scan)
    }

    /// Ids of the finished cells of the plan: those whose file is whole and is the one its name says.
    pub fn present(&self) -> Result<BTreeSet<String>, RunError> {
        Ok(self.scan()?.present)
    }

    /// All cells of the plan, read in parallel. A damaged one is an error that names its file; one
    /// whose picture is gone keeps its scores and is found.
    pub fn cells(&self) -> Result<Cells, RunError> {
        let plan = &self.record().plan.cells;
        let read: Vec<_> = plan.par_iter().map(|id| line(id, &self.cell_path(id)?)).collect();
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for (id, result) in plan.iter().zip(read) {
            match result? {
                Some(cell) => found.push(cell),
                None => missing.push(id.clone()),
            }
        }
        Ok(Cells { found, missing, extra: self.extra()? })
    }

    /// Files below `cells/` that no cell of the plan has.
    pub(super) fn extra(&self) -> Result<Vec<PathBuf>, RunError> {
        let root = self.path().join("cells");
        let planned: BTreeSet<PathBuf> =
            self.record().plan.cells.iter().filter_map(|id| self.cell_path(id).ok()).collect();
        let mut extra = Vec::new();
        for path in entries(&root)? {
            let inside = if path.is_dir() { entries(&path)? } else { vec![path] };
            extra.extend(inside.into_iter().filter(|p| !planned.contains(p) && !is_temporary(p)));
        }
        extra.sort_unstable();
        Ok(extra)
    }

    /// Where the picture of a cell is, if its `output` leads to a place below the run.
    pub fn output_path(&self, cell: &Cell) -> Option<PathBuf> {
        cell.output_below(self.path())
    }

    /// Writes a picture of the cell `id` as `outputs/ID.png` (for the ending `png`) so that it lasts
    /// through a power cut, and gives that path, relative to the run.
    pub fn write_output(&self, id: &str, ending: &str, bytes: &[u8]) -> Result<String, RunError> {
        if !is_cell_id(id) || !ending.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(no_id(id));
        }
        let relative = format!("outputs/{id}.{ending}");
        write(&self.path().join(&relative), bytes)?;
        Ok(relative)
    }

    /// Writes `scores.json`, replacing the old one whole.
    pub fn write_scores(&self, scores: &Scores) -> Result<(), RunError> {
        self.write_json("scores.json", scores)
    }

    /// Writes `verdict.json`, replacing the old one whole.
    pub fn write_verdict(&self, verdict: &Verdict) -> Result<(), RunError> {
        self.write_json("verdict.json", verdict)
    }

    /// Removes the `verdict.json` of a run directory, if there is one, whatever state the rest is in.
    pub fn remove_verdict(run: &Path) -> Result<(), RunError> {
        // what has no record at all is somebody else's folder
        if fs::symlink_metadata(run.join("run.json")).is_err() {
            return Ok(());
        }
        let path = run.join("verdict.json");
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(RunError::write(&path, e)),
            _ => Ok(()),
        }
    }

    fn write_json(&self, name: &str, data: &impl Serialize) -> Result<(), RunError> {
        let path = self.path().join(name);
        let text = serde_json::to_vec_pretty(data);
        let mut text = text.map_err(|e| RunError::write(&path, e.into()))?;
        text.push(b'\n');
        write(&path, &text)
    }

    /// Writes `report.html`, replacing the old one whole.
    pub fn write_report(&self, html: &str) -> Result<(), RunError> {
        write(&self.path().join("report.html"), html.as_bytes())
    }

    /// Where the file of the cell `id` is.
    pub(super) fn cell_path(&self, id: &str) -> Result<PathBuf, RunError> {
        if !is_cell_id(id) {
            return Err(no_id(id));
        }
        Ok(self.path().join("cells").join(&id[..2]).join(format!("{id}.json")))
    }
}

/// The cell `id` in the file `path`, as [`Run::cell`] but whether or not its picture is there.
fn line(id: &str, path: &Path) -> Result<Option<Cell>, RunError> {
    let Some(bytes) = read(path, MAX_CELL, ANEW)? else { return Ok(None) };
    parse(id, path, &bytes).map(Some)
}

/// The cell `id`, whose file at `path` holds `bytes`.
pub(super) fn parse(id: &str, path: &Path, bytes: &[u8]) -> Result<Cell, RunError> {
    let damaged = |problem| RunError::Damaged { path: path.to_owned(), problem, hint: ANEW };
    if bytes.last() != Some(&b'\n') {
        return Err(damaged("it is cut off".to_owned()));
    }
    let cell: Cell = serde_json::from_slice(bytes).map_err(|e| damaged(e.to_string()))?;
    if cell.cell != id {
        return Err(damaged(format!("it holds cell `{}`", cell.cell)));
    }
    Ok(cell)
}

impl Cell {
    /// Where its picture is in the run at `path`, if its `output` leads to a place below that.
    pub fn output_below(&self, path: &Path) -> Option<PathBuf> {
        let output = Path::new(&self.output);
        let plain = output.components().all(|part| matches!(part, Component::Normal(_)));
        let plain = plain && !self.output.is_empty() && !self.output.contains(['\\', '\0']);
        plain.then(|| path.join(output))
    }
}

fn no_id(id: &str) -> RunError {
    RunError::Invalid {
        what: format!("cell `{}`", crate::base::terminal::printable(id)),
        problem: "expected 64 hexadecimal digits".to_owned(),
        hint: "`run.json` lists the ids of all cells",
    }
}

/// A cell as a line. What could not be read back is refused: JSON has no infinity.
fn encode(cell: &Cell, further: Option<(&str, String)>) -> Result<Vec<u8>, RunError> {
    let invalid = |problem: String, hint| {
        Err(RunError::Invalid { what: format!("cell `{}`", cell.cell), problem, hint })
    };
    let own = [("strength", cell.strength), ("seconds", cell.seconds)].into_iter();
    let scores = cell.scores.iter().map(|(name, score)| (name.as_str(), *score));
    let adapters = cell.adapters.iter().map(|a| (a.name.as_str(), a.strength));
    if let Some((name, value)) = own.chain(scores).chain(adapters).find(|(_, v)| !v.is_finite()) {
        let problem = format!("`{name}` is `{value}`: expected a finite number");
        return invalid(problem, "leave out a score that does not apply");
    }
    let mut text = match sealed(cell, further).and_then(|value| serde_json::to_vec(&value)) {
        Ok(text) => text,
        Err(e) => {
            return invalid(e.to_string(), "this is a fault of the program; please report it");
        }
    };
    text.push(b'\n');
    if text.len() as u64 > MAX_CELL {
        return invalid("would be larger than 16 MiB".to_owned(), "lower `max_new_tokens`");
    }
    Ok(text)
}

/// Writes a whole file so that it lasts; its folder is made if it is not there.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), RunError> {
    let attempt = || -> io::Result<()> {
        if let Some(folder) = path.parent()
            && !folder.is_dir()
        {
            match fs::create_dir(folder) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists || !folder.is_dir() => {
                    return Err(e);
                }
                _ => {}
            }
            sync_folder(crate::base::atomic::folder_of(folder))?;
        }
        let file = AtomicFile::create(path)?;
        file.file().write_all(bytes)?;
        file.commit_durable()
    };
    attempt().map_err(|e| RunError::write(path, e))
}

/// What is in a folder; nothing where there is no folder.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, RunError> {
    let list = match fs::read_dir(folder) {
        Ok(list) => list,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(RunError::read(folder, e)),
    };
    list.map(|entry| entry.map(|e| e.path()).map_err(|e| RunError::read(folder, e))).collect()
}
