//! A level of the UNet: resnets, each with attention or without, and a change of size.

use candle_core::{Result, Tensor};

use super::resnet::Resnet;
use super::transformer::Transformer;
use super::{DiffusionError, Parts, Pass, UnetConfig};
use crate::nn::{Conv2d, Strengths};

#[derive(Debug, Default)]
pub struct Block {
    pub layers: Vec<Layer>,
    pub resample: Option<Resample>,
}

#[derive(Debug)]
pub struct Layer {
    resnet: Resnet,
    attention: Option<Transformer>,
}

/// A change of size.
#[derive(Debug)]
pub enum Resample {
    /// To half, by a convolution.
    Down(Conv2d),
    /// To twice, by repetition and a convolution.
    Up(Conv2d),
}

impl Block {
    /// Loads the next layer of the block at `at`, whose input has so many channels.
    pub fn load_layer(
        &mut self,
        parts: &Parts<'_>,
        at: &str,
        (channels, level): (usize, usize),
        config: &UnetConfig,
    ) -> std::result::Result<(), DiffusionError> {
        let index = self.layers.len();
        let resnet = Resnet::load(parts, &format!("{at}.resnets.{index}"), channels, config)?;
        let path = format!("{at}.attentions.{index}");
        let attention = if parts.has(&format!("{path}.proj_in")) {
            let (channels, heads) = (resnet.outputs(), config.heads(level, resnet.outputs()));
            Some(Transformer::load(parts, &path, channels, heads, config)?)
        } else {
            None
        };
        self.layers.push(Layer { resnet, attention });
        Ok(())
    }

    /// Channels after its last layer; 0 where it has none.
    pub fn channels(&self) -> usize {
        self.layers.last().map_or(0, |layer| layer.resnet.outputs())
    }

    /// The change of size after its layers, if it has one.
    pub fn resample(
        &self,
        x: &Tensor,
        size: Option<(usize, usize)>,
        strengths: &Strengths,
    ) -> Result<Tensor> {
        self.resample.as_ref().map_or_else(|| Ok(x.clone()), |of| of.forward(x, size, strengths))
    }
}

impl Layer {
    pub fn forward(&self, x: &Tensor, pass: &Pass<'_>) -> Result<Tensor> {
        let x = self.resnet.forward(x, pass)?;
        match &self.attention {
            Some(attention) => attention.forward(&x, pass),
            None => Ok(x),
        }
    }
}

impl Resample {
    /// `size`: height and width to cut to after doubling.
    pub fn forward(
        &self,
        x: &Tensor,
        size: Option<(usize, usize)>,
        strengths: &Strengths,
    ) -> Result<Tensor> {
        match self {
            Self::Down(conv) => conv.forward(x, strengths),
            Self::Up(conv) => conv.forward(&double(x, size)?, strengths),
        }
    }
}

/// Every value twice along both sides, cut to `size`.
pub fn double(x: &Tensor, size: Option<(usize, usize)>) -> Result<Tensor> {
    let (rows, channels, height, width) = x.dims4()?;
    let x = x.reshape((rows, channels, height, 1, width, 1))?;
    let x = x.broadcast_as((rows, channels, height, 2, width, 2))?;
    let x = x.reshape((rows, channels, 2 * height, 2 * width))?;
    match size {
        Some((h, w)) if (h, w) != (2 * height, 2 * width) => {
            x.narrow(2, 0, h)?.narrow(3, 0, w)?.contiguous()
        }
        _ => Ok(x),
    }
}
