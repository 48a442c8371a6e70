//! What a model predicts, and the image that its output stands for.

/// What the model was trained to output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Prediction {
    /// The noise ε (SD 1, SDXL).
    #[default]
    Epsilon,
    /// The velocity v = √ᾱ ε − √(1−ᾱ) x₀ (Salimans and Ho, 2022; SD 2.1).
    Velocity,
    /// The image x₀ itself.
    Sample,
}

impl Prediction {
    /// x₀ from latents x = x₀ + σ ε and the output for x/√(σ²+1) (diffusers' Euler family and
    /// k-diffusion's denoisers).
    pub(super) fn denoised(self, sigma: f32, x: &[f32], output: &[f32]) -> Vec<f32> {
        match self {
            Self::Epsilon => zip(x, output, |x, out| x - sigma * out),
            Self::Velocity => {
                let norm = sigma * sigma + 1.0;
                let c_out = -sigma / norm.sqrt();
                zip(x, output, |x, out| out * c_out + x / norm)
            }
            Self::Sample => output.to_vec(),
        }
    }

    /// x₀ from latents x = α x₀ + σ ε (diffusers' DPM-Solver and `UniPC`).
    pub(super) fn denoised_scaled(
        self,
        (alpha, sigma): (f32, f32),
        x: &[f32],
        output: &[f32],
    ) -> Vec<f32> {
        match self {
            Self::Epsilon => zip(x, output, |x, out| (x - sigma * out) / alpha),
            Self::Velocity => zip(x, output, |x, out| alpha * x - sigma * out),
            Self::Sample => output.to_vec(),
        }
    }

    /// ε from latents x = α x₀ + σ ε.
    pub(super) fn noise(self, (alpha, sigma): (f32, f32), x: &[f32], output: &[f32]) -> Vec<f32> {
        match self {
            Self::Epsilon => output.to_vec(),
            Self::Velocity => zip(x, output, |x, out| alpha * out + sigma * x),
            Self::Sample => zip(x, output, |x, out| (x - alpha * out) / sigma),
        }
    }
}

/// `f` of each pair.
pub(super) fn zip(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> Vec<f32> {
    a.iter().zip(b).map(|(a, b)| f(*a, *b)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_predictions_of_the_same_image_agree() {
        let (image, noise) = ([0.5_f32, -1.25], [0.3_f32, 0.8]);
        let (alpha, sigma) = (0.6_f32, 0.8_f32);
        let x = zip(&image, &noise, |x0, e| alpha * x0 + sigma * e);
        let v = zip(&image, &noise, |x0, e| alpha * e - sigma * x0);
        let outputs = [
            (Prediction::Epsilon, noise.to_vec()),
            (Prediction::Velocity, v),
            (Prediction::Sample, image.to_vec()),
        ];
        for (prediction, output) in outputs {
            let level = sigma / alpha;
            let exploded: Vec<f32> = x.iter().map(|x| x / alpha).collect();
            let close = |found: &[f32], expected: &[f32]| {
                found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6)
            };
            assert!(close(&prediction.denoised_scaled((alpha, sigma), &x, &output), &image));
            assert!(close(&prediction.noise((alpha, sigma), &x, &output), &noise));
            assert!(close(&prediction.denoised(level, &exploded, &output), &image));
        }
    }
}
