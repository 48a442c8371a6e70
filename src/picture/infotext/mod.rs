//! The text that Stable Diffusion web UI writes into its pictures (1.10.1), as data and as settings.
//!
//! ```text
//! a cat in ink <lora:ink:0.8>
//! Negative prompt: blurry
//! Steps: 20, Sampler: Euler a, Schedule type: Automatic, CFG scale: 7, Seed: 1, Size: 512x512
//! ```
//!
//! - [`Infotext`]: prompts and fields as they stand; reads any text, and writes what it read
//! - [`Settings`]: the fields that say how a picture is made, typed; the rest is kept and listed
//!
//! Sources: `create_infotext` in `modules/processing.py`, `parse_generation_parameters` and `quote` in
//! `modules/infotext_utils.py`, `get_sampler_and_scheduler` in `modules/sd_samplers.py`.

mod sampler;
mod settings;
mod text;

pub use settings::{Settings, SettingsError};
pub use text::{Infotext, size};
