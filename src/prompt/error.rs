//! What can be wrong with a prompt.

use thiserror::Error;

use super::emphasis::MAX_BRACKETS;
use super::place::{Place, caret};
use super::schedule::MAX_SCHEDULE_DEPTH;
use super::tag::{MAX_BLOCKS, MAX_NAME_BYTES, MAX_STRENGTH};

/// Why a prompt was refused. Every variant tells the place; the message ends in a hint.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum PromptError {
    /// `<lora:x:0.8` without `>`.
    #[error(
        "{at}: the tag `<{word}:` is never closed\nhint: end it with `>`, as in `<lora:NAME:0.8>`"
    )]
    UnclosedTag {
        /// The word after `<`.
        word: String,
        /// The opening.
        at: Place,
    },
    /// `<lora:>` or `<lora::0.8>`.
    #[error(
        "{at}: the adapter tag has no name\nhint: write `<lora:NAME>` or `<lora:NAME:STRENGTH>`"
    )]
    EmptyName {
        /// The tag.
        at: Place,
    },
    /// A name that is not that of a file directly in the folder of adapters.
    #[error(
        "{at}: adapter name `{name}` {problem}\nhint: use the adapter's file stem, at most {MAX_NAME_BYTES} bytes, without folders"
    )]
    BadName {
        /// The name.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
        /// The name's place.
        at: Place,
    },
    /// A strength that is not a number.
    #[error("{at}: strength `{value}` is not a number\nhint: {hint}")]
    BadStrength {
        /// What was written.
        value: String,
        /// What to write.
        hint: &'static str,
        /// Its place.
        at: Place,
    },
    /// A strength that is infinite, not a number, or beyond all use.
    #[error(
        "{at}: strength `{value}` is out of range\nhint: use a number between -{MAX_STRENGTH} and {MAX_STRENGTH}"
    )]
    StrengthOutOfRange {
        /// What was written, or the sum of what was written.
        value: String,
        /// Its place.
        at: Place,
    },
    /// A `dyn` that is not a rank.
    #[error(
        "{at}: dyn `{value}` is not a rank\nhint: use a whole number of at least 1, as in `dyn=4`"
    )]
    BadDyn {
        /// What was written.
        value: String,
        /// Its place.
        at: Place,
    },
    /// A weight by block that is no number, or one too many.
    #[error(
        "{at}: block weight `{value}`: expected a number from -{MAX_STRENGTH} to {MAX_STRENGTH}, and at most {MAX_BLOCKS} of them\nhint: {hint}"
    )]
    BadBlockWeight {
        /// What was written.
        value: String,
        /// What to write.
        hint: &'static str,
        /// Its place.
        at: Place,
    },
    /// A named argument that stock tags do not have.
    #[error("{at}: unknown argument `{name}=`\nhint: {hint}")]
    UnknownArgument {
        /// The name.
        name: String,
        /// What to do.
        hint: &'static str,
        /// The argument.
        at: Place,
    },
    /// The same named argument twice in one tag.
    #[error("{at}: argument `{name}=` is given twice\nhint: keep one of the two")]
    RepeatedArgument {
        /// The name.
        name: String,
        /// The second one.
        at: Place,
    },
    /// More than name, two strengths and `dyn`.
    #[error(
        "{at}: unexpected argument `{value}`\nhint: a tag takes a name, two strengths and a rank: `<lora:NAME:TE:UNET:DYN>`"
    )]
    TooManyArguments {
        /// The first that is too many.
        value: String,
        /// Its place.
        at: Place,
    },
    /// One adapter, named twice, with different `dyn`.
    #[error(
        "{at}: adapter `{name}` is named twice with different `dyn`\nhint: strengths of one adapter are added, so give both the same `dyn`"
    )]
    DynConflict {
        /// The adapter.
        name: String,
        /// The second tag.
        at: Place,
    },
    /// One adapter, named twice, with different weights by block.
    #[error(
        "{at}: adapter `{name}` is named twice with different `lbw`\nhint: strengths of one adapter are added, so give both the same `lbw`"
    )]
    BlockConflict {
        /// The adapter.
        name: String,
        /// The second tag.
        at: Place,
    },
    /// A tag for a kind of network that is not a `LoRA`.
    #[error(
        "{at}: `<{word}:…>` is not supported\nhint: remove the tag; only `<lora:…>` adapters can be evaluated"
    )]
    UnsupportedTag {
        /// The word after `<`.
        word: String,
        /// The tag.
        at: Place,
    },
    /// `(a:1.2.3)`.
    #[error(
        "{at}: emphasis weight `{value}` is not a number\nhint: write `(text:1.2)`; for a literal bracket write `\\(`"
    )]
    BadWeight {
        /// What was written.
        value: String,
        /// Its place.
        at: Place,
    },
    /// A weight that no number can hold.
    #[error(
        "{at}: the weight here is infinite or not a number\nhint: use fewer brackets or smaller weights"
    )]
    WeightOverflow {
        /// The text that has it.
        at: Place,
    },
    /// Text inside absurdly many brackets.
    #[error(
        "{at}: more than {MAX_BRACKETS} brackets are open here\nhint: close them, or write `\\(` and `\\[` for literal brackets"
    )]
    TooManyBrackets {
        /// The text that is so deep.
        at: Place,
    },
    /// Schedules inside schedules inside schedules.
    #[error(
        "{at}: schedules are nested more than {MAX_SCHEDULE_DEPTH} deep\nhint: write fewer `[from:to:when]` inside one another"
    )]
    ScheduleTooDeep {
        /// The outermost one that is too deep.
        at: Place,
    },
    /// A valid prompt that needs what the caller cannot do.
    #[error("{at}: {what} is not supported here\nhint: {hint}")]
    NotPlain {
        /// What the prompt asks for.
        what: &'static str,
        /// How to write it otherwise.
        hint: &'static str,
        /// Where it does.
        at: Place,
    },
}

impl PromptError {
    /// Where in the prompt the error is.
    #[must_use]
    pub fn place(&self) -> Place {
        let mut copy = self.clone();
        *copy.place_mut()
    }

    /// The prompt's line with carets under the place of the error, safe to print on a terminal.
    #[must_use]
    pub fn caret(&self, source: &str) -> String {
        caret(source, self.place())
    }

    pub(super) fn place_mut(&mut self) -> &mut Place {
        match self {
            Self::UnclosedTag { at, .. }
            | Self::EmptyName { at }
            | Self::BadName { at, .. }
            | Self::BadStrength { at, .. }
            | Self::StrengthOutOfRange { at, .. }
            | Self::BadDyn { at, .. }
            | Self::BadBlockWeight { at, .. }
            | Self::UnknownArgument { at, .. }
            | Self::RepeatedArgument { at, .. }
            | Self::TooManyArguments { at, .. }
            | Self::DynConflict { at, .. }
            | Self::BlockConflict { at, .. }
            | Self::UnsupportedTag { at, .. }
            | Self::BadWeight { at, .. }
            | Self::WeightOverflow { at }
            | Self::TooManyBrackets { at }
            | Self::ScheduleTooDeep { at }
            | Self::NotPlain { at, .. } => at,
        }
    }
}
