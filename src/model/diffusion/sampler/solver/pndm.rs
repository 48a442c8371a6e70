use super::{Solver, Transfer};
use crate::model::diffusion::sampler::error::SamplerError;
use crate::model::diffusion::sampler::noise_schedule::scales;
use crate::model::diffusion::sampler::prediction::{Prediction, zip};

/// Pseudo linear multistep (`PNDMScheduler` with `skip_prk_steps`; the WebUI's `plms`): the first
/// step has two calls, the others one and up to three outputs of the calls before.
#[derive(Debug)]
pub(in super::super) struct Pndm {
    /// The transfer of each call; both calls of the first step have the same.
    pub transfers: Vec<Transfer>,
    pub prediction: Prediction,
    /// ᾱ at each call's timestep where, as in the WebUI, outputs become noise at once and the
    /// transfer is DDIM's; empty where diffusers converts the combined output.
    pub noise_at: Vec<f32>,
    /// Outputs of steps before, the latest last, and the latents before the first step.
    pub outputs: Vec<Vec<f32>>,
    pub start: Vec<f32>,
}

impl Pndm {
    /// The output that the last ones stand for (Adams–Bashforth).
    fn combined(&self) -> Vec<f32> {
        let weights: &[f32] = match self.outputs.len() {
            0 | 1 => &[1.0],
            2 => &[3.0, -1.0],
            3 => &[23.0, -16.0, 5.0],
            _ => &[55.0, -59.0, 37.0, -9.0],
        };
        let divisor: f32 = weights.iter().sum();
        let n = self.outputs.last().map_or(0, Vec::len);
        let sum = |i: usize| {
            let terms = self.outputs.iter().rev().zip(weights).map(|(out, weight)| weight * out[i]);
            terms.reduce(|sum, term| sum + term).unwrap_or_default() / divisor
        };
        (0..n).map(sum).collect()
    }

    /// Formula (9) of Liu et al. (2022), as diffusers rounds it.
    fn transfer(&self, transfer: Transfer, x: &[f32], output: &[f32]) -> Vec<f32> {
        if !self.noise_at.is_empty() {
            return transfer.ddim(&transfer.image(x, output), output);
        }
        let Transfer { from, to } = transfer;
        let noise = self.prediction.noise(scales(from), x, output);
        let keep = (to / from).sqrt();
        let denominator = from * (1.0 - to).sqrt() + (from * (1.0 - from) * to).sqrt();
        zip(x, &noise, |x, noise| keep * x - (to - from) * noise / denominator)
    }
}

impl Solver for Pndm {
    fn advance(
        &mut self,
        call: usize,
        x: &mut [f32],
        output: &[f32],
        _: &mut dyn FnMut() -> Vec<f32>,
    ) -> Result<(), SamplerError> {
        let output = match self.noise_at.get(call) {
            Some(alpha) => self.prediction.noise(scales(*alpha), x, output),
            None => output.to_vec(),
        };
        let output = if let (1, Some(first)) = (call, self.outputs.last()) {
            x.copy_from_slice(&self.start);
            zip(&output, first, f32::midpoint)
        } else {
            if call == 0 {
                self.start = x.to_vec();
            }
            if self.outputs.len() == 4 {
                self.outputs.remove(0);
            }
            self.outputs.push(output);
            self.combined()
        };
        let moved = self.transfer(self.transfers[call], x, &output);
        x.copy_from_slice(&moved);
        Ok(())
    }
}
