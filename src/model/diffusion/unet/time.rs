//! What the UNet is told about time and, in SDXL, about sizes.

use candle_core::{DType, Device, Result, Tensor};

use super::{Added, DiffusionError, Parts, UnetConfig};
use crate::nn::{Linear, Strengths};

/// `W₂·silu(W₁·sinusoids(t))`
#[derive(Debug)]
pub struct TimeEmbedding {
    linear_1: Linear,
    linear_2: Linear,
    channels: usize,
}

impl TimeEmbedding {
    pub fn load(parts: &Parts<'_>, channels: usize) -> std::result::Result<Self, DiffusionError> {
        let linear_1 = parts.linear("time_embedding.linear_1", channels)?;
        let width = linear_1.weight().shape()?.0;
        Ok(Self { linear_1, linear_2: parts.linear("time_embedding.linear_2", width)?, channels })
    }

    /// (rows, 1, width)
    pub fn forward(
        &self,
        timesteps: &[f64],
        config: &UnetConfig,
        dtype: DType,
        device: &Device,
        strengths: &Strengths,
    ) -> Result<Tensor> {
        let waves: Vec<f32> =
            timesteps.iter().flat_map(|t| sinusoids(*t, self.channels, config)).collect();
        let x = Tensor::from_vec(waves, (timesteps.len(), 1, self.channels), device)?;
        let x = self.linear_1.forward(&x.to_dtype(dtype)?, strengths)?.silu()?;
        self.linear_2.forward(&x, strengths)
    }
}

/// The same of sizes and the pooled text embedding (SDXL).
#[derive(Debug)]
pub struct AddEmbedding {
    linear_1: Linear,
    linear_2: Linear,
    /// Sinusoids of each number.
    channels: usize,
    pooled: usize,
}

/// Original, crop and target: two numbers each.
const TIME_IDS: usize = 6;

impl AddEmbedding {
    /// `None` where the model takes no such thing.
    pub fn load(parts: &Parts<'_>) -> std::result::Result<Option<Self>, DiffusionError> {
        const NAME: &str = "add_embedding.linear_1";
        if !parts.has(NAME) {
            return Ok(None);
        }
        let shape = parts.shape(NAME)?;
        let inputs = shape.get(1).copied().unwrap_or(0);
        let channels = UnetConfig::addition_channels(parts)?;
        let pooled = inputs.checked_sub(TIME_IDS * channels).filter(|pooled| *pooled > 0);
        let Some(pooled) = pooled else {
            let expected = format!("more than {TIME_IDS} × {channels} inputs");
            return Err(parts.misshapen(NAME, &shape, expected));
        };
        let linear_1 = parts.linear(NAME, inputs)?;
        let width = linear_1.weight().shape()?.0;
        let linear_2 = parts.linear("add_embedding.linear_2", width)?;
        Ok(Some(Self { linear_1, linear_2, channels, pooled }))
    }

    pub fn pooled_width(&self) -> usize {
        self.pooled
    }

    /// (rows, 1, width)
    pub fn forward(
        &self,
        added: &Added,
        config: &UnetConfig,
        dtype: DType,
        strengths: &Strengths,
    ) -> Result<Tensor> {
        let rows = added.time_ids.len();
        let waves: Vec<f32> = added
            .time_ids
            .iter()
            .flatten()
            .flat_map(|id| sinusoids(f64::from(*id), self.channels, config))
            .collect();
        let shape = (rows, TIME_IDS * self.channels);
        let waves = Tensor::from_vec(waves, shape, added.pooled.device())?.to_dtype(dtype)?;
        let x = Tensor::cat(&[&added.pooled.to_dtype(dtype)?, &waves], 1)?.unsqueeze(1)?;
        let x = self.linear_1.forward(&x.contiguous()?, strengths)?.silu()?;
        self.linear_2.forward(&x, strengths)
    }
}

/// cos(t·ωᵢ) and sin(t·ωᵢ), ωᵢ = 10000^(−i/(n/2 − shift)), in f32 as diffusers' `get_timestep_embedding`.
#[expect(clippy::cast_possible_truncation, reason = "rounds to the nearest f32")]
fn sinusoids(t: f64, channels: usize, config: &UnetConfig) -> Vec<f32> {
    let half = channels / 2;
    let period = -(10_000f64.ln()) as f32;
    let angles: Vec<f32> = (0..half)
        .map(|i| (period * i as f32 / (half as f32 - config.freq_shift)).exp() * t as f32)
        .collect();
    let sin = angles.iter().map(|angle| angle.sin());
    let cos = angles.iter().map(|angle| angle.cos());
    let mut waves: Vec<f32> =
        if config.cos_first { cos.chain(sin).collect() } else { sin.chain(cos).collect() };
    waves.resize(channels, 0.0);
    waves
}
