use super::Solver;
use crate::model::diffusion::sampler::error::SamplerError;
use crate::model::diffusion::sampler::noise_schedule::scales;
use crate::model::diffusion::sampler::prediction::{Prediction, zip};

/// ᾱ of a call's timestep and of the one that its step goes to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in super::super) struct Transfer {
    pub from: f32,
    pub to: f32,
}

impl Transfer {
    /// √ᾱ x₀ + √(1−ᾱ) ε at the timestep gone to (Song et al., 2021, equation 12, η = 0).
    pub fn ddim(self, image: &[f32], noise: &[f32]) -> Vec<f32> {
        let (alpha, sigma) = scales(self.to);
        zip(image, noise, |image, noise| alpha * image + sigma * noise)
    }

    /// x₀ that latents and noise stand for.
    pub fn image(self, x: &[f32], noise: &[f32]) -> Vec<f32> {
        Prediction::Epsilon.denoised_scaled(scales(self.from), x, noise)
    }
}

/// DDIM with η = 0 (`DDIMScheduler`; the WebUI's `ddim`).
#[derive(Debug)]
pub(in super::super) struct Ddim {
    pub transfers: Vec<Transfer>,
    pub prediction: Prediction,
    /// `clip_sample_range`, if x₀ is clipped.
    pub clip: Option<f32>,
    /// Whether x₀ comes from ε whatever the model predicts, as in the WebUI.
    pub by_noise: bool,
}

impl Solver for Ddim {
    fn advance(
        &mut self,
        call: usize,
        x: &mut [f32],
        output: &[f32],
        _: &mut dyn FnMut() -> Vec<f32>,
    ) -> Result<(), SamplerError> {
        let transfer = self.transfers[call];
        let scales = scales(transfer.from);
        let noise = self.prediction.noise(scales, x, output);
        let mut image = if self.by_noise {
            transfer.image(x, &noise)
        } else {
            self.prediction.denoised_scaled(scales, x, output)
        };
        if let Some(range) = self.clip {
            for image in &mut image {
                *image = image.clamp(-range, range);
            }
        }
        x.copy_from_slice(&transfer.ddim(&image, &noise));
        Ok(())
    }
}
