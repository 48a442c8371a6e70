//! Rules that need no statistics: does the adapter change anything, are outputs copies of its training?

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::error::CheckError;
use super::pairs::{Pairs, Scope};
use super::policy::{Bound, Rule};
use super::rule::Judged;
use super::words::count;
use crate::metric::image::{HashKind, ImageHash, Pixels};
use crate::picture;
use crate::run::verdict::Outcome;

/// Whether the outputs of one strength differ from the base's.
pub(super) fn effect<'a>(pairs: &Pairs<'a>, rule: &'a Rule, place: usize) -> Judged<'a> {
    let scope = Scope { group: rule.group.as_deref(), axes: &rule.axes };
    let (mut all, mut changed, mut prompts) = (0, 0, BTreeSet::new());
    for unit in pairs.of(scope) {
        let Some((base, cell)) = pairs.pair(unit, place) else { continue };
        all += 1;
        changed += usize::from(!cell.is_as(base));
        prompts.insert(unit.cluster);
    }
    let differ = format!("{changed} of {} differ from the base's", count(all, "output"));
    let asked = pairs.units.iter().any(|unit| unit.group == "heldout");
    let (outcome, sentence) = if let Some(reason) = dead(pairs) {
        (Outcome::Fail, format!("broken: {reason}"))
    } else if let Some(few) = too_few(rule, all, prompts.len()) {
        (Outcome::Inconclusive, format!("open: {differ}; {few}"))
    } else if changed > 0 {
        (Outcome::Pass, format!("kept: {differ}"))
    } else if rule.group.is_none() && !asked {
        let why = "no prompt of the group `heldout` asks for what the adapter does";
        (Outcome::Inconclusive, format!("open: {differ}, and {why}"))
    } else {
        (Outcome::Fail, format!("broken: every output equals the base's ({})", count(all, "pair")))
    };
    let mut judged = Judged::exact(rule, outcome, sentence);
    judged.result.value = Some(changed as f64 / all.max(1) as f64);
    (judged.result.pairs, judged.result.prompts) = (all, prompts.len());
    if outcome == Outcome::Fail {
        let hint = "an adapter that was never trained, or trained at a rate of 0, changes nothing: \
                    `lora-eval inspect ADAPTER` names modules without effect";
        judged.result.hint = Some(hint.to_owned());
    }
    judged
}

/// Whether a rule asks for more than there is, in words.
fn too_few(rule: &Rule, pairs: usize, prompts: usize) -> Option<String> {
    let (few_pairs, few_prompts) = (pairs < rule.min_pairs, prompts < rule.min_prompts);
    match (few_prompts, few_pairs) {
        (true, _) => {
            Some(format!("{} of {} that are asked for", prompts, count(rule.min_prompts, "prompt")))
        }
        (false, true) => {
            Some(format!("{} of {} that are asked for", pairs, count(rule.min_pairs, "pair")))
        }
        (false, false) => None,
    }
}

/// Why no adapter of the run can change anything, as the grid recorded it.
fn dead(pairs: &Pairs<'_>) -> Option<String> {
    let adapters = &pairs.record.adapters;
    (!adapters.is_empty() && adapters.iter().all(|adapter| adapter.delta_norm == Some(0.0)))
        .then(|| "the adapter changes no weight (‖ΔW‖ = 0)".to_owned())
}

/// Hashes of all pictures that a check compares.
#[derive(Debug)]
pub(super) struct Hashes {
    training: Vec<(PathBuf, ImageHash)>,
    /// By index of the cell.
    outputs: Vec<Option<ImageHash>>,
}

impl Hashes {
    /// Hashes the pictures below `training` and the outputs of all cells.
    pub fn new(run: &Path, pairs: &Pairs<'_>, training: &Path) -> Result<Self, CheckError> {
        let mut files = Vec::new();
        walk(training, &mut files)?;
        files.sort_unstable();
        if files.is_empty() {
            let (path, problem) = (training.to_owned(), "holds no picture".to_owned());
            return Err(CheckError::Training { path, problem });
        }
        let training = files.into_par_iter().map(|path| hash(&path).map(|hash| (path, hash)));
        let outputs = pairs
            .cells
            .par_iter()
            .map(|cell| cell.output_below(run).map(|path| hash(&path)).transpose());
        Ok(Self {
            training: training.collect::<Result<_, _>>()?,
            outputs: outputs.collect::<Result<_, _>>()?,
        })
    }

    /// The first picture of the training that an output is a near-duplicate of and the base's is not.
    fn copied(&self, output: ImageHash, base: ImageHash, bits: u32) -> Option<&Path> {
        let near = |hash: ImageHash, other: &ImageHash| hash.distance(*other) <= bits;
        let copy = |(_, hash): &&(PathBuf, ImageHash)| near(output, hash) && !near(base, hash);
        self.training.iter().find(copy).map(|(path, _)| path.as_path())
    }
}

/// Whether outputs of one strength are near-duplicates of pictures of the training.
pub(super) fn memorisation<'a>(
    pairs: &Pairs<'a>,
    rule: &'a Rule,
    place: usize,
    hashes: &Hashes,
) -> Judged<'a> {
    let scope = Scope { group: rule.group.as_deref(), axes: &rule.axes };
    let hash = |index: Option<&usize>| hashes.outputs.get(*index?).copied().flatten();
    let (mut all, mut copies, mut prompts) = (0, Vec::new(), BTreeSet::new());
    for unit in pairs.of(scope) {
        let base = pairs.base().and_then(|base| hash(unit.cells.get(base)));
        let Some((output, base)) = hash(unit.cells.get(place)).zip(base) else { continue };
        all += 1;
        prompts.insert(unit.cluster);
        copies.extend(hashes.copied(output, base, rule.bits).map(|path| (unit, path)));
    }
    let allowed = if let Bound::AtMost(most) = rule.bound { most } else { 0.0 };
    let broken = copies.len() as f64 > allowed;
    let few = too_few(rule, all, prompts.len());
    let (outcome, word) = match (broken, &few) {
        (true, _) => (Outcome::Fail, "broken"),
        (false, Some(_)) => (Outcome::Inconclusive, "open"),
        (false, None) => (Outcome::Pass, "kept"),
    };
    let mut sentence = format!(
        "{word}: {} of {} are near-duplicates of the {} of the training (pHash within {} of 64 bits)",
        copies.len(),
        count(all, "output"),
        count(hashes.training.len(), "picture"),
        rule.bits
    );
    if let Some(few) = few.filter(|_| !broken) {
        let _ = write!(sentence, "; {few}");
    }
    if let Some((unit, path)) = copies.first() {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let _ = write!(sentence, ", first `{}` with seed {} of `{name}`", unit.prompt, unit.seed);
    }
    let mut judged = Judged::exact(rule, outcome, sentence);
    judged.result.value = Some(copies.len() as f64);
    (judged.result.pairs, judged.result.prompts) = (all, prompts.len());
    if broken {
        let hint = "train for fewer steps, on more pictures, or at a lower rank";
        judged.result.hint = Some(hint.to_owned());
    }
    judged
}

fn hash(path: &Path) -> Result<ImageHash, CheckError> {
    let wrong = |problem: String| CheckError::Training { path: path.to_owned(), problem };
    let picture = picture::read(path).map_err(|e| wrong(e.to_string()))?;
    let pixels = Pixels::of(&picture).map_err(|e| wrong(e.to_string()))?;
    HashKind::Perceptual.of(pixels).map_err(|e| wrong(e.to_string()))
}

/// Pictures in a folder and below it.
fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), CheckError> {
    let failed = |e| CheckError::read(folder, e);
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let path = entry.path();
        // links to folders are not followed: they may lead in a circle
        if entry.file_type().map_err(failed)?.is_dir() {
            walk(&path, files)?;
        } else if is_picture(&path) {
            files.push(path);
        }
    }
    Ok(())
}

fn is_picture(path: &Path) -> bool {
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    ["png", "jpg", "jpeg", "webp"].contains(&ending.as_str())
}
