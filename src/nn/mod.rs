//! Floor 2: layers that hold a frozen base weight and any number of adapters.
//!
//! A batch carries its strengths row by row and adapter by adapter ([`Strengths`]), so one pass
//! computes one prompt at every strength, the base (strength 0) included:
//!
//! `y = x·Wᵀ + Σₖ s[row,k]·cₖ·(x·Aₖᵀ)·Bₖᵀ`
//!
//! - [`Linear`], [`Conv2d`], [`Embedding`]: all A's of a layer are stacked into one product and all
//!   B's into another, so k adapters cost two thin products, not 2k
//! - [`BlockWeights`]: a row's strength may differ from block to block of the model; each change knows
//!   its [`Slot`], adapter and block
//! - changes that are no low-rank product, and DoRA: every kind is linear in its strength
//!   ([`crate::adapter::RowDelta`]), so Δ is computed once for all strengths and added as
//!   `s·(x·Δᵀ)`
//! - [`Weight`]: f32, f16, bf16 as the file holds them, or quantised blocks of GGUF
//! - [`Trained`]: a change that is being learnt, attached by [`Linear::train`], with [`Dropout`]
//! - [`cross_entropy`]: the loss of tokens
//! - [`pixels`]: pixels as tokens and back
//! - [`RmsNorm`], [`LayerNorm`], [`GroupNorm`], [`rotary`], [`attention`], [`gated`]: with gradients
//!   (candle's own fused ones lose them silently), fused on the CPU
//!
//! Invariant: rows at strength 0 are bit-equal to the same batch with no adapter attached.

pub mod attention;
mod changes;
mod channels;
mod conv;
mod cpu;
mod cross_entropy;
mod embedding;
pub mod gated;
mod graft;
mod group_norm;
mod layer_norm;
mod linear;
mod low_rank;
mod norm;
pub mod pixels;
pub mod rotary;
mod strengths;
mod trained;
mod weight;

pub use changes::{Attachment, Part};
pub use channels::add_to_channels;
pub use conv::{Conv2d, ConvConfig};
pub use cross_entropy::cross_entropy;
pub use embedding::Embedding;
pub use group_norm::GroupNorm;
pub use layer_norm::LayerNorm;
pub use linear::Linear;
pub use norm::RmsNorm;
pub use strengths::{BlockWeights, Dropout, Slot, Strengths, Visit};
pub use trained::Trained;
pub use weight::{Stored, Weight};
