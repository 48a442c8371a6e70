//! Floor 5: a suite at every strength, into a run directory.
//!
//! - [`Plan`]: prompts × seeds × further axes as [`Unit`]s, each with one cell a strength
//! - [`Backend`]: makes the cells of a unit in one batch; [`TextBackend`] with a language model,
//!   [`ImageBackend`] with a diffusion model, [`FakeBackend`] out of nothing, so that all the rest can be tried without weights
//! - [`execute`]: what is missing, unit by unit, each cell written whole or not at all
//! - [`Ablating`]: which blocks of an adapter do the damage and which the work
//! - [`scores`]: every metric by group and strength, with confidence intervals; [`measures`]: what they
//!   are made from, cell by cell
//!
//! Invariant: a unit is always batched whole. A resumed or a sharded run makes the very same batches
//! as one that ran through, and so the same cells.

mod ablate;
mod backend;
mod blocks;
mod error;
mod execute;
mod fake;
mod image;
mod judge;
mod plan;
mod prepare;
mod scores;
mod text;

pub use ablate::{Ablated, Ablating, ablation_strength};
pub use backend::{Backend, Made};
pub use error::GridError;
pub use execute::{Options, Outcome, execute};
pub use fake::FakeBackend;
pub use image::{ImageBackend, Learned, ModelName};
pub use plan::{Axis, Plan, PlannedCell, Request, Unit};
pub use prepare::{Settings, text_settings};
pub use scores::{measures, scores};
pub use text::{Loaded, TextBackend, fingerprint};
