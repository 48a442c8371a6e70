//! Image metrics that need no model. A metric gets pixels and gives a [`Score`](super::Score).
//!
//! - [`Pixels`]: an RGB image, checked once
//! - [`ssim`], [`ms_ssim`], [`psnr`], [`mse`]: pixel by pixel. They say how far an adapter moves an
//!   image from the base's of the same seed, never how good it is
//! - [`HashKind`]: pHash and dHash; near-duplicates differ in few of 64 bits
//! - [`Histogram`]: are the colours the same, wherever they are?
//! - [`Kid`]: are two sets of images, given as a model's features, of one distribution?
//!
//! Invariant: equal pixels or features and options give equal bits, on any number of threads; two
//! equal images have exactly the best score.

mod dct;
mod error;
mod hash;
mod histogram;
mod kernel;
mod kid;
mod pixels;
mod psnr;
mod ssim;
mod window;

pub use error::ImageError;
pub use hash::{HashKind, ImageHash};
pub use histogram::Histogram;
pub use kid::{Features, Kid};
pub use pixels::Pixels;
pub use psnr::{mse, psnr};
pub use ssim::{ms_ssim, ssim};

/// The program whose SSIM and PSNR these are, and whose name is in their signatures.
pub const SCIKIT_IMAGE: &str = "0.26.0";
/// The program whose MS-SSIM this is.
pub const TORCHMETRICS: &str = "1.9.0";
/// The program whose hashes these are.
pub const IMAGE_HASH: &str = "4.3.2";
/// What signatures call this program.
const VERSION: &str = concat!("lora-eval-", env!("CARGO_PKG_VERSION"));
