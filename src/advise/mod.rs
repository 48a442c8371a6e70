//! Floor 5: a starting configuration, with the reason for each value.
//!
//! - [`advise`]: a [`Question`] (task, examples, device, base) becomes an [`Advice`]: the configuration
//!   as YAML with a reason and its source in every line, the article's claims that are not followed,
//!   and a memory plan
//! - [`BaseFacts`]: what is known of a base, read off its files or one of the usual ones
//! - [`network`]: shapes of language models and of Stable Diffusion
//! - [`MemoryPlan`]: what a training takes, item by item, for any [`crate::config::Settings`]
//!
//! Invariant: advice is a pure function of the question; only [`BaseFacts::of`] looks at a base.

mod advice;
mod choose;
mod claims;
pub mod doctor;
mod error;
mod explain;
mod facts;
mod memory;
pub mod network;
mod question;
mod read;
mod yaml;

pub use advice::{Advice, advise};
pub use claims::{Claim, Verdict};
pub use error::AdviseError;
pub use explain::Reason;
pub use facts::{BaseFacts, Held};
pub use memory::{Item, MemoryPlan, Phase};
pub use network::Network;
pub use question::{Device, Question, Task};
pub use yaml::table;
