use std::path::{Path, PathBuf};

use serde_json::Value;

use super::config::KNOWN;
use crate::base::terminal::printable;
use crate::model::WrongBase;
use crate::tensors::TensorError;

/// Why a base cannot be run as a language model.
#[derive(Debug, thiserror::Error)]
pub enum DecoderError {
    /// The base is something else.
    #[error("{}: {problem}\nhint: {hint}", path.display())]
    NotADecoder {
        /// The base.
        path: PathBuf,
        /// What it is.
        problem: String,
        /// What to give instead.
        hint: &'static str,
    },
    /// An architecture that is not built here.
    #[error(
        "model type `{found}` is not known; known are {known}{near}\nhint: `merge`, `extract` and `inspect` need no architecture and work on it"
    )]
    Unknown {
        /// `model_type` of the configuration.
        found: String,
        /// All known ones.
        known: String,
        /// The nearest one.
        near: String,
    },
    /// A key of the configuration has a value that makes no sense.
    #[error(
        "config.json: `{key}` is {found}, expected {expected}\nhint: fetch config.json again, or correct it"
    )]
    Key {
        /// The key.
        key: &'static str,
        /// Its value.
        found: String,
        /// What makes sense.
        expected: &'static str,
    },
    /// The configuration says too little.
    #[error(
        "config.json: `{key}` is missing\nhint: fetch config.json again; it belongs to the weights"
    )]
    MissingKey {
        /// The key.
        key: &'static str,
    },
    /// Heads that cannot be grouped.
    #[error(
        "config.json: {heads} query heads cannot share {groups} key heads of width {head}\nhint: `num_attention_heads` must be a multiple of `num_key_value_heads`"
    )]
    Heads {
        /// Query heads.
        heads: usize,
        /// Key heads.
        groups: usize,
        /// Width.
        head: usize,
    },
    /// A weight is not there.
    #[error("{}: no tensor `{name}`\nhint: the download may be incomplete, or config.json belongs to another model", path.display())]
    MissingTensor {
        /// The base.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A weight has another shape than the configuration says.
    #[error("{}: tensor `{name}` has shape {found:?}, config.json asks for {expected:?}\nhint: config.json belongs to another model", path.display())]
    Shape {
        /// The base.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// What is needed.
        expected: Vec<usize>,
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

impl DecoderError {
    pub(super) fn key(key: &'static str, found: &Value, expected: &'static str) -> Self {
        let found = printable(&found.to_string()).to_string();
        Self::Key { key, found: format!("`{found}`"), expected }
    }

    pub(super) fn unknown(found: &str, near: Option<&str>) -> Self {
        Self::Unknown {
            found: printable(found).to_string(),
            known: KNOWN.join(", "),
            near: near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default(),
        }
    }

    pub(super) fn not_a_decoder(path: &Path, problem: String, hint: &'static str) -> Self {
        Self::NotADecoder { path: path.to_owned(), problem, hint }
    }
}
