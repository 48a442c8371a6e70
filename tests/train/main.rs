//! `lora-eval train` from its configuration to the adapter.
//!
//! - [`resume`]: a training that is stopped, killed and gone on with is the training in one go
//! - [`batches`]: what must not matter: micro-batches, threads, a second time
//! - [`guards`]: poisoned data, rates too high and too low, too little memory
//! - [`stopping`]: held-out losses, the best adapter, early stopping
//! - [`formats`]: the three formats of an adapter
//! - [`article`]: configurations of other trainers on a checkpoint in one file
//! - [`samples`]: generations while training
//! - [`errors`]: wrong input, with messages as snapshots
//! - [`disk`]: a disk that is full

#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop")]

mod article;
mod batches;
mod disk;
mod errors;
mod formats;
mod guards;
#[path = "../image_grid/program.rs"]
#[expect(dead_code, reason = "some of it is about grids")]
mod program;
mod resume;
mod samples;
mod stopping;
#[path = "../image_grid/tensors.rs"]
#[expect(dead_code, reason = "some of it is about autoencoders")]
mod tensors;
mod training;
