use std::path::PathBuf;

use crate::base::terminal::printable;
use crate::generate::GenerateError;
use crate::generate::image::ImageError;
use crate::metric::MetricError;
use crate::model::BlockError;
use crate::model::decoder::DecoderError;
use crate::model::diffusion::sampler::SamplerError;
use crate::prompt::PromptError;
use crate::run::RunError;
use crate::suite::{SettingError, Suite, SuiteError};
use crate::text::{ChatError, TextError};

/// Why a grid could not be planned or made. Cells that were finished before stay.
#[derive(Debug, thiserror::Error)]
pub enum GridError {
    /// The suite.
    #[error(transparent)]
    Suite(#[from] SuiteError),
    /// The run directory.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The base or an adapter.
    #[error(transparent)]
    Decoder(#[from] DecoderError),
    /// The tokenizer.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A metric.
    #[error(transparent)]
    Metric(#[from] MetricError),
    /// A model that judges pictures.
    #[error(transparent)]
    Vision(#[from] crate::model::vision::VisionError),
    /// A metric of pictures.
    #[error(transparent)]
    ImageMetric(#[from] crate::metric::image::ImageError),
    /// Statistics of a metric.
    #[error(transparent)]
    Stats(#[from] crate::stats::StatsError),
    /// A report of the device that is about no prompt.
    #[error(transparent)]
    Device(#[from] candle_core::Error),
    /// Something about one prompt.
    #[error("{}: line {line}, prompt `{id}`: {problem}", path.display())]
    Prompt {
        /// The suite.
        path: PathBuf,
        /// The line of the prompt.
        line: u32,
        /// Its id.
        id: String,
        /// What is wrong, with a hint.
        problem: String,
    },
    /// Blocks that cannot be switched off.
    #[error("ablation: {problem}\nhint: {hint}")]
    Ablation {
        /// What is wrong.
        problem: String,
        /// What to do.
        hint: String,
    },
    /// Something about an axis.
    #[error("{}: axis `{axis}`: {problem}", path.display())]
    Axis {
        /// The suite.
        path: PathBuf,
        /// The axis.
        axis: String,
        /// What is wrong, with a hint.
        problem: String,
    },
}

impl GridError {
    /// What is wrong with the prompt of this index.
    pub(super) fn about(suite: &Suite, index: usize, problem: &PromptProblem) -> Self {
        let prompt = &suite.prompts[index];
        Self::Prompt {
            path: suite.path.clone(),
            line: prompt.line,
            id: printable(&prompt.id).to_string(),
            problem: problem.to_string(),
        }
    }
}

/// What can be wrong with one prompt.
#[derive(Debug, thiserror::Error)]
pub(super) enum PromptProblem {
    #[error(transparent)]
    Syntax(#[from] PromptError),
    #[error(transparent)]
    Chat(#[from] ChatError),
    #[error(transparent)]
    Text(#[from] TextError),
    #[error(transparent)]
    Setting(#[from] SettingError),
    #[error(transparent)]
    Generate(#[from] GenerateError),
    #[error(
        "it names the adapter `{name}`, which was not given{near}\nhint: give it with `--lora {name}=PATH` or put it into `--lora-dir`"
    )]
    UnknownAdapter { name: String, near: String },
    #[error(
        "the setting `{name}` is for images, and the base is a language model\nhint: for texts there are max_new_tokens, temperature, top_k, top_p, min_p, repetition_penalty, stop, chat, system, long_prompts"
    )]
    ForImages { name: &'static str },
    #[error(
        "the setting `{name}` is for texts, and the base draws pictures\nhint: for pictures there are steps, guidance, guidance_rescale, sampler, scheduler, width, height, negative, clip_skip, rng"
    )]
    ForTexts { name: &'static str },
    #[error(
        "it is a list of messages, and the base draws pictures\nhint: give `prompt: …` instead"
    )]
    Messages,
    #[error("the adapter `{name}` has {source}")]
    Blocks { name: String, source: BlockError },
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Sampler(#[from] SamplerError),
    #[error("{reference}: {problem}\nhint: references of pictures are paths relative to the suite")]
    Reference { reference: String, problem: String },
    #[error(
        "the latents of {who} are no numbers at step {step}\nhint: an adapter or the base holds NaN or infinite values (`lora-eval inspect` tells), or the strength is too large for the type that is computed in; try `--dtype f32`"
    )]
    NotDrawn { who: String, step: usize },
    #[error(
        "the autoencoder makes no numbers of the latents of {who}, in f32 either\nhint: the autoencoder's file is damaged, or the strength is too large; give another one with `--vae`"
    )]
    NotDecoded { who: String },
    #[error(
        "its {tokens} tokens and {more} new ones are more than the context of {context}\nhint: shorten it, lower `max_new_tokens`, or set `long_prompts: truncate` to cut its beginning off"
    )]
    TooLong { tokens: usize, more: usize, context: usize },
    #[error(
        "token {token} of its text is outside the embedding of {known} tokens\nhint: the tokenizer's files belong to another model; fetch those of this base again"
    )]
    UnknownToken { token: u32, known: usize },
    #[error(
        "the logits of {who} are not numbers after {tokens} tokens\nhint: an adapter or the base holds NaN or infinite values (`lora-eval inspect` tells), or the strength is too large for the type that is computed in"
    )]
    NotFinite { who: String, tokens: usize },
    #[error("`max_new_tokens` is {more}, and the context has {context} tokens\nhint: lower it")]
    NoRoom { more: usize, context: usize },
}
