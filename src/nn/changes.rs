//! What adapters add to a layer.

use std::ops::Range;

use candle_core::{DType, Device, Result, Tensor};

use super::strengths::{Active, Slot, Strengths};
use super::weight::{Weight, linear, to_candle};
use crate::adapter::{Delta, Misfit, Module, RowDelta};

/// Which rows of a layer's output a module speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// All of them.
    Whole,
    /// These: the layer is fused from several (`qkv_proj`), the module is of one of them.
    Into(Range<usize>),
}

/// Why an adapter's module cannot be attached to a layer.
#[derive(Debug, thiserror::Error)]
pub enum Attachment {
    /// Its shape is another.
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// Its kind cannot be applied in this place.
    #[error("{0}")]
    Unsupported(&'static str),
    /// The device refused.
    #[error(transparent)]
    Device(#[from] candle_core::Error),
}

/// One adapter's low-rank product in one layer.
#[derive(Debug, Clone)]
struct LowRank {
    slot: Slot,
    scale: f32,
    /// (rank, in)
    a: Tensor,
    /// (out, rank)
    b: Tensor,
}

/// Low-rank products side by side.
#[derive(Debug, Clone)]
struct Stack {
    /// Slot and scale of each column of A·x.
    columns: Vec<(Slot, f32)>,
    a: Tensor,
    b: Tensor,
}

/// A change that is no low-rank product, at strength 1.
#[derive(Debug, Clone)]
struct Dense {
    slot: Slot,
    /// (rows, in)
    delta: Weight,
    /// Where the rows stand in the output.
    rows: Range<usize>,
}

/// Everything that adapters add to a layer with weight (out, in).
#[derive(Debug, Clone, Default)]
pub struct Changes {
    low_rank: Vec<LowRank>,
    stack: Option<Stack>,
    dense: Vec<Dense>,
    biases: Vec<(Slot, Tensor)>,
}

impl Changes {
    /// Takes a module's change of `weight`, whose bias (if any) has one number an output.
    pub fn attach(
        &mut self,
        (slot, module): (Slot, &Module),
        part: &Part,
        weight: &Weight,
        device: &Device,
    ) -> std::result::Result<(), Attachment> {
        let (out, columns) = weight.shape()?;
        let rows = match part {
            Part::Into(rows) => rows.clone(),
            Part::Whole => 0..out,
        };
        self.attach_bias((slot, module), (rows.clone(), out), device)?;
        let Some(delta) = &module.weight else { return Ok(()) };
        if let Delta::LowRank { down, up, mid: None } = delta
            && module.magnitude.is_none()
            && !module.transposed
        {
            // checks the shapes, with the words that merging uses
            RowDelta::new(module, &[rows.len(), columns], false, 1.0)?;
            let rank = down.shape().first().copied().unwrap_or(0);
            let a = to_candle(&down.reshape(vec![rank, columns]), DType::F32, device)?;
            let b = to_candle(&up.reshape(vec![rows.len(), rank]), DType::F32, device)?;
            let b = match part {
                Part::Whole => b,
                Part::Into(rows) => b.pad_with_zeros(0, rows.start, out - rows.end)?,
            };
            return Ok(self.attach_low_rank(slot, module.scale, a, b)?);
        }
        let delta = dense_delta(module, weight, rows.clone())?;
        let delta = Tensor::from_vec(delta, (rows.len(), columns), device)?;
        self.dense.push(Dense { slot, delta: Weight::Dense(delta), rows });
        Ok(())
    }

    /// Adds a product `scale·B·A`; `a` is (rank, in), `b` (out, rank). Both may be variables.
    pub fn attach_low_rank(&mut self, slot: Slot, scale: f32, a: Tensor, b: Tensor) -> Result<()> {
        self.low_rank.push(LowRank { slot, scale, a, b });
        self.stack = None;
        let trained = self.low_rank.iter().any(|part| part.a.is_variable() || part.b.is_variable());
        if !trained || self.low_rank.len() == 1 {
            self.stack = Some(self.stacked()?);
        }
        Ok(())
    }

    fn attach_bias(
        &mut self,
        (slot, module): (Slot, &Module),
        (rows, out): (Range<usize>, usize),
        device: &Device,
    ) -> std::result::Result<(), Attachment> {
        let Some(delta) = RowDelta::of_bias(module, rows.len(), 1.0)? else { return Ok(()) };
        let mut values = vec![0.0; rows.len()];
        let zeros = values.clone();
        delta.add_rows(0..rows.len(), &zeros, &mut values);
        let bias = Tensor::from_vec(values, rows.len(), device)?;
        self.biases.push((slot, bias.pad_with_zeros(0, rows.start, out - rows.end)?));
        Ok(())
    }

    fn stacked(&self) -> Result<Stack> {
        let mut columns = Vec::new();
        for part in &self.low_rank {
            columns.extend(vec![(part.slot, part.scale); part.a.dim(0)?]);
        }
        let (a, b) = match self.low_rank.as_slice() {
            [one] => (one.a.clone(), one.b.clone()),
            all => {
                let side = |of: fn(&LowRank) -> &Tensor| all.iter().map(of).collect::<Vec<_>>();
                (Tensor::cat(&side(|p| &p.a), 0)?, Tensor::cat(&side(|p| &p.b), 1)?.contiguous()?)
            }
        };
        Ok(Stack { columns, a, b })
    }

    /// `y` with the changes of the rows whose strengths are not 0; the other rows keep their bits.
    /// `x` is (rows, …, in), `y` (rows, …, out).
    pub fn apply(&self, y: Tensor, x: &Tensor, strengths: &Strengths) -> Result<Tensor> {
        let mut y = y;
        if !self.low_rank.is_empty() {
            let stack = match &self.stack {
                Some(stack) => stack.clone(),
                None => self.stacked()?,
            };
            if let Some(active) = strengths.active(&stack.columns, x.device())? {
                let inner = linear(&rows_of(x, &active)?, &stack.a)?;
                let inner = scaled(&inner, &active.factors)?;
                y = added(&y, &linear(&inner, &stack.b)?, &active)?;
            }
        }
        for dense in &self.dense {
            let Some(active) = strengths.active(&[(dense.slot, 1.0)], x.device())? else {
                continue;
            };
            let change = scaled(&dense.delta.forward(&rows_of(x, &active)?)?, &active.factors)?;
            let last = change.rank() - 1;
            let after = y.dim(last)? - dense.rows.end;
            y = added(&y, &change.pad_with_zeros(last, dense.rows.start, after)?, &active)?;
        }
        for (slot, bias) in &self.biases {
            let Some(active) = strengths.active(&[(*slot, 1.0)], x.device())? else { continue };
            let mut shape = y.dims().to_vec();
            shape[0] = active.factors.dim(0)?;
            let change = scaled(&bias.broadcast_as(shape)?.contiguous()?, &active.factors)?;
            y = added(&y, &change, &active)?;
        }
        Ok(y)
    }
}

/// The rows of `x` that take part, in f32: the product with A loses too much in 16 bits.
pub(super) fn rows_of(x: &Tensor, active: &Active) -> Result<Tensor> {
    active.of(x)?.to_dtype(DType::F32)
}

/// (active, …, columns) times (active, 1, columns) or (active, 1, 1).
pub(super) fn scaled(x: &Tensor, factors: &Tensor) -> Result<Tensor> {
    let mut shape = vec![1; x.rank()];
    shape[0] = factors.dim(0)?;
    shape[x.rank() - 1] = factors.dim(2)?;
    x.broadcast_mul(&factors.reshape(shape)?)
}

/// `y` plus `change` in the active rows.
pub(super) fn added(y: &Tensor, change: &Tensor, active: &Active) -> Result<Tensor> {
    let change = change.to_dtype(y.dtype())?;
    match &active.rows {
        None => y + change,
        Some(rows) => y.index_add(rows, &change.contiguous()?, 0),
    }
}

/// Δ of `module` at strength 1 for these rows of `weight`, row-major.
pub(super) fn dense_delta(
    module: &Module,
    weight: &Weight,
    rows: Range<usize>,
) -> std::result::Result<Vec<f32>, Attachment> {
    let (_, columns) = weight.shape()?;
    let base = weight.rows(rows.clone())?;
    row_delta(module, &[rows.len(), columns], &base)
}

/// Δ of `module` at strength 1 for a weight of `shape` with the values `base`.
pub(super) fn row_delta(
    module: &Module,
    shape: &[usize],
    base: &[f32],
) -> std::result::Result<Vec<f32>, Attachment> {
    let rows = shape.first().copied().unwrap_or(1);
    let mut values = vec![0.0; base.len()];
    if let Some(mut delta) = RowDelta::new(module, shape, false, 1.0)? {
        if delta.needs_column_norms() {
            delta.see_rows(0..rows, base);
        }
        delta.add_rows(0..rows, base, &mut values);
    }
    Ok(values)
}
