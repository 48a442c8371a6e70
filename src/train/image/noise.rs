//! Noise, timesteps and the loss of a denoiser.

use crate::base::random::Random;
use crate::config::DiffusionSettings;
use crate::model::diffusion::sampler::{NoiseSchedule, Prediction, SamplerError};

/// What is drawn for examples, each at each visit, and what their predictions are compared with.
#[derive(Debug)]
pub struct Noising {
    settings: DiffusionSettings,
    schedule: NoiseSchedule,
    prediction: Prediction,
    noise: Random,
    timestep: Random,
    latent: Random,
}

/// A noisy picture.
#[derive(Debug)]
pub struct Noisy {
    /// What the denoiser sees.
    pub latents: Vec<f32>,
    /// What it is to say.
    pub target: Vec<f32>,
    /// When.
    pub timestep: usize,
    /// What its squared error counts.
    pub weight: f64,
}

impl Noising {
    /// With the base's own schedule.
    pub fn new(
        settings: &DiffusionSettings,
        (schedule, prediction): (NoiseSchedule, Prediction),
        (seed, purpose): (u64, &str),
    ) -> Self {
        let random = |name: &str| Random::new(seed, &format!("{purpose}{name}"));
        let (noise, timestep, latent) = (random("noise"), random("timestep"), random("latent"));
        Self { settings: settings.clone(), schedule, prediction, noise, timestep, latent }
    }

    /// Timesteps that are drawn from.
    fn range(&self) -> (usize, usize) {
        let most = self.settings.max_timestep.min(self.schedule.len());
        (self.settings.min_timestep.min(most.saturating_sub(1)), most)
    }

    /// Where a timestep lies, 0…1.
    pub fn time(&self, timestep: usize) -> f64 {
        timestep as f64 / self.schedule.len().max(1) as f64
    }

    /// The noise that the autoencoder's deviation is multiplied by.
    pub fn of_latent(&self, example: u32, visit: u32, count: usize) -> Vec<f32> {
        self.latent.at(example, visit, 0).normals(count)
    }

    /// A picture at a visit, its timestep drawn.
    pub fn draw(
        &self,
        latents: &[f32],
        channels: usize,
        (example, visit): (u32, u32),
    ) -> Result<Noisy, SamplerError> {
        let (first, end) = self.range();
        let timestep = first + self.timestep.at(example, visit, 0).below((end - first).max(1));
        self.at(latents, channels, (example, visit), timestep)
    }

    /// A picture at a given timestep.
    pub fn at(
        &self,
        latents: &[f32],
        channels: usize,
        (example, visit): (u32, u32),
        timestep: usize,
    ) -> Result<Noisy, SamplerError> {
        let mut noise = self.noise.at(example, visit, 0).normals(latents.len());
        if self.settings.noise_offset != 0.0 {
            let shifts = self.noise.at(example, visit, 1).normals(channels);
            let plane = latents.len() / channels.max(1);
            #[expect(clippy::cast_possible_truncation, reason = "noise is f32")]
            let offset = self.settings.noise_offset as f32;
            for (plane, shift) in noise.chunks_mut(plane.max(1)).zip(shifts) {
                for value in plane {
                    *value += offset * shift;
                }
            }
        }
        let target = match self.prediction {
            Prediction::Epsilon => noise.clone(),
            Prediction::Velocity => self.schedule.velocity(latents, &noise, &[timestep])?,
            Prediction::Sample => latents.to_vec(),
        };
        Ok(Noisy {
            latents: self.schedule.add_noise(latents, &noise, &[timestep])?,
            target,
            timestep,
            weight: self.weight(timestep)?,
        })
    }

    /// Min-SNR's weight: min(snr, γ)/snr for noise, min(snr, γ)/(snr + 1) for velocities, min(snr, γ)
    /// for pictures (Hang et al., 2023; diffusers' training scripts).
    fn weight(&self, timestep: usize) -> Result<f64, SamplerError> {
        let Some(gamma) = self.settings.min_snr_gamma else { return Ok(1.0) };
        let snr = f64::from(self.schedule.snr(timestep)?);
        Ok(match self.prediction {
            // without any signal left the ratio is 0/0, its limit 1
            Prediction::Epsilon if snr == 0.0 => 1.0,
            Prediction::Epsilon => snr.min(gamma) / snr,
            Prediction::Velocity => snr.min(gamma) / (snr + 1.0),
            Prediction::Sample => snr.min(gamma),
        })
    }

    /// Timesteps of held-out losses: the four inner ones of six that divide the range evenly, as
    /// sd-scripts' validation has them.
    pub fn fixed_timesteps(&self) -> [usize; 4] {
        let (first, end) = self.range();
        [1, 2, 3, 4].map(|part| first + (end - first) * part / 5)
    }
}

/// The weighted mean squared error of a prediction, and its gradient times `factor`.
pub fn squared_error(
    prediction: &[f32],
    target: &[f32],
    (weight, factor): (f64, f64),
) -> (f64, Vec<f32>) {
    let n = prediction.len().max(1) as f64;
    let mut sum = 0.0;
    let slope = 2.0 * weight * factor / n;
    let gradient = prediction.iter().zip(target).map(|(prediction, target)| {
        let off = f64::from(prediction - target);
        sum += off * off;
        #[expect(clippy::cast_possible_truncation, reason = "rounded to the tensor's precision")]
        let slope = (slope * off) as f32;
        slope
    });
    let gradient = gradient.collect();
    (weight * sum / n, gradient)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> DiffusionSettings {
        DiffusionSettings {
            min_snr_gamma: None,
            noise_offset: 0.0,
            prior_weight: 1.0,
            min_timestep: 0,
            max_timestep: 1000,
        }
    }

    fn noising(settings: &DiffusionSettings, prediction: Prediction) -> Noising {
        let config = crate::model::diffusion::sampler::SamplerConfig::webui(prediction);
        let schedule = config.noise_schedule().unwrap();
        Noising::new(settings, (schedule, prediction), (1, ""))
    }

    #[test]
    fn held_out_timesteps_are_those_of_sd_scripts() {
        assert_eq!(
            noising(&settings(), Prediction::Epsilon).fixed_timesteps(),
            [200, 400, 600, 800]
        );
    }

    #[test]
    fn timesteps_keep_to_their_range() {
        let some = DiffusionSettings { min_timestep: 100, max_timestep: 110, ..settings() };
        let noising = noising(&some, Prediction::Epsilon);
        let mut seen = std::collections::BTreeSet::new();
        for example in 0..200 {
            seen.insert(noising.draw(&[0.0; 4], 1, (example, 0)).unwrap().timestep);
        }
        assert_eq!(seen, (100..110).collect());
    }

    #[test]
    fn an_offset_shifts_whole_channels() {
        let some = DiffusionSettings { noise_offset: 0.1, ..settings() };
        let with = noising(&some, Prediction::Epsilon).at(&[0.0; 8], 2, (3, 4), 500).unwrap();
        let without =
            noising(&settings(), Prediction::Epsilon).at(&[0.0; 8], 2, (3, 4), 500).unwrap();
        let shift: Vec<f32> = with.target.iter().zip(&without.target).map(|(a, b)| a - b).collect();
        assert!(shift[0] != 0.0 && (shift[0] - shift[4]).abs() > 1e-6);
        for plane in shift.chunks(4) {
            assert!(plane.iter().all(|value| (value - plane[0]).abs() < 1e-6));
        }
    }

    /// SNR is far above 5 early and far below 1 late.
    #[test]
    fn min_snr_weighs_early_timesteps_down() {
        let some = DiffusionSettings { min_snr_gamma: Some(5.0), ..settings() };
        let weight = |prediction, timestep| {
            noising(&some, prediction).at(&[0.0], 1, (0, 0), timestep).unwrap().weight
        };
        assert!(weight(Prediction::Epsilon, 10) < 0.1);
        assert_eq!(weight(Prediction::Epsilon, 900), 1.0);
        assert!(weight(Prediction::Velocity, 900) < 0.1);
    }

    #[test]
    fn the_error_s_gradient_is_its_slope() {
        let (prediction, target) = ([0.5f32, -1.0, 2.0], [0.0f32, 0.5, 1.5]);
        let (loss, gradient) = squared_error(&prediction, &target, (0.7, 0.25));
        assert!((loss - 0.7 * (0.25 + 2.25 + 0.25) / 3.0).abs() < 1e-12);
        let mut moved = prediction;
        moved[1] += 1e-2;
        let (above, _) = squared_error(&moved, &target, (0.7, 0.25));
        moved[1] -= 2e-2;
        let (below, _) = squared_error(&moved, &target, (0.7, 0.25));
        assert!(((above - below) / 2e-2 * 0.25 - f64::from(gradient[1])).abs() < 1e-6);
    }
}
