//! Floor 3: bases as they lie on disk, and how adapters fit them.
//!
//! - [`Base`]: a folder (transformers, diffusers) or a single file in the original Stable Diffusion
//!   layout, memory-mapped; which one it is follows from the files, never from their names
//! - [`Target`]: where a module's weight and bias lie in it
//! - [`decoder`]: language models that run, built over a base's own bytes
//! - [`diffusion`]: Stable Diffusion
//! - [`vision`]: CLIP, DINOv2 and LPIPS, which judge pictures
//! - [`Blocks`]: the parts of a model that an adapter may have weights of its own for
//! - [`fit()`]: which modules of an adapter find their target, which do not and why
//!
//! Invariant: a [`Target`] names an existing tensor, and a slice of it that lies inside.

mod autoencoder;
mod blocks;
pub mod decoder;
pub mod diffusion;
mod error;
mod fit;
mod gguf;
mod language;
mod layout;
mod source;
pub mod vision;

pub use blocks::{BlockError, Blocks};
pub use error::BaseError;
pub use fit::{Fit, Unmatched, WrongBase, fit};
pub use gguf::GgufModel;
pub use layout::{Slot, Table, Target};
pub use source::{Base, BaseFile, Shape};
