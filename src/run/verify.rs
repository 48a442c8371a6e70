//! A run read by who must not be deceived: nothing is taken on trust that can be checked.

use std::path::Path;

use rayon::prelude::*;
use serde_json::Value;

use super::cells::{Cells, parse};
use super::directory::{MAX_CELL, MAX_RUN, RUN, Run, read};
use super::error::RunError;
use super::record::{Cell, RunKind};
use super::seal::{Seal, examine};
use crate::base::digest::{sha256, sha256_file};

/// What to do about a file that was changed by hand.
const RESTORE: &str =
    "restore it from a copy, or remove it and run the same `lora-eval grid` again";

/// All cells of a run, checked.
#[derive(Debug)]
pub struct Verified {
    /// The cells.
    pub cells: Cells,
    /// Files without a seal, which an older version wrote: whether they were edited cannot be told.
    pub unsealed: usize,
    /// SHA-256 over the SHA-256 of the cells' files, in the order of the plan.
    pub sha256: String,
}

impl Run {
    /// All cells of the plan, as [`Run::cells`], each with its seal and its picture checked: what was
    /// torn, edited or exchanged is an error that names the file.
    pub fn verified(&self) -> Result<Verified, RunError> {
        let json = self.path().join(RUN);
        let bytes = read(&json, MAX_RUN, RESTORE)?.unwrap_or_default();
        let mut value: Value =
            serde_json::from_slice(&bytes).map_err(|e| damaged(&json, e.to_string()))?;
        let older = whole(&json, &mut value)?;
        let mut unsealed = usize::from(older);
        let plan = &self.record().plan.cells;
        let read: Vec<_> = plan.par_iter().map(|id| self.verify(id)).collect();
        let mut cells = Cells { found: Vec::new(), missing: Vec::new(), extra: self.extra()? };
        let mut digests = String::new();
        for (id, result) in plan.iter().zip(read) {
            match result? {
                // a run that was begun with seals has them on all its cells
                Some((_, _, true)) if !older => {
                    return Err(damaged(&self.cell_path(id)?, "it has lost its seal".to_owned()));
                }
                Some((cell, digest, without)) => {
                    unsealed += usize::from(without);
                    digests.push_str(&digest);
                    cells.found.push(cell);
                }
                None => cells.missing.push(id.clone()),
            }
        }
        Ok(Verified { cells, unsealed, sha256: sha256(digests.as_bytes()) })
    }

    /// A cell, the digest of its file and whether it has no seal.
    fn verify(&self, id: &str) -> Result<Option<(Cell, String, bool)>, RunError> {
        let path = self.cell_path(id)?;
        let Some(bytes) = read(&path, MAX_CELL, RESTORE)? else { return Ok(None) };
        let cell = parse(id, &path, &bytes)?;
        let mut value: Value =
            serde_json::from_slice(&bytes).map_err(|e| damaged(&path, e.to_string()))?;
        let unsealed = whole(&path, &mut value)?;
        if self.record().kind == RunKind::Image {
            let picture = self.output_path(&cell).filter(|picture| picture.is_file());
            let Some(picture) = picture else {
                return Err(damaged(&path, format!("its picture `{}` is missing", cell.output)));
            };
            if let Some(digest) = value.get(PICTURE).and_then(Value::as_str) {
                let found = sha256_file(&picture).map_err(|e| RunError::read(&picture, e))?;
                if found != digest {
                    return Err(damaged(&picture, "it is not the picture of its cell".to_owned()));
                }
            }
        }
        Ok(Some((cell, sha256(&bytes), unsealed)))
    }
}

/// The key under which a cell's file has the digest of its picture.
pub(super) const PICTURE: &str = "picture";

/// Whether a file has no seal; a broken one is an error.
fn whole(path: &Path, value: &mut Value) -> Result<bool, RunError> {
    match examine(value) {
        Seal::Whole => Ok(false),
        Seal::Absent => Ok(true),
        Seal::Broken => Err(damaged(path, "it was edited after it was written".to_owned())),
    }
}

fn damaged(path: &Path, problem: String) -> RunError {
    RunError::Damaged { path: path.to_owned(), problem, hint: RESTORE }
}
