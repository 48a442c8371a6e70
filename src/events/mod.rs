//! Floor 1: `TensorBoard`'s event files.
//!
//! - [`EventWriter`]: scalars, pictures and texts of a training, for `TensorBoard` to show
//! - [`EventReader`]: the events of any such file; [`read_scalars`] makes curves of several files
//!
//! A file is a sequence of `TFRecord`s, each an `Event` protobuf message (`tensorflow/core/util/event.proto`);
//! the few messages that matter are written and read by hand. Invariant: what was added before an
//! error, a crash or an interrupt can be read; a torn end is the end.

mod error;
mod reader;
mod record;
mod wire;
mod writer;

pub use error::EventError;
pub use reader::{Event, EventReader, Point, Scalars, is_event_file, read_scalars};
pub use writer::EventWriter;
