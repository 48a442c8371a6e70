//! Group normalisation.

use candle_core::{DType, Result, Tensor};

/// Normalises groups of channels of (rows, channels, …) (Wu and He, 2018).
#[derive(Debug, Clone)]
pub struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: usize,
    epsilon: f64,
}

impl GroupNorm {
    /// `weight` and `bias` are (channels).
    pub fn new(weight: Tensor, bias: Tensor, groups: usize, epsilon: f64) -> Self {
        Self { weight, bias, groups, epsilon }
    }

    /// Applies it.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (rows, channels) = (x.dim(0)?, x.dim(1)?);
        let wide = x.to_dtype(DType::F32)?.reshape((rows, self.groups, ()))?;
        let centred = wide.broadcast_sub(&wide.mean_keepdim(2)?)?;
        let scale = (centred.sqr()?.mean_keepdim(2)? + self.epsilon)?.sqrt()?.recip()?;
        let y = centred.broadcast_mul(&scale)?.reshape((rows, channels, ()))?;
        let y = y.broadcast_mul(&self.weight.reshape((1, channels, 1))?)?;
        let y = y.broadcast_add(&self.bias.reshape((1, channels, 1))?)?;
        y.reshape(x.shape())?.to_dtype(x.dtype())
    }

    /// Applies it, then SiLU.
    pub fn forward_silu(&self, x: &Tensor) -> Result<Tensor> {
        self.forward(x)?.silu()
    }
}
