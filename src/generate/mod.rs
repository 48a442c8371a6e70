//! Floor 4: texts of a language model, or pictures of a diffusion model, at several strengths at once.
//!
//! - [`prefill`]: one pass over the prompts of a batch; what it gives can be used for several seeds
//! - [`complete`]: the texts; a row that has ended leaves the batch
//! - [`teacher_forced`]: how a text fares under each row: negative log-likelihood, divergence from
//!   row 0, agreement with it
//! - [`conditioning`]: prompts for images into what text encoders are given
//! - [`mod@image`]: pictures, those of a prompt and seed from one noise
//! - [`Sampling`], [`Noise`]: how a token is chosen; the noise of a prompt and seed depends on
//!   nothing else
//!
//! Invariant: equal batches give equal bits. Batches of other sizes may differ in the last digits,
//! so the unit of work is one prompt and seed with all its strengths.

mod complete;
pub mod conditioning;
mod forced;
pub mod image;
mod noise;
mod sampling;

pub use complete::{Completion, Finish, Prefilled, Row, Stopping, complete, prefill};
pub use forced::{Forced, teacher_forced};
pub use noise::Noise;
pub use sampling::Sampling;

/// Why nothing could be generated.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// The device refused.
    #[error(transparent)]
    Device(#[from] candle_core::Error),
    /// The tokenizer refused.
    #[error(transparent)]
    Text(#[from] crate::text::TextError),
    /// The model gave no number.
    #[error(
        "the logits of row {row} are not numbers after {tokens} tokens\nhint: an adapter or the base holds NaN or infinite values, or a strength is too large for the type that is computed in; try `--dtype f32`"
    )]
    NotFinite {
        /// The row of the batch.
        row: usize,
        /// Tokens generated before.
        tokens: usize,
    },
    /// A prompt without tokens.
    #[error(
        "the prompt has no tokens\nhint: this model's tokenizer adds no start token; give at least one character"
    )]
    EmptyPrompt,
}
