//! An adapter at a lower rank: every low-rank module by the SVD of its own product.
//!
//! The product is decomposed through thin QR factorisations of its two sides, exactly and without
//! being formed. The scale alpha/rank of every module is kept, as sd-scripts' `resize_lora.py` does.

use rayon::prelude::*;
use serde::Serialize;

use super::{Adapter, AdapterError, Delta, Module, RankRule};
use crate::linalg::{Svd, svd_of_product};
use crate::tensors::{Float, Tensor};

/// What became of one module.
#[derive(Debug, Clone, Serialize)]
pub struct Resized {
    /// The module.
    pub module: String,
    /// Rank before.
    pub from: usize,
    /// Rank after.
    pub to: usize,
    /// Share of the product's Frobenius norm that is kept.
    pub kept: f64,
}

/// The adapter with every low-rank module at the rank that `rule` chooses, `most` at the most.
/// Modules of other kinds are left as they are.
pub fn resize(
    adapter: &Adapter,
    rule: RankRule,
    most: usize,
) -> Result<(Adapter, Vec<Resized>), AdapterError> {
    let modules: Vec<&Module> = adapter.modules.values().collect();
    let done: Vec<(Module, Option<Resized>)> = modules
        .par_iter()
        .map(|module| match decompose(module)? {
            None => Ok(((*module).clone(), None)),
            Some(svd) => Ok(at_rank(module, &svd, rule, most)),
        })
        .collect::<Result<_, AdapterError>>()?;
    let mut report = Vec::new();
    let mut resized = adapter.clone();
    for (module, entry) in done {
        report.extend(entry);
        resized.modules.insert(module.id.clone(), module);
    }
    Ok((resized, report))
}

/// SVD of a low-rank module's product, without its scale.
fn decompose(module: &Module) -> Result<Option<Svd>, AdapterError> {
    let Some((left, right, (m, r, n))) = factors(module)? else {
        return Ok(None);
    };
    svd_of_product(&left, &right, (m, r, n))
        .map(Some)
        .map_err(|source| AdapterError::Decompose { module: module.key.clone(), source })
}

/// A product's sides, row-major, and its sizes (out, rank, in·kh·kw).
pub(super) type Sides = (Vec<f32>, Vec<f32>, (usize, usize, usize));

/// The two sides of a low-rank module's product; a Tucker core is multiplied into the right one.
pub(super) fn factors(module: &Module) -> Result<Option<Sides>, AdapterError> {
    let Some(Delta::LowRank { down, up, mid }) = &module.weight else {
        return Ok(None);
    };
    let r = down.shape()[0];
    let left = up.to_f32(&module.key)?;
    let right = down.to_f32(&module.key)?;
    let right = match mid {
        Some(mid) => super::delta::through_core(mid, &right, down)?,
        None => right,
    };
    let (m, n) = (left.len() / r, right.len() / r);
    Ok(Some((left, right, (m, r, n))))
}

fn at_rank(module: &Module, svd: &Svd, rule: RankRule, most: usize) -> (Module, Option<Resized>) {
    let Some(Delta::LowRank { down, up, mid }) = &module.weight else {
        return (module.clone(), None);
    };
    let from = down.shape()[0];
    let rank = rule.choose(&svd.s, most, svd.s.len(), svd.s.iter().sum(), svd.energy);
    let kept: f64 = svd.s.iter().take(rank).map(|s| s * s).sum();
    let kept = if svd.energy > 0.0 { (kept / svd.energy).sqrt() } else { 1.0 };
    let (left, right) = svd.factors(rank);
    let float = Float::of(up.dtype()).unwrap_or(Float::F32);
    let kernel = mid.as_ref().unwrap_or(down).shape().get(2..).unwrap_or(&[]).to_vec();
    let weight = low_rank((left, up.shape()), (right, down.shape()[1], &kernel), rank, float);
    let resized =
        Module { weight: Some(weight), alpha: Some(module.scale * rank as f32), ..module.clone() };
    (resized, Some(Resized { module: module.key.clone(), from, to: rank, kept }))
}

/// A low-rank change from row-major sides: `left` (out, rank) in the dimensions of `up_like`,
/// `right` (rank, in, kernel…).
pub(super) fn low_rank(
    (left, up_like): (Vec<f32>, &[usize]),
    (right, inputs, kernel): (Vec<f32>, usize, &[usize]),
    rank: usize,
    float: Float,
) -> Delta {
    let mut up_shape = vec![up_like[0], rank];
    up_shape.extend_from_slice(&up_like[2..]);
    let mut down_shape = vec![rank, inputs];
    down_shape.extend_from_slice(kernel);
    Delta::LowRank {
        up: Tensor::from_f32(up_shape, &left, float),
        down: Tensor::from_f32(down_shape, &right, float),
        mid: None,
    }
}
