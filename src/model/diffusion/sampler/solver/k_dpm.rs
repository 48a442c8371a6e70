//! k-diffusion's DPM-Solver++, on latents x₀ + σ ε.

use super::{Solver, add, ancestral, draw, update};
use crate::model::diffusion::sampler::error::SamplerError;
use crate::model::diffusion::sampler::float::{exp, expm1, ln};
use crate::model::diffusion::sampler::prediction::{Prediction, zip};

/// DPM++ 2M (`sample_dpmpp_2m`); one call a step.
#[derive(Debug)]
pub(in super::super) struct KDpm2m {
    /// The level of each call, and the last one.
    pub sigmas: Vec<f32>,
    pub prediction: Prediction,
    /// x₀ of the call before.
    pub previous: Option<Vec<f32>>,
}

impl Solver for KDpm2m {
    fn advance(
        &mut self,
        call: usize,
        x: &mut [f32],
        output: &[f32],
        _: &mut dyn FnMut() -> Vec<f32>,
    ) -> Result<(), SamplerError> {
        let (sigma, next) = (self.sigmas[call], self.sigmas[call + 1]);
        let denoised = self.prediction.denoised(sigma, x, output);
        let (t, t_next) = (-ln(sigma), -ln(next));
        let h = t_next - t;
        let target = match &self.previous {
            Some(previous) if next > 0.0 => {
                let r = (t + ln(self.sigmas[call - 1])) / h;
                let (now, before) = (1.0 + 1.0 / (2.0 * r), 1.0 / (2.0 * r));
                zip(&denoised, previous, |d, previous| now * d - before * previous)
            }
            _ => denoised.clone(),
        };
        let (keep, grown) = (exp(-t_next) / exp(-t), expm1(-h));
        update(x, &target, |x, target| keep * x - grown * target);
        self.previous = Some(denoised);
        Ok(())
    }
}

/// DPM++ 2M SDE (`sample_dpmpp_2m_sde`, midpoint, η = 1); one call a step.
#[derive(Debug)]
pub(in super::super) struct KDpm2mSde {
    /// The level of each call, and the last one.
    pub sigmas: Vec<f32>,
    pub prediction: Prediction,
    /// x₀ of the call before and the length of its step in ln σ.
    pub previous: Option<(Vec<f32>, f32)>,
}

impl Solver for KDpm2mSde {
    fn advance(
        &mut self,
        call: usize,
        x: &mut [f32],
        output: &[f32],
        noise: &mut dyn FnMut() -> Vec<f32>,
    ) -> Result<(), SamplerError> {
        let (sigma, next) = (self.sigmas[call], self.sigmas[call + 1]);
        let denoised = self.prediction.denoised(sigma, x, output);
        if next == 0.0 {
            x.copy_from_slice(&denoised);
            return Ok(());
        }
        let h = ln(sigma) - ln(next);
        let (keep, weight) = (next / sigma * exp(-h), -expm1(-h - h));
        update(x, &denoised, |x, denoised| keep * x + weight * denoised);
        if let Some((previous, h_last)) = &self.previous {
            let weight = 0.5 * weight * (1.0 / (h_last / h));
            let change = zip(&denoised, previous, |now, before| now - before);
            update(x, &change, |x, change| x + weight * change);
        }
        let spread = (-expm1(-2.0 * h)).sqrt();
        let row = draw(x.len(), noise)?;
        add(x, &row, |noise| noise * next * spread);
        self.previous = Some((denoised, h));
        Ok(())
    }
}

/// DPM++ 3M SDE (`sample_dpmpp_3m_sde`, η = 1); one call a step.
#[derive(Debug)]
pub(in super::super) struct KDpm3mSde {
    /// The level of each call, and the last one.
    pub sigmas: Vec<f32>,
    pub prediction: Prediction,
    /// x₀ of up to two calls before and the lengths of their steps in ln σ, the latest first.
    pub previous: Vec<(Vec<f32>, f32)>,
}

impl KDpm3mSde {
    /// The slope and the bend of x₀ over steps as long as this one, as far as they are known.
    fn derivatives(&self, denoised: &[f32], h: f32) -> (Option<Vec<f32>>, Option<Vec<f32>>) {
        let Some((first, h_1)) = self.previous.first() else { return (None, None) };
        let r0 = h_1 / h;
        let slope = zip(denoised, first, |now, before| (now - before) / r0);
        let Some((second, h_2)) = self.previous.get(1) else { return (Some(slope), None) };
        let r1 = h_2 / h;
        let before = zip(first, second, |now, before| (now - before) / r1);
        let change = zip(&slope, &before, |now, before| now - before);
        let bend = change.iter().map(|change| change / (r0 + r1)).collect();
        let slope = zip(&slope, &change, |slope, change| slope + change * r0 / (r0 + r1));
        (Some(slope), Some(bend))
    }
}

impl Solver for KDpm3mSde {
    fn advance(
        &mut self,
        call: usize,
        x: &mut [f32],
        output: &[f32],
        noise: &mut dyn FnMut() -> Vec<f32>,
    ) -> Result<(), SamplerError> {
        let (sigma, next) = (self.sigmas[call], self.sigmas[call + 1]);
        let denoised = self.prediction.denoised(sigma, x, output);
        if next == 0.0 {
            x.copy_from_slice(&denoised);
            return Ok(());
        }
        let h = ln(sigma) - ln(next);
        let double = h * 2.0;
        let (keep, weight) = (exp(-double), -expm1(-double));
        update(x, &denoised, |x, denoised| keep * x + weight * denoised);
        let phi_2 = expm1(-double) / double + 1.0;
        let phi_3 = phi_2 / double - 0.5;
        let (slope, bend) = self.derivatives(&denoised, h);
        update(x, &slope.unwrap_or_default(), |x, slope| x + phi_2 * slope);
        update(x, &bend.unwrap_or_default(), |x, bend| x - phi_3 * bend);
        let spread = (-expm1(-2.0 * h)).sqrt();
        let row = draw(x.len(), noise)?;
        add(x, &row, |noise| noise * next * spread);
        self.previous.insert(0, (denoised, h));
        self.previous.truncate(2);
        Ok(())
    }
}

/// DPM++ SDE (`sample_dpmpp_sde`, r = ½, η = 1; `DPMSolverSDEScheduler`): calls alternate between a
/// step's beginning and its middle in ln σ; a step to level 0 has no second call.
#[derive(Debug)]
pub(in super::super) struct KDpmSde {
    /// The level of each step, and the last one.
    pub sigmas: Vec<f32>,
    pub prediction: Prediction,
    /// The latents before the step and the noise of its first half, between the calls of a step.
    pub begun: Option<(Vec<f32>, Vec<f32>)>,
}

impl KDpmSde {
    /// The level in the middle of a step.
    pub fn middle(sigma: f32, next: f32) -> f32 {
        let (t, t_next) = (-ln(sigma), -ln(next));
        exp(-(t + (t_next - t) * 0.5))
    }

    /// An ancestral step of first order; `row` has unit variance.
    fn step(x: &mut [f32], denoised: &[f32], (from, to): (f32, f32), row: &[f32]) {
        let (from, to) = (exp(ln(from)), exp(ln(to)));
        let t = -ln(from);
        let (down, up) = ancestral(from, to);
        let t_down = -ln(down);
        let (keep, grown) = (exp(-t_down) / exp(-t), expm1(t - t_down));
        update(x, denoised, |x, denoised| keep * x - grown * denoised);
        add(x, row, |noise| noise * up);
    }
}

impl Solver for KDpmSde {
    fn advance(
        &mut self,
        call: usize,
        x: &mut [f32],
        output: &[f32],
        noise: &mut dyn FnMut() -> Vec<f32>,
    ) -> Result<(), SamplerError> {
        let (sigma, next) = (self.sigmas[call / 2], self.sigmas[call / 2 + 1]);
        if next == 0.0 {
            let denoised = self.prediction.denoised(sigma, x, output);
            update(x, &denoised, |x, denoised| x + (x - denoised) / sigma * (next - sigma));
            return Ok(());
        }
        let middle = Self::middle(sigma, next);
        let row = draw(x.len(), noise)?;
        let Some((start, first)) = self.begun.take() else {
            let denoised = self.prediction.denoised(sigma, x, output);
            let start = x.to_vec();
            Self::step(x, &denoised, (sigma, middle), &row);
            self.begun = Some((start, row));
            return Ok(());
        };
        // the Brownian motion from σ to the next level is that of both halves, in this proportion
        let (a, b) = ((sigma - middle).sqrt(), (middle - next).sqrt());
        let whole = (sigma - next).sqrt();
        let denoised = self.prediction.denoised(middle, x, output);
        x.copy_from_slice(&start);
        let row = zip(&first, &row, |first, second| (a * first + b * second) / whole);
        Self::step(x, &denoised, (sigma, next), &row);
        Ok(())
    }
}
