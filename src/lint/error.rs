use std::io;
use std::path::{Path, PathBuf};

use crate::data::DataError;
use crate::data::text::TextDataError;
use crate::text::TextError;

/// Why data cannot be checked or mended at all.
#[derive(Debug, thiserror::Error)]
pub enum LintError {
    /// The operating system refused.
    #[error("{}: {source}\nhint: check that the file is there and that it may be read and written", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file that is other than when it was checked.
    #[error("{}: changed since it was checked\nhint: check the data again, then mend it", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The folder of pictures cannot be read.
    #[error(transparent)]
    Pictures(#[from] DataError),
    /// The file of texts cannot be read.
    #[error(transparent)]
    Texts(#[from] TextDataError),
    /// CLIP's tokenizer failed.
    #[error(transparent)]
    Tokenizer(#[from] TextError),
}

impl LintError {
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        |source| Self::Io { path: path.to_owned(), source }
    }
}
