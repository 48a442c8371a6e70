//! Which tensors of the base change, and by which modules at which strengths.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use super::error::MergeError;
use crate::adapter::combine::Weighted;
use crate::adapter::{Component, Module, ModuleId, RowDelta};
use crate::model::{Base, Blocks, Fit, Slot, Target};

/// The changes of a whole base.
#[derive(Debug, Default)]
pub(super) struct Plan<'a> {
    /// By file and tensor name.
    pub tensors: BTreeMap<(usize, String), Vec<Change<'a>>>,
    /// A tied head that becomes a tensor of its own: written beside the embedding.
    pub untied: Option<Untied<'a>>,
    /// The configuration must say that embeddings are not tied.
    pub untie_config: bool,
}

/// Some rows of a tensor and all that changes them.
#[derive(Debug)]
pub(super) struct Change<'a> {
    pub rows: Range<usize>,
    /// The module's shape: these rows only.
    pub shape: Vec<usize>,
    pub id: ModuleId,
    pub is_bias: bool,
    pub transposed: bool,
    pub parts: Vec<Part<'a>>,
}

/// One module at its strength.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part<'a> {
    pub module: &'a Module,
    pub strength: f32,
    /// The adapter's file, for messages.
    pub path: &'a Path,
    /// All numbers of the adapter are finite, so the result must be.
    pub finite: bool,
}

/// The head of a language model whose embedding it shares.
#[derive(Debug)]
pub(super) struct Untied<'a> {
    /// File of the embedding; the head goes there too.
    pub file: usize,
    /// The embedding's tensor.
    pub embedding: String,
    /// The head's own name.
    pub name: &'static str,
    /// What changes it; nothing if only the embedding changes.
    pub changes: Vec<Change<'a>>,
}

pub(super) const HEAD: &str = "lm_head.weight";

impl<'a> Plan<'a> {
    pub(super) fn new(
        base: &'a Base,
        adapters: &'a [Weighted],
        fits: &[Fit<'a>],
    ) -> Result<Self, MergeError> {
        let mut plan = Self::default();
        let blocks = Blocks::of(base);
        let mut head: Vec<(&'a Target, Part<'a>)> = Vec::new();
        for (input, fit) in adapters.iter().zip(fits) {
            let finite = input.adapter.not_finite().is_empty();
            let weights = weights(&blocks, input)?;
            for (module, target) in &fit.matched {
                let block = blocks.of_module(&target.id);
                let weight = block.and_then(|block| weights.get(block)).copied().unwrap_or(1.0);
                let strength = input.strength(&module.id) * weight;
                if strength == 0.0 {
                    continue; // the base itself, to the bit
                }
                let part = Part { module, strength, path: &input.adapter.path, finite };
                if target.tied {
                    head.push((target, part));
                    continue;
                }
                if module.weight.is_some() {
                    plan.add(&target.weight, target, part, false);
                }
                if let Some(slot) = target.bias.as_ref().filter(|_| module.bias.is_some()) {
                    plan.add(slot, target, part, true);
                }
            }
        }
        plan.untie(base, &head);
        for ((_, _), changes) in &plan.tensors {
            changes.iter().try_for_each(check)?;
        }
        Ok(plan)
    }

    fn add(&mut self, slot: &Slot, target: &Target, part: Part<'a>, is_bias: bool) {
        let changes = self.tensors.entry((slot.file, slot.key.clone())).or_default();
        add_to(changes, slot, target, part, is_bias);
    }

    /// Gives a tied head a tensor of its own if either side of the tie changes.
    fn untie(&mut self, base: &'a Base, head: &[(&'a Target, Part<'a>)]) {
        if let Some(pair) = &base.table.stored_tie {
            self.untie_config = pair.iter().any(|place| self.tensors.contains_key(place));
        }
        let tied = base.table.targets().find(|target| target.tied);
        let Some(target) = tied else { return };
        let place = (target.weight.file, target.weight.key.clone());
        if head.is_empty() && !self.tensors.contains_key(&place) {
            return;
        }
        let mut changes = Vec::new();
        for (target, part) in head {
            add_to(&mut changes, &target.weight, target, *part, false);
        }
        let (file, embedding) = place;
        self.untied = Some(Untied { file, embedding, name: HEAD, changes });
        self.untie_config = true;
    }

    /// Components with changes.
    pub(super) fn components(&self) -> BTreeSet<Component> {
        self.tensors.values().flatten().map(|change| change.id.component).collect()
    }
}

/// An adapter's weights of all blocks; none where all are 1.
#[expect(clippy::cast_possible_truncation, reason = "strengths are f32")]
fn weights(blocks: &Blocks, input: &Weighted) -> Result<Vec<f32>, MergeError> {
    if input.blocks.is_empty() {
        return Ok(Vec::new());
    }
    let weights = blocks
        .weights(&input.blocks)
        .map_err(|source| MergeError::Blocks { adapter: input.adapter.path.clone(), source })?;
    Ok(weights.iter().map(|weight| *weight as f32).collect())
}

fn add_to<'a>(
    changes: &mut Vec<Change<'a>>,
    slot: &Slot,
    target: &Target,
    part: Part<'a>,
    is_bias: bool,
) {
    if let Some(change) = changes.iter_mut().find(|change| change.rows == slot.rows) {
        change.parts.push(part);
    } else {
        changes.push(Change {
            rows: slot.rows.clone(),
            shape: slot.shape.clone(),
            id: target.id.clone(),
            is_bias,
            transposed: target.transposed && !is_bias,
            parts: vec![part],
        });
        changes.sort_by_key(|change| change.rows.start);
    }
}

impl Change<'_> {
    /// The changes made ready, low-rank ones in one product.
    pub(super) fn prepare(&self) -> Result<Vec<RowDelta>, MergeError> {
        let mut deltas = Vec::new();
        for Part { module, strength, path, .. } in &self.parts {
            let length = self.shape.first().copied().unwrap_or(1);
            let delta = if self.is_bias {
                RowDelta::of_bias(module, length, *strength)
            } else {
                RowDelta::new(module, &self.shape, self.transposed, *strength)
            };
            let misfit = |source| {
                let (adapter, module) = (path.to_path_buf(), module.key.clone());
                MergeError::Misfit { adapter, module, source }
            };
            deltas.extend(delta.map_err(misfit)?);
        }
        Ok(RowDelta::stacked(deltas))
    }
}

/// Small changes are prepared once beforehand, so that what cannot be applied is known before
/// anything is written; large ones were checked by their shapes.
fn check(change: &Change<'_>) -> Result<(), MergeError> {
    let odd = |module: &Module| module.magnitude.is_some() || module.extent().is_none();
    if change.is_bias || change.parts.iter().any(|part| odd(part.module)) {
        change.prepare()?;
    }
    Ok(())
}
