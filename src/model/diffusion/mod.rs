//! Stable Diffusion 1.x, 2.x and XL: denoiser, text encoders, autoencoder, samplers, noise.
//!
//! - [`Diffusion`]: the models of a base, adapters attached, whatever layout the base has
//! - [`Unet`], [`TextEncoder`], [`Vae`]: one of them by itself
//! - [`sampler`], [`noise`]: on the host, the same on every device
//! - [`Parts`]: layers by their names in diffusers; [`Adapters`]: what adapters change in them
//!
//! Invariant: every weight of the base's denoiser is used, and every module of an adapter that fits
//! acts; otherwise loading fails and says which one would have been left out.

mod error;
mod load;
pub mod noise;
mod parts;
pub mod sampler;
mod text_encoder;
mod unet;
mod vae;

pub use error::DiffusionError;
pub use load::{Diffusion, Family};
pub use parts::{Adapters, Attached, Parts, Placement};
pub use text_encoder::{Encoded, Skip, TextEncoder};
pub use unet::{Added, Context, State, Unet, UnetConfig};
pub use vae::{Vae, autoencoder_to_diffusers};
