//! The noise that a model was trained with, timestep by timestep.

use super::error::SamplerError;
use super::float::{linspace, narrow};

/// ᾱ of every timestep: latents at timestep t are √ᾱ x₀ + √(1−ᾱ) ε (Ho et al., 2020).
#[derive(Debug, Clone, PartialEq)]
pub struct NoiseSchedule {
    alphas_cumprod: Vec<f32>,
}

impl NoiseSchedule {
    /// From β of every timestep; `zero_snr` rescales them so that the last timestep is pure noise
    /// (Lin et al., 2024, algorithm 1).
    pub(super) fn from_betas(betas: &[f32], zero_snr: bool) -> Self {
        let alphas: Vec<f32> = betas.iter().map(|beta| 1.0 - beta).collect();
        let alphas_cumprod = products(&alphas);
        if !zero_snr {
            return Self { alphas_cumprod };
        }
        let mut roots: Vec<f32> = alphas_cumprod.iter().map(|alpha| alpha.sqrt()).collect();
        let (first, last) = (roots[0], roots[roots.len() - 1]);
        let scale = first / (first - last);
        for root in &mut roots {
            *root = (*root - last) * scale;
        }
        let bars: Vec<f32> = roots.iter().map(|root| root * root).collect();
        // diffusers goes back to β and from there to ᾱ, with the rounding of both ways
        let ratios = bars.windows(2).map(|pair| pair[1] / pair[0]);
        let alphas: Vec<f32> = std::iter::once(bars[0])
            .chain(ratios)
            .map(|alpha| {
                let beta = 1.0 - alpha;
                1.0 - beta
            })
            .collect();
        Self { alphas_cumprod: products(&alphas) }
    }

    /// Stable Diffusion in the original code: β in f64 from 0.00085 to 0.012, linear in √β.
    pub(super) fn compvis() -> Self {
        let mut product = 1.0_f64;
        let roots = linspace(0.00085_f64.sqrt(), 0.012_f64.sqrt(), 1000);
        let alphas_cumprod = roots.into_iter().map(|root| {
            product *= 1.0 - root * root;
            narrow(product)
        });
        Self { alphas_cumprod: alphas_cumprod.collect() }
    }

    /// Makes the noise level of a last timestep of pure noise finite, as diffusers' solvers do.
    pub(super) fn make_last_level_finite(&mut self) {
        if let Some(last) = self.alphas_cumprod.last_mut() {
            *last = 2.0_f32.powi(-24);
        }
    }

    /// How many timesteps there are.
    pub fn len(&self) -> usize {
        self.alphas_cumprod.len()
    }

    /// Whether there are no timesteps; never so for a schedule of a configuration.
    pub fn is_empty(&self) -> bool {
        self.alphas_cumprod.is_empty()
    }

    /// ᾱ of every timestep, falling.
    pub fn alphas_cumprod(&self) -> &[f32] {
        &self.alphas_cumprod
    }

    /// ᾱ of one timestep.
    pub fn alpha_cumprod(&self, timestep: usize) -> Result<f32, SamplerError> {
        let last = self.len().saturating_sub(1);
        let alpha = self.alphas_cumprod.get(timestep).copied();
        alpha.ok_or(SamplerError::Timestep { timestep, last })
    }

    /// The noise level σ = √((1−ᾱ)/ᾱ) of every timestep, rising.
    pub fn levels(&self) -> Vec<f32> {
        self.alphas_cumprod.iter().map(|alpha| level(*alpha)).collect()
    }

    /// The signal-to-noise ratio ᾱ/(1−ᾱ) of a timestep (Hang et al., 2023; diffusers'
    /// `compute_snr`).
    pub fn snr(&self, timestep: usize) -> Result<f32, SamplerError> {
        let alpha = self.alpha_cumprod(timestep)?;
        let ratio = alpha.sqrt() / (1.0 - alpha).sqrt();
        Ok(ratio * ratio)
    }

    /// √ᾱ x + √(1−ᾱ) ε of each row (`add_noise`). `latents` and `noise` are rows × n values, one
    /// row for each of `timesteps`.
    pub fn add_noise(
        &self,
        latents: &[f32],
        noise: &[f32],
        timesteps: &[usize],
    ) -> Result<Vec<f32>, SamplerError> {
        self.by_row(latents, noise, timesteps, |(alpha, sigma), x, e| alpha * x + sigma * e)
    }

    /// The velocity √ᾱ ε − √(1−ᾱ) x of each row (`get_velocity`); arguments as in
    /// [`Self::add_noise`].
    pub fn velocity(
        &self,
        latents: &[f32],
        noise: &[f32],
        timesteps: &[usize],
    ) -> Result<Vec<f32>, SamplerError> {
        self.by_row(latents, noise, timesteps, |(alpha, sigma), x, e| alpha * e - sigma * x)
    }

    fn by_row(
        &self,
        latents: &[f32],
        noise: &[f32],
        timesteps: &[usize],
        f: impl Fn((f32, f32), f32, f32) -> f32,
    ) -> Result<Vec<f32>, SamplerError> {
        let (size, rows) = (latents.len(), timesteps.len());
        let wrong = |what, expected: String, found, hint| {
            Err(SamplerError::Length { what, expected, found, hint })
        };
        if noise.len() != size {
            return wrong("noise", size.to_string(), noise.len(), "noise every value");
        }
        if rows == 0 || size == 0 || size % rows != 0 {
            let expected = format!("a multiple of {rows}");
            return wrong("latents", expected, size, "give a timestep for every row");
        }
        let n = size / rows;
        let mut result = Vec::with_capacity(size);
        for ((x, e), timestep) in latents.chunks(n).zip(noise.chunks(n)).zip(timesteps) {
            let scales = scales(self.alpha_cumprod(*timestep)?);
            result.extend(x.iter().zip(e).map(|(x, e)| f(scales, *x, *e)));
        }
        Ok(result)
    }
}

/// √ᾱ and √(1−ᾱ).
pub(super) fn scales(alpha: f32) -> (f32, f32) {
    (alpha.sqrt(), (1.0 - alpha).sqrt())
}

/// √((1−ᾱ)/ᾱ).
pub(super) fn level(alpha: f32) -> f32 {
    ((1.0 - alpha) / alpha).sqrt()
}

/// Running products, accumulated in f64 and rounded to f32 each (`torch.cumprod`).
fn products(values: &[f32]) -> Vec<f32> {
    let mut product = 1.0_f64;
    let running = values.iter().map(|value| {
        product *= f64::from(*value);
        narrow(product)
    });
    running.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_rise_from_almost_none_to_almost_only_noise() {
        let noise = NoiseSchedule::compvis();
        let levels = noise.levels();
        assert!(levels.windows(2).all(|pair| pair[0] < pair[1]));
        // the ends that k-diffusion reports for Stable Diffusion
        assert!((levels[0] - 0.029_167).abs() < 1e-6, "{}", levels[0]);
        assert!((levels[999] - 14.614_642).abs() < 1e-5, "{}", levels[999]);
    }

    #[test]
    fn noised_latents_and_their_velocity_give_the_image_back() {
        let noise = NoiseSchedule::compvis();
        let (x, e) = ([1.0, -2.0, 0.5, 0.25], [0.3, 0.1, -0.7, 2.0]);
        let timesteps = [10, 900];
        let noisy = noise.add_noise(&x, &e, &timesteps).unwrap();
        let velocity = noise.velocity(&x, &e, &timesteps).unwrap();
        for (i, (noisy, v)) in noisy.iter().zip(velocity).enumerate() {
            let (alpha, sigma) = scales(noise.alpha_cumprod(timesteps[i / 2]).unwrap());
            assert!((alpha * noisy - sigma * v - x[i]).abs() < 1e-6);
        }
        let alone = noise.add_noise(&x[2..], &e[2..], &timesteps[1..]).unwrap();
        assert_eq!(alone, noisy[2..]);
    }

    #[test]
    fn zero_snr_leaves_nothing_of_the_image_at_the_end_and_keeps_the_beginning() {
        let betas = vec![0.01; 100];
        let plain = NoiseSchedule::from_betas(&betas, false);
        let mut rescaled = NoiseSchedule::from_betas(&betas, true);
        assert_eq!(rescaled.alphas_cumprod[99], 0.0);
        assert_eq!(rescaled.snr(99).unwrap(), 0.0);
        assert!((rescaled.alphas_cumprod[0] - plain.alphas_cumprod[0]).abs() < 1e-6);
        rescaled.make_last_level_finite();
        assert_eq!(rescaled.levels()[99], (1.0_f32 - 2.0_f32.powi(-24)).sqrt() * 4096.0);
    }

    #[test]
    fn wrong_lengths_and_timesteps_are_errors() {
        let noise = NoiseSchedule::compvis();
        assert!(matches!(noise.snr(1000), Err(SamplerError::Timestep { .. })));
        assert!(noise.add_noise(&[1.0], &[1.0], &[1000]).is_err());
        assert!(noise.add_noise(&[1.0; 4], &[1.0; 3], &[1]).is_err());
        assert!(noise.velocity(&[1.0; 4], &[1.0; 4], &[1, 2, 3]).is_err());
        assert!(noise.velocity(&[1.0; 4], &[1.0; 4], &[]).is_err());
        assert!(noise.velocity(&[], &[], &[1]).is_err());
    }
}
