use std::io;
use std::path::{Path, PathBuf};

use crate::base::terminal::printable;
use crate::events::EventError;
use crate::run::RunError;

/// Why a training cannot be examined.
#[derive(Debug, thiserror::Error)]
pub enum DoctorError {
    /// Something cannot be read.
    #[error("{}: {source}\nhint: check that the folder is there and may be read", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nothing that a training leaves.
    #[error("{}: holds no training: expected `train.jsonl`, `trainer_state.json`, TensorBoard's `events.out.tfevents.…` or an adapter (`.safetensors`)\nhint: name the folder that a training wrote to (sd-scripts: `--logging_dir` or `--output_dir`)", path.display())]
    Nothing {
        /// The folder.
        path: PathBuf,
    },
    /// A run that was not checked.
    #[error("{}: has no `verdict.json`\nhint: `lora-eval check` writes it", path.display())]
    NoVerdict {
        /// The run's folder.
        path: PathBuf,
    },
    /// A log that is damaged.
    #[error("{}:{line}: {}\nhint: {hint}", path.display(), printable(problem))]
    Log {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
        /// What to do.
        hint: &'static str,
    },
    /// `TensorBoard`'s files.
    #[error(transparent)]
    Events(#[from] EventError),
    /// A verdict that cannot be read.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A configuration in which a key cannot be changed.
    #[error(
        "configuration: `{}` cannot be changed: {}\nhint: change the key by hand",
        printable(key),
        printable(problem)
    )]
    Edit {
        /// The key.
        key: String,
        /// Why.
        problem: String,
    },
}

impl DoctorError {
    pub(super) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read { path: path.to_owned(), source }
    }
}
