//! Pictures of a diffusion model at several strengths at once.
//!
//! - [`ImageModel`]: the models, tokenizers and sampler settings of a base
//! - [`Job`]: a prompt and everything else that a picture depends on
//! - [`ImageModel::draw`]: one picture a row of strengths, all from the same noise
//!
//! Invariant: a row's noise depends on the seed alone. Guidance, strengths and the parts of an `AND`
//! share one batch of the denoiser.

mod combine;
mod context;
mod draw;
mod error;
mod model;

pub use draw::{Drawn, Job, RowStrengths};
pub use error::ImageError;
pub use model::ImageModel;
