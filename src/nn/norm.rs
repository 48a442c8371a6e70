//! Root-mean-square normalisation.

use candle_core::{CpuStorage, CustomOp2, D, DType, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::cpu::norm::inverse_rms;
use super::cpu::norm_backward::rms_norm_backward;
use super::cpu::{slice, values};

/// `y = x / √(mean(x²) + ε) ⊙ w` over the last axis (Zhang and Sennrich, 2019).
#[derive(Debug, Clone)]
pub struct RmsNorm {
    weight: Tensor,
    epsilon: f64,
}

impl RmsNorm {
    /// `weight` is (width); Gemma's, which is stored less 1, is given with 1 added.
    pub fn new(weight: Tensor, epsilon: f64) -> Self {
        Self { weight, epsilon }
    }

    /// Applies it to (…, width).
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        if x.device().is_cpu() && x.dtype() == DType::F32 {
            return x.contiguous()?.apply_op2(&self.weight, Fused { epsilon: self.epsilon });
        }
        let wide = x.to_dtype(DType::F32)?;
        let scale = ((wide.sqr()?.mean_keepdim(D::Minus1)? + self.epsilon)?.sqrt()?).recip()?;
        let weight = self.weight.to_dtype(DType::F32)?;
        wide.broadcast_mul(&scale)?.broadcast_mul(&weight)?.to_dtype(x.dtype())
    }
}

struct Fused {
    epsilon: f64,
}

impl CustomOp2 for Fused {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, w) = (values(x, x_layout)?, values(w, w_layout)?);
        let mut y = vec![0.0; x.len()];
        let width = w.len().max(1);
        let rows = ROWS_A_TASK * width;
        let some = |(y, x): (&mut [f32], &[f32])| {
            for (y, x) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                let scale = inverse_rms(x, self.epsilon);
                for ((y, x), w) in y.iter_mut().zip(x).zip(w) {
                    *y = x * scale * w;
                }
            }
        };
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
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let gradient = gradient.contiguous()?;
        let dx = x.track_op().then(|| self.of_input(x, w, &gradient)).transpose()?;
        let of_weight = || {
            let r = ((x.sqr()?.mean_keepdim(D::Minus1)? + self.epsilon)?.sqrt()?).recip()?;
            (&gradient * x.broadcast_mul(&r)?)?.reshape(((), w.dim(0)?))?.sum(0)
        };
        Ok((dx, w.track_op().then(of_weight).transpose()?))
    }
}

impl Fused {
    /// The gradient for x.
    fn of_input(&self, x: &Tensor, w: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        let held = [x, w, gradient].map(Tensor::storage_and_layout);
        let [values, w, g] = held.each_ref().map(|(storage, layout)| slice(storage, layout));
        let (values, w, g) = (values?, w?, g?);
        let mut dx = vec![0.0; values.len()];
        let rows = ROWS_A_TASK * w.len().max(1);
        let parts = values.par_chunks(rows).zip(g.par_chunks(rows));
        dx.par_chunks_mut(rows).zip(parts).for_each(|(dx, (x, g))| {
            rms_norm_backward(x, w, g, self.epsilon, dx);
        });
        Tensor::from_vec(dx, x.shape(), x.device())
    }
}

const ROWS_A_TASK: usize = 32;
