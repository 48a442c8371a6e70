use std::fmt;
use std::io;
use std::path::PathBuf;

use super::seeds::SeedError;
use super::settings::SettingError;
use super::strengths::StrengthError;
use crate::base::terminal::printable;

/// A place in a suite's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.path.display(), self.line, self.column)
    }
}

/// Why a suite cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SuiteError {
    /// The file cannot be read.
    #[error("{}: {source}\nhint: name the YAML file of a suite", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not UTF-8.
    #[error("{}: not UTF-8 text\nhint: a suite is a YAML file; save it as UTF-8", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// More than [`super::MAX_SUITE`] bytes.
    #[error("{}: larger than 4 MiB\nhint: split it into several suites", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Not YAML.
    #[error("{place}: not valid YAML: {problem}\nhint: {hint}")]
    Syntax {
        /// Where.
        place: Place,
        /// What the parser says.
        problem: String,
        /// What to do.
        hint: &'static str,
    },
    /// A key that means nothing there.
    #[error("{place}: unknown key `{}`\nhint: {hint}", printable(key))]
    UnknownKey {
        /// Where.
        place: Place,
        /// The key.
        key: String,
        /// The nearest known key, where the key belongs, or all known keys.
        hint: String,
    },
    /// A key that occurs twice in one mapping.
    #[error(
        "{place}: key `{}` occurs twice\nhint: it was given in line {first}; remove one of the two",
        printable(key)
    )]
    RepeatedKey {
        /// Where the second one is.
        place: Place,
        /// The key.
        key: String,
        /// The line of the first.
        first: u32,
    },
    /// A key that must be there.
    #[error("{place}: {what} has no `{key}`\nhint: {hint}")]
    Missing {
        /// Where the mapping starts.
        place: Place,
        /// What lacks it.
        what: &'static str,
        /// The key.
        key: &'static str,
        /// What to write.
        hint: &'static str,
    },
    /// A value of the wrong kind.
    #[error("{place}: {what} is {found}: expected {expected}\nhint: {hint}")]
    Value {
        /// Where.
        place: Place,
        /// What it is the value of.
        what: String,
        /// What is there.
        found: String,
        /// What may be there.
        expected: &'static str,
        /// What to write.
        hint: Box<str>,
    },
    /// A setting or a value of an axis that is out of bounds.
    #[error("{place}: {source}")]
    Setting {
        /// Where.
        place: Place,
        /// Why.
        source: Box<SettingError>,
    },
    /// A strength that cannot be used.
    #[error("{place}: {source}")]
    Strength {
        /// Where.
        place: Place,
        /// Why.
        source: StrengthError,
    },
    /// A seed that cannot be used.
    #[error("{place}: {source}")]
    Seed {
        /// Where.
        place: Place,
        /// Why.
        source: SeedError,
    },
    /// No prompts.
    #[error(
        "{place}: the suite has no prompts\nhint: write `prompts:` and below it `- id: first` and `prompt: …`"
    )]
    NoPrompts {
        /// Where they should be.
        place: Place,
    },
    /// Two prompts of one id.
    #[error(
        "{place}: id `{}` is taken\nhint: the prompt in line {first} has it; every prompt needs an id of its own",
        printable(id)
    )]
    RepeatedId {
        /// Where the second one is.
        place: Place,
        /// The id.
        id: String,
        /// The line of the first.
        first: u32,
    },
    /// A prompt of nothing but spaces.
    #[error(
        "{place}: prompt `{}` is empty\nhint: write what to generate, or remove the prompt",
        printable(id)
    )]
    EmptyPrompt {
        /// Where.
        place: Place,
        /// The prompt's id.
        id: String,
    },
    /// A prompt with two texts.
    #[error("{place}: prompt `{}` has `{keys}`\nhint: keep one of the two", printable(id))]
    Both {
        /// Where the second one is.
        place: Place,
        /// The prompt's id.
        id: String,
        /// The two keys.
        keys: &'static str,
    },
    /// A prompt without text.
    #[error(
        "{place}: prompt `{}` has neither `prompt` nor `messages`\nhint: write `prompt: …`",
        printable(id)
    )]
    Neither {
        /// Where.
        place: Place,
        /// The prompt's id.
        id: String,
    },
    /// A value that an axis has twice.
    #[error("{place}: axis `{axis}` has {value} twice\nhint: remove one of the two")]
    RepeatedValue {
        /// Where the second one is.
        place: Place,
        /// The axis.
        axis: &'static str,
        /// The value as JSON.
        value: String,
    },
    /// More than [`super::MAX_CELLS`].
    #[error(
        "{}: {product} is more than 1000000 cells\nhint: take fewer strengths, seeds or values of an axis, or split the suite",
        path.display()
    )]
    TooManyCells {
        /// The file.
        path: PathBuf,
        /// `40 prompts × 7 strengths × …`
        product: String,
    },
}
