//! Layer normalisation.

use candle_core::{D, DType, Result, Tensor};

/// `y = (x − mean) / √(var + ε) ⊙ w + b` over the last axis (Ba et al., 2016).
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
        let wide = x.to_dtype(DType::F32)?;
        let centred = wide.broadcast_sub(&wide.mean_keepdim(D::Minus1)?)?;
        let scale = (centred.sqr()?.mean_keepdim(D::Minus1)? + self.epsilon)?.sqrt()?.recip()?;
        let y = centred.broadcast_mul(&scale)?.broadcast_mul(&self.weight)?;
        y.broadcast_add(&self.bias)?.to_dtype(x.dtype())
    }
}
