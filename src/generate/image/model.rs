//! A base with all that drawing needs.

use std::sync::OnceLock;

use candle_core::{DType, Device};
use serde_json::Value;

use super::{ImageError, Job};
use crate::adapter::{Adapter, Component};
use crate::generate::conditioning::{Chunks, PromptPlan};
use crate::model::diffusion::sampler::{Algorithm, Prediction, Sampler, SamplerConfig};
use crate::model::diffusion::{Adapters, Attached, Diffusion, Family, Placement, TextEncoder, Vae};
use crate::model::{Base, Shape};
use crate::text::ClipTokenizer;

/// The models, tokenizers and sampler settings of a base.
#[derive(Debug)]
pub struct ImageModel {
    /// The models.
    pub diffusion: Diffusion,
    /// A tokenizer for each text encoder.
    pub tokenizers: Vec<ClipTokenizer>,
    /// How it is sampled: its scheduler's settings, or for a single file the WebUI's.
    pub sampler: SamplerConfig,
    /// Whether an empty negative prompt is told as zeros.
    pub zeros_for_empty: bool,
    base: Base,
    wide: OnceLock<Vae>,
}

impl ImageModel {
    /// Loads a base with adapters. The second result has one entry an adapter.
    pub fn open(
        base: &Base,
        adapters: &[Adapter],
        dtype: Option<DType>,
        device: &Device,
    ) -> Result<(Self, Vec<Attached>), ImageError> {
        let (changes, attached) = Adapters::new(adapters, base)?;
        Ok((Self::build(base, &changes, dtype, device)?, attached))
    }

    /// Loads a base with what adapters change in it.
    pub fn build(
        base: &Base,
        changes: &Adapters<'_>,
        dtype: Option<DType>,
        device: &Device,
    ) -> Result<Self, ImageError> {
        let placement = Placement::new(base, device, dtype);
        let diffusion = Diffusion::build(base, changes, &placement)?;
        let tokenizers = tokenizers(base, diffusion.family)?;
        let sampler = match &diffusion.scheduler {
            Some(config) => SamplerConfig::from_json(config).map_err(|source| {
                let path = base.path.join("scheduler").join("scheduler_config.json");
                ImageError::Scheduler { path, source }
            })?,
            None if diffusion.predicts_velocity => SamplerConfig::webui(Prediction::Velocity),
            None => SamplerConfig::webui(Prediction::Epsilon),
        };
        let zeros_for_empty = diffusion.family == Family::Sdxl && zeros_for_empty(base);
        let (base, wide) = (base.clone(), OnceLock::new());
        Ok(Self { diffusion, tokenizers, sampler, zeros_for_empty, base, wide })
    }

    /// The side of the pictures that it was trained on, as far as its files say.
    pub fn side(&self) -> usize {
        let sample = self.base.configs.get(&Component::Unet).map(|c| &c["sample_size"]);
        let sample = sample.and_then(Value::as_u64).and_then(|side| usize::try_from(side).ok());
        if let Some(sample) = sample {
            return sample.saturating_mul(self.diffusion.vae.factor()).clamp(64, 8192);
        }
        match self.diffusion.family {
            Family::Sd1 => 512,
            Family::Sd2 => {
                if self.diffusion.predicts_velocity {
                    768
                } else {
                    512
                }
            }
            Family::Sdxl => 1024,
        }
    }

    /// The texts of a job's prompt and negative prompt. The WebUI's schedules, which a single file has,
    /// count calls of the denoiser: second-order samplers make two a step.
    pub(super) fn plans(&self, job: &Job<'_>) -> Result<(PromptPlan, PromptPlan), ImageError> {
        let twice = matches!(job.sampler.algorithm, Algorithm::Heun | Algorithm::DpmPpSde);
        let steps = if self.counts_calls() && twice { 2 * job.steps } else { job.steps };
        let negative = PromptPlan::negative(job.negative.unwrap_or_default(), steps)?;
        Ok((PromptPlan::new(job.prompt, steps)?, negative))
    }

    /// Whether schedules count calls of the denoiser, not steps.
    pub(super) fn counts_calls(&self) -> bool {
        self.diffusion.scheduler.is_none()
    }

    /// Whether a negative prompt is told as zeros: one that was not given, and in a single file one
    /// without text.
    pub(super) fn negative_is_zeros(&self, negative: Option<&str>) -> bool {
        let single = self.diffusion.scheduler.is_none();
        self.zeros_for_empty && negative.is_none_or(|text| single && text.is_empty())
    }

    /// Whether a job can be drawn: its size, its sampler and its texts.
    pub fn check(&self, job: &Job<'_>) -> Result<(), ImageError> {
        self.shape(job)?;
        Sampler::new(&self.sampler, job.sampler, job.steps)?;
        let depth = self.diffusion.text.iter().map(TextEncoder::depth).min().unwrap_or(0);
        if self.diffusion.skip(job.clip_skip).layers > depth {
            return Err(ImageError::ClipSkip { skip: job.clip_skip, depth });
        }
        let (prompt, negative) = self.plans(job)?;
        for text in prompt.texts().iter().chain(negative.texts()) {
            for (tokenizer, encoder) in self.tokenizers.iter().zip(&self.diffusion.text) {
                let chunks = Chunks::new(tokenizer, &text.fragments)?;
                let known = encoder.vocabulary();
                if let Some(id) = chunks.ids.iter().flatten().find(|id| **id as usize >= known) {
                    return Err(ImageError::UnknownToken { token: *id, known });
                }
            }
        }
        Ok(())
    }

    /// The autoencoder in f32.
    pub(super) fn wide_autoencoder(&self) -> Result<&Vae, ImageError> {
        if let Some(vae) = self.wide.get() {
            return Ok(vae);
        }
        let vae = self.diffusion.wide_autoencoder(&self.base)?;
        Ok(self.wide.get_or_init(|| vae))
    }
}

/// Those of a folder, or OpenAI's.
fn tokenizers(base: &Base, family: Family) -> Result<Vec<ClipTokenizer>, ImageError> {
    let names: &[&str] =
        if family == Family::Sdxl { &["tokenizer", "tokenizer_2"] } else { &["tokenizer"] };
    let mut all = Vec::new();
    for (index, name) in names.iter().enumerate() {
        all.push(if base.shape == Shape::Pipeline {
            ClipTokenizer::from_folder(&base.path.join(name))?
        } else if family == Family::Sd1 || (family == Family::Sdxl && index == 0) {
            ClipTokenizer::openai()?
        } else {
            ClipTokenizer::open_clip()?
        });
    }
    Ok(all)
}

/// What `model_index.json` says; diffusers' pipelines of SDXL do so where it says nothing.
fn zeros_for_empty(base: &Base) -> bool {
    let text = std::fs::read_to_string(base.path.join("model_index.json")).unwrap_or_default();
    let index: Value = serde_json::from_str(&text).unwrap_or_default();
    index["force_zeros_for_empty_prompt"].as_bool().unwrap_or(true)
}
