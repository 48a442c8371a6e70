//! Root-mean-square normalisation.

use candle_core::{CpuStorage, CustomOp2, D, DType, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::cpu::values;

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

    /// With n = x·r and r = 1/√(mean(x²) + ε): dx = r·(g⊙w − n·mean(g⊙w⊙n)), dw = Σ g⊙n.
    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let r = ((x.sqr()?.mean_keepdim(D::Minus1)? + self.epsilon)?.sqrt()?).recip()?;
        let n = x.broadcast_mul(&r)?;
        let gw = gradient.broadcast_mul(w)?;
        let mean = (&gw * &n)?.mean_keepdim(D::Minus1)?;
        let dx = (gw - n.broadcast_mul(&mean)?)?.broadcast_mul(&r)?;
        let dw = (gradient * n)?.reshape(((), w.dim(0)?))?.sum(0)?;
        Ok((Some(dx), Some(dw)))
    }
}

const ROWS_A_TASK: usize = 32;

#[expect(clippy::cast_possible_truncation, reason = "rounds to the nearest f32")]
fn inverse_rms(x: &[f32], epsilon: f64) -> f32 {
    // eight partial sums: fast, and exact enough in f32 with at most a few thousand terms each
    let mut sums = [0.0f32; 8];
    let (chunks, rest) = x.as_chunks::<8>();
    for chunk in chunks {
        for (sum, value) in sums.iter_mut().zip(chunk) {
            *sum += value * value;
        }
    }
    let rest: f64 = rest.iter().map(|value| f64::from(*value).powi(2)).sum();
    let square = sums.iter().map(|sum| f64::from(*sum)).sum::<f64>() + rest;
    (1.0 / (square / x.len() as f64 + epsilon).sqrt()) as f32
}
