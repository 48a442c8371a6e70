use std::io;
use std::path::{Path, PathBuf};

use crate::base::terminal::printable;

/// Why a run directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Something cannot be read.
    #[error("{}: {source}\nhint: check that the folder is there and may be read", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something cannot be written. Nothing unfinished is left under its name.
    #[error("{}: cannot be written: {source}\nhint: {hint}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
        /// What to do.
        hint: &'static str,
    },
    /// No `run.json`.
    #[error("{}: not a run: it has no `run.json`\nhint: name a folder that `lora-eval grid --out` made", path.display())]
    NotARun {
        /// The folder.
        path: PathBuf,
    },
    /// A folder that belongs to something else.
    #[error("{}: holds `{}` but no `run.json`, so it is no run\nhint: give another `--out`: a new folder, or one that a run made", path.display(), printable(name))]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// What it holds.
        name: String,
    },
    /// A file that is torn, changed or not what its name says.
    #[error("{}: damaged: {}\nhint: {hint}", path.display(), printable(problem))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
        /// What to do.
        hint: &'static str,
    },
    /// Written by a newer version.
    #[error("{}: format {found} is newer than this program's, {}\nhint: use the lora-eval that made the run, or a newer one", path.display(), super::FORMAT)]
    Newer {
        /// `run.json`.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// The folder holds a run with another plan.
    #[error(
        "{}: holds another run: {differences}\nhint: give this one another `--out`; to go on with the old one, repeat the command that made it",
        path.display()
    )]
    OtherPlan {
        /// The folder.
        path: PathBuf,
        /// What differs, in words.
        differences: String,
    },
    /// Somebody else writes.
    #[error("{}: another lora-eval is writing to this run\nhint: {hint}", path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
        /// What to do.
        hint: &'static str,
    },
    /// Something that cannot be stored as asked.
    #[error("{what}: {problem}\nhint: {hint}")]
    Invalid {
        /// What.
        what: String,
        /// What is wrong.
        problem: String,
        /// What to do.
        hint: &'static str,
    },
}

impl RunError {
    pub(super) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read { path: path.to_owned(), source }
    }

    pub(super) fn write(path: &Path, source: io::Error) -> Self {
        let hint = write_hint(&source);
        Self::Write { path: path.to_owned(), source, hint }
    }
}

/// What to do when a write failed.
fn write_hint(error: &io::Error) -> &'static str {
    use io::ErrorKind as Kind;
    /// `EIO` of all Unix systems.
    const FAULT: i32 = 5;
    match error.kind() {
        Kind::StorageFull => {
            "the disk is full: free some space and run the same command again; finished cells are kept"
        }
        Kind::QuotaExceeded => {
            "the quota is used up: free some space and run the same command again; finished cells are kept"
        }
        Kind::ReadOnlyFilesystem | Kind::PermissionDenied => {
            "give an `--out` in a folder that you may write to"
        }
        Kind::NotADirectory | Kind::AlreadyExists | Kind::IsADirectory => {
            "something else has that name: move it away, or give another `--out`"
        }
        _ if cfg!(unix) && error.raw_os_error() == Some(FAULT) => {
            "the disk reports a fault: check it, then run the same command again; finished cells are kept"
        }
        _ => "run the same command again; finished cells are kept",
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_its_hint() {
        // ENOSPC, EDQUOT (Linux), EIO, EROFS, EACCES, EMFILE
        let all: Vec<String> = [28, 122, 5, 30, 13, 24]
            .map(|code| {
                RunError::write(Path::new("run/x"), io::Error::from_raw_os_error(code)).to_string()
            })
            .to_vec();
        insta::assert_snapshot!(all.join("\n"));
    }
}
