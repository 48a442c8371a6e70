use std::path::{Path, PathBuf};

use serde_json::Value;

use super::config::KNOWN;
use crate::base::hint::nearest;
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
    /// A configuration that cannot be built.
    #[error("{}: {source}", path.display())]
    Config {
        /// `config.json`, or a GGUF file.
        path: PathBuf,
        /// What is wrong.
        source: ConfigError,
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

/// What is wrong with a configuration. The file is named by [`DecoderError::Config`].
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// An architecture that is not built here.
    #[error(
        "`model_type` {found} is not known; known are {known}{near}\nhint: `merge`, `extract` and `inspect` need no architecture and work on it"
    )]
    Unknown {
        /// `model_type` of the configuration.
        found: String,
        /// All known ones.
        known: String,
        /// The nearest one.
        near: String,
    },
    /// A key has a value that makes no sense.
    #[error("`{key}` is {found}, expected {expected}\nhint: fetch the file again, or correct it")]
    Key {
        /// The key.
        key: &'static str,
        /// Its value.
        found: String,
        /// What makes sense.
        expected: &'static str,
    },
    /// It says too little.
    #[error("`{key}` is missing\nhint: fetch the file again; it belongs to the weights")]
    MissingKey {
        /// The key.
        key: &'static str,
    },
    /// Heads that cannot be grouped.
    #[error(
        "{heads} query heads cannot share {groups} key heads of width {head}\nhint: `num_attention_heads` must be a multiple of `num_key_value_heads`"
    )]
    Heads {
        /// Query heads.
        heads: usize,
        /// Key heads.
        groups: usize,
        /// Width.
        head: usize,
    },
}

impl ConfigError {
    pub(super) fn key(key: &'static str, found: &Value, expected: &'static str) -> Self {
        let found = printable(&found.to_string()).to_string();
        Self::Key { key, found: format!("`{found}`"), expected }
    }

    pub(super) fn unknown(found: &Value) -> Self {
        let near = found.as_str().and_then(|found| nearest(found, KNOWN));
        let found = match found {
            Value::Null => "(missing or empty)".to_owned(),
            Value::String(name) => format!("`{}`", printable(name)),
            other => format!("`{}`", printable(&other.to_string())),
        };
        let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        Self::Unknown { found, known: KNOWN.join(", "), near }
    }
}

impl DecoderError {
    pub(super) fn not_a_decoder(path: &Path, problem: String, hint: &'static str) -> Self {
        Self::NotADecoder { path: path.to_owned(), problem, hint }
    }
}
