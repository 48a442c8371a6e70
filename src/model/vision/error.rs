use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::base::terminal::printable;
use crate::model::BaseError;
use crate::picture::{Picture, ResizeError};
use crate::tensors::TensorError;
use crate::text::TextError;

/// Why a model that judges pictures cannot be opened or used.
#[derive(Debug, thiserror::Error)]
pub enum VisionError {
    /// The path leads to something else.
    #[error("{}: {problem}\nhint: {hint}", path.display())]
    NotAModel {
        /// The file or folder.
        path: PathBuf,
        /// What it is.
        problem: String,
        /// What to give instead.
        hint: &'static str,
    },
    /// A key of a configuration.
    #[error("{}: `{key}` is `{found}`, expected {expected}\nhint: fetch the file again, or give a model that has such a one", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// Its value.
        found: String,
        /// What can be built.
        expected: &'static str,
    },
    /// A file that is no JSON object.
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
        /// The model.
        path: PathBuf,
        /// What is wrong.
        source: TensorError,
    },
    /// A weight is not there.
    #[error("{}: no tensor `{name}`\nhint: the download may be incomplete, or config.json belongs to another model; fetch the files again", path.display())]
    MissingTensor {
        /// The model.
        path: PathBuf,
        /// Its name in the reference implementation.
        name: String,
    },
    /// A weight does not fit the layers around it.
    #[error("{}: tensor `{name}` has shape {found:?}, expected {expected}\nhint: the file is damaged, or config.json belongs to another model", path.display())]
    Shape {
        /// The model.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// What is needed.
        expected: String,
    },
    /// A picture that the model cannot take.
    #[error("a picture of `{width}x{height}` pixels, expected {expected}\nhint: {hint}")]
    Picture {
        /// Its width.
        width: usize,
        /// Its height.
        height: usize,
        /// What the model takes.
        expected: String,
        /// What to do.
        hint: &'static str,
    },
    /// The folder's weights could not be found.
    #[error(transparent)]
    Files(#[from] BaseError),
    /// A file could not be read.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// The tokenizer.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A picture could not be resized.
    #[error(transparent)]
    Resize(#[from] ResizeError),
    /// The device refused.
    #[error("{0}")]
    Device(#[from] candle_core::Error),
}

impl VisionError {
    pub(super) fn config(
        path: &Path,
        key: &'static str,
        found: &Value,
        expected: &'static str,
    ) -> Self {
        let found = printable(&found.to_string()).into_owned();
        Self::Config { path: path.to_owned(), key, found, expected }
    }

    pub(super) fn picture(picture: &Picture, expected: String, hint: &'static str) -> Self {
        let (width, height) = (picture.width as usize, picture.height as usize);
        Self::Picture { width, height, expected, hint }
    }
}
