use super::{Solver, update};
use crate::model::diffusion::sampler::error::SamplerError;
use crate::model::diffusion::sampler::float::{expm1, narrow};
use crate::model::diffusion::sampler::prediction::{Prediction, zip};

/// `solver_type`: the function B(h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Variant {
    Bh1,
    Bh2,
}

/// α, σ and λ = ln(α/σ) at a call, and after the last one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in super::super) struct UniPcPoint {
    pub alpha: f32,
    pub sigma: f32,
    pub lambda: f32,
}

impl UniPcPoint {
    /// The point of a level σ/α.
    pub fn of_level(level: f32) -> Self {
        let (alpha, sigma, lambda) = super::dpm::point(level);
        Self { alpha, sigma, lambda }
    }
}

/// `UniPC` on predicted images (Zhao et al., 2023; `UniPCMultistepScheduler`, the WebUI's `unipc`), on
/// latents α x₀ + σ ε; one call a step, whose output corrects the step before.
#[derive(Debug)]
pub(in super::super) struct UniPc {
    /// One more than there are calls.
    pub points: Vec<UniPcPoint>,
    pub prediction: Prediction,
    /// α and σ with which each call's output becomes ε, where images are computed from ε whatever
    /// the model predicts, as in the WebUI; else empty.
    pub noise_scales: Vec<(f32, f32)>,
    /// `solver_order`.
    pub order: usize,
    pub variant: Variant,
    /// `disable_corrector`: steps that are not corrected.
    pub uncorrected: Vec<usize>,
    /// Images of the last calls, the latest last.
    pub images: Vec<Vec<f32>>,
    /// The latents before the last step.
    pub start: Vec<f32>,
}

/// The system of one step: its coefficients, and for the outputs before the last one their place.
struct System {
    h_phi_1: f32,
    b_h: f32,
    /// (λᵢ − λ₀)/h of earlier points, then 1.
    ratios: Vec<f32>,
    rhs: Vec<f32>,
}

impl UniPc {
    /// The order of the step that call `call` begins.
    fn order_of(&self, call: usize) -> usize {
        self.order.min(self.points.len() - 1 - call).min(call + 1)
    }

    /// The step from point `from` to the next, of `order`.
    fn system(&self, from: usize, order: usize) -> System {
        let base = self.points[from].lambda;
        let h = self.points[from + 1].lambda - base;
        let mut ratios: Vec<f32> =
            (1..order).map(|i| (self.points[from - i].lambda - base) / h).collect();
        ratios.push(1.0);
        let hh = -h;
        let h_phi_1 = expm1(hh);
        let b_h = match self.variant {
            Variant::Bh1 => hh,
            Variant::Bh2 => h_phi_1,
        };
        let mut phi = h_phi_1 / hh - 1.0;
        let mut factorial = 1.0_f64;
        let mut rhs = Vec::with_capacity(order);
        for i in 1..=order {
            rhs.push(phi * narrow(factorial) / b_h);
            factorial *= (i + 1) as f64;
            phi = phi / hh - narrow(1.0 / factorial);
        }
        System { h_phi_1, b_h, ratios, rhs }
    }

    /// Moves `x` from point `from` to the next, with the images up to `from` (the latest last) and
    /// for the corrector the image predicted there.
    fn step(&self, from: usize, order: usize, x: &mut [f32], ahead: Option<&[f32]>) {
        let System { h_phi_1, b_h, ratios, rhs } = self.system(from, order);
        let weights = match (ahead, order) {
            (Some(_), 1) | (None, 2) => vec![0.5],
            (Some(_), _) => solve(&ratios, &rhs),
            (None, _) => solve(&ratios[..order - 1], &rhs[..order - 1]),
        };
        let (to, at) = (self.points[from + 1], self.points[from]);
        let mut images = self.images.iter().rev();
        let Some(latest) = images.next() else { return };
        let mut residual = vec![0.0; x.len()];
        for ((image, ratio), weight) in images.zip(&ratios[..order - 1]).zip(&weights) {
            let slope = zip(image, latest, |image, latest| (image - latest) / ratio);
            update(&mut residual, &slope, |sum, slope| sum + weight * slope);
        }
        if let (Some(ahead), Some(weight)) = (ahead, weights.last()) {
            let change = zip(ahead, latest, |ahead, latest| ahead - latest);
            update(&mut residual, &change, |sum, change| sum + weight * change);
        }
        let (keep, weight) = (to.sigma / at.sigma, to.alpha * h_phi_1);
        update(x, latest, |x, latest| keep * x - weight * latest);
        if ahead.is_none() && order == 1 {
            return; // nothing to add, and with a last level of 0 Bh1's weight is infinite
        }
        let weight = to.alpha * b_h;
        update(x, &residual, |x, residual| x - weight * residual);
    }
}

impl Solver for UniPc {
    fn advance(
        &mut self,
        call: usize,
        x: &mut [f32],
        output: &[f32],
        _: &mut dyn FnMut() -> Vec<f32>,
    ) -> Result<(), SamplerError> {
        let UniPcPoint { alpha, sigma, .. } = self.points[call];
        let image = match self.noise_scales.get(call) {
            Some(scales) => {
                let noise = self.prediction.noise(*scales, x, output);
                Prediction::Epsilon.denoised_scaled((alpha, sigma), x, &noise)
            }
            None => self.prediction.denoised_scaled((alpha, sigma), x, output),
        };
        if call > 0 && !self.uncorrected.contains(&(call - 1)) {
            x.copy_from_slice(&self.start);
            self.step(call - 1, self.order_of(call - 1), x, Some(&image));
        }
        if self.images.len() == self.order {
            self.images.remove(0);
        }
        self.images.push(image);
        self.start = x.to_vec();
        self.step(call, self.order_of(call), x, None);
        Ok(())
    }
}

/// The weights w with Σⱼ rⱼⁱ wⱼ = bᵢ for i from 0 (Gaussian elimination with row pivots).
fn solve(ratios: &[f32], rhs: &[f32]) -> Vec<f32> {
    let n = ratios.len();
    let mut rows: Vec<Vec<f32>> = Vec::with_capacity(n);
    let mut powers = vec![1.0_f32; n];
    for b in rhs {
        rows.push(powers.iter().copied().chain([*b]).collect());
        powers.iter_mut().zip(ratios).for_each(|(power, ratio)| *power *= ratio);
    }
    for pivot in 0..n {
        let largest =
            (pivot..n).max_by(|a, b| rows[*a][pivot].abs().total_cmp(&rows[*b][pivot].abs()));
        rows.swap(pivot, largest.unwrap_or(pivot));
        let (above, below) = rows.split_at_mut(pivot + 1);
        let top = &above[pivot];
        for row in below {
            let factor = row[pivot] / top[pivot];
            for (value, top) in row.iter_mut().zip(top).skip(pivot) {
                *value -= factor * top;
            }
        }
    }
    let mut weights = vec![0.0_f32; n];
    for i in (0..n).rev() {
        let known = (i + 1..n).fold(rows[i][n], |rest, j| rest - rows[i][j] * weights[j]);
        weights[i] = known / rows[i][i];
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn solved_weights_satisfy_their_equations() {
        let (ratios, rhs) = ([-2.5_f32, -1.2, 1.0], [0.4_f32, -0.1, 0.3]);
        let weights = solve(&ratios, &rhs);
        for (i, b) in (0..).zip(rhs) {
            let sum: f32 = ratios.iter().zip(&weights).map(|(r, w)| r.powi(i) * w).sum();
            assert!((sum - b).abs() < 1e-6, "{i}: {sum} {b}");
        }
    }
}
