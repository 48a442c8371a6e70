//! Layer normalisation.

use candle_core::{CpuStorage, CustomOp3, D, DType, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::cpu::norm::layer_norm;
use super::cpu::norm_backward::layer_norm_backward;
use super::cpu::{slice, values};

/// `y = (x − mean(x)) / √(var(x) + ε) ⊙ w + b` over the last axis (Ba, Kiros and Hinton, 2016).
#[derive(Debug, Clone)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    epsilon: f64,
}

impl LayerNorm {
    /// `weight` and `bias` are (width).
    pub fn new(weight: Tensor, bias: Tensor, epsilon: f64) -> Self {
        Self { weight, bias, epsilon }
    }

    /// Applies it to (…, width).
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if x.device().is_cpu() && x.dtype() == DType::F32 {
            let op = Fused { epsilon: self.epsilon };
            return x.contiguous()?.apply_op3(&self.weight, &self.bias, op);
        }
        let (n, _) = standardize(&x.to_dtype(DType::F32)?, self.epsilon)?;
        let scaled = n.broadcast_mul(&self.weight.to_dtype(DType::F32)?)?;
        scaled.broadcast_add(&self.bias.to_dtype(DType::F32)?)?.to_dtype(x.dtype())
    }
}

/// `n = (x − mean)·r` and `r = 1/√(var + ε)` over the last axis.
pub(super) fn standardize(x: &Tensor, epsilon: f64) -> Result<(Tensor, Tensor)> {
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let r = (centred.sqr()?.mean_keepdim(D::Minus1)? + epsilon)?.sqrt()?.recip()?;
    Ok((centred.broadcast_mul(&r)?, r))
}

struct Fused {
    epsilon: f64,
}

/// Numbers of a task.
const TASK: usize = 1 << 14;

impl CustomOp3 for Fused {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, w, b) = (values(x, x_layout)?, values(w, w_layout)?, values(b, b_layout)?);
        let width = w.len().max(1);
        if x_layout.dims().last() != Some(&w.len()) || b.len() != w.len() {
            bail!(
                "a layer norm of {} and {} numbers over {:?}",
                w.len(),
                b.len(),
                x_layout.shape()
            );
        }
        let mut y = vec![0.0; x.len()];
        let rows = (TASK / width).max(1) * width;
        let some = |(y, x): (&mut [f32], &[f32])| layer_norm(x, (w, b), self.epsilon, y);
        if x.len() <= rows {
            some((&mut y, x));
        } else {
            y.par_chunks_mut(rows).zip(x.par_chunks(rows)).for_each(some);
        }
        Ok((CpuStorage::F32(y), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let dx = x.track_op().then(|| self.of_input(x, w, &gradient)).transpose()?;
        let rows = ((), b.dim(0)?);
        let of_weight = || {
            let (n, _) = standardize(x, self.epsilon)?;
            (&gradient * n)?.reshape(rows)?.sum(0)
        };
        let dw = w.track_op().then(of_weight).transpose()?;
        let db = b.track_op().then(|| gradient.reshape(rows)?.sum(0)).transpose()?;
        Ok((dx, dw, db))
    }
}

impl Fused {
    /// The gradient for x.
    fn of_input(&self, x: &Tensor, w: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        let held = [x, w, gradient].map(Tensor::storage_and_layout);
        let [values, w, g] = held.each_ref().map(|(storage, layout)| slice(storage, layout));
        let (values, w, g) = (values?, w?, g?);
        let mut dx = vec![0.0; values.len()];
        let width = w.len().max(1);
        let rows = (TASK / width).max(1) * width;
        let parts = values.par_chunks(rows).zip(g.par_chunks(rows));
        dx.par_chunks_mut(rows).zip(parts).for_each(|(dx, (x, g))| {
            layer_norm_backward(x, w, g, self.epsilon, dx);
        });
        Tensor::from_vec(dx, x.shape(), x.device())
    }
}
