use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::terminal::printable;

/// Where a key or a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a file.
    File {
        /// The file.
        path: Arc<Path>,
        /// The line, from 1.
        line: u32,
        /// The column in characters, from 1.
        column: u32,
    },
    /// In an override, as it was given.
    Set(Arc<str>),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", shown(path)),
            Self::Set(text) => write!(f, "--set {}", printable(text)),
        }
    }
}

/// A path as it can be printed; a configuration may name further ones.
pub(super) fn shown(path: &Path) -> String {
    printable(&path.to_string_lossy()).into_owned()
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {source}\nhint: name a YAML, JSON or TOML file", shown(path))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not UTF-8.
    #[error("{}: not UTF-8 text\nhint: save the configuration as UTF-8", shown(path))]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// More than [`super::MAX_CONFIG`] bytes.
    #[error(
        "{}: larger than 4 MiB\nhint: a configuration holds settings only; the data are files of their own",
        shown(path)
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Not YAML, not TOML.
    #[error("{place}: not valid {language}: {problem}\nhint: {hint}")]
    Syntax {
        /// Where.
        place: Place,
        /// `YAML` or `TOML`.
        language: &'static str,
        /// What the parser says.
        problem: Box<str>,
        /// What to do.
        hint: &'static str,
    },
    /// An override without `=`.
    #[error(
        "--set {}: expected `key=value`\nhint: for example `--set adapter.rank=16`",
        printable(text)
    )]
    Override {
        /// The override.
        text: Box<str>,
    },
    /// A key that means nothing.
    #[error("{place}: unknown key `{}`\nhint: {hint}", printable(key))]
    UnknownKey {
        /// Where.
        place: Place,
        /// The key.
        key: Box<str>,
        /// The nearest known key, or where keys are listed.
        hint: Box<str>,
    },
    /// A key that occurs twice.
    #[error(
        "{place}: key `{}` occurs twice\nhint: it was given at {first}; remove one of the two",
        printable(key)
    )]
    RepeatedKey {
        /// Where the second one is.
        place: Place,
        /// The key.
        key: Box<str>,
        /// Where the first one is.
        first: Place,
    },
    /// Two keys that set the same.
    #[error(
        "{place}: `{key}` sets `{setting}`, which `{other}` sets at {first}\nhint: remove one of the two"
    )]
    Twice {
        /// Where the second one is.
        place: Place,
        /// The second key.
        key: Box<str>,
        /// What both set.
        setting: &'static str,
        /// The first key.
        other: Box<str>,
        /// Where the first one is.
        first: Place,
    },
    /// A value that a key cannot have.
    #[error("{place}: `{key}` is {found}: expected {expected}\nhint: {hint}")]
    Value {
        /// Where.
        place: Place,
        /// The key as written.
        key: Box<str>,
        /// What is there.
        found: Box<str>,
        /// What may be there.
        expected: Box<str>,
        /// What the key means, or what to write.
        hint: Box<str>,
    },
    /// A key of another trainer that would change the result and is not implemented.
    #[error(
        "{place}: `{key}` is {found}: there is nothing like it here, and the result would be another\nhint: {hint}"
    )]
    Unsupported {
        /// Where.
        place: Place,
        /// The key as written.
        key: Box<str>,
        /// What is there.
        found: Box<str>,
        /// What to do.
        hint: Box<str>,
    },
    /// A setting without which nothing can be trained.
    #[error("{}: `{key}` is missing: {meaning}\nhint: {hint}", shown(path))]
    Missing {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// What it is.
        meaning: &'static str,
        /// What to write.
        hint: &'static str,
    },
    /// Settings that cannot be together.
    #[error("{place}: {problem}\nhint: {hint}")]
    Together {
        /// Where one of them was given.
        place: Place,
        /// Which, and why not.
        problem: Box<str>,
        /// What to change.
        hint: Box<str>,
    },
}
