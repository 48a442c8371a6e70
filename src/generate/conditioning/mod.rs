//! From an image prompt to what text encoders are given.
//!
//! - [`PromptPlan`]: the distinct texts of a prompt, and which of them apply at which step
//! - [`Chunks`]: a text as rows of 77 token ids with the weight of each
//! - [`emphasise`]: weights applied to what an encoder made of a row
//!
//! The reference is the `WebUI` 1.10.1 (`prompt_parser.py`, `sd_hijack_clip.py`, `sd_emphasis.py`),
//! whose answers are in `tests/parity/chunks.json`. A text of up to 75 tokens without emphasis is
//! the row that diffusers makes of it.
//!
//! Rows are encoded one by one and their outputs joined, 77 positions each; the pooled output is
//! that of the first row.
//!
//! Invariant: what is made of a text depends on this text alone, not on those beside it.

mod chunks;
mod emphasis;
mod error;
mod plan;

pub use chunks::{CHUNK_TOKENS, Chunks, ROW};
pub use emphasis::emphasise;
pub use error::ConditioningError;
pub use plan::{PlannedText, PromptPlan};
