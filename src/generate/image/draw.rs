//! From noise to pictures.

use candle_core::{DType, Tensor};

use super::combine::guided;
use super::context::{Batches, Texts};
use super::{ImageError, ImageModel};
use crate::model::Blocks;
use crate::model::diffusion::noise::{NoiseSource, NoiseStream};
use crate::model::diffusion::sampler::{Choice, Sampler};
use crate::nn::BlockWeights;
use crate::picture::Picture;
use crate::prompt::Prompt;

/// Everything that a picture depends on, besides models and strengths.
#[derive(Debug, Clone)]
pub struct Job<'a> {
    /// The prompt, its tags taken out or not.
    pub prompt: &'a Prompt,
    /// The negative prompt, if one is given.
    pub negative: Option<&'a str>,
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// Steps of the sampler.
    pub steps: usize,
    /// Strength of the prompt; up to 1 the negative prompt is not used.
    pub guidance: f64,
    /// How far the prediction's deviation is taken back to that without guidance, 0 to 1.
    pub guidance_rescale: f64,
    /// The sampler.
    pub sampler: Choice,
    /// 1: the text encoder's last layer.
    pub clip_skip: usize,
    /// Seed of the noise.
    pub seed: u64,
    /// Whose random numbers.
    pub source: NoiseSource,
}

/// Strengths of one row, adapter by adapter.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RowStrengths {
    /// In the text encoders.
    pub text: Vec<f32>,
    /// In the denoiser.
    pub unet: Vec<f32>,
    /// What they are multiplied by in each block of the model, see [`Blocks`].
    pub blocks: BlockWeights,
}

impl RowStrengths {
    /// What comes of them in the text encoders, which are one block.
    pub(super) fn in_texts(&self) -> Vec<f32> {
        let weight = |adapter| self.blocks.get(&adapter)?.get(Blocks::BASE).copied();
        let weighted = |(adapter, strength): (usize, &f32)| {
            weight(adapter).map_or(*strength, |weight| strength * weight)
        };
        self.text.iter().enumerate().map(weighted).collect()
    }
}

/// A picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drawn {
    /// The picture.
    pub picture: Picture,
    /// Whether the autoencoder overflowed and it was decoded once more in f32.
    pub decoded_again: bool,
}

impl ImageModel {
    /// A picture for each row, all from the noise of the job's seed. `progress` is told the steps done.
    pub fn draw(
        &self,
        job: &Job<'_>,
        rows: &[RowStrengths],
        progress: &dyn Fn(usize),
    ) -> Result<Vec<Drawn>, ImageError> {
        let latents = self.latents(job, rows, progress)?;
        let shape = self.shape(job)?;
        let tensor = Tensor::from_vec(
            latents,
            (rows.len(), shape.0, shape.1, shape.2),
            &self.diffusion.device,
        )?;
        (0..rows.len()).map(|row| self.decode(&tensor.narrow(0, row, 1)?, row)).collect()
    }

    /// Channels, height and width of a job's latents.
    pub(super) fn shape(&self, job: &Job<'_>) -> Result<(usize, usize, usize), ImageError> {
        let factor = self.diffusion.vae.factor();
        let (width, height) = (job.width, job.height);
        let fits = |side: usize| side > 0 && side.is_multiple_of(factor);
        if !fits(width) || !fits(height) {
            return Err(ImageError::Size { width, height, multiple: factor });
        }
        Ok((self.diffusion.unet.latent_channels()?, height / factor, width / factor))
    }

    /// The latents of each row, one after the other.
    pub fn latents(
        &self,
        job: &Job<'_>,
        rows: &[RowStrengths],
        progress: &dyn Fn(usize),
    ) -> Result<Vec<f32>, ImageError> {
        let (channels, height, width) = self.shape(job)?;
        let size = channels * height * width;
        let mut sampler = Sampler::new(&self.sampler, job.sampler, job.steps)?;
        let (prompt, negative) = self.plans(job)?;
        let mut calls = 0;
        let mut texts = Texts::new(self, (&prompt, &negative), job, rows)?;
        let mut batches = Batches::new(rows);
        let mut stream = NoiseStream::new(job.source, job.seed);
        let mut noise = || stream.normal(size);
        let scale = sampler.init_scale();
        let first: Vec<f32> = noise().iter().map(|value| value * scale).collect();
        let mut latents: Vec<f32> = first.iter().copied().cycle().take(rows.len() * size).collect();
        while let Some(call) = sampler.next() {
            // schedules are looked up from 0, as in the WebUI
            let at = if self.counts_calls() { calls } else { call.step };
            calls += 1;
            let weights = texts.weights(at);
            let guides = job.guidance > 1.0 || weights != [1.0];
            let groups = weights.len() + usize::from(guides);
            let batch = groups * rows.len();
            let input: Vec<f32> = latents.iter().map(|value| value * call.scale).collect();
            let input: Vec<f32> = input.iter().copied().cycle().take(batch * size).collect();
            let shape = (batch, channels, height, width);
            let input = Tensor::from_vec(input, shape, &self.diffusion.device)?;
            let (context, added) = texts.at(at, guides)?;
            let output = self.diffusion.unet.forward(
                &input,
                &vec![call.timestep; batch],
                context,
                added,
                batches.of(groups),
            )?;
            let output = output.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
            if let Some(place) = output.iter().position(|value| !value.is_finite()) {
                return Err(ImageError::NotFinite {
                    row: place / size % rows.len(),
                    step: call.step + 1,
                });
            }
            let output = if guides {
                guided(&output, &weights, (job.guidance, job.guidance_rescale), size)?
            } else {
                output
            };
            sampler.advance(&mut latents, &output, &mut noise)?;
            progress(call.step + 1);
        }
        match latents.iter().position(|value| !value.is_finite()) {
            Some(place) => Err(ImageError::NotFinite { row: place / size, step: job.steps }),
            None => Ok(latents),
        }
    }

    /// The picture of one row's latents; once more in f32 where the autoencoder overflows.
    fn decode(&self, latents: &Tensor, row: usize) -> Result<Drawn, ImageError> {
        let (_, _, height, width) = latents.dims4()?;
        let tiled = height * width > TILED;
        let mut picture = self.diffusion.vae.decode(latents, tiled)?;
        let decoded_again = !is_finite(&picture)? && self.diffusion.vae.dtype() != DType::F32;
        if decoded_again {
            picture = self.wide_autoencoder()?.decode(latents, tiled)?;
        }
        if !is_finite(&picture)? {
            return Err(ImageError::NotDecoded { row });
        }
        Ok(Drawn { picture: to_picture(&picture)?, decoded_again })
    }
}

/// Latents beyond which a picture is decoded in tiles: those of 1024 × 1024 pixels.
const TILED: usize = 128 * 128;

fn is_finite(picture: &Tensor) -> candle_core::Result<bool> {
    // a sum over all is not finite if one of them is not
    Ok(picture.to_dtype(DType::F32)?.abs()?.max_all()?.to_scalar::<f32>()?.is_finite()
        && picture.sum_all()?.to_scalar::<f32>()?.is_finite())
}

/// Values from −1 to 1, (1, 3, height, width), as bytes, rounded to even as numpy does.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0…255; sides are bounded by the settings"
)]
fn to_picture(values: &Tensor) -> candle_core::Result<Picture> {
    let (_, _, height, width) = values.dims4()?;
    let values = values.flatten_all()?.to_vec1::<f32>()?;
    let plane = height * width;
    let byte = |value: f32| ((value / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0).round_ties_even() as u8;
    let rgb = (0..plane)
        .flat_map(|at| (0..3).map(move |channel| channel * plane + at))
        .map(|at| byte(values[at]))
        .collect();
    Ok(Picture { width: width as u32, height: height as u32, rgb })
}
