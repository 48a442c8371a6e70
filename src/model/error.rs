use std::path::PathBuf;

use crate::tensors::TensorError;
use crate::tensors::gguf::GgufError;

/// What can be wrong with a base.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    /// A file of tensors.
    #[error(transparent)]
    Tensors(#[from] TensorError),
    /// A GGUF file.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A file or folder that is not a base.
    #[error("{}: {problem}\nhint: {hint}", path.display())]
    NotABase {
        /// The path.
        path: PathBuf,
        /// What is wrong.
        problem: String,
        /// What to do.
        hint: &'static str,
    },
}
