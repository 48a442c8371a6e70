//! The autoencoder of Stable Diffusion: diffusers' `AutoencoderKL`.
//!
//! Pictures are (rows, 3, height, width) from −1 to 1, latents (rows, channels, height / f, width / f),
//! scaled as the denoiser wants them.

mod block;
mod names;
mod tiles;

pub use names::autoencoder_to_diffusers;

use candle_core::{DType, Result, Tensor};

use super::unet::SAME;
use super::{DiffusionError, Parts};
use crate::nn::{Conv2d, ConvConfig, GroupNorm, Strengths};
use block::{Level, Middle, Norms};

/// Beyond this many, one latent would be more pixels than a picture may have.
const MOST_DOUBLINGS: usize = 8;

/// Encoder and decoder.
#[derive(Debug)]
pub struct Vae {
    encoder: Coder,
    decoder: Coder,
    quant: Option<Conv2d>,
    post_quant: Option<Conv2d>,
    /// What latents are multiplied by before the denoiser sees them.
    scale: f64,
    /// Channels of the latents.
    channels: usize,
    dtype: DType,
}

/// A half of the autoencoder.
#[derive(Debug)]
struct Coder {
    conv_in: Conv2d,
    levels: Vec<Level>,
    middle: Middle,
    norm_out: GroupNorm,
    conv_out: Conv2d,
    /// Whether the levels come before the middle.
    down: bool,
}

impl Vae {
    /// Builds it from a base's weights; `scale` holds where its configuration says none.
    pub fn load(parts: &Parts<'_>, scale: f64) -> std::result::Result<Self, DiffusionError> {
        let config = parts.config().map(|(_, config)| config);
        let number = |key: &str| config.and_then(|config| config[key].as_f64());
        let shifts = |key: &str| {
            config.is_some_and(|config| !config[key].is_null() && config[key].as_f64() != Some(0.0))
        };
        let key =
            ["shift_factor", "latents_mean", "latents_std"].into_iter().find(|key| shifts(key));
        if let Some((key, (path, config))) = key.zip(parts.config()) {
            return Err(DiffusionError::Config {
                path,
                key: key.to_owned(),
                found: format!("`{}`", config[key]),
                expected: "none, as in Stable Diffusion 1.x, 2.x and XL",
                hint: "this autoencoder belongs to another architecture",
            });
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
        let groups = number("norm_num_groups").unwrap_or(32.0).clamp(0.0, 65_536.0) as usize;
        let norms: Norms = (groups, 1e-6);
        let one = |name: &str| -> std::result::Result<Option<Conv2d>, DiffusionError> {
            if !parts.has(name) {
                return Ok(None);
            }
            let inputs = parts.shape(name)?.get(1).copied().unwrap_or(0);
            Ok(Some(parts.conv(name, inputs, ConvConfig::default())?))
        };
        let channels = parts.shape("decoder.conv_in")?.get(1).copied().unwrap_or(0);
        let vae = Self {
            encoder: Coder::load(parts, "encoder", 3, norms)?,
            decoder: Coder::load(parts, "decoder", channels, norms)?,
            quant: one("quant_conv")?,
            post_quant: one("post_quant_conv")?,
            scale: number("scaling_factor").unwrap_or(scale),
            channels,
            dtype: parts.placement().dtype,
        };
        let resampling = vae.decoder.levels.iter().filter(|level| level.resamples()).count();
        if resampling > MOST_DOUBLINGS {
            let expected = format!("at most {MOST_DOUBLINGS} upsamplers");
            return Err(parts.misshapen("decoder.up_blocks", &[resampling], expected));
        }
        let pictures = vae.decoder.conv_out.outputs()?;
        if pictures != 3 {
            let expected = "3 outputs: red, green, blue".to_owned();
            let found = parts.shape("decoder.conv_out")?;
            return Err(parts.misshapen("decoder.conv_out", &found, expected));
        }
        parts.finish()?;
        Ok(vae)
    }

    /// Pixels along a side of what one latent becomes.
    pub fn factor(&self) -> usize {
        1 << self.decoder.levels.iter().filter(|level| level.resamples()).count()
    }

    /// Channels of the latents.
    pub fn latent_channels(&self) -> usize {
        self.channels
    }

    /// The type that it computes in.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Mean and logarithm of the variance of the latents of pictures, both unscaled, f32.
    pub fn encode(&self, pictures: &Tensor) -> Result<(Tensor, Tensor)> {
        let none = Strengths::none(pictures.dim(0)?);
        let mut moments = self.encoder.forward(&pictures.to_dtype(self.dtype)?)?;
        if let Some(quant) = &self.quant {
            moments = quant.forward(&moments, &none)?;
        }
        let halves = moments.to_dtype(DType::F32)?.chunk(2, 1)?;
        let [mean, variance] = halves.as_slice() else {
            candle_core::bail!("the encoder gives {} halves", halves.len())
        };
        Ok((mean.contiguous()?, variance.clamp(-30f32, 20f32)?))
    }

    /// What latents are multiplied by before the denoiser sees them.
    pub fn scaling_factor(&self) -> f64 {
        self.scale
    }

    /// What the denoiser would be given for unscaled latents.
    pub fn scale(&self, latents: &Tensor) -> Result<Tensor> {
        latents * self.scale
    }

    /// The pictures of the denoiser's latents, f32, not clamped. Large ones are decoded in overlapping
    /// tiles where `tiled` says so.
    pub fn decode(&self, latents: &Tensor, tiled: bool) -> Result<Tensor> {
        let latents = (latents.to_dtype(DType::F32)? / self.scale)?;
        let size = latents.dims4()?;
        rayon::scope(|_| {
            if tiled && (size.2 > tiles::SIDE || size.3 > tiles::SIDE) {
                tiles::decode(&latents, self.factor(), |tile| self.decode_one(tile))
            } else {
                self.decode_one(&latents)
            }
        })
    }

    fn decode_one(&self, latents: &Tensor) -> Result<Tensor> {
        // one picture at a time: the last levels hold 128 channels of full size
        let rows = (0..latents.dim(0)?).map(|row| {
            let mut x = latents.narrow(0, row, 1)?.to_dtype(self.dtype)?;
            if let Some(conv) = &self.post_quant {
                x = conv.forward(&x, &Strengths::none(1))?;
            }
            self.decoder.forward(&x)?.to_dtype(DType::F32)
        });
        Tensor::cat(&rows.collect::<Result<Vec<_>>>()?, 0)
    }
}

impl Coder {
    fn load(
        parts: &Parts<'_>,
        at: &str,
        inputs: usize,
        norms: Norms,
    ) -> std::result::Result<Self, DiffusionError> {
        let down = at == "encoder";
        let conv_in = parts.conv(&format!("{at}.conv_in"), inputs, SAME)?;
        let mut channels = conv_in.outputs()?;
        let middle =
            |channels: usize| Middle::load(parts, &format!("{at}.mid_block"), channels, norms);
        let first = if down { None } else { Some(middle(channels)?) };
        let side = if down { "down_blocks" } else { "up_blocks" };
        let mut levels = Vec::new();
        while parts.has(&format!("{at}.{side}.{}.resnets.0.conv1", levels.len())) {
            let path = format!("{at}.{side}.{}", levels.len());
            let level = Level::load(parts, &path, channels, norms)?;
            channels = level.outputs();
            levels.push(level);
        }
        let middle = first.map_or_else(|| middle(channels), Ok)?;
        Ok(Self {
            conv_in,
            levels,
            middle,
            norm_out: parts.group_norm(&format!("{at}.conv_norm_out"), channels, norms)?,
            conv_out: parts.conv(&format!("{at}.conv_out"), channels, SAME)?,
            down,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let none = Strengths::none(x.dim(0)?);
        let mut x = self.conv_in.forward(x, &none)?;
        if !self.down {
            x = self.middle.forward(&x)?;
        }
        for level in &self.levels {
            x = level.forward(&x)?;
        }
        if self.down {
            x = self.middle.forward(&x)?;
        }
        self.conv_out.forward(&self.norm_out.forward_silu(&x)?, &none)
    }
}
