//! Rotary position embedding (Su et al., 2021), in the half-split form of transformers.

use candle_core::{CpuStorage, CustomOp3, D, DType, Device, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::cpu::values;

/// Cosines and sines for the tokens of a batch.
#[derive(Debug, Clone)]
pub struct Angles {
    /// (rows, length, half)
    cos: Tensor,
    /// (rows, length, half)
    sin: Tensor,
}

impl Angles {
    /// From values in the order (rows, length, half).
    pub fn new(
        cos: Vec<f32>,
        sin: Vec<f32>,
        shape: (usize, usize, usize),
        device: &Device,
    ) -> Result<Self> {
        let cos = Tensor::from_vec(cos, shape, device)?;
        Ok(Self { cos, sin: Tensor::from_vec(sin, shape, device)? })
    }

    /// Turns the first `2·half` features of each head: x is (rows, heads, length, width).
    pub fn rotate(&self, x: &Tensor) -> Result<Tensor> {
        let half = self.cos.dim(2)?;
        let width = x.dim(D::Minus1)?;
        if 2 * half > width {
            bail!("cannot turn {} features of a head of {width}", 2 * half);
        }
        if x.device().is_cpu() && x.dtype() == DType::F32 {
            return x.contiguous()?.apply_op3(&self.cos, &self.sin, Rotate { inverse: false });
        }
        let cos = self.cos.unsqueeze(1)?.to_dtype(x.dtype())?;
        let sin = self.sin.unsqueeze(1)?.to_dtype(x.dtype())?;
        let first = x.narrow(D::Minus1, 0, half)?;
        let second = x.narrow(D::Minus1, half, half)?;
        let turned = [
            (first.broadcast_mul(&cos)? - second.broadcast_mul(&sin)?)?,
            (second.broadcast_mul(&cos)? + first.broadcast_mul(&sin)?)?,
            x.narrow(D::Minus1, 2 * half, width - 2 * half)?,
        ];
        let parts = if 2 * half == width { &turned[..2] } else { &turned[..] };
        Tensor::cat(parts, D::Minus1)
    }
}

/// Fewer numbers than this are not worth a second thread.
const ALONE: usize = 1 << 15;

struct Rotate {
    inverse: bool,
}

impl CustomOp3 for Rotate {
    fn name(&self) -> &'static str {
        "rotary"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        cos: &CpuStorage,
        cos_layout: &Layout,
        sin: &CpuStorage,
        sin_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, heads, length, width) = layout.shape().dims4()?;
        let (r, l, half) = cos_layout.shape().dims3()?;
        if (r, l) != (rows, length) {
            bail!("angles for ({r}, {l}) tokens, found ({rows}, {length})");
        }
        let (x, cos, sin) =
            (values(x, layout)?, values(cos, cos_layout)?, values(sin, sin_layout)?);
        let mut y = x.to_vec();
        let sign = if self.inverse { -1.0 } else { 1.0 };
        let turn = |(head, y): (usize, &mut [f32])| {
            let row = head / heads * length * half;
            for (t, y) in y.chunks_exact_mut(width).enumerate() {
                let at = row + t * half..row + (t + 1) * half;
                let (first, second) = y[..2 * half].split_at_mut(half);
                for (((a, b), cos), sin) in
                    first.iter_mut().zip(second).zip(&cos[at.clone()]).zip(&sin[at])
                {
                    let sin = sin * sign;
                    (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                }
            }
        };
        let head = (length * width).max(1);
        if x.len() <= ALONE {
            y.chunks_mut(head).enumerate().for_each(turn);
        } else {
            y.par_chunks_mut(head).enumerate().for_each(turn);
        }
        Ok((CpuStorage::F32(y), layout.shape().clone()))
    }

    /// A rotation's transpose turns back.
    fn bwd(
        &self,
        _: &Tensor,
        cos: &Tensor,
        sin: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let back = Self { inverse: !self.inverse };
        Ok((Some(gradient.contiguous()?.apply_op3(cos, sin, back)?), None, None))
    }
}
