//! A residual block of convolutions that is told the time.

use candle_core::{Result, Tensor};

use super::{DiffusionError, Parts, Pass, SAME, UnetConfig};
use crate::nn::{Conv2d, ConvConfig, GroupNorm, Linear, add_to_channels};

/// `x + conv2(silu(norm2(conv1(silu(norm1(x))) + W·silu(t))))`, with a 1×1 convolution on the way of x
/// where the number of channels changes.
#[derive(Debug)]
pub struct Resnet {
    norm1: GroupNorm,
    conv1: Conv2d,
    time: Linear,
    norm2: GroupNorm,
    conv2: Conv2d,
    shortcut: Option<Conv2d>,
    outputs: usize,
}

impl Resnet {
    pub fn load(
        parts: &Parts<'_>,
        at: &str,
        channels: usize,
        config: &UnetConfig,
    ) -> std::result::Result<Self, DiffusionError> {
        let name = |name: &str| format!("{at}.{name}");
        let norms = (config.groups, config.epsilon);
        let conv1 = parts.conv(&name("conv1"), channels, SAME)?;
        let outputs = conv1.outputs()?;
        let width = parts.shape("time_embedding.linear_2")?.first().copied().unwrap_or(0);
        let time = parts.linear(&name("time_emb_proj"), width)?;
        if time.weight().shape()?.0 != outputs {
            let found = parts.shape(&name("time_emb_proj"))?;
            let expected = format!("{outputs} outputs");
            return Err(parts.misshapen(&name("time_emb_proj"), &found, expected));
        }
        let conv2 = parts.conv(&name("conv2"), outputs, SAME)?;
        let shortcut = name("conv_shortcut");
        let shortcut = if parts.has(&shortcut) {
            Some(parts.conv(&shortcut, channels, ConvConfig::default())?)
        } else {
            None
        };
        let last = shortcut.as_ref().map_or(Ok(channels), Conv2d::outputs)?;
        if conv2.outputs()? != outputs || last != outputs {
            let found = parts.shape(&name("conv2"))?;
            return Err(parts.misshapen(&name("conv2"), &found, format!("{last} outputs")));
        }
        Ok(Self {
            norm1: parts.group_norm(&name("norm1"), channels, norms)?,
            conv1,
            time,
            norm2: parts.group_norm(&name("norm2"), outputs, norms)?,
            conv2,
            shortcut,
            outputs,
        })
    }

    /// Channels of the result.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    pub fn forward(&self, x: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        let h = self.conv1.forward(&self.norm1.forward_silu(x)?, pass.strengths)?;
        let time = self.time.forward(&pass.time, pass.strengths)?;
        let h = add_to_channels(&h, &time.reshape((x.dim(0)?, self.outputs))?)?;
        let h = self.conv2.forward(&self.norm2.forward_silu(&h)?, pass.strengths)?;
        match &self.shortcut {
            Some(shortcut) => shortcut.forward(x, pass.strengths)? + h,
            None => x + h,
        }
    }
}
