//! Floor 1: a suite, the YAML file of prompts, their groups, references and axes.
//!
//! - [`Suite`]: the file as read, [`Suite::open`]; every value typed and within its bounds
//! - [`Prompt`], [`Input`], [`Message`]: what the model gets
//! - [`Settings`]: how it generates; a prompt's own are merged over the suite's defaults
//! - [`Strengths`]: the strength axis, `0,0.4,0.8` or `0:1.5:0.25`; [`parse_seeds`]
//! - [`SuiteError`]: what is wrong, in which line, and what to write instead
//!
//! Invariants: a suite has at least one prompt, no id, seed or value of an axis twice, strength 0, and
//! at most [`MAX_CELLS`] cells. Unknown keys are errors that name the nearest known one. Which samplers
//! and adapters there are is not known here.

mod decimal;
mod error;
mod model;
mod prompts;
mod read;
mod seeds;
mod settings;
mod strengths;
mod yaml;

pub use error::{Place, SuiteError};
pub use model::{Input, MAX_CELLS, Message, Prompt, Suite};
pub use seeds::{SeedError, parse_seeds};
pub use settings::{AXES, LongPrompts, SETTINGS, SettingError, Settings};
pub use strengths::{MAX_STRENGTH, MAX_STRENGTHS, StrengthError, Strengths};

/// Largest file of a suite, in bytes.
pub const MAX_SUITE: usize = crate::base::yaml::MAX_BYTES;
