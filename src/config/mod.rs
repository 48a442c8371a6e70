//! Floor 1: a training's configuration.
//!
//! - [`load`], [`parse`]: a file and overrides to a [`Resolved`]: [`Settings`], every value decided, an
//!   [`Entry`] for each with its [`Origin`], and notes
//! - [`keys()`]: the one table of keys; reading, messages, `--explain` and the reference follow it
//! - [`IGNORED`], [`REFUSED`], [`OTHER_DEFAULTS`]: keys of peers that set nothing here, and defaults that differ
//! - [`ConfigError`]: what is wrong, in which line, and what to write instead
//!
//! Our own files are YAML with the sections of [`Settings`]. The articles' YAML, sd-scripts' and
//! lora-scripts' TOML, PEFT's JSON, and subsets of diffusers', transformers', LLaMA-Factory's and
//! axolotl's keys are read too, each name as an alias of a key of ours.
//!
//! Invariants: no key is dropped in silence. It sets something, is ignored with a note, or is an error;
//! a key of a peer that would change the result and is not implemented is an error unless it says what
//! is done anyway. No setting is given twice. [`Resolved::to_yaml`] is a configuration of equal settings.
//! Relative paths start at the working directory, as in all peers; `~` is not expanded.

mod check;
mod choices;
mod datasets;
mod defaults;
mod error;
mod forms;
mod keys;
mod kind;
mod peers;
mod read;
mod resolved;
mod settings;
#[cfg(test)]
mod tests;
mod tree;
mod values;

pub use choices::*;
pub use error::{ConfigError, Place};
pub use keys::{Alias, As, Fallback, Key, Peer, keys};
pub use kind::{Kind, Synonym};
pub use peers::{IGNORED, OTHER_DEFAULTS, REFUSED};
pub use resolved::{Entry, Resolved, load, parse};
pub use settings::*;
pub use values::Origin;

/// Largest file of a configuration, in bytes.
pub const MAX_CONFIG: usize = crate::base::yaml::MAX_BYTES;
