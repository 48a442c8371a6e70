//! Floor 2: the two small worlds that the program's own models were trained on, and the demo's files.
//!
//! - [`world`]: pictures of one shape on a plain background, what `demo:image` draws
//! - [`english`]: tasks and stories in a small English, what `demo:text` writes
//! - [`Materials`]: everything that `lora-eval demo` starts from
//!
//! Invariant: all of it is drawn from seeds, the same on every machine; what is held out is in no
//! training set, of the models or of the demo's adapters.

pub mod english;
mod materials;
mod pictures;
pub mod world;

pub use materials::{DemoError, Materials};
pub use pictures::{picture_suite, style_pictures};
