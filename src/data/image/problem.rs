use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::base::hint::first_few;

/// Something about one picture, caption or row that its maker should know.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file or folder in which it is.
    pub path: PathBuf,
    /// The line, from 1, where the file has lines.
    pub line: Option<usize>,
    /// Which kind of problem.
    pub kind: ProblemKind,
    /// The name of what it is about: a picture, a caption's file, a folder.
    pub item: String,
    /// What is wrong, one fragment that is safe to print.
    pub what: String,
}

/// Kinds of problems; those that end a training come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProblemKind {
    /// A list names a picture that is not there.
    MissingPicture,
    /// A list names a file outside the folder.
    Outside,
    /// A caption that is not UTF-8.
    Encoding,
    /// A caption's file that cannot be read.
    Unreadable,
    /// Quotes or columns of a CSV row that do not fit, so that text or rows would be lost.
    Quoting,
    /// A row that is no row: not JSON, no file name, another type.
    Row,
    /// A UTF-8 file that starts with a byte order mark, which is skipped.
    ByteOrderMark,
    /// A CSV without a header; each line is split at its first comma.
    Headerless,
    /// A CSV row whose caption has commas outside quotes; the row is split at its first comma.
    UnquotedComma,
    /// A picture of a folder without a caption of its own.
    NoCaption,
    /// A picture that the list does not name, which is not trained on.
    Unlisted,
    /// A row or a caption's file without text.
    EmptyCaption,
    /// A caption's file without a picture.
    NoPicture,
    /// A caption's file with an ending that the settings do not read.
    CaptionNotRead,
    /// A folder that is not read.
    IgnoredFolder,
    /// A picture that is not read: in the wrong place, or of another format.
    IgnoredPicture,
    /// A picture in several rows; one of the captions is drawn at each visit.
    Repeated,
    /// Captions with `[trigger]` where no trigger is set.
    NoTrigger,
}

impl ProblemKind {
    /// Whether a training would not do what its maker wants, so that it is refused.
    pub fn is_error(self) -> bool {
        self <= Self::Row
    }

    /// What to do about it.
    pub fn hint(self) -> &'static str {
        match self {
            Self::MissingPicture => {
                "names are relative to the folder of pictures; remove the row or add the picture"
            }
            Self::Outside => "copy the picture into the folder and name it relative to the folder",
            Self::Encoding => "save the caption as UTF-8",
            Self::Unreadable => "check the file; a caption is a short text",
            Self::Quoting => {
                "put captions with commas in quotes, and write a quote inside as two: `a.png,\"a \"\"red\"\" star, big\"`"
            }
            Self::Row => "a row is like {\"file_name\": \"a.png\", \"text\": \"a red star\"}",
            Self::ByteOrderMark => "it is skipped; save as UTF-8 without it",
            Self::Headerless => {
                "each line is split at its first comma; a header says it for sure: `file_name,text`"
            }
            Self::UnquotedComma => "the row is split at its first comma; quotes say it for sure",
            Self::NoCaption => "write a caption beside each picture: `a.txt` for `a.png`",
            Self::Unlisted => "they are not trained on; add a row for each, or remove them",
            Self::EmptyCaption => {
                "an empty caption trains what is made without a prompt; write one"
            }
            Self::NoPicture => "remove the caption, or name it as its picture",
            Self::CaptionNotRead => "set `data.image.caption_extension`, or rename the captions",
            Self::IgnoredFolder => "folders are read as `REPEATS_NAME`, such as `10_style`",
            Self::IgnoredPicture => {
                "move them where pictures are read; convert other formats to PNG"
            }
            Self::Repeated => {
                "one of the captions is drawn at each visit; keep one row if only one is right"
            }
            Self::NoTrigger => "set `data.image.trigger` to the word that is to call the adapter",
        }
    }

    /// Many of them, as a note says it.
    fn many(self) -> &'static str {
        match self {
            Self::MissingPicture => "missing pictures",
            Self::Outside => "files outside the folder",
            Self::Encoding => "captions that are not UTF-8",
            Self::Unreadable => "captions that cannot be read",
            Self::Quoting => "rows with wrong quotes",
            Self::Row => "rows that cannot be read",
            Self::ByteOrderMark => "files with a byte order mark",
            Self::Headerless => "lists without a header",
            Self::UnquotedComma => "rows with commas outside quotes",
            Self::NoCaption => "pictures without a caption of their own",
            Self::Unlisted => "pictures that the list does not name",
            Self::EmptyCaption => "empty captions",
            Self::NoPicture => "captions without a picture",
            Self::CaptionNotRead => "caption files that are not read",
            Self::IgnoredFolder => "folders that are not read",
            Self::IgnoredPicture => "pictures that are not read",
            Self::Repeated => "pictures in several rows",
            Self::NoTrigger => "captions with `[trigger]`, though no trigger is set",
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.path.display(), self.what),
            None => write!(f, "{}: {}", self.path.display(), self.what),
        }
    }
}

/// Problems as they are found.
#[derive(Debug, Default)]
pub(super) struct Problems(pub Vec<Problem>);

impl Problems {
    pub fn add(
        &mut self,
        kind: ProblemKind,
        path: &Path,
        line: Option<usize>,
        item: impl Into<String>,
        what: impl Into<String>,
    ) {
        let (item, what) = (item.into(), what.into());
        self.0.push(Problem { path: path.to_owned(), line, kind, item, what });
    }
}

/// The first problem that ends a training, and a count of the others of its kind.
pub(super) fn first_error(problems: &[Problem]) -> Option<(Problem, String)> {
    let first = problems.iter().find(|problem| problem.kind.is_error())?;
    let same = problems.iter().filter(|problem| problem.kind == first.kind).skip(1);
    let items: Vec<&str> = same.map(|problem| problem.item.as_str()).collect();
    let more = match items.len() {
        0 => String::new(),
        count => format!("\nfurther {}: {count} ({})", first.kind.many(), first_few(&items)),
    };
    Some((first.clone(), more))
}

/// A line for each kind of problem that does not end a training.
pub(super) fn notes(problems: &[Problem]) -> Vec<String> {
    let mut kinds: BTreeMap<ProblemKind, Vec<&str>> = BTreeMap::new();
    for problem in problems.iter().filter(|problem| !problem.kind.is_error()) {
        kinds.entry(problem.kind).or_default().push(&problem.item);
    }
    let note = |(kind, items): (ProblemKind, Vec<&str>)| {
        format!("{}: {} ({}); {}", kind.many(), items.len(), first_few(&items), kind.hint())
    };
    kinds.into_iter().map(note).collect()
}
