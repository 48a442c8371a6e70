use super::{Solver, add, draw, update};
use crate::model::diffusion::sampler::error::SamplerError;
use crate::model::diffusion::sampler::noise_schedule::scales;
use crate::model::diffusion::sampler::prediction::Prediction;

/// `c_skip` and `c_out` of a timestep multiplied by its scaling (Luo et al., 2023, `σ_data` = ½).
fn boundary(scaled: f32) -> (f32, f32) {
    let norm = scaled * scaled + 0.25;
    (0.25 / norm, scaled / norm.sqrt())
}

/// Latent consistency sampling (`LCMScheduler`).
#[derive(Debug)]
pub(in super::super) struct Lcm {
    /// For each call ᾱ and the timestep times `timestep_scaling`.
    pub points: Vec<(f32, f32)>,
    pub prediction: Prediction,
    /// `clip_sample_range`, if x₀ is clipped.
    pub clip: Option<f32>,
}

impl Solver for Lcm {
    fn advance(
        &mut self,
        call: usize,
        x: &mut [f32],
        output: &[f32],
        noise: &mut dyn FnMut() -> Vec<f32>,
    ) -> Result<(), SamplerError> {
        let (alpha, scaled) = self.points[call];
        let (skip, out) = boundary(scaled);
        let image = self.prediction.denoised_scaled(scales(alpha), x, output);
        let clipped = |image: f32| self.clip.map_or(image, |range| image.clamp(-range, range));
        update(x, &image, |x, image| out * clipped(image) + skip * x);
        if let Some((next, _)) = self.points.get(call + 1) {
            let (alpha, sigma) = scales(*next);
            let row = draw(x.len(), noise)?;
            for x in x.iter_mut() {
                *x *= alpha;
            }
            add(x, &row, |noise| sigma * noise);
        }
        Ok(())
    }
}

/// The WebUI's `LCM`: the same on latents x₀ + σ ε.
#[derive(Debug)]
pub(in super::super) struct KLcm {
    /// The level of each call and its timestep times 10.
    pub points: Vec<(f32, f32)>,
    /// The level after the last call.
    pub last: f32,
}

impl Solver for KLcm {
    fn advance(
        &mut self,
        call: usize,
        x: &mut [f32],
        output: &[f32],
        noise: &mut dyn FnMut() -> Vec<f32>,
    ) -> Result<(), SamplerError> {
        let (sigma, scaled) = self.points[call];
        let (skip, out) = boundary(scaled);
        let next = self.points.get(call + 1).map_or(self.last, |(sigma, _)| *sigma);
        let image = Prediction::Epsilon.denoised(sigma, x, output);
        update(x, &image, |x, image| out * image + skip * x);
        if next > 0.0 {
            let row = draw(x.len(), noise)?;
            add(x, &row, |noise| next * noise);
        }
        Ok(())
    }
}
