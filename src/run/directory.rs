//! A run directory as a whole: started, resumed, opened.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::cells::Scan;
use super::differ::differences;
use super::error::RunError;
use super::id::{is_cell_id, plan_hash};
use super::record::{FORMAT, RunRecord};
use super::seal::sealed;
use crate::base::atomic::{AtomicFile, folder_of, sync_folder};

/// Largest file of a cell that is read or written, in bytes.
pub const MAX_CELL: u64 = 16 << 20;
/// Largest `run.json` that is read or written, in bytes: a million cells and a large suite.
pub const MAX_RUN: u64 = 128 << 20;

pub(super) const RUN: &str = "run.json";

/// A run directory and what its `run.json` says.
#[derive(Debug)]
pub struct Run {
    path: PathBuf,
    record: RunRecord,
}

/// How a run begins.
#[derive(Debug)]
pub enum Start {
    /// It was not there before.
    Fresh,
    /// It was, and these cells are finished.
    Resumed(Scan),
}

/// Something in a folder that no run has made before it had its `run.json`. Hidden files (locks, what
/// a kill has left, a version control's) say nothing.
fn foreign(path: &Path) -> Option<String> {
    let mut names: Vec<String> = fs::read_dir(path)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .filter(|name| {
            !name.starts_with('.') && !["cells", "outputs", RUN].contains(&name.as_str())
        })
        .collect();
    names.sort();
    names.into_iter().next()
}

impl Run {
    /// Starts the run `record` at `path`, or resumes the one that is there if it has the same plan. Of
    /// several processes that do this at once, one is [`Start::Fresh`] and all get the same record.
    pub fn create(path: &Path, record: &RunRecord) -> Result<(Self, Start), RunError> {
        let json = path.join(RUN);
        let text = encode(&json, record)?;
        // In this order: who sees another's report sees its `run.json` too.
        let foreign = foreign(path);
        if !json.exists() {
            if let Some(name) = foreign {
                return Err(RunError::Foreign { path: path.to_owned(), name });
            }
            for folder in [path.join("cells"), path.join("outputs")] {
                fs::create_dir_all(&folder).map_err(|e| RunError::write(&folder, e))?;
            }
            if publish(&json, &text).map_err(|e| RunError::write(&json, e))? {
                return Ok((Self { path: path.to_owned(), record: record.clone() }, Start::Fresh));
            }
        }
        let run = Self::open(path)?;
        if run.record.plan.sha256 != record.plan.sha256 {
            return Err(RunError::OtherPlan {
                path: path.to_owned(),
                differences: in_words(&run.record, record),
            });
        }
        let scan = run.scan()?;
        Ok((run, Start::Resumed(scan)))
    }

    /// Opens the run at `path`.
    pub fn open(path: &Path) -> Result<Self, RunError> {
        let json = path.join(RUN);
        let mut bytes = read(&json, MAX_RUN, RESTORE)?;
        for _ in 0..20 {
            if bytes.as_ref().is_none_or(|bytes| !bytes.is_empty()) {
                break;
            }
            // Another process has just taken the name and is about to fill it.
            std::thread::sleep(Duration::from_millis(25));
            bytes = read(&json, MAX_RUN, RESTORE)?;
        }
        let Some(bytes) = bytes else { return Err(RunError::NotARun { path: path.to_owned() }) };
        Ok(Self { path: path.to_owned(), record: decode(&json, &bytes)? })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What `run.json` says: that of the first start, where the run was resumed.
    pub fn record(&self) -> &RunRecord {
        &self.record
    }
}

/// What to do about a `run.json` that cannot be used.
const RESTORE: &str =
    "restore it from a copy, or give another `--out`; without it nobody knows what its cells mean";

/// Makes `run.json`, unless it is there.
fn publish(json: &Path, text: &[u8]) -> io::Result<bool> {
    let file = AtomicFile::create(json)?;
    file.file().write_all(text)?;
    let new = file.commit_new()?;
    sync_folder(folder_of(folder_of(json)))?;
    Ok(new)
}

/// A record as text, checked as one that is read would be.
fn encode(json: &Path, record: &RunRecord) -> Result<Vec<u8>, RunError> {
    let invalid = |problem: String, hint| {
        Err(RunError::Invalid { what: json.display().to_string(), problem, hint })
    };
    if let Some(problem) = plan_problem(record) {
        return invalid(problem, "this is a fault of the program; please report it");
    }
    let mut text = match sealed(record, None).and_then(|value| serde_json::to_vec_pretty(&value)) {
        Ok(text) => text,
        Err(e) => {
            return invalid(e.to_string(), "this is a fault of the program; please report it");
        }
    };
    text.push(b'\n');
    if text.len() as u64 > MAX_RUN {
        return invalid("would be larger than 128 MiB".to_owned(), "split the suite");
    }
    Ok(text)
}

fn decode(json: &Path, bytes: &[u8]) -> Result<RunRecord, RunError> {
    let damaged =
        |problem: String| RunError::Damaged { path: json.to_owned(), problem, hint: RESTORE };
    if bytes.is_empty() {
        return Err(damaged("it is empty".to_owned()));
    }
    let value: Value = serde_json::from_slice(bytes).map_err(|e| damaged(e.to_string()))?;
    match value.get("format").and_then(Value::as_u64) {
        Some(found) if found > u64::from(FORMAT) => {
            return Err(RunError::Newer { path: json.to_owned(), found });
        }
        Some(1..) => {}
        _ => return Err(damaged("it has no `format`".to_owned())),
    }
    let record: RunRecord = serde_json::from_value(value).map_err(|e| damaged(e.to_string()))?;
    match plan_problem(&record) {
        Some(problem) => Err(damaged(problem)),
        None => Ok(record),
    }
}

/// What is wrong with a plan: ids that are none, or occur twice, or do not give its hash.
fn plan_problem(record: &RunRecord) -> Option<String> {
    let ids = &record.plan.cells;
    if let Some(id) = ids.iter().find(|id| !is_cell_id(id)) {
        return Some(format!("the plan has `{id}`, which is no id of a cell"));
    }
    let mut sorted: Vec<&String> = ids.iter().collect();
    sorted.sort_unstable();
    if let Some((id, _)) = sorted.iter().zip(sorted.iter().skip(1)).find(|(a, b)| a == b) {
        return Some(format!("the plan has cell `{id}` twice"));
    }
    (plan_hash(ids) != record.plan.sha256)
        .then(|| "the plan's hash is not that of its cells".to_owned())
}

fn in_words(there: &RunRecord, here: &RunRecord) -> String {
    const SHOWN: usize = 8;
    let all = differences(there, here);
    if all.is_empty() {
        return "its plan has other cells".to_owned();
    }
    let shown = all.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join("; ");
    match all.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown}; and {more} more"),
    }
}

/// A whole file of at most `limit` bytes; `None` where there is none.
pub(super) fn read(
    path: &Path,
    limit: u64,
    hint: &'static str,
) -> Result<Option<Vec<u8>>, RunError> {
    let damaged = |problem: String| RunError::Damaged { path: path.to_owned(), problem, hint };
    let about = match fs::metadata(path) {
        Ok(about) => about,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(RunError::read(path, e)),
    };
    if !about.is_file() {
        return Err(damaged("it is not a file".to_owned()));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|e| RunError::read(path, e))?;
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|e| RunError::read(path, e))?;
    if bytes.len() as u64 > limit {
        return Err(damaged(format!("it is larger than {} MiB", limit >> 20)));
    }
    Ok(Some(bytes))
}
