//! The loop: which calls of the model there are, and what its outputs do to the latents.

use super::config::{SamplerConfig, Source};
use super::error::SamplerError;
use super::name::Choice;
use super::solver::Solver;
use super::{diffusers, webui};

/// One call of the model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Call {
    /// The timestep that the model is told; a fraction with k-diffusion's samplers.
    pub timestep: f64,
    /// The factor of the latents that the model is given.
    pub scale: f32,
    /// The step of sampling, from 0; samplers of second order call the model twice a step.
    pub step: usize,
    /// The noise level σ of the latents as x₀ + σ ε.
    pub sigma: f64,
}

/// A sampler on its way from noise to an image.
///
/// The caller scales unit noise by [`Self::init_scale`], then for each [`Self::next`] call computes
/// the model's output (after guidance) at `latents · scale` and passes it to [`Self::advance`].
#[derive(Debug)]
pub struct Sampler {
    plan: Plan,
    taken: usize,
}

/// All calls of a sampler, and who uses their outputs.
#[derive(Debug)]
pub(super) struct Plan {
    pub calls: Vec<Call>,
    pub init_scale: f32,
    pub solver: Box<dyn Solver>,
}

impl Call {
    /// A call with latents x₀ + σ ε.
    pub(super) fn exploding(timestep: f64, sigma: f32, step: usize) -> Self {
        let scale = 1.0 / (sigma * sigma + 1.0).sqrt();
        Self { timestep, scale, step, sigma: f64::from(sigma) }
    }

    /// A call with latents √ᾱ x₀ + √(1−ᾱ) ε.
    pub(super) fn preserving(timestep: f64, sigma: f32, step: usize) -> Self {
        Self { timestep, scale: 1.0, step, sigma: f64::from(sigma) }
    }
}

/// Calls of a sampler that evaluates each step's beginning and, unless it goes to level 0, one more
/// level, which `second` gives with its timestep.
pub(super) fn twice(
    times: &[f64],
    sigmas: &[f32],
    second: impl Fn(usize) -> (f64, f32),
) -> Vec<Call> {
    let mut calls = Vec::with_capacity(2 * times.len());
    for (step, (time, pair)) in times.iter().zip(sigmas.windows(2)).enumerate() {
        calls.push(Call::exploding(*time, pair[0], step));
        if pair[1] > 0.0 {
            let (time, sigma) = second(step);
            calls.push(Call::exploding(time, sigma, step));
        }
    }
    calls
}

impl Sampler {
    /// A sampler of `steps` steps.
    ///
    /// The WebUI's DDIM, PLMS and `UniPC` ignore the schedule, and take the steps that its timesteps
    /// give (19 for 20 with DDIM), as there.
    pub fn new(config: &SamplerConfig, choice: Choice, steps: usize) -> Result<Self, SamplerError> {
        let plan = match &config.source {
            Source::Diffusers(keys, _) => diffusers::plan(keys, choice, steps)?,
            Source::WebUi => webui::plan(config.prediction(), choice, steps)?,
        };
        Ok(Self { plan, taken: 0 })
    }

    /// The factor of unit noise that makes the first latents.
    pub fn init_scale(&self) -> f32 {
        self.plan.init_scale
    }

    /// All calls of the model, first to last.
    pub fn calls(&self) -> &[Call] {
        &self.plan.calls
    }

    /// The call whose output [`Self::advance`] expects; none when the latents are done.
    pub fn next(&self) -> Option<Call> {
        self.plan.calls.get(self.taken).copied()
    }

    /// Moves the latents (rows × n values) on, given the model's output (as many).
    ///
    /// `noise` gives the n values of one row, which all rows get alike. It is called in the order in
    /// which the peer draws from its generator, also where the peer multiplies what it draws by 0;
    /// samplers that add no noise draw none. The k-diffusion samplers that draw from a Brownian tree
    /// (DPM++ SDE, and the multistep SDE samplers in the WebUI) get independent values instead, one for each
    /// interval between noise levels, from which the noise of longer intervals is composed: the same
    /// distribution as in the peer, but not its numbers. After an error the latents are of no use.
    pub fn advance(
        &mut self,
        latents: &mut [f32],
        output: &[f32],
        noise: &mut dyn FnMut() -> Vec<f32>,
    ) -> Result<(), SamplerError> {
        let calls = self.plan.calls.len();
        if self.taken >= calls {
            return Err(SamplerError::Finished { calls });
        }
        if output.len() != latents.len() {
            return Err(SamplerError::Length {
                what: "the model's output",
                expected: latents.len().to_string(),
                found: output.len(),
                hint: "pass one output for every latent",
            });
        }
        self.plan.solver.advance(self.taken, latents, output, noise)?;
        self.taken += 1;
        Ok(())
    }
}
