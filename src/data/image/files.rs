//! What lies in a folder of pictures, and text files read without trust.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::data::DataError;

/// Endings of pictures that are read.
const PICTURES: [&str; 4] = ["png", "jpg", "jpeg", "webp"];

/// Endings of pictures that are not.
const OTHER_PICTURES: [&str; 9] =
    ["avif", "bmp", "gif", "heic", "heif", "jxl", "tif", "tiff", "tga"];

/// Endings of captions, in whatever tool's manner.
const CAPTIONS: [&str; 4] = ["txt", "caption", "captions", "tags"];

/// Folders inside folders that are looked at.
const DEEPEST: usize = 16;

/// Most bytes of a list.
const MAX_LIST: u64 = 64 << 20;

/// Most bytes of a caption's file.
const MAX_CAPTION: u64 = 1 << 20;

/// What a folder holds, each in the order of the names' bytes; hidden files are left out.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub pictures: Vec<PathBuf>,
    pub other_pictures: Vec<PathBuf>,
    pub captions: Vec<PathBuf>,
    pub folders: Vec<PathBuf>,
}

/// The files and folders right inside a folder.
pub(super) fn list(folder: &Path) -> Result<Listing, DataError> {
    let failed = |source| DataError::io(folder, source);
    let entries = fs::read_dir(folder).map_err(failed)?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>();
    if let Ok(paths) = &mut paths {
        paths.sort_by(|a, b| by_bytes(a, b));
    }
    let mut listing = Listing::default();
    for path in paths.map_err(failed)? {
        if name(&path).starts_with('.') {
            continue;
        }
        if path.is_dir() {
            listing.folders.push(path);
        } else if is_picture(&path) {
            listing.pictures.push(path);
        } else if has_ending(&path, &OTHER_PICTURES) {
            listing.other_pictures.push(path);
        } else if has_ending(&path, &CAPTIONS) {
            listing.captions.push(path);
        }
    }
    Ok(listing)
}

/// All pictures in a folder and in those inside it, in order.
pub(super) fn pictures_below(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut found = Vec::new();
    // links can lead back to the folder they are in
    let mut seen = BTreeSet::new();
    let mut open = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = open.pop() {
        let real = folder.canonicalize().map_err(|source| DataError::io(&folder, source))?;
        if !seen.insert(real) {
            continue;
        }
        let listing = list(&folder)?;
        found.extend(listing.pictures);
        if depth < DEEPEST {
            open.extend(listing.folders.into_iter().map(|folder| (folder, depth + 1)));
        }
    }
    found.sort_by(|a, b| by_bytes(a, b));
    Ok(found)
}

/// Whether a folder or one inside it holds a picture; one that cannot be read holds none.
pub(super) fn holds_pictures(folder: &Path) -> bool {
    pictures_below(folder).is_ok_and(|pictures| !pictures.is_empty())
}

/// Order by the bytes of names, which no locale changes.
pub(super) fn by_bytes(a: &Path, b: &Path) -> std::cmp::Ordering {
    a.as_os_str().as_encoded_bytes().cmp(b.as_os_str().as_encoded_bytes())
}

/// Whether a name ends as pictures that are read do.
pub(super) fn is_picture(path: &Path) -> bool {
    has_ending(path, &PICTURES)
}

fn has_ending(path: &Path, endings: &[&str]) -> bool {
    let ending = path.extension().and_then(OsStr::to_str).map(str::to_ascii_lowercase);
    ending.is_some_and(|ending| endings.contains(&ending.as_str()))
}

/// The last part of a path, for people.
pub(super) fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Files that are captions of a picture by their names, whether they are read or not: `a.txt`,
/// `a.tags`, `a.png.txt` of `a.png`.
pub(super) fn captions_beside(picture: &Path) -> Vec<PathBuf> {
    let beside = |ending: &&str| {
        let mut long = picture.as_os_str().to_owned();
        long.push(format!(".{ending}"));
        [picture.with_extension(ending), long.into()]
    };
    CAPTIONS.iter().flat_map(beside).filter(|path| path.is_file()).collect()
}

/// UTF-8 text, and whether a byte order mark was in front of it.
#[derive(Debug)]
pub(super) struct Text {
    pub text: String,
    pub had_mark: bool,
}

/// Why a text file is not one.
#[derive(Debug)]
pub(super) enum TextProblem {
    Io(io::Error),
    TooLarge(u64),
    NotUtf8(String),
}

/// A list of examples.
pub(super) fn read_list(path: &Path) -> Result<Text, DataError> {
    let path_of = || path.to_owned();
    read_text(path, MAX_LIST).map_err(|problem| match problem {
        TextProblem::Io(source) => DataError::io(path, source),
        TextProblem::TooLarge(limit) => DataError::TooLarge { path: path_of(), limit },
        TextProblem::NotUtf8(found) => DataError::NotUtf8 { path: path_of(), found },
    })
}

/// A caption's file.
pub(super) fn read_caption(path: &Path) -> Result<Text, TextProblem> {
    read_text(path, MAX_CAPTION)
}

fn read_text(path: &Path, limit: u64) -> Result<Text, TextProblem> {
    // to open a pipe would wait for its other end
    let about = fs::metadata(path).map_err(TextProblem::Io)?;
    if about.is_dir() {
        return Err(TextProblem::Io(io::ErrorKind::IsADirectory.into()));
    }
    if !about.is_file() {
        return Err(TextProblem::Io(io::Error::other("not a file")));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(TextProblem::Io)?;
    file.take(limit + 1).read_to_end(&mut bytes).map_err(TextProblem::Io)?;
    if bytes.len() as u64 > limit {
        return Err(TextProblem::TooLarge(limit));
    }
    decode(bytes).map_err(TextProblem::NotUtf8)
}

fn decode(bytes: Vec<u8>) -> Result<Text, String> {
    if matches!(bytes.as_slice(), [0xff, 0xfe, ..] | [0xfe, 0xff, ..]) {
        return Err("UTF-16 text".to_owned());
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let byte = error.as_bytes().get(at).copied().unwrap_or_default();
        format!("byte {} is 0x{byte:02X}", at + 1)
    })?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => Text { text: rest.to_owned(), had_mark: true },
        None => Text { text, had_mark: false },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_utf8_with_or_without_a_mark() {
        let plain = decode(b"caf\xc3\xa9".to_vec()).unwrap();
        assert_eq!((plain.text.as_str(), plain.had_mark), ("café", false));
        let marked = decode(b"\xef\xbb\xbfa".to_vec()).unwrap();
        assert_eq!((marked.text.as_str(), marked.had_mark), ("a", true));
        assert_eq!(decode(b"caf\xe9".to_vec()).unwrap_err(), "byte 4 is 0xE9");
        assert_eq!(decode(b"\xff\xfea\0".to_vec()).unwrap_err(), "UTF-16 text");
    }

    #[test]
    fn names_are_in_the_order_of_bytes_and_hidden_ones_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.png", "B.PNG", "a10.jpeg", "a9.webp", ".c.png", "d.bmp", "a9.txt", "e.md"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let listing = list(folder.path()).unwrap();
        let names = |paths: &[PathBuf]| paths.iter().map(|path| name(path)).collect::<Vec<_>>();
        assert_eq!(names(&listing.pictures), ["B.PNG", "a10.jpeg", "a9.webp", "b.png"]);
        assert_eq!(names(&listing.other_pictures), ["d.bmp"]);
        assert_eq!(names(&listing.captions), ["a9.txt"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_to_its_own_folder_ends() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.png"), "").unwrap();
        std::os::unix::fs::symlink(folder.path(), folder.path().join("again")).unwrap();
        assert_eq!(pictures_below(folder.path()).unwrap(), [folder.path().join("a.png")]);
    }
}
