//! Pictures through the program: `grid` and `generate` of tiny Stable Diffusion pipelines.
//!
//! - [`runs`]: a grid is the same whole, resumed, killed, shared out and in smaller batches
//! - [`cells`]: what a cell is, and how it is made again alone
//! - [`like`]: settings that a picture carries
//! - [`bases`]: single files and folders, and an autoencoder that overflows
//! - [`judges`]: models that score
//! - [`errors`]: wrong input, with messages as snapshots
//! - [`disk`]: places that cannot be written to

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod bases;
mod cells;
mod disk;
mod errors;
mod judges;
mod like;
mod program;
mod runs;
mod tensors;
