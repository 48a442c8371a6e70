use std::path::PathBuf;

use crate::adapter::AdapterError;
use crate::base::terminal::printable;
use crate::data::DataError;
use crate::data::cache::CacheError;
use crate::data::text::TextDataError;
use crate::generate::GenerateError;
use crate::generate::image::ImageError;
use crate::model::decoder::DecoderError;
use crate::model::diffusion::sampler::SamplerError;
use crate::picture::PictureError;
use crate::suite::SuiteError;
use crate::tensors::TensorError;
use crate::text::{ChatError, TextError};

/// Why a training cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A module name that the base does not have.
    #[error("{}: no module `{}` can be trained\nhint: {hint}", base.display(), printable(target))]
    NoTarget {
        /// The name, or the key that chose nothing.
        target: String,
        /// The base.
        base: PathBuf,
        /// Names that it has.
        hint: String,
    },
    /// A pattern that is no regular expression.
    #[error(
        "{key}: `{}` is not a regular expression: {problem}\nhint: escape what is meant as it stands, `.` as `\\.`",
        printable(pattern)
    )]
    Pattern {
        /// The key.
        key: &'static str,
        /// The pattern.
        pattern: String,
        /// What is wrong.
        problem: String,
    },
    /// `DoRA` over quantised blocks.
    #[error("{}: DoRA needs the base's own weights, and these are quantised\nhint: set `adapter.dora: false`, or give the unquantised model", base.display())]
    NoDora {
        /// The base.
        base: PathBuf,
    },
    /// More memory was taken than there is.
    #[error("out of memory: {} MB taken, the limit is {} MB", taken >> 20, limit >> 20)]
    OutOfMemory {
        /// Bytes.
        taken: u64,
        /// Bytes.
        limit: u64,
    },
    /// It does not fit whatever is done.
    #[error("out of memory even with {tried}\nhint: {hint}")]
    DoesNotFit {
        /// The last rung.
        tried: String,
        /// What is left to do.
        hint: String,
    },
    /// A module that no gradient reaches, or whose values do not move.
    #[error(
        "{module}: {problem}\nhint: this module would learn nothing; leave it out with `adapter.targets`, and report it"
    )]
    NotLearning {
        /// The module and which of its tensors.
        module: String,
        /// What was seen.
        problem: String,
    },
    /// A gradient that disagrees with finite differences.
    #[error(
        "{module}: the gradient along itself is {analytic:.4e}, finite differences say {numeric:.4e}\nhint: please report it; `run.prove: false` skips the check"
    )]
    WrongGradient {
        /// The module.
        module: String,
        /// Ours.
        analytic: f64,
        /// The definition's.
        numeric: f64,
    },
    /// No example to learn from.
    #[error("{}: no example to learn from\nhint: {hint}", path.display())]
    NoExamples {
        /// The data.
        path: PathBuf,
        /// What is expected there.
        hint: &'static str,
    },
    /// Losses or gradients that stay without value.
    #[error("step {step}: {problem}\nhint: {hint}")]
    Diverged {
        /// The optimizer step.
        step: usize,
        /// What was seen and tried.
        problem: String,
        /// What it usually is.
        hint: String,
    },
    /// A checkpoint that cannot be continued.
    #[error("{}: {problem}\nhint: {hint}", path.display())]
    Resume {
        /// The checkpoint, or the training's folder.
        path: PathBuf,
        /// What is wrong.
        problem: String,
        /// What to do.
        hint: String,
    },
    /// Settings that contradict each other or the base.
    #[error("{key}: {problem}\nhint: {hint}")]
    Setting {
        /// The key.
        key: &'static str,
        /// What is wrong.
        problem: String,
        /// What to do.
        hint: String,
    },
    /// Writing failed.
    #[error("{}: {source}\nhint: what was saved before is whole; free some space and go on with `--resume`", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A tensor of a file is of no use.
    #[error("{}: {source}", path.display())]
    At {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: TensorError,
    },
    /// Reading failed.
    #[error("{}: {source}\nhint: the file was there when the data was listed; is it still?", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A picture that cannot be brought to its bucket.
    #[error("{}: {problem}", path.display())]
    Picture {
        /// The file.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// Prompts of samples.
    #[error("{}: {problem}\nhint: a prompt a line; for pictures with `--n NEGATIVE --w W --h H --d SEED --s STEPS --l GUIDANCE`", path.display())]
    Prompts {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A chat template.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// A suite of samples.
    #[error(transparent)]
    Suite(#[from] SuiteError),
    /// A sample of text.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// A picture file.
    #[error(transparent)]
    PictureFile(#[from] PictureError),
    /// Pictures and captions.
    #[error(transparent)]
    Pictures(#[from] DataError),
    /// Texts.
    #[error(transparent)]
    Texts(#[from] TextDataError),
    /// The tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TextError),
    /// The cache of latents and texts.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The models of pictures.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The base's noise.
    #[error(transparent)]
    Noise(#[from] SamplerError),
    /// The base cannot be run.
    #[error(transparent)]
    Decoder(#[from] DecoderError),
    /// The adapter cannot be written.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// The device refused.
    #[error(transparent)]
    Device(candle_core::Error),
}

impl From<candle_core::Error> for TrainError {
    fn from(error: candle_core::Error) -> Self {
        Self::Device(error)
    }
}

impl TrainError {
    /// Whether memory ran out, on a device or on the host.
    pub fn is_out_of_memory(&self) -> bool {
        match self {
            Self::OutOfMemory { .. } => true,
            Self::Device(error) | Self::Image(ImageError::Device(error)) => {
                let text = error.to_string().to_ascii_lowercase();
                text.contains("out of memory") || text.contains("out_of_memory")
            }
            _ => false,
        }
    }
}
