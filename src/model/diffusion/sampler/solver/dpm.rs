use super::{Solver, add, draw};
use crate::model::diffusion::sampler::error::SamplerError;
use crate::model::diffusion::sampler::float::{exp, ln};
use crate::model::diffusion::sampler::prediction::{Prediction, zip};

/// `solver_type`: how a step of second order weighs the difference of outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Midpoint {
    Midpoint,
    Heun,
}

/// DPM-Solver++ multistep, deterministic or stochastic (`DPMSolverMultistepScheduler` with
/// `dpmsolver++` or `sde-dpmsolver++`), on latents α x₀ + σ ε; one call a step.
#[derive(Debug)]
pub(in super::super) struct Dpm {
    /// The level of each call, and the last one.
    pub sigmas: Vec<f32>,
    pub prediction: Prediction,
    pub stochastic: bool,
    /// `solver_order`, 1 to 3.
    pub order: usize,
    pub solver_type: Midpoint,
    /// Whether the last step is of first order.
    pub first_order_last: bool,
    /// Whether the last but one is at most of second order.
    pub second_order_before: bool,
    /// x₀ of the last calls, the latest last.
    pub images: Vec<Vec<f32>>,
}

/// α, σ and λ = ln(α/σ) of a level.
pub(super) fn point(level: f32) -> (f32, f32, f32) {
    let alpha = 1.0 / (level * level + 1.0).sqrt();
    let sigma = level * alpha;
    (alpha, sigma, ln(alpha) - ln(sigma))
}

impl Dpm {
    fn order_of(&self, call: usize) -> usize {
        let left = self.sigmas.len() - 1 - call;
        let most = match left {
            1 if self.first_order_last => 1,
            2 if self.second_order_before => 2,
            _ => self.order,
        };
        most.min(self.images.len())
    }

    /// The weights of x and of the differences D₀, D₁, D₂ of the images, and of the noise.
    fn weights(&self, call: usize, order: usize) -> (f32, [f32; 3], f32) {
        let (alpha, sigma, lambda) = point(self.sigmas[call + 1]);
        let (_, sigma_s, lambda_s) = point(self.sigmas[call]);
        let h = lambda - lambda_s;
        let by_slope = order == 3 || self.solver_type == Midpoint::Heun;
        if self.stochastic {
            let decay = exp(-2.0 * h);
            let first = alpha * (1.0 - decay);
            let second =
                if by_slope { alpha * ((1.0 - decay) / (-2.0 * h) + 1.0) } else { 0.5 * first };
            let double = 2.0 * h;
            let third = alpha * ((1.0 - decay - double) / (double * double) - 0.5);
            return (
                sigma / sigma_s * exp(-h),
                [first, second, third],
                sigma * (1.0 - decay).sqrt(),
            );
        }
        let grown = exp(-h) - 1.0;
        let first = -(alpha * grown);
        let second = if by_slope { alpha * (grown / h + 1.0) } else { 0.5 * first };
        let third = -(alpha * ((grown + h) / (h * h) - 0.5));
        (sigma / sigma_s, [first, second, third], 0.0)
    }

    /// D₀, D₁ and D₂ of Lu et al. (2022), as far as the order needs them.
    fn differences(&self, call: usize, order: usize) -> Vec<Vec<f32>> {
        let lambda = |call: usize| point(self.sigmas[call]).2;
        let mut images = self.images.iter().rev();
        let (Some(m0), m1, m2) = (images.next(), images.next(), images.next()) else {
            return Vec::new();
        };
        let h = lambda(call + 1) - lambda(call);
        let mut result = vec![m0.clone()];
        if let (2.., Some(m1)) = (order, m1) {
            let r0 = (lambda(call) - lambda(call - 1)) / h;
            let slope = zip(m0, m1, |m0, m1| 1.0 / r0 * (m0 - m1));
            if let (3.., Some(m2)) = (order, m2) {
                let r1 = (lambda(call - 1) - lambda(call - 2)) / h;
                let before = zip(m1, m2, |m1, m2| 1.0 / r1 * (m1 - m2));
                let bend = zip(&slope, &before, |slope, before| slope - before);
                result.push(zip(&slope, &bend, |slope, bend| slope + r0 / (r0 + r1) * bend));
                result.push(bend.into_iter().map(|bend| 1.0 / (r0 + r1) * bend).collect());
            } else {
                result.push(slope);
            }
        }
        result
    }
}

impl Solver for Dpm {
    fn advance(
        &mut self,
        call: usize,
        x: &mut [f32],
        output: &[f32],
        noise: &mut dyn FnMut() -> Vec<f32>,
    ) -> Result<(), SamplerError> {
        let (alpha, sigma, _) = point(self.sigmas[call]);
        let image = self.prediction.denoised_scaled((alpha, sigma), x, output);
        if self.images.len() == self.order {
            self.images.remove(0);
        }
        self.images.push(image);
        let order = self.order_of(call);
        let (keep, weights, noise_weight) = self.weights(call, order);
        for x in x.iter_mut() {
            *x *= keep;
        }
        for (difference, weight) in self.differences(call, order).iter().zip(weights) {
            super::update(x, difference, |x, difference| x + weight * difference);
        }
        if self.stochastic {
            let row = draw(x.len(), noise)?;
            add(x, &row, |noise| noise_weight * noise);
        }
        Ok(())
    }
}
