use std::io;
use std::path::{Path, PathBuf};

use super::image::Problem;
use crate::base::terminal::{bytes, printable};

/// Why examples cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The operating system refused.
    #[error("{}: {source}\nhint: {hint}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
        /// What to do.
        hint: &'static str,
    },
    /// A file that holds more than any list of examples does.
    #[error(
        "{}: larger than {}\nhint: name a list of examples; split it if it is one", path.display(), bytes(*limit)
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Bytes at most.
        limit: u64,
    },
    /// Text in another encoding.
    #[error(
        "{}: {found}, expected UTF-8 text\nhint: save it as UTF-8 (Excel: `CSV UTF-8`)", path.display()
    )]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The first byte that is no UTF-8, or the encoding.
        found: String,
    },
    /// A list in a format that is not read.
    #[error(
        "{}: Parquet is not read, expected CSV, JSON or JSON Lines\n\
         hint: convert it: python -c \"import pandas as p; p.read_parquet('IN.parquet').to_json('metadata.jsonl', orient='records', lines=True)\"",
        path.display()
    )]
    Parquet {
        /// The file.
        path: PathBuf,
    },
    /// A list without the columns that are needed.
    #[error("{}:{line}: found `{}`, expected {expected}\nhint: {hint}", path.display(), printable(found))]
    Columns {
        /// The file.
        path: PathBuf,
        /// The header's line.
        line: usize,
        /// The header.
        found: String,
        /// What is missing.
        expected: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// A JSON file that cannot be read at all.
    #[error(
        "{}: {}, expected an object of pictures and captions or a list of rows\nhint: {{\"a.png\": {{\"caption\": \"…\"}}}} or [{{\"file_name\": \"a.png\", \"text\": \"…\"}}]",
        path.display(), printable(problem)
    )]
    Json {
        /// The file.
        path: PathBuf,
        /// What is there.
        problem: String,
    },
    /// A folder without examples.
    #[error("{}: no PNG, JPEG or WebP picture to read\nhint: {hint}", folder.display())]
    NoPictures {
        /// The folder.
        folder: PathBuf,
        /// What to do.
        hint: String,
    },
    /// An item that cannot be used as it is.
    #[error("{first}{more}\nhint: {}", first.kind.hint())]
    Item {
        /// The first.
        first: Box<Problem>,
        /// How many more there are, and the first of them; empty if there are none.
        more: String,
    },
}

impl DataError {
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        let hint = match source.kind() {
            io::ErrorKind::NotFound => "check the path; relative paths start at the current folder",
            io::ErrorKind::PermissionDenied => "check the permissions of the file and its folder",
            io::ErrorKind::NotADirectory => "name the folder that holds the pictures",
            io::ErrorKind::IsADirectory => "name a file, not a folder",
            _ => "check the path and what it leads to",
        };
        Self::Io { path: path.to_owned(), source, hint }
    }
}
