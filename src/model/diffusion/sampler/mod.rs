//! Samplers of Stable Diffusion, equal to those of diffusers and of the WebUI.
//!
//! - [`SamplerConfig`]: a diffusers `scheduler_config.json`, or what the WebUI does with a
//!   single-file checkpoint; [`SamplerConfig::noise_schedule`] is its training side
//! - [`Choice`], [`Algorithm`], [`Schedule`]: which sampler, by the names of either program
//! - [`Sampler`]: a loop of [`Sampler::next`], the model, [`Sampler::advance`]
//! - [`rescale_guidance`]: guidance without overexposure
//!
//! Invariant: all calls of a sampler are known when it is made ([`Sampler::calls`]); the latents
//! decide nothing about them. Coefficients are rounded to f32 where the peers round them, and every
//! row is computed by itself, so a row does not depend on the rows beside it.
//!
//! Peers: diffusers 0.42.1 (with numpy 1.26), k-diffusion 0.1.1, stable-diffusion-webui 1.10.1.

mod beta;
mod config;
mod diffusers;
mod error;
mod float;
mod guidance;
mod name;
mod noise_schedule;
mod prediction;
mod run;
mod settings;
mod solver;
mod spacing;
mod webui;
mod webui_sigmas;

pub use config::SamplerConfig;
pub use error::SamplerError;
pub use guidance::rescale_guidance;
pub use name::{Algorithm, Choice, Schedule};
pub use noise_schedule::NoiseSchedule;
pub use prediction::Prediction;
pub use run::{Call, Sampler};
