//! What a merge did.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::Request;
use super::plan::Plan;
use super::rows::Effect;
use super::write::TensorEffect;
use crate::adapter::combine::Weighted;
use crate::adapter::{Component, Kind};
use crate::model::{Fit, Shape, Unmatched};
use crate::prompt::block_argument;
use crate::tensors::TensorFile;

/// The result of a merge, as `--json` prints it.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Where the result lies.
    pub out: PathBuf,
    /// What the base is.
    pub base: String,
    /// Modules of the adapters that were merged.
    pub modules: usize,
    /// Tensors of the base that changed.
    pub merged: usize,
    /// Tensors of the base that did not.
    pub copied: usize,
    /// Modules that found no place, and keys that were not understood.
    pub unmatched: Vec<Unmatched>,
    /// How many modules of each component and kind fit.
    pub coverage: Vec<Coverage>,
    /// How much each part of the model changed.
    pub blocks: Vec<BlockChange>,
    /// ‖ΔW‖/‖W‖ over all changed weights.
    pub relative_change: f64,
    /// Share of changed elements whose update was lost to rounding in the output's type.
    pub lost: f64,
    /// Modules that change nothing by construction (all-zero `up`).
    pub no_effect: Vec<String>,
    /// What a user should know.
    pub notes: Vec<String>,
    /// Size of the base's weights in bytes.
    pub bytes: u64,
    /// Wall time.
    pub seconds: f64,
}

/// Modules of one component and kind.
#[derive(Debug, Clone, Serialize)]
pub struct Coverage {
    /// Which model.
    pub component: Component,
    /// Which kind of module.
    pub kind: Kind,
    /// How many fit.
    pub matched: usize,
    /// How many the adapters have.
    pub of: usize,
}

/// The change of one block.
#[derive(Debug, Clone, Serialize)]
pub struct BlockChange {
    /// Which model.
    pub component: Component,
    /// Which block of it.
    pub block: String,
    /// ‖ΔW‖/‖W‖ over its changed weights.
    pub relative_change: f64,
    /// Share of its changed elements that rounding left as they were.
    pub lost: f64,
}

impl Report {
    pub(super) fn new(
        request: &Request<'_>,
        fits: &[Fit<'_>],
        plan: &Plan<'_>,
        changes: &[TensorEffect],
        time: Duration,
    ) -> Self {
        let tensors: usize =
            request.base.files.iter().map(|file| file.file.entries().count()).sum();
        let merged = plan.tensors.len();
        let mut total = Effect::default();
        let mut blocks: BTreeMap<(Component, String), Effect> = BTreeMap::new();
        for change in changes {
            total.add(&change.effect);
            let block = (change.id.component, change.id.block());
            blocks.entry(block).or_default().add(&change.effect);
        }
        let mut blocks: Vec<BlockChange> = blocks
            .into_iter()
            .map(|((component, block), effect)| BlockChange {
                component,
                block,
                relative_change: effect.relative(),
                lost: effect.lost_share(),
            })
            .collect();
        blocks.sort_by_key(|a| natural(&a.block));
        blocks.sort_by_key(|change| change.component);
        Self {
            out: request.out.to_owned(),
            base: request.base.describe(),
            modules: fits.iter().map(|fit| fit.matched.len()).sum(),
            merged,
            copied: tensors - merged,
            unmatched: fits.iter().flat_map(|fit| fit.unmatched.clone()).collect(),
            coverage: coverage(fits),
            blocks,
            relative_change: total.relative(),
            lost: total.lost_share(),
            no_effect: request.adapters.iter().flat_map(|a| a.adapter.without_effect()).collect(),
            notes: notes(request, fits, plan),
            bytes: request.base.size(),
            seconds: time.as_secs_f64(),
        }
    }
}

impl Effect {
    fn relative(&self) -> f64 {
        if self.weight > 0.0 { (self.delta / self.weight).sqrt() } else { 0.0 }
    }

    fn lost_share(&self) -> f64 {
        if self.touched > 0 { self.lost as f64 / self.touched as f64 } else { 0.0 }
    }
}

/// Numbers in names sort by value.
fn natural(name: &str) -> Vec<(String, u64)> {
    name.split('.')
        .map(|part| (part.to_owned(), part.parse().unwrap_or(0)))
        .map(|(t, n)| {
            let text = if n > 0 || t == "0" { String::new() } else { t };
            (text, n)
        })
        .collect()
}

fn coverage(fits: &[Fit<'_>]) -> Vec<Coverage> {
    let mut all: BTreeMap<(Component, Kind), (usize, usize)> = BTreeMap::new();
    for (key, (matched, of)) in fits.iter().flat_map(|fit| &fit.coverage) {
        let sum = all.entry(*key).or_default();
        *sum = (sum.0 + matched, sum.1 + of);
    }
    all.into_iter()
        .map(|((component, kind), (matched, of))| Coverage { component, kind, matched, of })
        .collect()
}

fn notes(request: &Request<'_>, fits: &[Fit<'_>], plan: &Plan<'_>) -> Vec<String> {
    let mut notes: Vec<String> = fits.iter().flat_map(|fit| fit.notes.clone()).collect();
    if plan.untied.is_some() {
        notes.push(
            "the base ties `lm_head` to its embedding; the merged model has both, untied, since only one of them changed alike".to_owned(),
        );
    }
    let before = matches!(request.base.shape, Shape::Pipeline | Shape::Model(_));
    if before && plan.components().is_empty() {
        notes.push("no tensor changed".to_owned());
    }
    notes
}

/// The metadata key under which a merged file names its adapters.
pub(super) const MERGED: &str = "lora_eval.merged";

/// What a merged file says about where it came from, beside the metadata of the base's file.
pub(super) fn provenance(request: &Request<'_>, file: &TensorFile) -> BTreeMap<String, String> {
    let mut metadata = file.metadata().clone();
    // Hashes of the base's own tensors are no longer true.
    metadata.retain(|key, _| key != "modelspec.hash_sha256" && !key.starts_with("sshs_"));
    let earlier = metadata.remove(MERGED);
    let tags = earlier.into_iter().chain(request.adapters.iter().map(tag));
    metadata.insert(MERGED.to_owned(), tags.collect::<Vec<_>>().join(" "));
    metadata
}

/// The adapter as a prompt would name it.
fn tag(input: &Weighted) -> String {
    let (name, blocks) = (&input.adapter.name, block_argument(&input.blocks));
    if input.text_encoder == input.unet {
        format!("<lora:{name}:{}{blocks}>", input.unet)
    } else {
        format!("<lora:{name}:{}:{}{blocks}>", input.text_encoder, input.unet)
    }
}
