//! Blocks of the autoencoder. Adapters do not change them, so every strength is none.

use candle_core::{Result, Tensor};

use super::super::unet::{SAME, double};
use super::super::{DiffusionError, Parts};
use crate::nn::attention::Attention;
use crate::nn::pixels::{to_pixels, to_tokens};
use crate::nn::{Conv2d, ConvConfig, GroupNorm, Linear, Strengths};

/// Groups and ε of every norm.
pub type Norms = (usize, f64);

/// A residual block without time.
#[derive(Debug)]
struct Resnet {
    norm1: GroupNorm,
    conv1: Conv2d,
    norm2: GroupNorm,
    conv2: Conv2d,
    shortcut: Option<Conv2d>,
    outputs: usize,
}

impl Resnet {
    fn load(
        parts: &Parts<'_>,
        at: &str,
        channels: usize,
        norms: Norms,
    ) -> std::result::Result<Self, DiffusionError> {
        let conv1 = parts.conv(&format!("{at}.conv1"), channels, SAME)?;
        let outputs = conv1.outputs()?;
        let shortcut = format!("{at}.conv_shortcut");
        let shortcut = if parts.has(&shortcut) {
            Some(parts.conv(&shortcut, channels, ConvConfig::default())?)
        } else {
            None
        };
        if shortcut.is_none() && channels != outputs {
            let expected = format!("{channels} output channels");
            return Err(parts.misshapen(&format!("{at}.conv1"), &[outputs, channels], expected));
        }
        Ok(Self {
            norm1: parts.group_norm(&format!("{at}.norm1"), channels, norms)?,
            conv1,
            norm2: parts.group_norm(&format!("{at}.norm2"), outputs, norms)?,
            conv2: parts.conv(&format!("{at}.conv2"), outputs, SAME)?,
            shortcut,
            outputs,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let none = Strengths::none(x.dim(0)?);
        let h = self.conv1.forward(&self.norm1.forward_silu(x)?, &none)?;
        let h = self.conv2.forward(&self.norm2.forward_silu(&h)?, &none)?;
        match &self.shortcut {
            Some(shortcut) => shortcut.forward(x, &none)? + h,
            None => x + h,
        }
    }
}

/// Resnets and a change of size.
#[derive(Debug)]
pub struct Level {
    resnets: Vec<Resnet>,
    resample: Option<Resample>,
}

#[derive(Debug)]
enum Resample {
    Down(Conv2d),
    Up(Conv2d),
}

impl Level {
    pub fn load(
        parts: &Parts<'_>,
        at: &str,
        inputs: usize,
        norms: Norms,
    ) -> std::result::Result<Self, DiffusionError> {
        let mut level = Self { resnets: Vec::new(), resample: None };
        let mut channels = inputs;
        while parts.has(&format!("{at}.resnets.{}.conv1", level.resnets.len())) {
            let path = format!("{at}.resnets.{}", level.resnets.len());
            let resnet = Resnet::load(parts, &path, channels, norms)?;
            channels = resnet.outputs;
            level.resnets.push(resnet);
        }
        let (down, up) = (format!("{at}.downsamplers.0.conv"), format!("{at}.upsamplers.0.conv"));
        if parts.has(&down) {
            let half = ConvConfig { stride: 2, ..ConvConfig::default() };
            level.resample = Some(Resample::Down(parts.conv(&down, channels, half)?));
        } else if parts.has(&up) {
            level.resample = Some(Resample::Up(parts.conv(&up, channels, SAME)?));
        }
        Ok(level)
    }

    pub fn outputs(&self) -> usize {
        self.resnets.last().map_or(0, |resnet| resnet.outputs)
    }

    pub fn resamples(&self) -> bool {
        self.resample.is_some()
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let none = Strengths::none(x.dim(0)?);
        let mut x = x.clone();
        for resnet in &self.resnets {
            x = resnet.forward(&x)?;
        }
        match &self.resample {
            None => Ok(x),
            // one row and one column of zeros at the far sides, as diffusers pads here
            Some(Resample::Down(conv)) => {
                let padded = x.pad_with_zeros(2, 0, 1)?.pad_with_zeros(3, 0, 1)?;
                conv.forward(&padded.contiguous()?, &none)
            }
            Some(Resample::Up(conv)) => conv.forward(&double(&x, None)?, &none),
        }
    }
}

/// Two resnets, attention over all pixels between them.
#[derive(Debug)]
pub struct Middle {
    first: Resnet,
    attention: PixelAttention,
    second: Resnet,
}

impl Middle {
    pub fn load(
        parts: &Parts<'_>,
        at: &str,
        channels: usize,
        norms: Norms,
    ) -> std::result::Result<Self, DiffusionError> {
        Ok(Self {
            first: Resnet::load(parts, &format!("{at}.resnets.0"), channels, norms)?,
            attention: PixelAttention::load(parts, &format!("{at}.attentions.0"), channels, norms)?,
            second: Resnet::load(parts, &format!("{at}.resnets.1"), channels, norms)?,
        })
    }

    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.second.forward(&self.attention.forward(&self.first.forward(x)?)?)
    }
}

/// One head over all pixels.
#[derive(Debug)]
struct PixelAttention {
    norm: GroupNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
}

impl PixelAttention {
    fn load(
        parts: &Parts<'_>,
        at: &str,
        channels: usize,
        norms: Norms,
    ) -> std::result::Result<Self, DiffusionError> {
        let linear = |name: &str| parts.linear(&format!("{at}.{name}"), channels);
        Ok(Self {
            norm: parts.group_norm(&format!("{at}.group_norm"), channels, norms)?,
            q: linear("to_q")?,
            k: linear("to_k")?,
            v: linear("to_v")?,
            out: linear("to_out.0")?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let size = x.dims4()?;
        let none = Strengths::none(size.0);
        let tokens = to_tokens(&self.norm.forward(x)?)?;
        let q = self.q.forward(&tokens, &none)?.unsqueeze(1)?;
        let k = self.k.forward(&tokens, &none)?.unsqueeze(1)?;
        let v = self.v.forward(&tokens, &none)?.unsqueeze(1)?;
        let scale = (size.1 as f32).sqrt().recip();
        let y = Attention::over_all(scale, Vec::new()).forward(&q, &k, &v)?.squeeze(1)?;
        x + to_pixels(&self.out.forward(&y, &none)?, (size.2, size.3))?
    }
}
