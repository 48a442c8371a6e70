//! The denoiser of Stable Diffusion: diffusers' `UNet2DConditionModel`.
//!
//! What can be read off the weights (channels, layers, where attention is) is; only numbers of heads
//! and of groups come from a configuration. Shapes: latents (rows, channels, height, width), context
//! (rows, tokens, width).

mod block;
mod config;
mod links;
mod resnet;
mod time;
mod transformer;

pub(super) use block::double;
pub use config::UnetConfig;
pub use links::State;

use std::ops::Range;

use candle_core::{DType, Device, Result, Tensor};

use super::{DiffusionError, Parts};
use crate::nn::{Conv2d, ConvConfig, GroupNorm, Strengths};
use block::{Block, Resample};
use resnet::Resnet;
use time::{AddEmbedding, TimeEmbedding};
use transformer::Transformer;

/// A 3×3 convolution that keeps the size.
pub(super) const SAME: ConvConfig = ConvConfig { stride: 1, padding: 1, dilation: 1, groups: 1 };
/// A 3×3 convolution that halves it.
const HALF: ConvConfig = ConvConfig { stride: 2, padding: 1, dilation: 1, groups: 1 };

/// What a batch is told about its prompts: (rows, tokens, width).
#[derive(Debug, Clone)]
pub struct Context {
    /// The text encoder's output. Rows of fewer tokens begin with padding.
    pub tokens: Tensor,
    /// Where each row's tokens begin; empty if no row has padding.
    pub starts: Vec<usize>,
}

/// What SDXL is told besides.
#[derive(Debug, Clone)]
pub struct Added {
    /// The pooled output of the second text encoder, (rows, width).
    pub pooled: Tensor,
    /// Original height and width, top and left of the crop, target height and width.
    pub time_ids: Vec<[f32; 6]>,
}

impl Context {
    /// The same for some of the rows.
    fn rows(&self, rows: Range<usize>) -> Result<Self> {
        let tokens = self.tokens.narrow(0, rows.start, rows.len())?;
        let starts = self.starts.get(rows).map(<[usize]>::to_vec).unwrap_or_default();
        Ok(Self { tokens, starts })
    }
}

impl Added {
    fn rows(&self, rows: Range<usize>) -> Result<Self> {
        let pooled = self.pooled.narrow(0, rows.start, rows.len())?;
        Ok(Self { pooled, time_ids: self.time_ids[rows].to_vec() })
    }
}

/// Bytes of a tensor of the first level that a CPU is given at once.
const IN_CACHE: usize = 12 << 20;

/// The denoiser.
#[derive(Debug)]
pub struct Unet {
    config: UnetConfig,
    dtype: DType,
    time: TimeEmbedding,
    add: Option<AddEmbedding>,
    conv_in: Conv2d,
    down: Vec<Block>,
    mid: Mid,
    up: Vec<Block>,
    norm_out: GroupNorm,
    conv_out: Conv2d,
    context: usize,
}

#[derive(Debug)]
struct Mid {
    first: Resnet,
    rest: Vec<(Transformer, Resnet)>,
}

/// What every block of a pass gets.
struct Pass<'a> {
    /// silu(time embedding), (rows, 1, width)
    time: Tensor,
    context: Context,
    strengths: &'a Strengths,
}

impl Unet {
    /// Builds it from a base's weights.
    pub fn load(parts: &Parts<'_>) -> std::result::Result<Self, DiffusionError> {
        let latent = parts.shape("conv_in")?.get(1).copied().unwrap_or(0);
        let conv_in = parts.conv("conv_in", latent, SAME)?;
        let mut channels = conv_in.outputs()?;
        let config = UnetConfig::of(parts)?;
        let time = TimeEmbedding::load(parts, channels)?;
        let add = AddEmbedding::load(parts)?;
        let mut skips = vec![channels];
        let mut down = Vec::new();
        while parts.has(&format!("down_blocks.{}.resnets.0.conv1", down.len())) {
            let at = format!("down_blocks.{}", down.len());
            let mut block = Block::default();
            while parts.has(&format!("{at}.resnets.{}.conv1", block.layers.len())) {
                block.load_layer(parts, &at, (channels, down.len()), &config)?;
                channels = block.channels();
                skips.push(channels);
            }
            if parts.has(&format!("{at}.downsamplers.0.conv")) {
                let conv = parts.conv(&format!("{at}.downsamplers.0.conv"), channels, HALF)?;
                skips.push(channels);
                block.resample = Some(Resample::Down(conv));
            }
            down.push(block);
        }
        let mid = Mid::load(parts, channels, down.len(), &config)?;
        let mut up = Vec::new();
        while parts.has(&format!("up_blocks.{}.resnets.0.conv1", up.len())) {
            let at = format!("up_blocks.{}", up.len());
            let level = down.len().saturating_sub(1 + up.len());
            let mut block = Block::default();
            while parts.has(&format!("{at}.resnets.{}.conv1", block.layers.len())) {
                let Some(skip) = skips.pop() else {
                    let shape = [up.len() + 1];
                    return Err(parts.misshapen(&at, &shape, "as many layers as below".to_owned()));
                };
                block.load_layer(parts, &at, (channels + skip, level), &config)?;
                channels = block.channels();
            }
            if parts.has(&format!("{at}.upsamplers.0.conv")) {
                let conv = parts.conv(&format!("{at}.upsamplers.0.conv"), channels, SAME)?;
                block.resample = Some(Resample::Up(conv));
            }
            up.push(block);
        }
        if !skips.is_empty() || down.len() != up.len() {
            let expected = format!("as many layers as the {} down blocks ask for", down.len());
            return Err(parts.misshapen("up_blocks", &[up.len()], expected));
        }
        let norms = (config.groups, config.epsilon);
        let context = context_width(parts);
        let conv_out = parts.conv("conv_out", channels, SAME)?;
        if conv_out.outputs()? != latent {
            let expected = format!(
                "{} input channels, as many as its output has (inpainting takes more)",
                conv_out.outputs()?
            );
            return Err(parts.misshapen("conv_in", &parts.shape("conv_in")?, expected));
        }
        let unet = Self {
            dtype: parts.placement().dtype,
            time,
            add,
            conv_in,
            down,
            mid,
            up,
            norm_out: parts.group_norm("conv_norm_out", channels, norms)?,
            conv_out,
            config,
            context,
        };
        parts.finish()?;
        Ok(unet)
    }

    /// Channels of the latents.
    pub fn latent_channels(&self) -> Result<usize> {
        self.conv_out.outputs()
    }

    /// The type that it computes in.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Width of the context.
    pub fn context_width(&self) -> usize {
        self.context
    }

    /// Width of the pooled text embedding, if it takes one.
    pub fn pooled_width(&self) -> Option<usize> {
        self.add.as_ref().map(AddEmbedding::pooled_width)
    }

    /// What it makes of noisy latents at a timestep each: noise, velocity or the sample, f32.
    pub fn forward(
        &self,
        latents: &Tensor,
        timesteps: &[f64],
        context: &Context,
        added: Option<&Added>,
        strengths: &Strengths,
    ) -> Result<Tensor> {
        let rows = latents.dim(0)?;
        let part = self.rows_at_once(latents)?;
        // on a thread of the pool, so that small products need not be handed over one by one
        rayon::scope(|_| {
            if rows <= part {
                return self.predict(latents, timesteps, (context, added), strengths);
            }
            let parts = (0..rows).step_by(part).map(|first| {
                let count = part.min(rows - first);
                let some = first..first + count;
                let context = context.rows(some.clone())?;
                let added = added.map(|added| added.rows(some.clone())).transpose()?;
                let indices: Vec<usize> = some.clone().collect();
                self.predict(
                    &latents.narrow(0, first, count)?,
                    &timesteps[some],
                    (&context, added.as_ref()),
                    &strengths.select(&indices),
                )
            });
            Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 0)
        })
    }

    /// How many rows of the latents' size go through the layers together. A GPU takes all; a CPU as many
    /// as its caches hold one tensor of: more would be slower, not faster.
    pub fn most_rows(&self, height: usize, width: usize, device: &Device) -> Result<usize> {
        if !device.is_cpu() {
            return Ok(usize::MAX);
        }
        let row = self.conv_in.outputs()? * height * width * size_of::<f32>();
        Ok((IN_CACHE / row.max(1)).max(1))
    }

    /// The same for latents, in parts of equal size.
    fn rows_at_once(&self, latents: &Tensor) -> Result<usize> {
        let (rows, _, height, width) = latents.dims4()?;
        let most = self.most_rows(height, width, latents.device())?;
        Ok(rows.div_ceil(rows.div_ceil(most).max(1)))
    }
}

impl Mid {
    fn load(
        parts: &Parts<'_>,
        channels: usize,
        levels: usize,
        config: &UnetConfig,
    ) -> std::result::Result<Self, DiffusionError> {
        let resnet = |index: usize| {
            Resnet::load(parts, &format!("mid_block.resnets.{index}"), channels, config)
        };
        let first = resnet(0)?;
        let mut rest = Vec::new();
        while parts.has(&format!("mid_block.resnets.{}.conv1", rest.len() + 1)) {
            let at = format!("mid_block.attentions.{}", rest.len());
            let heads = config.heads(levels.saturating_sub(1), channels);
            rest.push((
                Transformer::load(parts, &at, channels, heads, config)?,
                resnet(rest.len() + 1)?,
            ));
        }
        Ok(Self { first, rest })
    }

    fn forward(&self, x: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        let mut x = self.first.forward(x, pass)?;
        for (transformer, resnet) in &self.rest {
            x = resnet.forward(&transformer.forward(&x, pass)?, pass)?;
        }
        Ok(x)
    }
}

/// The width of what cross-attention reads, or 0 where there is none.
fn context_width(parts: &Parts<'_>) -> usize {
    let at = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k";
    parts.shape(at).ok().and_then(|shape| shape.get(1).copied()).unwrap_or(0)
}
