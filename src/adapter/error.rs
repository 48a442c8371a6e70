use std::path::PathBuf;

use crate::base::terminal::printable;
use crate::linalg::NotFinite;
use crate::tensors::TensorError;

/// What can be wrong with an adapter.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// The file of tensors itself.
    #[error(transparent)]
    Tensors(#[from] TensorError),
    /// A tensor of the file, or its neighbours, make no module.
    #[error("{}: module `{}`: {problem}\nhint: {hint}", path.display(), printable(module))]
    Module {
        /// The file.
        path: PathBuf,
        /// The module's name in the file.
        module: String,
        /// What is wrong, expected and found.
        problem: String,
        /// What to do.
        hint: &'static str,
    },
    /// A file as a whole.
    #[error("{}: {problem}\nhint: {hint}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
        /// What to do.
        hint: String,
    },
    /// A format that cannot say what an adapter does.
    #[error("the {format} format cannot express {reason}: {modules}\nhint: {hint}")]
    CannotExpress {
        /// The format asked for.
        format: &'static str,
        /// What it has no words for.
        reason: &'static str,
        /// The first few such modules.
        modules: String,
        /// What to do.
        hint: &'static str,
    },
    /// A matrix that cannot be decomposed.
    #[error("module `{}`: {source}", printable(module))]
    Decompose {
        /// The module.
        module: String,
        /// Why.
        source: NotFinite,
    },
}
