//! An embedding table.

use candle_core::{DType, Device, Result, Tensor};

use super::changes::{Attachment, added, row_delta, scaled};
use super::weight::{linear, to_candle};
use super::{Slot, Strengths, Weight};
use crate::adapter::{Delta, Module};

/// Rows of a table (tokens, width), with adapters.
///
/// ΔE = L·R with L (tokens, rank) and R (rank, width), so a token's change is `L[token]·R`.
#[derive(Debug, Clone)]
pub struct Embedding {
    weight: Weight,
    dtype: DType,
    low_rank: Vec<LowRank>,
    dense: Vec<(Slot, Tensor)>,
}

#[derive(Debug, Clone)]
struct LowRank {
    slot: Slot,
    scale: f32,
    /// (tokens, rank)
    left: Tensor,
    /// (width, rank): Rᵀ
    right: Tensor,
}

impl Embedding {
    /// A frozen table; what is looked up has the type `dtype`.
    pub fn new(weight: Weight, dtype: DType) -> Self {
        Self { weight, dtype, low_rank: Vec::new(), dense: Vec::new() }
    }

    /// The table.
    pub fn weight(&self) -> &Weight {
        &self.weight
    }

    /// Attaches a module; `slot` may be the number of its adapter alone, see [`Slot`].
    pub fn attach(
        &mut self,
        slot: impl Into<Slot>,
        module: &Module,
        device: &Device,
    ) -> std::result::Result<(), Attachment> {
        let slot = slot.into();
        let (tokens, width) = self.weight.shape()?;
        let Some(delta) = &module.weight else { return Ok(()) };
        if let Delta::LowRank { down, up, mid: None } = delta
            && module.magnitude.is_none()
        {
            crate::adapter::RowDelta::new(module, &[tokens, width], false, 1.0)?;
            let rank = down.shape().first().copied().unwrap_or(0);
            let load = |tensor: &crate::tensors::Tensor, shape: [usize; 2]| {
                to_candle(&tensor.reshape(shape.to_vec()), DType::F32, device)
            };
            // PEFT's A is (rank, tokens) and B (width, rank): ΔE = (B·A)ᵀ
            let (left, right) = if module.transposed {
                (load(down, [rank, tokens])?.t()?.contiguous()?, load(up, [width, rank])?)
            } else {
                (load(up, [tokens, rank])?, load(down, [rank, width])?.t()?.contiguous()?)
            };
            self.attach_low_rank(slot, module.scale, left, right);
            return Ok(());
        }
        let base = self.weight.rows(0..tokens)?;
        let delta = row_delta(module, &[tokens, width], &base)?;
        self.dense.push((slot, Tensor::from_vec(delta, (tokens, width), device)?));
        Ok(())
    }

    /// Attaches `scale·left·rightᵀ` with `left` (tokens, rank) and `right` (width, rank), which may
    /// be variables.
    pub fn attach_low_rank(
        &mut self,
        slot: impl Into<Slot>,
        scale: f32,
        left: Tensor,
        right: Tensor,
    ) {
        self.low_rank.push(LowRank { slot: slot.into(), scale, left, right });
    }

    /// Looks up `ids` (rows, length) u32: (rows, length, width).
    pub fn forward(&self, ids: &Tensor, strengths: &Strengths) -> Result<Tensor> {
        let mut y = self.weight.gather(ids, self.dtype)?;
        for part in &self.low_rank {
            let rank = part.left.dim(1)?;
            let columns = vec![(part.slot, part.scale); rank];
            let Some(active) = strengths.active(&columns, ids.device())? else { continue };
            let ids = active.of(ids)?;
            let (rows, length) = ids.dims2()?;
            let inner = part.left.index_select(&ids.flatten_all()?, 0)?;
            let inner = scaled(&inner.reshape((rows, length, rank))?, &active.factors)?;
            y = added(&y, &linear(&inner, &part.right)?, &active)?;
        }
        for (slot, delta) in &self.dense {
            let Some(active) = strengths.active(&[(*slot, 1.0)], ids.device())? else {
                continue;
            };
            let ids = active.of(ids)?;
            let (rows, length) = ids.dims2()?;
            let change = delta.index_select(&ids.flatten_all()?, 0)?;
            let change = change.reshape((rows, length, delta.dim(1)?))?;
            y = added(&y, &scaled(&change, &active.factors)?, &active)?;
        }
        Ok(y)
    }
}
