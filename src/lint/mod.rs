//! Floor 5: data checked before it is trained on, and mended where that needs no judgement.
//!
//! - [`lint`]: everything that is wrong with the examples that settings name, as a [`Report`] of
//!   [`Finding`]s
//! - [`rules`]: what is looked for
//! - [`Fixes`]: what would mend the data, planned with the report, carried out by [`Fixes::apply`]
//!
//! The readers of [`crate::data`] say what they could not use. What only shows across examples is found
//! here: copies, leaks into what is held out, captions that agree too much or contradict each other.
//!
//! Invariants: checking changes nothing. The same files and settings give the same report on any number
//! of threads. Mending deletes nothing and changes no word of a caption or a row.

mod error;
mod finding;
mod fix;
mod image;
mod repair;
pub mod rules;
mod text;
mod words;

pub use error::LintError;
pub use finding::{Finding, Place, Report, Severity};
pub use fix::Fixes;

use crate::config::DataSettings;
use crate::text::TextTokenizer;

/// What examples are.
#[derive(Debug, Clone, Copy)]
pub enum Examples<'a> {
    /// Pictures and captions for Stable Diffusion.
    Pictures,
    /// Texts for the language model with this tokenizer.
    Texts(&'a TextTokenizer),
}

/// Checks the training, held-out and regularization examples that the settings name.
///
/// What is wrong with the data is a finding; an error means that there is nothing to check, such as a
/// folder that is not there.
pub fn lint(data: &DataSettings, examples: Examples<'_>) -> Result<Report, LintError> {
    match examples {
        Examples::Pictures => image::lint(data),
        Examples::Texts(tokenizer) => text::lint(data, tokenizer),
    }
}
