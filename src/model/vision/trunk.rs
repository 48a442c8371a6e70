//! The transformer that CLIP's two halves and `DINOv2` share: norms come first in each block.

use candle_core::{Result, Tensor};

use super::VisionError;
use super::weights::Weights;
use crate::nn::attention::Attention;
use crate::nn::gated::{Activation, activate, gated};
use crate::nn::{LayerNorm, Linear, Strengths};

/// `x + s₁⊙Attention(norm₁(x))`, then `x + s₂⊙FeedForward(norm₂(x))`, block after block; CLIP has no
/// scales s (`LayerScale`, Touvron et al., 2021).
#[derive(Debug)]
pub(super) struct Trunk {
    blocks: Vec<Block>,
    heads: usize,
    attention: Attention,
}

#[derive(Debug)]
struct Block {
    norm1: LayerNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    norm2: LayerNorm,
    feed_forward: FeedForward,
    /// (width) each
    scales: Option<(Tensor, Tensor)>,
}

#[derive(Debug)]
enum FeedForward {
    Plain {
        fc1: Linear,
        fc2: Linear,
        activation: Activation,
    },
    /// Gate and value are the halves of one product (Shazeer, 2020).
    SwiGlu {
        weights_in: Linear,
        weights_out: Linear,
    },
}

/// What the weights do not say.
#[derive(Debug, Clone)]
pub(super) struct TrunkConfig {
    pub width: usize,
    pub layers: usize,
    pub heads: usize,
    pub epsilon: f64,
    pub causal: bool,
    /// Whether queries, keys and values have biases.
    pub qkv_bias: bool,
    /// `None`: `SwiGLU`
    pub activation: Option<Activation>,
    pub names: &'static Names,
}

/// Names of a block's layers in transformers.
#[derive(Debug)]
pub(super) struct Names {
    layers: &'static str,
    norms: [&'static str; 2],
    query: &'static str,
    key: &'static str,
    value: &'static str,
    out: &'static str,
    scales: Option<[&'static str; 2]>,
}

pub(super) const CLIP: Names = Names {
    layers: "encoder.layers",
    norms: ["layer_norm1", "layer_norm2"],
    query: "self_attn.q_proj",
    key: "self_attn.k_proj",
    value: "self_attn.v_proj",
    out: "self_attn.out_proj",
    scales: None,
};

pub(super) const DINO: Names = Names {
    layers: "encoder.layer",
    norms: ["norm1", "norm2"],
    query: "attention.attention.query",
    key: "attention.attention.key",
    value: "attention.attention.value",
    out: "attention.output.dense",
    scales: Some(["layer_scale1.lambda1", "layer_scale2.lambda1"]),
};

impl Trunk {
    /// Loads the blocks below `prefix`, which is empty or ends in a dot.
    pub fn load(
        weights: &Weights,
        prefix: &str,
        config: &TrunkConfig,
    ) -> std::result::Result<Self, VisionError> {
        let block = |index| {
            Block::load(weights, &format!("{prefix}{}.{index}", config.names.layers), config)
        };
        let scale = ((config.width / config.heads) as f32).sqrt().recip();
        Ok(Self {
            blocks: (0..config.layers).map(block).collect::<std::result::Result<_, _>>()?,
            heads: config.heads,
            attention: Attention {
                causal: config.causal,
                ..Attention::over_all(scale, Vec::new())
            },
        })
    }

    /// (rows, length, width) → the same shape.
    pub fn forward(&self, x: Tensor, strengths: &Strengths) -> Result<Tensor> {
        self.blocks.iter().try_fold(x, |x, block| self.block(block, &x, strengths))
    }

    fn block(&self, block: &Block, x: &Tensor, strengths: &Strengths) -> Result<Tensor> {
        let scaled = |y: Tensor, scale: Option<&Tensor>| match scale {
            Some(scale) => y.broadcast_mul(scale),
            None => Ok(y),
        };
        let (first, second) =
            (block.scales.as_ref().map(|s| &s.0), block.scales.as_ref().map(|s| &s.1));
        let y = self.attend(block, &block.norm1.forward(x)?, strengths)?;
        let x = (x + scaled(y, first)?)?;
        let y = block.feed_forward.forward(&block.norm2.forward(&x)?, strengths)?;
        x + scaled(y, second)?
    }

    fn attend(&self, block: &Block, x: &Tensor, strengths: &Strengths) -> Result<Tensor> {
        let (rows, length, width) = x.dims3()?;
        let heads = |layer: &Linear| -> Result<Tensor> {
            let split = (rows, length, self.heads, width / self.heads);
            layer.forward(x, strengths)?.reshape(split)?.transpose(1, 2)
        };
        let (q, k, v) = (heads(&block.query)?, heads(&block.key)?, heads(&block.value)?);
        let y = self.attention.forward(&q, &k, &v)?.transpose(1, 2)?;
        block.out.forward(&y.reshape((rows, length, width))?, strengths)
    }
}

impl Block {
    fn load(
        weights: &Weights,
        at: &str,
        config: &TrunkConfig,
    ) -> std::result::Result<Self, VisionError> {
        let (width, names) = (config.width, config.names);
        let square =
            |name: &str, bias| weights.linear(&format!("{at}.{name}"), (width, Some(width)), bias);
        let norm = |name: &str| weights.layer_norm(&format!("{at}.{name}"), width, config.epsilon);
        let scale = |name: &str| weights.tensor(&format!("{at}.{name}"), &[width]);
        Ok(Self {
            norm1: norm(names.norms[0])?,
            query: square(names.query, config.qkv_bias)?,
            key: square(names.key, config.qkv_bias)?,
            value: square(names.value, config.qkv_bias)?,
            out: square(names.out, true)?,
            norm2: norm(names.norms[1])?,
            feed_forward: FeedForward::load(weights, &format!("{at}.mlp"), config)?,
            scales: match names.scales {
                Some([first, second]) => Some((scale(first)?, scale(second)?)),
                None => None,
            },
        })
    }
}

impl FeedForward {
    fn load(
        weights: &Weights,
        at: &str,
        config: &TrunkConfig,
    ) -> std::result::Result<Self, VisionError> {
        let width = config.width;
        let first = |name: &str| -> std::result::Result<(Linear, usize), VisionError> {
            let layer = weights.linear(&format!("{at}.{name}"), (width, None), true)?;
            let inner = layer.weight().shape()?.0;
            Ok((layer, inner))
        };
        let second =
            |name: &str, inner| weights.linear(&format!("{at}.{name}"), (inner, Some(width)), true);
        if let Some(activation) = config.activation {
            let (fc1, inner) = first("fc1")?;
            return Ok(Self::Plain { fc1, fc2: second("fc2", inner)?, activation });
        }
        let (weights_in, inner) = first("weights_in")?;
        if !inner.is_multiple_of(2) {
            let name = format!("{at}.weights_in.weight");
            return Err(weights.misshapen(&name, "an even number of outputs".to_owned()));
        }
        Ok(Self::SwiGlu { weights_in, weights_out: second("weights_out", inner / 2)? })
    }

    fn forward(&self, x: &Tensor, strengths: &Strengths) -> Result<Tensor> {
        match self {
            Self::Plain { fc1, fc2, activation } => {
                fc2.forward(&activate(&fc1.forward(x, strengths)?, *activation)?, strengths)
            }
            Self::SwiGlu { weights_in, weights_out } => {
                let both = weights_in.forward(x, strengths)?;
                let half = both.dim(2)? / 2;
                let (gate, up) = (both.narrow(2, 0, half)?, both.narrow(2, half, half)?);
                let y = gated(&gate.contiguous()?, &up.contiguous()?, Activation::Silu)?;
                weights_out.forward(&y, strengths)
            }
        }
    }
}
