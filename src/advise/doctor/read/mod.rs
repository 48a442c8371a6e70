//! Reading what trainings leave.

mod board;
mod json;
mod own;
mod state;
mod verdict;
mod weights;

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::error::DoctorError;
use super::history::History;

/// How deep logs and checkpoints may lie below the folder that is named.
const DEPTH: usize = 4;
/// Most files below it.
const MOST_FILES: usize = 100_000;
/// Largest log in bytes.
const MOST_BYTES: u64 = 1 << 30;

/// Reads a training's folder: the log of our trainer, or transformers' state, or `TensorBoard`'s files;
/// and in any case the adapters, and what was found in a run of them.
pub(super) fn history(dir: &Path, run: Option<&Path>) -> Result<History, DoctorError> {
    let files = files(dir)?;
    let mut history = History::default();
    let found = own::read(dir, &mut history)?
        || state::read(&files, &mut history)?
        || board::read(&files, &mut history)?;
    weights::read(dir, &files, &mut history);
    if !found && history.weights.is_empty() {
        return Err(DoctorError::Nothing { path: dir.to_owned() });
    }
    if !found {
        history.notes.push("there is no log, so the curves could not be judged".to_owned());
    }
    verdict::read(dir, run, &files, &mut history)?;
    let read = history.verdict.as_ref().map(|(path, _)| path.clone());
    history.read.extend(read);
    Ok(history)
}

/// Files below a folder, sorted.
fn files(dir: &Path) -> Result<Vec<PathBuf>, DoctorError> {
    let mut found = Vec::new();
    let mut folders = vec![(dir.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Err(e) if depth == 0 => return Err(DoctorError::read(dir, e)),
            entries => entries.into_iter().flatten().filter_map(Result::ok),
        };
        for entry in entries {
            let Ok(kind) = entry.file_type() else { continue };
            // Links to folders are not followed: they could lead round in a circle.
            if kind.is_dir() && depth < DEPTH {
                folders.push((entry.path(), depth + 1));
            } else if entry.path().is_file() {
                found.push(entry.path());
            }
        }
        if found.len() > MOST_FILES {
            return Err(DoctorError::read(dir, io::Error::other("holds more than 100000 files")));
        }
    }
    found.sort();
    Ok(found)
}

/// The whole text of a log; bytes that are not UTF-8 become `�`.
fn text(path: &Path) -> Result<String, DoctorError> {
    let fail = |e| DoctorError::read(path, e);
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(fail)?;
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(fail(io::Error::other("larger than 1 GiB")));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The last number in a name: `checkpoint-500` → 500, `style-000010` → 10.
fn number_in(name: &str) -> Option<u64> {
    let digits = |c: &char| c.is_ascii_digit();
    let ending: Vec<char> =
        name.chars().rev().skip_while(|c| !digits(c)).take_while(digits).collect();
    ending.into_iter().rev().collect::<String>().parse().ok()
}
