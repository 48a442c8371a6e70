//! Floor 1: pictures in files, and the text that the WebUI keeps with them.
//!
//! - [`Picture`], [`read`]: 8-bit RGB from PNG, JPEG and WebP; [`size`] reads the header alone
//! - [`resize_rgb`]: with Pillow's bits
//! - [`encode_png`]: PNG with text, the same bytes for the same picture and text
//! - [`read_text`]: the text that a file carries
//! - [`infotext`]: the WebUI's `parameters` text, as data and as settings
//!
//! Files are untrusted: sizes, memory and text are limited before anything is decoded.

mod error;
mod exif;
pub mod infotext;
mod metadata;
mod read;
mod resize;
mod write;

pub use error::PictureError;
pub use metadata::read_text;
pub use read::{read, size};
pub use resize::{Filter, ResizeError, resize_gray, resize_rgb};
pub use write::encode_png;

/// The key of a PNG's text under which the WebUI keeps the infotext.
pub const PARAMETERS: &str = "parameters";

/// Longest text read from or written to a picture, in bytes, decompressed.
pub const MAX_TEXT: usize = 1 << 20;

/// Widest and highest picture read, in pixels.
pub const MAX_SIDE: u32 = 16_384;

/// Most bytes a picture may take when decoded, and as a file.
pub const MAX_BYTES: u64 = 512 << 20;

/// A picture of 8 bits a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Red, green, blue of each pixel, row by row from the top: (height, width, 3).
    pub rgb: Vec<u8>,
}
