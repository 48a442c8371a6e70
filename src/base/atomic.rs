//! Files and folders that appear under their name whole or not at all.
//!
//! Everything is written beside its destination under a temporary name and renamed at the end, so
//! a crash, a full disk or an interrupt leaves what was there before. Replacing an existing file
//! syncs the new one first; a new file is left to the page cache, as `cp` does.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::{NamedTempFile, TempDir};

/// Temporary files and folders that are being written.
static UNFINISHED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Removes everything that was started and not committed: for a program that is told to stop. From
/// then on no other thread starts or commits anything: it waits until the program ends.
pub fn remove_unfinished() {
    let mut all = unfinished();
    for path in std::mem::take(&mut *all) {
        let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
    }
    std::mem::forget(all);
}

fn unfinished() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An entry of the list of unfinished paths, for as long as it lives.
#[derive(Debug)]
struct Listed(PathBuf);

impl Listed {
    /// Makes something and lists it, as one step for [`remove_unfinished`].
    fn made<T>(
        make: impl FnOnce() -> io::Result<T>,
        path: impl FnOnce(&T) -> &Path,
    ) -> io::Result<(T, Self)> {
        let mut all = unfinished();
        let made = make()?;
        let path = path(&made).to_owned();
        all.insert(path.clone());
        Ok((made, Self(path)))
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        unfinished().remove(&self.0);
    }
}

/// A file being written beside `path`; [`AtomicFile::commit`] gives it its name.
#[derive(Debug)]
pub struct AtomicFile {
    temporary: NamedTempFile,
    path: PathBuf,
    _listed: Listed,
}

/// What `path` names, links followed. A link through a process's open files or to a device is refused: what
/// it leads to is somebody's stream.
fn target(path: &Path) -> io::Result<PathBuf> {
    let mut target = path.to_owned();
    for _ in 0..40 {
        let Ok(to) = fs::read_link(&target) else { return Ok(target) };
        let device = target.starts_with("/dev") && !target.starts_with("/dev/shm");
        if device || target.starts_with("/proc") {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "is no regular file"));
        }
        target = folder_of(&target).join(to);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "is a link in a circle"))
}

impl AtomicFile {
    /// Starts a file that will be called `path`, or what a link there leads to. Its folder must exist.
    pub fn create(path: &Path) -> io::Result<Self> {
        let path = &target(path)?;
        if path.is_dir() {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "is a directory"));
        }
        // a rename would put a file in place of a device or a pipe
        if fs::metadata(path).is_ok_and(|there| !there.is_file()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "is no regular file"));
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix(".lora-eval-").suffix(".tmp");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            builder.permissions(fs::Permissions::from_mode(0o666)); // less the umask
        }
        // The kind alone: the message would name the temporary file.
        let make = || builder.tempfile_in(folder_of(path)).map_err(|e| plain(&e));
        let (temporary, listed) = Listed::made(make, NamedTempFile::path)?;
        Ok(Self { _listed: listed, temporary, path: path.to_owned() })
    }

    /// The open file.
    pub fn file(&self) -> &File {
        self.temporary.as_file()
    }

    /// Renames the file to its destination.
    pub fn commit(self) -> io::Result<()> {
        if let Ok(old) = fs::metadata(&self.path) {
            self.temporary.as_file().set_permissions(old.permissions())?;
            self.temporary.as_file().sync_all()?;
        }
        self.temporary.persist(&self.path).map_err(|e| e.error)?;
        Ok(())
    }

    /// Renames the file to its destination so that it lasts through a power cut: contents, then name.
    pub fn commit_durable(self) -> io::Result<()> {
        self.temporary.as_file().sync_all()?;
        let folder = folder_of(&self.path).to_owned();
        self.temporary.persist(&self.path).map_err(|e| e.error)?;
        sync_folder(&folder)
    }

    /// Like [`AtomicFile::commit_durable`], but never replaces: `false` says that the name was taken,
    /// and then nothing was written. Of several that try at once, exactly one gets `true`.
    pub fn commit_new(self) -> io::Result<bool> {
        self.temporary.as_file().sync_all()?;
        let folder = folder_of(&self.path).to_owned();
        // A rename that replaces nothing, or a hard link where the system has no such rename.
        match self.temporary.persist_noclobber(&self.path) {
            Ok(_) => {}
            Err(_) if fs::symlink_metadata(&self.path).is_ok() => return Ok(false),
            Err(e) if has_no_links(&e.error) => {
                if !claim(e.file, &self.path)? {
                    return Ok(false);
                }
            }
            Err(e) => return Err(e.error),
        }
        sync_folder(&folder)?;
        Ok(true)
    }
}

fn has_no_links(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, PermissionDenied, TooManyLinks, Unsupported};
    matches!(error.kind(), PermissionDenied | Unsupported | TooManyLinks | InvalidInput)
}

/// Takes the name with an empty file, then renames over it: for file systems without hard links. A
/// reader may see the empty file for a moment.
fn claim(temporary: NamedTempFile, path: &Path) -> io::Result<bool> {
    match File::create_new(path) {
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        Err(e) => return Err(e),
    }
    match temporary.persist(path) {
        Ok(_) => Ok(true),
        Err(e) => {
            let _ = fs::remove_file(path);
            Err(e.error)
        }
    }
}

/// Makes the names in a folder last through a power cut, where the system can do that.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        match File::open(folder)?.sync_all() {
            // Some network and FUSE file systems cannot; they promise nothing of the kind either.
            Err(e)
                if matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) =>
            {
                Ok(())
            }
            other => other,
        }
    }
    #[cfg(not(unix))]
    {
        let _ = folder;
        Ok(())
    }
}

/// The real path of something that may not exist yet: its folder's, and its name.
pub fn real_path(path: &Path) -> Option<PathBuf> {
    path.canonicalize().ok().or_else(|| {
        let folder = folder_of(path).canonicalize().ok()?;
        Some(folder.join(path.file_name()?))
    })
}

/// Whether writing `out` as a file or folder would touch `kept`: it is the same, holds it, or lies
/// inside it.
pub fn collides(out: &Path, kept: &Path) -> bool {
    match (real_path(out), real_path(kept)) {
        (Some(out), Some(kept)) => out.starts_with(&kept) || kept.starts_with(&out),
        _ => false,
    }
}

/// Writes a whole small file: all of `contents` or nothing.
pub fn write(path: &Path, contents: &[u8]) -> io::Result<()> {
    let file = AtomicFile::create(path)?;
    io::Write::write_all(&mut file.file(), contents)?;
    file.commit()
}

/// A folder being filled beside `path`; [`AtomicFolder::commit`] gives it its name.
#[derive(Debug)]
pub struct AtomicFolder {
    temporary: TempDir,
    path: PathBuf,
    _listed: Listed,
}

impl AtomicFolder {
    /// Starts a folder that will be called `path`.
    pub fn create(path: &Path) -> io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(".lora-eval-").suffix(".tmp");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            builder.permissions(fs::Permissions::from_mode(0o777)); // less the umask
        }
        let make = || builder.tempdir_in(folder_of(path)).map_err(|e| plain(&e));
        let (temporary, listed) = Listed::made(make, TempDir::path)?;
        Ok(Self { _listed: listed, temporary, path: path.to_owned() })
    }

    /// Where to write meanwhile.
    pub fn path(&self) -> &Path {
        self.temporary.path()
    }

    /// Renames the folder to its destination; an existing one is put aside first and removed last.
    pub fn commit(self) -> io::Result<()> {
        if fs::symlink_metadata(&self.path).is_ok() {
            let aside = tempfile::Builder::new()
                .prefix(".lora-eval-old-")
                .tempdir_in(folder_of(&self.path))?;
            let old = aside.path().join("old");
            fs::rename(&self.path, &old)?;
            if let Err(error) = fs::rename(self.temporary.path(), &self.path) {
                fs::rename(&old, &self.path)?;
                return Err(error);
            }
        } else {
            fs::rename(self.temporary.path(), &self.path)?;
        }
        let _ = self.temporary.keep();
        Ok(())
    }
}

/// Writes all of `bytes` at `offset`, leaving the file's own position alone. Threads may write
/// different parts at once.
pub fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    #[cfg(unix)]
    {
        std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
    }
    #[cfg(windows)]
    {
        let (mut bytes, mut offset) = (bytes, offset);
        while !bytes.is_empty() {
            let n = std::os::windows::fs::FileExt::seek_write(file, bytes, offset)?;
            (bytes, offset) = (&bytes[n..], offset + n as u64);
        }
        Ok(())
    }
}

/// Copies `length` bytes between files at these offsets inside the system, where it can do that.
/// Gives how many bytes were copied; the rest is the caller's.
pub fn copy_range(from: &File, start: u64, to: &File, offset: u64, length: u64) -> io::Result<u64> {
    #[cfg(target_os = "linux")]
    {
        use rustix::io::Errno;
        let (mut start, mut offset, mut left) = (start, offset, length);
        while left > 0 {
            let piece = usize::try_from(left).unwrap_or(usize::MAX);
            match rustix::fs::copy_file_range(from, Some(&mut start), to, Some(&mut offset), piece)
            {
                Ok(0) => break,
                Ok(n) => left -= n as u64,
                Err(Errno::INTR) => {}
                Err(Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => {
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(length - left)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (from, start, to, offset, length);
        Ok(0)
    }
}

fn plain(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}

/// The folder that `path` is in; `.` for a bare name.
pub fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_abandoned_file_leaves_the_old_one_and_no_litter() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        write(&path, b"old").unwrap();
        let unfinished = AtomicFile::create(&path).unwrap();
        io::Write::write_all(&mut unfinished.file(), b"half").unwrap();
        drop(unfinished);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_written_through_and_streams_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let [file, link, circle, stream] =
            ["file", "link", "circle", "stream"].map(|name| dir.path().join(name));
        std::os::unix::fs::symlink("file", &link).unwrap();
        write(&link, b"text").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"text");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        std::os::unix::fs::symlink("circle", &circle).unwrap();
        assert!(write(&circle, b"text").is_err());
        std::os::unix::fs::symlink("/proc/self/fd/1", &stream).unwrap();
        assert!(write(&stream, b"text").is_err());
        assert!(fs::symlink_metadata(&stream).unwrap().is_symlink());
    }

    #[test]
    fn a_new_file_never_replaces_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        for (text, new) in [("one", true), ("two", false)] {
            let file = AtomicFile::create(&path).unwrap();
            io::Write::write_all(&mut file.file(), text.as_bytes()).unwrap();
            assert_eq!(file.commit_new().unwrap(), new);
        }
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn without_links_the_first_still_wins() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        for (text, new) in [("one", true), ("two", false)] {
            let mut file = NamedTempFile::new_in(dir.path()).unwrap();
            io::Write::write_all(&mut file, text.as_bytes()).unwrap();
            assert_eq!(claim(file, &path).unwrap(), new);
        }
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_replaces_the_old_one_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model");
        for text in ["one", "two"] {
            let folder = AtomicFolder::create(&path).unwrap();
            fs::write(folder.path().join(text), text).unwrap();
            folder.commit().unwrap();
        }
        let names: Vec<_> = fs::read_dir(&path).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["two"]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
