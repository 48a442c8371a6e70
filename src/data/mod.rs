//! Floor 2: examples of a training, before any model sees them.
//!
//! - [`image`]: pictures and their captions: layouts of folders, buckets, pixels, captions
//! - [`text`]: rows of texts, prompts and conversations as token ids, and which of them are learnt
//! - [`cache`]: what frozen encoders make of them, kept by the content that it was made from
//!
//! What an example becomes depends on the files, the settings and the example's own random numbers
//! alone, never on the examples before it.

pub mod cache;
mod error;
pub mod image;
pub mod text;

pub use error::DataError;
