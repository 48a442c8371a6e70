//! One layer: attention and feed-forward on a residual stream.

use candle_core::{Result, Tensor};

use super::cache::Keys;
use super::config::Layer;
use crate::nn::attention::Attention;
use crate::nn::gated::{Activation, gated};
use crate::nn::rotary::Angles;
use crate::nn::{Linear, Part, RmsNorm, Strengths};

/// A block of a decoder.
#[derive(Debug)]
pub(super) struct Block {
    pub attention: SelfAttention,
    pub feed_forward: FeedForward,
    pub norms: Norms,
    pub layer: Layer,
}

/// The norms of a block.
#[derive(Debug)]
pub(super) struct Norms {
    pub before_attention: RmsNorm,
    pub before_feed_forward: RmsNorm,
    /// Gemma 2 and 3 norm the results too.
    pub after: Option<(RmsNorm, RmsNorm)>,
}

/// Several projections of one input: apart, or fused in one weight.
#[derive(Debug)]
pub(super) enum Projections {
    Apart(Vec<Linear>),
    Fused(Box<Linear>, Vec<usize>),
}

impl Projections {
    fn forward(&self, x: &Tensor, strengths: &Strengths) -> Result<Vec<Tensor>> {
        match self {
            Self::Apart(all) => all.iter().map(|layer| layer.forward(x, strengths)).collect(),
            Self::Fused(layer, widths) => {
                let y = layer.forward(x, strengths)?;
                let mut from = 0;
                let part = |width: &usize| {
                    let part = y.narrow(y.rank() - 1, from, *width);
                    from += width;
                    part
                };
                widths.iter().map(part).collect()
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct SelfAttention {
    pub qkv: Projections,
    pub output: Linear,
    /// Norms of each query and key head (Qwen 3, Gemma 3).
    pub head_norms: Option<(RmsNorm, RmsNorm)>,
    pub heads: usize,
    pub groups: usize,
    pub head: usize,
    pub scale: f32,
    pub cap: Option<f32>,
}

#[derive(Debug)]
pub(super) struct FeedForward {
    pub gate_up: Projections,
    pub down: Linear,
    pub activation: Activation,
}

impl Block {
    pub fn rope(&self) -> Option<usize> {
        self.layer.rope
    }

    pub fn forward(
        &self,
        x: &Tensor,
        angles: Option<&Angles>,
        keys: &Keys<'_>,
        strengths: &Strengths,
    ) -> Result<Tensor> {
        let inner = self.norms.before_attention.forward(x)?;
        let mut y = self.attention.forward(&inner, (angles, self.layer), keys, strengths)?;
        if let Some((after, _)) = &self.norms.after {
            y = after.forward(&y)?;
        }
        let x = (x + y)?;
        let inner = self.norms.before_feed_forward.forward(&x)?;
        let mut y = self.feed_forward.forward(&inner, strengths)?;
        if let Some((_, after)) = &self.norms.after {
            y = after.forward(&y)?;
        }
        x + y
    }
}

impl SelfAttention {
    fn forward(
        &self,
        x: &Tensor,
        (angles, layer): (Option<&Angles>, Layer),
        keys: &Keys<'_>,
        strengths: &Strengths,
    ) -> Result<Tensor> {
        let (rows, length, _) = x.dims3()?;
        let heads = [self.heads, self.groups, self.groups];
        let parts = self.qkv.forward(x, strengths)?;
        let split = |(part, heads): (&Tensor, usize)| {
            part.contiguous()?.reshape((rows, length, heads, self.head))
        };
        let parts: Vec<Tensor> = parts.iter().zip(heads).map(split).collect::<Result<_>>()?;
        let [mut q, mut k, v] = <[Tensor; 3]>::try_from(parts)
            .map_err(|_| candle_core::Error::Msg("attention needs q, k and v".to_owned()))?;
        if let Some((of_q, of_k)) = &self.head_norms {
            (q, k) = (of_q.forward(&q)?, of_k.forward(&k)?);
        }
        let [mut q, mut k, v] = [q.transpose(1, 2)?, k.transpose(1, 2)?, v.transpose(1, 2)?];
        if let Some(angles) = angles {
            (q, k) = (angles.rotate(&q)?, angles.rotate(&k)?);
        }
        let attention = Attention {
            scale: self.scale,
            softcap: self.cap,
            causal: true,
            window: layer.window,
            starts: keys.starts(),
            texts: keys.texts(),
        };
        let (k, v) = keys.append(k, v)?;
        self.output.forward(&attention.forward_joined(&q, &k, &v)?, strengths)
    }
}

impl FeedForward {
    fn forward(&self, x: &Tensor, strengths: &Strengths) -> Result<Tensor> {
        let parts = self.gate_up.forward(x, strengths)?;
        let [gate, up] = parts.as_slice() else {
            candle_core::bail!("a feed-forward layer needs a gate and an up projection");
        };
        self.down.forward(&gated(gate, up, self.activation)?, strengths)
    }
}

impl Block {
    /// The layer of a module by its path below the block, and which rows of it the module speaks of.
    pub fn find(&mut self, path: &str) -> Option<(&mut Linear, Part)> {
        let (attention, feed_forward) = (&mut self.attention, &mut self.feed_forward);
        match path {
            "self_attn.o_proj" => Some((&mut attention.output, Part::Whole)),
            "mlp.down_proj" => Some((&mut feed_forward.down, Part::Whole)),
            "self_attn.qkv_proj" => attention.qkv.fused(),
            "self_attn.q_proj" => attention.qkv.part(0),
            "self_attn.k_proj" => attention.qkv.part(1),
            "self_attn.v_proj" => attention.qkv.part(2),
            "mlp.gate_up_proj" => feed_forward.gate_up.fused(),
            "mlp.gate_proj" => feed_forward.gate_up.part(0),
            "mlp.up_proj" => feed_forward.gate_up.part(1),
            _ => None,
        }
    }
}

impl Projections {
    fn fused(&mut self) -> Option<(&mut Linear, Part)> {
        match self {
            Self::Fused(layer, _) => Some((layer, Part::Whole)),
            Self::Apart(_) => None,
        }
    }

    fn part(&mut self, index: usize) -> Option<(&mut Linear, Part)> {
        match self {
            Self::Apart(all) => Some((all.get_mut(index)?, Part::Whole)),
            Self::Fused(layer, widths) => {
                let from: usize = widths.iter().take(index).sum();
                Some((layer, Part::Into(from..from + widths.get(index)?)))
            }
        }
    }
}
