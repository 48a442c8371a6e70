use super::{Solver, add, ancestral, draw, update};
use crate::model::diffusion::sampler::error::SamplerError;
use crate::model::diffusion::sampler::prediction::Prediction;

/// Euler's method (`EulerDiscreteScheduler`, `sample_euler`) and its ancestral form
/// (`EulerAncestralDiscreteScheduler`, `sample_euler_ancestral`); one call a step.
#[derive(Debug)]
pub(in super::super) struct Euler {
    /// The level of each call, and the last one.
    pub sigmas: Vec<f32>,
    pub prediction: Prediction,
    pub ancestral: bool,
    /// Whether noise is drawn where the next level is 0 (diffusers does).
    pub draws_at_zero: bool,
}

impl Solver for Euler {
    fn advance(
        &mut self,
        call: usize,
        x: &mut [f32],
        output: &[f32],
        noise: &mut dyn FnMut() -> Vec<f32>,
    ) -> Result<(), SamplerError> {
        let (sigma, next) = (self.sigmas[call], self.sigmas[call + 1]);
        let (down, up) = if self.ancestral { ancestral(sigma, next) } else { (next, 0.0) };
        let denoised = self.prediction.denoised(sigma, x, output);
        let dt = down - sigma;
        update(x, &denoised, |x, denoised| x + (x - denoised) / sigma * dt);
        if self.ancestral && (self.draws_at_zero || next > 0.0) {
            let row = draw(x.len(), noise)?;
            add(x, &row, |noise| noise * up);
        }
        Ok(())
    }
}
