use std::io;
use std::path::{Path, PathBuf};

/// Why an event file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// The file cannot be read.
    #[error("{}: {source}\nhint: check that the file is there and may be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be written; what was added before is kept.
    #[error("{}: cannot be written: {source}\nhint: free some space or name a folder that may be written to; TensorBoard's files can be switched off with `output.tensorboard: false`", path.display())]
    Write {
        /// The file or its folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The first record is no record.
    #[error("{}: not an event file: expected a TFRecord, found other bytes\nhint: name a file that TensorBoard can read (`events.out.tfevents.…`)", path.display())]
    NotEvents {
        /// The file.
        path: PathBuf,
    },
    /// A whole record that is no `Event`.
    #[error("{}: byte {at}: the record is whole but no TensorBoard event\nhint: the file belongs to another program; move it out of the folder", path.display())]
    NoEvent {
        /// The file.
        path: PathBuf,
        /// Where the record starts.
        at: u64,
    },
}

impl EventError {
    pub(super) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read { path: path.to_owned(), source }
    }

    pub(super) fn write(path: &Path, source: io::Error) -> Self {
        Self::Write { path: path.to_owned(), source }
    }
}
