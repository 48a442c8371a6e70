use std::path::PathBuf;

use crate::generate::conditioning::ConditioningError;
use crate::model::diffusion::DiffusionError;
use crate::model::diffusion::sampler::SamplerError;
use crate::picture::PictureError;
use crate::text::TextError;

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The base.
    #[error(transparent)]
    Model(#[from] DiffusionError),
    /// A tokenizer.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The prompt.
    #[error(transparent)]
    Conditioning(#[from] ConditioningError),
    /// The sampler's settings.
    #[error(transparent)]
    Sampler(#[from] SamplerError),
    /// The base's own settings of its sampler.
    #[error("{}: {source}", path.display())]
    Scheduler {
        /// `scheduler/scheduler_config.json`.
        path: PathBuf,
        /// What is wrong.
        source: SamplerError,
    },
    /// The file.
    #[error(transparent)]
    Picture(#[from] PictureError),
    /// The device refused.
    #[error(transparent)]
    Device(#[from] candle_core::Error),
    /// A side that the model cannot have.
    #[error(
        "{width}×{height} pixels: both sides must be multiples of {multiple} here\nhint: the autoencoder makes {multiple}×{multiple} pixels of one latent"
    )]
    Size {
        /// Pixels.
        width: usize,
        /// Pixels.
        height: usize,
        /// Of the autoencoder.
        multiple: usize,
    },
    /// A tokenizer and a text encoder that do not go together.
    #[error(
        "token {token} of its text is outside the vocabulary of {known} tokens\nhint: the tokenizer's files belong to another model; fetch those of this base again"
    )]
    UnknownToken {
        /// The token.
        token: u32,
        /// Tokens that the text encoder knows.
        known: usize,
    },
    /// More layers to skip than there are.
    #[error(
        "`clip_skip` is {skip}, and the text encoder has {depth} layers\nhint: 1 is its last layer; take a smaller number"
    )]
    ClipSkip {
        /// What was asked for.
        skip: usize,
        /// Layers.
        depth: usize,
    },
    /// A denoiser that gave no numbers.
    #[error(
        "the latents of row {row} are no numbers at step {step}\nhint: an adapter or the base holds NaN or infinite values, or a strength is too large for the type that is computed in; try `--dtype f32`"
    )]
    NotFinite {
        /// The row of the batch.
        row: usize,
        /// The step, from 1.
        step: usize,
    },
    /// An autoencoder that gave no numbers, in f32 as well.
    #[error(
        "the autoencoder makes no numbers of the latents of row {row}, in f32 either\nhint: the autoencoder's file is damaged, or a strength is too large; give another one with `--vae`"
    )]
    NotDecoded {
        /// The row of the batch.
        row: usize,
    },
}

impl ImageError {
    /// The same about a batch whose first row is number `first` of all.
    #[must_use]
    pub fn after(self, first: usize) -> Self {
        match self {
            Self::NotFinite { row, step } => Self::NotFinite { row: row + first, step },
            Self::NotDecoded { row } => Self::NotDecoded { row: row + first },
            other => other,
        }
    }
}
