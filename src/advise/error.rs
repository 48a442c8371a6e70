use std::path::PathBuf;

use super::Task;
use crate::base::terminal::printable;
use crate::model::BaseError;
use crate::model::decoder::ConfigError;
use crate::model::diffusion::DiffusionError;

/// Why there is no advice.
#[derive(Debug, thiserror::Error)]
pub enum AdviseError {
    /// A task of pictures with a language model, or the other way round.
    #[error(
        "`{}`: task `{}` needs {needs}\nhint: give another `--base`, or one of the tasks {others}",
        printable(base),
        task.name()
    )]
    OtherKind {
        /// The base.
        base: String,
        /// The task.
        task: Task,
        /// The kind of base that it needs.
        needs: &'static str,
        /// The tasks that the base is for.
        others: &'static str,
    },
    /// Nothing to train on.
    #[error("0 examples: expected at least 1\nhint: count the pictures or lines that you have")]
    NoExamples,
    /// No memory.
    #[error("0 bytes of memory: expected at least 1\nhint: say how much the device has, in GB")]
    NoMemory,
    /// A base that is neither of the two kinds.
    #[error(
        "{}: {problem}\nhint: give a folder of a language model, a .gguf file, or a Stable Diffusion folder or file",
        path.display()
    )]
    NotTrainable {
        /// The base.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A configuration that is not understood.
    #[error("{}: {source}", path.display())]
    Config {
        /// The base.
        path: PathBuf,
        /// Why.
        source: ConfigError,
    },
    /// A denoiser that is not understood.
    #[error(transparent)]
    Diffusion(#[from] DiffusionError),
    /// A base that cannot be opened.
    #[error(transparent)]
    Base(#[from] BaseError),
}
