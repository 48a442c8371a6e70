//! A two-dimensional convolution.

use candle_core::{DType, Device, Result, Tensor};

use super::Strengths;
use super::changes::{Attachment, added, row_delta, rows_of, scaled};
use super::weight::to_candle;
use crate::adapter::{Delta, Module, RowDelta};
use crate::tensors;

/// Stride, padding, dilation and groups, the same along both axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvConfig {
    /// Step.
    pub stride: usize,
    /// Zeros on each side.
    pub padding: usize,
    /// Distance of the kernel's positions.
    pub dilation: usize,
    /// Groups of channels.
    pub groups: usize,
}

impl Default for ConvConfig {
    fn default() -> Self {
        Self { stride: 1, padding: 0, dilation: 1, groups: 1 }
    }
}

/// `y = x ∗ W + b` with adapters: x (rows, in, h, w), W (out, in / groups, kh, kw).
///
/// A LoRA of a convolution is a convolution by A (rank, in, kh, kw) of the same stride and padding
/// and one by B (out, rank, 1, 1), as in LoCon and PEFT.
#[derive(Debug, Clone)]
pub struct Conv2d {
    weight: Tensor,
    bias: Option<Tensor>,
    config: ConvConfig,
    low_rank: Vec<LowRank>,
    dense: Vec<(usize, Tensor)>,
    biases: Vec<(usize, Tensor)>,
}

#[derive(Debug, Clone)]
struct LowRank {
    adapter: usize,
    scale: f32,
    /// (rank, in, kh, kw)
    a: Tensor,
    /// (out, rank, 1, 1)
    b: Tensor,
}

impl Conv2d {
    /// A convolution with a frozen weight and bias (out).
    pub fn new(weight: Tensor, bias: Option<Tensor>, config: ConvConfig) -> Self {
        let (low_rank, dense, biases) = (Vec::new(), Vec::new(), Vec::new());
        Self { weight, bias, config, low_rank, dense, biases }
    }

    /// A convolution with the weight of a file for `device`, rounded to `stored` first where that is
    /// asked for.
    pub fn load(
        weight: &tensors::Tensor,
        bias: Option<Tensor>,
        config: ConvConfig,
        (stored, computed): (Option<DType>, DType),
        device: &Device,
    ) -> Result<Self> {
        let weight = match stored {
            Some(stored) => to_candle(weight, stored, device)?.to_dtype(computed)?,
            None => to_candle(weight, computed, device)?,
        };
        Ok(Self::new(weight, bias, config))
    }

    /// Number of output channels.
    pub fn outputs(&self) -> Result<usize> {
        self.weight.dim(0)
    }

    /// Attaches a module as adapter number `adapter` of [`Strengths`].
    pub fn attach(
        &mut self,
        adapter: usize,
        module: &Module,
        device: &Device,
    ) -> std::result::Result<(), Attachment> {
        let (out, _, kh, kw) = self.weight.dims4()?;
        let shape = self.weight.dims().to_vec();
        if let Some(delta) = RowDelta::of_bias(module, out, 1.0)? {
            if self.bias.is_none() {
                let reason = "it changes a bias, and the base's module has none";
                return Err(Attachment::Unsupported(reason));
            }
            let (mut values, zeros) = (vec![0.0; out], vec![0.0; out]);
            delta.add_rows(0..out, &zeros, &mut values);
            self.biases.push((adapter, Tensor::from_vec(values, out, device)?));
        }
        let Some(delta) = &module.weight else { return Ok(()) };
        if let Delta::LowRank { down, up, mid: None } = delta
            && module.magnitude.is_none()
            && self.config.groups == 1
        {
            RowDelta::new(module, &shape, false, 1.0)?;
            let rank = down.shape().first().copied().unwrap_or(0);
            let a = to_candle(&down.reshape(vec![rank, shape[1], kh, kw]), DType::F32, device)?;
            let b = to_candle(&up.reshape(vec![out, rank, 1, 1]), DType::F32, device)?;
            self.attach_low_rank(adapter, module.scale, a, b);
            return Ok(());
        }
        let base = self.weight.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        let delta = row_delta(module, &shape, &base)?;
        self.dense.push((adapter, Tensor::from_vec(delta, shape, device)?));
        Ok(())
    }

    /// Attaches `scale·B∘A` with `a` (rank, in, kh, kw) and `b` (out, rank, 1, 1), which may be
    /// variables.
    pub fn attach_low_rank(&mut self, adapter: usize, scale: f32, a: Tensor, b: Tensor) {
        self.low_rank.push(LowRank { adapter, scale, a, b });
    }

    /// Applies the convolution.
    pub fn forward(&self, x: &Tensor, strengths: &Strengths) -> Result<Tensor> {
        let mut y = self.convolve(x, &self.weight)?;
        if let Some(bias) = &self.bias {
            y = y.broadcast_add(&bias.reshape((1, (), 1, 1))?)?;
        }
        y = self.add_low_rank(y, x, strengths)?;
        for (adapter, delta) in &self.dense {
            let Some(active) = strengths.active(&[(*adapter, 1.0)], x.device())? else { continue };
            let x = rows_of(x, &active)?;
            let change = scaled(&self.convolve(&x, delta)?, &active.factors)?;
            y = added(&y, &change, &active)?;
        }
        for (adapter, bias) in &self.biases {
            let Some(active) = strengths.active(&[(*adapter, 1.0)], x.device())? else { continue };
            let mut shape = y.dims().to_vec();
            shape[0] = active.factors.dim(0)?;
            let change = bias.reshape((1, (), 1, 1))?.broadcast_as(shape)?.contiguous()?;
            y = added(&y, &scaled(&change, &active.factors)?, &active)?;
        }
        Ok(y)
    }

    /// All A's in one convolution, all B's in another.
    fn add_low_rank(&self, y: Tensor, x: &Tensor, strengths: &Strengths) -> Result<Tensor> {
        if self.low_rank.is_empty() {
            return Ok(y);
        }
        let mut columns = Vec::new();
        for part in &self.low_rank {
            columns.extend(vec![(part.adapter, part.scale); part.a.dim(0)?]);
        }
        let Some(active) = strengths.active(&columns, x.device())? else { return Ok(y) };
        let a: Vec<&Tensor> = self.low_rank.iter().map(|part| &part.a).collect();
        let b: Vec<&Tensor> = self.low_rank.iter().map(|part| &part.b).collect();
        let x = rows_of(x, &active)?;
        let inner = self.convolve(&x, &Tensor::cat(&a, 0)?)?;
        let (rows, _, ranks) = active.factors.dims3()?;
        let inner = inner.broadcast_mul(&active.factors.reshape((rows, ranks, 1, 1))?)?;
        let change = inner.conv2d(&Tensor::cat(&b, 1)?.contiguous()?, 0, 1, 1, 1)?;
        added(&y, &change, &active)
    }

    fn convolve(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        let ConvConfig { stride, padding, dilation, groups } = self.config;
        x.to_dtype(weight.dtype())?.conv2d(weight, padding, stride, dilation, groups)
    }
}
