use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::LintError;
use super::repair::{self, Encoding};
use crate::base::atomic;
use crate::base::terminal::printable;

/// What would mend the data. Planning changes nothing; [`Fixes::apply`] does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fixes {
    /// The folders and files of the data. What is taken out of `NAME` goes to `NAME-removed`.
    roots: Vec<PathBuf>,
    edits: BTreeMap<PathBuf, Edit>,
    moves: BTreeSet<PathBuf>,
}

/// What is to happen to a file of text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Edit {
    encoded: bool,
    quoted: Option<Header>,
    /// Rows to leave out, by the line that they start at.
    dropped: BTreeSet<usize>,
}

/// Whether a CSV has a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Header {
    There,
    Missing,
}

impl Edit {
    /// The file as it should be; nothing where `bytes` is not what was checked.
    fn written(&self, path: &Path, bytes: &[u8]) -> Option<String> {
        let (text, encoding) = repair::decode(bytes).ok()?;
        if encoding != Encoding::Utf8 && !self.encoded {
            return None;
        }
        let is_csv = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("csv"));
        match self.quoted {
            Some(header) => repair::csv_quoted(&text, header == Header::There, &self.dropped),
            None if is_csv && !self.dropped.is_empty() => {
                Some(repair::csv_without(&text, &self.dropped))
            }
            None => Some(repair::without_lines(&text, &self.dropped)),
        }
    }

    fn says(&self) -> String {
        let rows = match self.dropped.len() {
            0 => None,
            1 => Some("1 row taken out".to_owned()),
            n => Some(format!("{n} rows taken out")),
        };
        let parts = [
            self.encoded.then(|| "saved as UTF-8 without byte order mark".to_owned()),
            self.quoted.map(|header| match header {
                Header::There => "commas put in quotes".to_owned(),
                Header::Missing => "a header and quotes written".to_owned(),
            }),
            rows,
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

impl Fixes {
    pub(super) fn new(roots: Vec<PathBuf>) -> Self {
        Self { roots, ..Self::default() }
    }

    /// Whether there is nothing to mend.
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty() && self.moves.is_empty()
    }

    pub(super) fn encode(&mut self, file: &Path) {
        self.edits.entry(file.to_owned()).or_default().encoded = true;
    }

    pub(super) fn quote(&mut self, file: &Path, header: Header) {
        self.edits.entry(file.to_owned()).or_default().quoted = Some(header);
    }

    pub(super) fn drop_row(&mut self, file: &Path, line: usize) {
        self.edits.entry(file.to_owned()).or_default().dropped.insert(line);
    }

    pub(super) fn remove(&mut self, file: &Path) {
        self.moves.insert(file.to_owned());
    }

    /// Mends the data, and says what was done, a line each.
    ///
    /// Nothing is deleted: of a file that is written again the original goes to the same place below
    /// `NAME-removed` beside the data's folder or file `NAME` (`NAME-removed-2`, … where that is
    /// taken), and so does what is taken out. Lists are written before pictures go, each file whole:
    /// wherever this stops, no list names a picture that is gone.
    pub fn apply(&self) -> Result<Vec<String>, LintError> {
        let mut removed = Removed { roots: &self.roots, folders: BTreeMap::new() };
        let mut done = Vec::new();
        for (path, edit) in &self.edits {
            let bytes = fs::read(path).map_err(LintError::io(path))?;
            let text = edit
                .written(path, &bytes)
                .ok_or_else(|| LintError::Changed { path: path.clone() })?;
            let kept = removed.place(path)?;
            atomic::write(&kept, &bytes).map_err(LintError::io(&kept))?;
            atomic::write(path, text.as_bytes()).map_err(LintError::io(path))?;
            done.push(format!("{}: {}, the original is {}", show(path), edit.says(), show(&kept)));
        }
        for path in &self.moves {
            let kept = removed.place(path)?;
            rename(path, &kept).map_err(LintError::io(path))?;
            done.push(format!("{}: moved to {}", show(path), show(&kept)));
        }
        Ok(done)
    }
}

fn show(path: &Path) -> String {
    printable(&path.to_string_lossy()).into_owned()
}

/// Folders for what is taken out, made when the first file goes there.
struct Removed<'a> {
    roots: &'a [PathBuf],
    folders: BTreeMap<&'a Path, PathBuf>,
}

impl Removed<'_> {
    /// Where `path` goes: below the outermost folder of the data that holds it.
    fn place(&mut self, path: &Path) -> Result<PathBuf, LintError> {
        let holds = |root: &&PathBuf| path.starts_with(root);
        let depth = |root: &&PathBuf| root.components().count();
        let Some(root) = self.roots.iter().filter(holds).min_by_key(depth) else {
            let source = io::Error::other("not part of the data");
            return Err(LintError::Io { path: path.to_owned(), source });
        };
        let folder = if let Some(folder) = self.folders.get(root.as_path()) {
            folder.clone()
        } else {
            let folder = make_beside(root).map_err(LintError::io(root))?;
            self.folders.entry(root).or_insert(folder).clone()
        };
        let inside = path.strip_prefix(root).ok().filter(|inside| inside.file_name().is_some());
        let name = inside.or_else(|| path.file_name().map(Path::new)).unwrap_or(path);
        let place = folder.join(name);
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent).map_err(LintError::io(parent))?;
        }
        Ok(place)
    }
}

/// A new folder beside `root`, of its name and `-removed`.
fn make_beside(root: &Path) -> io::Result<PathBuf> {
    const MOST: usize = 1000;
    let root = root.canonicalize()?;
    let (Some(parent), Some(name)) = (root.parent(), root.file_name()) else {
        return Err(io::Error::other("no place beside the root of a file system"));
    };
    for n in 1..=MOST {
        let mut name = name.to_owned();
        name.push(if n == 1 { "-removed".to_owned() } else { format!("-removed-{n}") });
        let folder = parent.join(name);
        match fs::create_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(()) => return Ok(folder),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Moves a file, to another file system too.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            atomic::write(to, &fs::read(from)?)?;
            fs::remove_file(from)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mended_is_kept_beside_the_folder() {
        let home = tempfile::tempdir().unwrap();
        let data = home.path().join("data");
        fs::create_dir_all(data.join("sub")).unwrap();
        let (list, picture) = (data.join("metadata.csv"), data.join("sub/b.png"));
        fs::write(&list, "\u{feff}a.png,one, two\nsub/b.png,three\n").unwrap();
        fs::write(&picture, "pixels").unwrap();
        let mut fixes = Fixes::new(vec![data.clone()]);
        fixes.encode(&list);
        fixes.quote(&list, Header::Missing);
        fixes.drop_row(&list, 2);
        fixes.remove(&picture);
        assert_eq!(fixes.apply().unwrap().len(), 2);
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        assert_eq!(read(&list), "file_name,text\na.png,\"one, two\"\n");
        let removed = home.path().join("data-removed");
        assert!(read(&removed.join("metadata.csv")).starts_with("\u{feff}a.png"));
        assert_eq!(read(&removed.join("sub/b.png")), "pixels");
        assert!(!picture.exists());
    }

    #[test]
    fn a_second_time_does_not_overwrite_the_first() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("train.jsonl");
        for n in 1..=2 {
            fs::write(&file, format!("one {n}\ntwo\n")).unwrap();
            let mut fixes = Fixes::new(vec![file.clone()]);
            fixes.drop_row(&file, 2);
            fixes.apply().unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), format!("one {n}\n"));
        }
        for (folder, n) in [("train.jsonl-removed", 1), ("train.jsonl-removed-2", 2)] {
            let kept = fs::read_to_string(home.path().join(folder).join("train.jsonl")).unwrap();
            assert_eq!(kept, format!("one {n}\ntwo\n"));
        }
    }

    #[test]
    fn a_file_that_became_something_else_stays() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("a.txt");
        fs::write(&file, b"caf\xe9").unwrap();
        let mut fixes = Fixes::new(vec![file.clone()]);
        fixes.encode(&file);
        assert!(matches!(fixes.apply(), Err(LintError::Changed { .. })));
        assert_eq!(fs::read(&file).unwrap(), b"caf\xe9");
    }
}
