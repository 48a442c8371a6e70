use std::path::PathBuf;

use crate::model::WrongBase;
use crate::tensors::TensorError;

/// Why a base cannot be run as a diffusion model.
#[derive(Debug, thiserror::Error)]
pub enum DiffusionError {
    /// The base is something else, or lacks a part.
    #[error("{}: {problem}\nhint: {hint}", path.display())]
    NotAPipeline {
        /// The base.
        path: PathBuf,
        /// What it is.
        problem: String,
        /// What to give instead.
        hint: &'static str,
    },
    /// A key of a configuration.
    #[error("{}: `{key}` is {found}, expected {expected}\nhint: {hint}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// Its value.
        found: String,
        /// What can be built.
        expected: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// A file that is no JSON.
    #[error("{}: is not valid JSON: {problem}\nhint: fetch the file again", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A tensor of a file is of no use.
    #[error("{}: {source}", path.display())]
    At {
        /// The base.
        path: PathBuf,
        /// What is wrong.
        source: TensorError,
    },
    /// A weight is not there.
    #[error("{}: the {part} has no tensor for `{name}`\nhint: the download may be incomplete; fetch the file again", path.display())]
    MissingTensor {
        /// The base.
        path: PathBuf,
        /// `unet`, `text_encoder`, `vae`.
        part: &'static str,
        /// Its name in diffusers.
        name: String,
    },
    /// A weight does not fit the layer before it.
    #[error("{}: `{name}` of the {part} has shape {found:?}, which does not fit: expected {expected}\nhint: the file is damaged, or of an architecture that is not built here", path.display())]
    Shape {
        /// The base.
        path: PathBuf,
        /// `unet`, `text_encoder`, `vae`.
        part: &'static str,
        /// Its name in diffusers.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// What is needed.
        expected: String,
    },
    /// A weight that no layer takes: what it does would be missing.
    #[error("{}: nothing in this program takes `{name}` of the {part}\nhint: this is an extended architecture (inpainting, control, motion, …); only plain Stable Diffusion 1.x, 2.x and XL are built", path.display())]
    Unknown {
        /// The base.
        path: PathBuf,
        /// `unet`, `text_encoder`, `vae`.
        part: &'static str,
        /// Its name in diffusers.
        name: String,
    },
    /// A module of an adapter cannot act at run time.
    #[error("{}: module `{module}` cannot be applied while generating: {reason}\nhint: merge the adapter into the base with `lora-eval merge` and use the result as the base", adapter.display())]
    Attachment {
        /// The adapter.
        adapter: PathBuf,
        /// The module.
        module: String,
        /// Why.
        reason: String,
    },
    /// The adapter was made for another base.
    #[error(transparent)]
    WrongBase(#[from] Box<WrongBase>),
    /// A file could not be read.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// The device refused.
    #[error("{0}")]
    Device(#[from] candle_core::Error),
}
