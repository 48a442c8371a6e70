//! Who may write to a run.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::directory::Run;
use super::error::RunError;

/// How a run is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// By one process alone.
    Exclusive,
    /// By the shards of a run, any number of them.
    Shared,
}

/// A lock on a run, for as long as it lives. The system releases it however the process ends.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
    note: Option<String>,
    removed: usize,
}

impl RunLock {
    /// What a user should know: that this file system has no locks.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// Unfinished files of earlier processes that were removed.
    pub fn removed(&self) -> usize {
        self.removed
    }
}

impl Run {
    /// Takes the lock, or says at once that somebody else has it. With the exclusive one, unfinished
    /// files that are older than this call are removed: no process is left that could finish them.
    pub fn lock(&self, mode: LockMode) -> Result<RunLock, RunError> {
        let start = SystemTime::now();
        let path = self.path().join(".lock");
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(|e| RunError::write(&path, e))?;
        let taken = match mode {
            LockMode::Exclusive => file.try_lock(),
            LockMode::Shared => file.try_lock_shared(),
        };
        let note = match taken {
            Ok(()) => None,
            Err(TryLockError::WouldBlock) => return Err(self.busy(mode)),
            Err(TryLockError::Error(e)) if has_no_locks(&e) => Some(format!(
                "{}: this file system has no locks; see that no other lora-eval without `--shard` writes to this run",
                self.path().display()
            )),
            Err(TryLockError::Error(e)) => return Err(RunError::write(&path, e)),
        };
        let alone = mode == LockMode::Exclusive && note.is_none();
        let removed = if alone { remove_leftovers(self.path(), start) } else { 0 };
        Ok(RunLock { _file: file, note, removed })
    }

    fn busy(&self, mode: LockMode) -> RunError {
        let hint = match mode {
            LockMode::Exclusive => {
                "wait until it ends, or give every process a part with `--shard I/N`"
            }
            LockMode::Shared => {
                "it writes the whole run: wait until it ends, or stop it and start every part with `--shard I/N`"
            }
        };
        RunError::Busy { path: self.path().to_owned(), hint }
    }
}

fn has_no_locks(error: &io::Error) -> bool {
    /// `ENOLCK` of Linux and macOS.
    const NO_LOCKS: i32 = if cfg!(target_os = "macos") { 77 } else { 37 };
    error.kind() == io::ErrorKind::Unsupported
        || (cfg!(unix) && error.raw_os_error() == Some(NO_LOCKS))
}

/// Removes unfinished files from before `start`; what cannot be removed does no harm.
fn remove_leftovers(run: &Path, start: SystemTime) -> usize {
    let list = |folder: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).into_iter().flatten();
        entries.filter_map(Result::ok).map(|entry| entry.path()).collect()
    };
    let mut folders = vec![run.to_owned(), run.join("outputs"), run.join("cells")];
    let is_folder = |path: &PathBuf| fs::symlink_metadata(path).is_ok_and(|about| about.is_dir());
    folders.extend(list(&run.join("cells")));
    folders.retain(is_folder); // no links: they could lead out of the run
    let is_leftover = |path: &Path| {
        let about = fs::symlink_metadata(path);
        is_temporary(path)
            && about.is_ok_and(|a| a.is_file() && a.modified().is_ok_and(|time| time < start))
    };
    let files = folders.iter().flat_map(|folder| list(folder));
    files.filter(|path| is_leftover(path) && fs::remove_file(path).is_ok()).count()
}

/// Whether a file has the name of one that is being written.
pub(super) fn is_temporary(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with(".lora-eval-") && name.ends_with(".tmp")
}
