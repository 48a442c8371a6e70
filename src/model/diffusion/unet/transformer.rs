//! Attention of the UNet: over the picture itself and over the text.

use candle_core::{DType, Result, Tensor};

use super::{Context, DiffusionError, Parts, Pass, UnetConfig};
use crate::nn::attention::Attention;
use crate::nn::gated::geglu;
use crate::nn::pixels::{to_pixels, to_tokens};
use crate::nn::{Conv2d, ConvConfig, GroupNorm, LayerNorm, Linear, Strengths};

/// diffusers' `Transformer2DModel`: blocks of attention over the pixels as tokens.
#[derive(Debug)]
pub struct Transformer {
    norm: GroupNorm,
    proj_in: Projection,
    blocks: Vec<TransformerBlock>,
    proj_out: Projection,
}

/// Of pixels, before they become tokens (Stable Diffusion 1.x), or of tokens (2.x, XL).
#[derive(Debug)]
enum Projection {
    Pixels(Conv2d),
    Tokens(Linear),
}

#[derive(Debug)]
struct TransformerBlock {
    norm1: LayerNorm,
    attn1: CrossAttention,
    norm2: LayerNorm,
    attn2: CrossAttention,
    norm3: LayerNorm,
    gate: Linear,
    down: Linear,
}

#[derive(Debug)]
struct CrossAttention {
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    heads: usize,
    /// Whether scores are made in f32 whatever the type of the rest.
    upcast: bool,
}

/// ε of the layer norms in attention blocks.
const LAYER_NORM: f64 = 1e-5;
/// ε of the group norm before them.
const GROUP_NORM: f64 = 1e-6;

impl Transformer {
    pub fn load(
        parts: &Parts<'_>,
        at: &str,
        channels: usize,
        heads: usize,
        config: &UnetConfig,
    ) -> std::result::Result<Self, DiffusionError> {
        let norm =
            parts.group_norm(&format!("{at}.norm"), channels, (config.groups, GROUP_NORM))?;
        let projection = |name: &str, inputs: usize| -> std::result::Result<_, DiffusionError> {
            let path = format!("{at}.{name}");
            let shape = parts.shape(&path)?;
            let width = shape.first().copied().unwrap_or(0);
            Ok(if shape.len() == 4 {
                (Projection::Pixels(parts.conv(&path, inputs, ConvConfig::default())?), width)
            } else {
                (Projection::Tokens(parts.linear(&path, inputs)?), width)
            })
        };
        let (proj_in, width) = projection("proj_in", channels)?;
        if heads == 0 || !width.is_multiple_of(heads) {
            let shape = parts.shape(&format!("{at}.proj_in"))?;
            let expected = format!("outputs that {heads} heads can share");
            return Err(parts.misshapen(&format!("{at}.proj_in"), &shape, expected));
        }
        let mut blocks = Vec::new();
        while parts.has(&format!("{at}.transformer_blocks.{}.attn1.to_q", blocks.len())) {
            let at = format!("{at}.transformer_blocks.{}", blocks.len());
            blocks.push(TransformerBlock::load(parts, &at, width, (heads, config.upcast))?);
        }
        let (proj_out, _) = projection("proj_out", width)?;
        Ok(Self { norm, proj_in, blocks, proj_out })
    }

    pub fn forward(&self, x: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        let (_, _, height, width) = x.dims4()?;
        let size = (height, width);
        let h = self.norm.forward(x)?;
        let mut tokens = match &self.proj_in {
            Projection::Pixels(conv) => to_tokens(&conv.forward(&h, pass.strengths)?)?,
            Projection::Tokens(linear) => linear.forward(&to_tokens(&h)?, pass.strengths)?,
        };
        for block in &self.blocks {
            tokens = block.forward(tokens, pass)?;
        }
        let h = match &self.proj_out {
            Projection::Pixels(conv) => conv.forward(&to_pixels(&tokens, size)?, pass.strengths)?,
            Projection::Tokens(linear) => {
                to_pixels(&linear.forward(&tokens, pass.strengths)?, size)?
            }
        };
        x + h
    }
}

impl TransformerBlock {
    fn load(
        parts: &Parts<'_>,
        at: &str,
        width: usize,
        heads: (usize, bool),
    ) -> std::result::Result<Self, DiffusionError> {
        let norm = |index: usize| parts.layer_norm(&format!("{at}.norm{index}"), width, LAYER_NORM);
        let gate = parts.linear(&format!("{at}.ff.net.0.proj"), width)?;
        let inner = gate.weight().shape()?.0;
        if inner % 2 != 0 {
            let name = format!("{at}.ff.net.0.proj");
            return Err(parts.misshapen(&name, &[inner, width], "an even number".to_owned()));
        }
        Ok(Self {
            norm1: norm(1)?,
            attn1: CrossAttention::load(parts, &format!("{at}.attn1"), width, heads)?,
            norm2: norm(2)?,
            attn2: CrossAttention::load(parts, &format!("{at}.attn2"), width, heads)?,
            norm3: norm(3)?,
            gate,
            down: parts.linear(&format!("{at}.ff.net.2"), inner / 2)?,
        })
    }

    fn forward(&self, x: Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        let strengths = pass.strengths;
        let h = self.norm1.forward(&x)?;
        let x = (self.attn1.forward(&h, &h, &[], strengths)? + x)?;
        let h = self.norm2.forward(&x)?;
        let Context { tokens, starts } = &pass.context;
        let x = (self.attn2.forward(&h, tokens, starts, strengths)? + x)?;
        let h = self.gate.forward(&self.norm3.forward(&x)?, strengths)?;
        self.down.forward(&geglu(&h)?, strengths)? + x
    }
}

impl CrossAttention {
    fn load(
        parts: &Parts<'_>,
        at: &str,
        width: usize,
        (heads, upcast): (usize, bool),
    ) -> std::result::Result<Self, DiffusionError> {
        let of = |name: &str| format!("{at}.{name}");
        let reads = parts.shape(&of("to_k"))?.get(1).copied().unwrap_or(0);
        let attention = Self {
            q: parts.linear(&of("to_q"), width)?,
            k: parts.linear(&of("to_k"), reads)?,
            v: parts.linear(&of("to_v"), reads)?,
            out: parts.linear(&of("to_out.0"), width)?,
            heads,
            upcast,
        };
        for (name, layer) in
            [("to_q", &attention.q), ("to_k", &attention.k), ("to_v", &attention.v)]
        {
            let (outputs, inputs) = layer.weight().shape()?;
            if outputs != width {
                let expected = format!("{width} outputs");
                return Err(parts.misshapen(&of(name), &[outputs, inputs], expected));
            }
        }
        Ok(attention)
    }

    fn forward(
        &self,
        x: &Tensor,
        context: &Tensor,
        starts: &[usize],
        strengths: &Strengths,
    ) -> Result<Tensor> {
        let q = self.q.forward(x, strengths)?;
        let (rows, _, width) = q.dims3()?;
        let dtype = q.dtype();
        let split = |x: Tensor| -> Result<Tensor> {
            let x = if self.upcast { x.to_dtype(DType::F32)? } else { x };
            x.reshape((rows, x.dim(1)?, self.heads, width / self.heads))?.transpose(1, 2)
        };
        let k = split(self.k.forward(context, strengths)?)?;
        let v = split(self.v.forward(context, strengths)?)?;
        #[expect(clippy::cast_precision_loss, reason = "a head's width is small")]
        let scale = ((width / self.heads) as f32).sqrt().recip();
        let attention = Attention::over_all(scale, starts.to_vec());
        let y = attention.forward_joined(&split(q)?, &k, &v)?.to_dtype(dtype)?;
        self.out.forward(&y, strengths)
    }
}
