use std::path::PathBuf;

use crate::adapter::Misfit;
use crate::model::{BlockError, WrongBase};
use crate::tensors::TensorError;

/// Why a merge failed. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// Reading or writing tensors.
    #[error(transparent)]
    Tensors(#[from] TensorError),
    /// An adapter for another base.
    #[error(transparent)]
    WrongBase(#[from] WrongBase),
    /// Weights by block that are not as many as the base has blocks.
    #[error("{}: {source}", adapter.display())]
    Blocks {
        /// The adapter.
        adapter: PathBuf,
        /// How many there are, and should be.
        source: BlockError,
    },
    /// Something does not fit, and `strict` was asked for.
    #[error(
        "{}: {count} module(s) do not fit the base: {modules}\nhint: without `--strict` the others are merged",
        adapter.display()
    )]
    Strict {
        /// The adapter.
        adapter: PathBuf,
        /// How many.
        count: usize,
        /// The first few.
        modules: String,
    },
    /// A module that does not fit its weight after all.
    #[error(
        "{}: module `{module}`: {source}\nhint: the adapter is damaged or was made for another base",
        adapter.display()
    )]
    Misfit {
        /// The adapter.
        adapter: PathBuf,
        /// The module.
        module: String,
        /// Why.
        source: Misfit,
    },
    /// A destination that cannot be written.
    #[error("{}: {problem}\nhint: {hint}", path.display())]
    Out {
        /// The destination.
        path: PathBuf,
        /// What is wrong.
        problem: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// A result beyond the range of the output's type.
    #[error(
        "tensor `{tensor}`: the merged weight is too large for {dtype}\nhint: merge at a lower strength, or with `--dtype bf16` or `--dtype f32`"
    )]
    Overflow {
        /// The tensor.
        tensor: String,
        /// The type.
        dtype: &'static str,
    },
}
