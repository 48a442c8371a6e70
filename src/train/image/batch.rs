//! Pictures on their way through a denoiser.

use candle_core::{Device, Tensor};

use super::Extents;
use super::noise::{Noisy, squared_error};
use crate::data::image;
use crate::model::diffusion::{State, Unet};
use crate::nn::Strengths;
use crate::train::backward::Chain;
use crate::train::parameters::host;

/// Pictures of one size with noise.
#[derive(Debug, Default)]
pub struct Batch {
    pub noisy: Vec<Noisy>,
    pub captions: Vec<String>,
    shape: Extents,
    pub time_ids: Vec<[f32; 6]>,
}

impl Batch {
    /// One more picture.
    pub fn add(&mut self, noisy: Noisy, caption: String, shape: Extents, time_ids: image::TimeIds) {
        self.noisy.push(noisy);
        self.captions.push(caption);
        self.shape = shape;
        self.time_ids.push(time_ids.values());
    }

    /// What the denoiser sees, (rows, channels, height, width).
    pub fn latents(&self, device: &Device) -> candle_core::Result<Tensor> {
        let (channels, height, width) = self.shape;
        let all: Vec<f32> = self.noisy.iter().flat_map(|noisy| noisy.latents.clone()).collect();
        Tensor::from_vec(all, (self.noisy.len(), channels, height, width), device)
    }

    /// Each picture's timestep.
    pub fn timesteps(&self) -> Vec<f64> {
        self.noisy.iter().map(|noisy| noisy.timestep as f64).collect()
    }

    /// Each picture's loss, and the gradient of their sum times `factor`.
    pub fn compare(
        &self,
        prediction: &Tensor,
        factor: f64,
    ) -> candle_core::Result<(Vec<f64>, Tensor)> {
        let values = host(prediction)?;
        let size = values.len() / self.noisy.len().max(1);
        let (mut losses, mut gradient) = (Vec::new(), Vec::with_capacity(values.len()));
        for (values, noisy) in values.chunks(size.max(1)).zip(&self.noisy) {
            let (loss, slope) = squared_error(values, &noisy.target, (noisy.weight, factor));
            losses.push(loss);
            gradient.extend(slope);
        }
        Ok((losses, Tensor::from_vec(gradient, prediction.shape(), prediction.device())?))
    }
}

/// The links of a denoiser.
pub struct Links<'a> {
    pub unet: &'a Unet,
    pub starts: &'a [usize],
    pub strengths: &'a Strengths,
}

impl Chain for Links<'_> {
    fn links(&self) -> usize {
        self.unet.links()
    }

    fn run(&self, link: usize, state: Vec<Tensor>) -> candle_core::Result<Vec<Tensor>> {
        let state = State::from_tensors(state)?;
        Ok(self.unet.link(link, state, (self.starts, self.strengths))?.into_tensors())
    }
}
