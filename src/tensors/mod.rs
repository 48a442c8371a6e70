//! Floor 0: safetensors files, read without trust and written as a stream.
//!
//! - [`TensorFile`]: an open file; its header was checked in full, its data is mapped or in memory
//! - [`Tensor`]: a name-less tensor, in a file or owned; cheap to clone
//! - [`Float`]: the four floating-point types that weights come in, decoded to and encoded from f32
//! - [`Layout`], [`write_file`]: a header planned first, then data in any order
//!
//! A header is never trusted: its length is bounded before it is read, duplicate names are refused
//! (the `safetensors` crate lets the last one win), and sizes are checked against the file.

mod error;
mod file;
mod float;
pub mod gguf;
mod header;
mod mapping;
mod tensor;
mod write;

pub use error::TensorError;
pub use file::TensorFile;
pub use float::Float;
pub use header::Limits;
pub use safetensors::Dtype;
pub use tensor::Tensor;
pub use write::{Layout, serialize, write_file};
