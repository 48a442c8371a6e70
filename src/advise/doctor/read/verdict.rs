//! What `check` found in a run of the training's adapter.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::super::error::DoctorError;
use super::super::history::History;
use crate::adapter::Adapter;
use crate::run::verdict::{Verdict, open};

const NAME: &str = "verdict.json";

/// Reads the verdict of `run`; without one, that of a run of this training's adapter which lies in the
/// training's folder or beside it.
pub(super) fn read(
    dir: &Path,
    run: Option<&Path>,
    files: &[PathBuf],
    history: &mut History,
) -> Result<(), DoctorError> {
    if let Some(run) = run {
        let path = run.join(NAME);
        let none = || DoctorError::NoVerdict { path: run.to_owned() };
        let verdict = open(&path)?.ok_or_else(none)?;
        if !is_of(&verdict, &adapters(dir, history)) {
            history.notes.push(format!(
                "{}: its adapters are none of {}, by their hashes; it is taken for this training's all the same",
                run.display(),
                dir.display()
            ));
        }
        history.verdict = Some((path, verdict));
        return Ok(());
    }
    let mut candidates: Vec<PathBuf> =
        files.iter().filter(|path| path.ends_with(NAME)).cloned().collect();
    candidates.extend(beside(dir));
    if candidates.is_empty() {
        return Ok(());
    }
    let adapters = adapters(dir, history);
    let mut found = Vec::new();
    for path in candidates {
        match open(&path) {
            Ok(Some(verdict)) if is_of(&verdict, &adapters) => found.push((path, verdict)),
            Ok(_) => {}
            Err(error) => {
                let line = error.to_string().lines().next().unwrap_or_default().to_owned();
                history.notes.push(line);
            }
        }
    }
    if let (Some((first, _)), more @ 2..) = (found.first(), found.len()) {
        history.notes.push(format!(
            "{more} runs of this adapter were checked; {} is read, `--run` names another",
            first.display()
        ));
    }
    history.verdict = found.into_iter().next();
    Ok(())
}

/// Verdicts in folders beside the training's, in the order of their names.
fn beside(dir: &Path) -> Vec<PathBuf> {
    let here = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let entries = here.parent().and_then(|parent| fs::read_dir(parent).ok());
    let folders = entries.into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    let mut found: Vec<PathBuf> = folders
        .filter(|folder| *folder != here)
        .map(|folder| folder.join(NAME))
        .filter(|path| path.is_file())
        .collect();
    found.sort();
    found
}

/// Hashes of the adapters that were read: of their files, and of the PEFT folders that have them.
fn adapters(dir: &Path, history: &History) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for weights in &history.weights {
        let folders = weights.path.ancestors().skip(1).take(2);
        let folders = folders.filter(|folder| *folder != dir && folder.starts_with(dir));
        let peft = weights.path.ends_with("adapter_model.safetensors");
        paths.extend(folders.filter(|_| peft).map(Path::to_owned));
        paths.insert(weights.path.clone());
    }
    let hashes = paths.iter().filter_map(|path| Adapter::open(path).ok()?.sha256().ok());
    hashes.collect()
}

fn is_of(verdict: &Verdict, adapters: &BTreeSet<String>) -> bool {
    verdict.subject.adapters.values().any(|sha256| adapters.contains(sha256))
}
