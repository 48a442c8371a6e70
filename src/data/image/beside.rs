//! Pictures of folders with captions beside them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf, is_separator};

use super::Layout;
use super::files::{self, Listing, TextProblem, name};
use super::problem::ProblemKind;
use super::scan::Scan;
use crate::base::terminal::{bytes, printable};
use crate::data::DataError;

/// The most repeats that a folder's name may ask for.
const MOST_REPEATS: usize = 1_000_000;

impl Scan<'_> {
    /// Folders `REPEATS_NAME` of pictures.
    pub(super) fn numbered_folders(&mut self, listing: &Listing) -> Result<Layout, DataError> {
        let own = self.repeats;
        for folder in &listing.folders {
            let Some((repeats, class)) = repeats_and_class(folder) else {
                let what = "no number of repeats in front of its name, so it is not read";
                self.problems.add(ProblemKind::IgnoredFolder, folder, None, name(folder), what);
                continue;
            };
            let inside = files::list(folder)?;
            self.repeats = own.saturating_mul(repeats);
            self.caption_files(&inside, Some(&class));
            self.ignore_folders(&inside);
        }
        self.repeats = own;
        for picture in &listing.pictures {
            let what = "lies beside the numbered folders, so it is not read";
            self.problems.add(ProblemKind::IgnoredPicture, picture, None, name(picture), what);
        }
        Ok(Layout::NumberedFolders)
    }

    /// Pictures of one folder, captions beside them; `class` stands in for a missing caption.
    pub(super) fn caption_files(&mut self, listing: &Listing, class: Option<&str>) {
        for picture in &listing.pictures {
            let (caption, source) = match self.caption_beside(picture) {
                Some((caption, path)) => (caption, Some((path, 1))),
                None => (class.unwrap_or_default().to_owned(), None),
            };
            if source.is_none() {
                self.no_caption(picture, &caption);
            }
            self.add(picture.clone(), vec![caption], source);
        }
        for picture in &listing.other_pictures {
            let what = "not PNG, JPEG or WebP, so it is not read";
            self.problems.add(ProblemKind::IgnoredPicture, picture, None, name(picture), what);
        }
        let pictures: BTreeSet<PathBuf> = listing
            .pictures
            .iter()
            .chain(&listing.other_pictures)
            .flat_map(|path| [path.with_extension(""), path.clone()])
            .collect();
        for path in &listing.captions {
            if !pictures.contains(&path.with_extension("")) {
                let what = "a caption without a picture";
                self.problems.add(ProblemKind::NoPicture, path, None, name(path), what);
            }
        }
    }

    /// The first line of the caption's file beside a picture, and that file.
    fn caption_beside(&mut self, picture: &Path) -> Option<(String, PathBuf)> {
        let endings = match &self.settings.image.caption_extension {
            Some(ending) => vec![ending.trim_start_matches('.')],
            None => vec!["txt", "caption"],
        };
        let path = endings
            .into_iter()
            .filter(|ending| !ending.contains(is_separator))
            .map(|ending| picture.with_extension(ending))
            .find(|path| path != picture && path.is_file())?;
        let mut problem =
            |kind, what: String| self.problems.add(kind, &path, Some(1), name(&path), what);
        let text = match files::read_caption(&path) {
            Ok(files::Text { text, had_mark }) => {
                if had_mark {
                    problem(ProblemKind::ByteOrderMark, "a byte order mark".to_owned());
                }
                text
            }
            Err(TextProblem::NotUtf8(found)) => {
                problem(ProblemKind::Encoding, format!("{found}, expected UTF-8 text"));
                return Some((String::new(), path));
            }
            Err(TextProblem::Io(error)) => {
                problem(ProblemKind::Unreadable, error.to_string());
                return Some((String::new(), path));
            }
            Err(TextProblem::TooLarge(limit)) => {
                let what = format!("larger than {}", bytes(limit));
                problem(ProblemKind::Unreadable, what);
                return Some((String::new(), path));
            }
        };
        let caption = text.lines().next().unwrap_or_default().trim().to_owned();
        if caption.is_empty() {
            problem(ProblemKind::EmptyCaption, "an empty caption".to_owned());
        }
        Some((caption, path))
    }

    fn no_caption(&mut self, picture: &Path, instead: &str) {
        if let Some(path) = files::captions_beside(picture).first() {
            let what = "its ending is none that captions are read from";
            self.problems.add(ProblemKind::CaptionNotRead, path, None, name(path), what);
            return;
        }
        let what = match instead {
            "" => "no caption".to_owned(),
            class => format!("no caption; the folder's `{}` is taken", printable(class)),
        };
        self.problems.add(ProblemKind::NoCaption, picture, None, name(picture), what);
    }

    pub(super) fn ignore_folders(&mut self, listing: &Listing) {
        for folder in listing.folders.iter().filter(|folder| files::holds_pictures(folder)) {
            let what = "a folder inside, which is not read";
            self.problems.add(ProblemKind::IgnoredFolder, folder, None, name(folder), what);
        }
    }
}

/// Whether a folder is sd-scripts' parent of numbered folders. Bare numbers count only where no
/// picture lies beside them: `512` may be a folder of small copies.
pub(super) fn is_numbered(listing: &Listing) -> bool {
    let mut numbered = listing.folders.iter().filter(|folder| repeats_and_class(folder).is_some());
    numbered.any(|folder| listing.pictures.is_empty() || name(folder).contains('_'))
}

/// `10_style` is ten repeats of `style`.
fn repeats_and_class(folder: &Path) -> Option<(usize, String)> {
    let name = name(folder);
    let (number, class) = name.split_once('_').unwrap_or((&name, ""));
    let repeats = number.parse().ok().filter(|repeats| (1..=MOST_REPEATS).contains(repeats))?;
    Some((repeats, class.to_owned()))
}
