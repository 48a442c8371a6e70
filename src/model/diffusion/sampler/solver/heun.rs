use super::{Solver, update};
use crate::model::diffusion::sampler::error::SamplerError;
use crate::model::diffusion::sampler::prediction::{Prediction, zip};

/// Heun's method (`HeunDiscreteScheduler`, `sample_heun`): calls alternate between a step's
/// beginning and its end; a step to level 0 has no second call.
#[derive(Debug)]
pub(in super::super) struct Heun {
    /// The level of each step, and the last one.
    pub sigmas: Vec<f32>,
    pub prediction: Prediction,
    /// `clip_sample_range`, if x₀ is clipped.
    pub clip: Option<f32>,
    /// The latents before the step and their derivative, between the calls of a step.
    pub begun: Option<(Vec<f32>, Vec<f32>)>,
}

impl Heun {
    fn derivative(&self, sigma: f32, x: &[f32], output: &[f32]) -> Vec<f32> {
        let denoised = self.prediction.denoised(sigma, x, output);
        zip(x, &denoised, |x, denoised| {
            (x - self.clip.map_or(denoised, |range| denoised.clamp(-range, range))) / sigma
        })
    }
}

impl Solver for Heun {
    fn advance(
        &mut self,
        call: usize,
        x: &mut [f32],
        output: &[f32],
        _: &mut dyn FnMut() -> Vec<f32>,
    ) -> Result<(), SamplerError> {
        let (sigma, next) = (self.sigmas[call / 2], self.sigmas[call / 2 + 1]);
        let dt = next - sigma;
        if let Some((start, first)) = self.begun.take() {
            let mean = zip(&first, &self.derivative(next, x, output), f32::midpoint);
            x.copy_from_slice(&start);
            update(x, &mean, |x, derivative| x + derivative * dt);
            return Ok(());
        }
        let derivative = self.derivative(sigma, x, output);
        let start = x.to_vec();
        update(x, &derivative, |x, derivative| x + derivative * dt);
        if next > 0.0 {
            self.begun = Some((start, derivative));
        }
        Ok(())
    }
}
