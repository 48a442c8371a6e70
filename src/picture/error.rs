use std::io;
use std::path::{Path, PathBuf};

use super::{MAX_BYTES, MAX_SIDE, MAX_TEXT};
use crate::base::terminal::{bytes, printable};

/// Why a picture cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// The operating system refused.
    #[error("{}: {source}\nhint: check the path; it must lead to a PNG, JPEG or WebP file", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Neither PNG nor JPEG nor WebP, whatever its name says.
    #[error(
        "{}: not a picture, expected PNG, JPEG or WebP\nhint: convert it to PNG first",
        path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// Too many pixels or bytes.
    #[error(
        "{}: too large a picture, expected at most {MAX_SIDE} pixels a side and {} decoded\nhint: scale it down first",
        path.display(), bytes(MAX_BYTES)
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Its text is longer than [`MAX_TEXT`].
    #[error(
        "{}: its text takes more than {}\nhint: this is no text of a picture's settings; save the picture again without it",
        path.display(), bytes(MAX_TEXT as u64)
    )]
    TextTooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Its text cannot be unpacked, or unpacks to more than [`MAX_TEXT`].
    #[error(
        "{}: text `{}` cannot be unpacked to at most {}: {problem}\nhint: save the picture again without it",
        path.display(), printable(key), bytes(MAX_TEXT as u64)
    )]
    Text {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What the decoder says.
        problem: String,
    },
    /// Cut off, damaged, or of a kind that is not supported.
    #[error(
        "{}: damaged picture: {}\nhint: get the file again, or open and save it in another program",
        path.display(), printable(problem)
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the decoder says.
        problem: String,
    },
    /// Width, height and pixels that do not fit together.
    #[error(
        "a picture of `{width}x{height}` with {found} bytes, expected {expected} and no side of 0\nhint: a pixel is three bytes"
    )]
    Pixels {
        /// Pixels in a row.
        width: u32,
        /// Rows.
        height: u32,
        /// Bytes for that size.
        expected: u64,
        /// Bytes there are.
        found: usize,
    },
    /// A key of text that a PNG cannot have.
    #[error(
        "`{}` cannot name text in a PNG, expected 1 to 79 ASCII characters without spaces around them\nhint: the WebUI's key is `parameters`",
        printable(key)
    )]
    Key {
        /// The key.
        key: String,
    },
    /// Text longer than [`MAX_TEXT`] to be written.
    #[error(
        "text `{}` of {found} bytes, expected at most {MAX_TEXT}\nhint: shorten the prompt",
        printable(key)
    )]
    LongText {
        /// The key.
        key: String,
        /// Its bytes.
        found: usize,
    },
    /// The PNG encoder failed.
    #[error("cannot encode a picture: {0}\nhint: this is a bug; report it with the picture's size")]
    Encode(#[from] png::EncodingError),
}

impl PictureError {
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    pub(super) fn image(path: &Path, error: image::ImageError) -> Self {
        let path = path.to_owned();
        match error {
            image::ImageError::Limits(_) => Self::TooLarge { path },
            image::ImageError::IoError(source) if source.kind() != io::ErrorKind::UnexpectedEof => {
                Self::Io { path, source }
            }
            other => Self::Damaged { path, problem: other.to_string() },
        }
    }
}
