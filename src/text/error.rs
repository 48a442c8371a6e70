use std::io;
use std::path::{Path, PathBuf};

use crate::tensors::gguf::GgufError;

/// What can be wrong with a tokenizer or with the text given to it.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// The operating system refused.
    #[error("{}: {source}\nhint: check the path and its permissions", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The folder has no `tokenizer.json`.
    #[error("{}: `tokenizer.json` is missing{found}\nhint: {hint}", path.display())]
    Missing {
        /// The folder.
        path: PathBuf,
        /// What is there instead, as an addition to the sentence.
        found: &'static str,
        /// How to get the file.
        hint: String,
    },
    /// A file is beyond all use.
    #[error(
        "{}: {bytes} bytes, at most {most} are read\nhint: the file is not what its name says; fetch it again",
        path.display()
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The bound.
        most: u64,
    },
    /// A file is damaged or says something that cannot be done.
    #[error("{}: {problem}\nhint: {hint}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the offending value.
        problem: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// A GGUF file names a way to cut text that is not known.
    #[error(
        "{}: pre-tokenizer `{name}` (`tokenizer.ggml.pre`) is not known, expected one of {known}\nhint: use the folder of the model with its `tokenizer.json` instead",
        path.display()
    )]
    UnknownPreTokenizer {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
        /// The known names.
        known: String,
    },
    /// A GGUF file cannot be read, or its metadata is not what a tokenizer needs.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// Text could not be turned into ids, or ids into text.
    #[error(
        "{}: {problem}\nhint: the tokenizer file is damaged or hostile; fetch it again",
        path.display()
    )]
    Failed {
        /// The tokenizer's file.
        path: PathBuf,
        /// What went wrong.
        problem: String,
    },
}

impl TextError {
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    pub(super) fn malformed(path: &Path, problem: impl Into<String>, hint: &'static str) -> Self {
        Self::Malformed { path: path.to_owned(), problem: problem.into(), hint }
    }
}
