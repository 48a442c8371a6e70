//! Floor 1: the prompt language: one line of text in, everything that it asks for out.
//!
//! The language is that of AUTOMATIC1111's Stable Diffusion `WebUI` (v1.10.1): adapter tags, emphasis,
//! `BREAK`, schedules, alternation and `AND`. `docs/prompt-syntax.md` describes it for users and lists
//! where this program deliberately differs.
//!
//! | type | what it is |
//! |---|---|
//! | [`Prompt`] | a line that has been read: text, adapters, fragments, parts, warnings |
//! | [`AdapterRef`] | an adapter and the strengths that the line gives it |
//! | [`Fragment`] | a run of text with one weight, or a `BREAK` |
//! | [`Schedule`] | which text applies at which step |
//! | [`PromptError`] | what is wrong, at which column, and what to do about it |
//!
//! ```
//! use lora_eval::prompt::Prompt;
//!
//! let prompt = Prompt::parse("a (red:1.3) fox <lora:ink:0.8>")?;
//! assert_eq!(prompt.text, "a (red:1.3) fox ");
//! assert_eq!(prompt.adapters[0].name, "ink");
//! assert_eq!(prompt.fragments[1].weight, 1.3);
//! # Ok::<(), lora_eval::prompt::PromptError>(())
//! ```
//!
//! Invariants: reading never panics, whatever the text; it takes time linear in the length of the text;
//! and `Prompt::parse(&prompt.to_string())` means the same as `prompt`.

mod argument;
mod brackets;
mod composition;
mod emphasis;
mod error;
mod place;
mod read;
mod render;
mod scan;
mod schedule;
mod tag;

pub use composition::{Part, split_parts};
pub use emphasis::{BREAK_WEIGHT, Fragment, MAX_BRACKETS, parse_emphasis};
pub use error::PromptError;
pub use place::{Place, Span, caret};
pub use read::{AdapterRef, Feature, FeatureKind, Prompt, Warning};
pub use render::{block_argument, render_fragments};
pub use schedule::{Change, MAX_SCHEDULE_DEPTH, Schedule, Switch, schedule};
pub use tag::{
    AdapterTag, MAX_BLOCKS, MAX_NAME_BYTES, MAX_STRENGTH, OtherTags, Tagged, split_tags,
};
