use std::path::PathBuf;

use crate::tensors::TensorError;

/// What can be wrong with a GGUF file.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// The file could not be read.
    #[error(transparent)]
    File(#[from] TensorError),
    /// Not a GGUF file, a damaged one, or one that stores tensors in a way that is not supported.
    #[error("{}: {problem}\nhint: {hint}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the offending value.
        problem: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// A metadata key that is needed is absent.
    #[error(
        "{}: metadata key `{key}` is missing\nhint: the file was made for another purpose or by an old converter; convert the model again",
        path.display()
    )]
    MissingKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
    },
    /// A metadata key holds something else.
    #[error(
        "{}: metadata key `{key}` holds {found}, expected {expected}\nhint: the file was not written by a well-behaved program; convert the model again",
        path.display()
    )]
    WrongType {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What it should hold.
        expected: &'static str,
        /// What it holds.
        found: String,
    },
}

/// Turns a missing key into `None`; any other error stays one.
pub fn optional<T>(found: Result<T, GgufError>) -> Result<Option<T>, GgufError> {
    match found {
        Ok(value) => Ok(Some(value)),
        Err(GgufError::MissingKey { .. }) => Ok(None),
        Err(other) => Err(other),
    }
}
