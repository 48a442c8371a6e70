//! What the reader of pictures says, as findings.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::base::terminal::printable;
use crate::data::DataError;
use crate::data::image::{Problem, ProblemKind};
use crate::lint::fix::Header;
use crate::lint::repair::{Encoding, decode};
use crate::lint::rules::{self, Rule};
use crate::lint::{Finding, Fixes, LintError, Place};

/// What is known of lists, which decides whether they can be written again.
#[derive(Debug, Default)]
pub struct Lists {
    /// With rows that were not understood: no row is sure to begin where it seems to.
    doubtful: BTreeSet<PathBuf>,
    /// With several rows of one picture, of which one cannot go alone.
    repeating: BTreeSet<PathBuf>,
}

impl Lists {
    /// Takes note of a folder's problems.
    pub fn note(&mut self, problems: &[Problem]) {
        for Problem { path, kind, .. } in problems {
            let lists = match kind {
                ProblemKind::Quoting | ProblemKind::Row => &mut self.doubtful,
                ProblemKind::Repeated => &mut self.repeating,
                _ => continue,
            };
            lists.insert(path.clone());
        }
    }

    /// Whether a row of this list can be taken out without touching another.
    pub fn may_lose_rows(&self, list: &Path) -> bool {
        let ending = list.extension().and_then(OsStr::to_str).unwrap_or_default();
        ["csv", "jsonl"].iter().any(|known| ending.eq_ignore_ascii_case(known))
            && !self.doubtful.contains(list)
            && !self.repeating.contains(list)
    }

    /// The finding that a problem is, and the plan to mend it.
    pub fn finding(&self, problem: &Problem, fixes: &mut Fixes) -> Finding {
        let Problem { path, line, kind, .. } = problem;
        let place = Place { file: path.clone(), line: *line };
        let finding = if kind.is_error() { Finding::error } else { Finding::warning };
        let mut finding = finding(rule(*kind), place, &problem.what).advice(kind.hint());
        let sure = !self.doubtful.contains(path);
        finding.fixable = match kind {
            ProblemKind::ByteOrderMark => {
                fixes.encode(path);
                true
            }
            ProblemKind::Encoding => is_utf16(path, fixes),
            ProblemKind::Headerless if sure => {
                fixes.quote(path, Header::Missing);
                true
            }
            ProblemKind::UnquotedComma if sure => {
                fixes.quote(path, Header::There);
                true
            }
            _ => false,
        };
        finding
    }
}

fn rule(kind: ProblemKind) -> &'static Rule {
    match kind {
        ProblemKind::MissingPicture | ProblemKind::NoPicture => &rules::MISSING_PICTURE,
        ProblemKind::Encoding | ProblemKind::ByteOrderMark => &rules::ENCODING,
        ProblemKind::Unreadable => &rules::UNREADABLE_CAPTION,
        ProblemKind::Quoting | ProblemKind::Headerless | ProblemKind::UnquotedComma => {
            &rules::CSV_QUOTING
        }
        ProblemKind::Outside | ProblemKind::Row => &rules::BAD_ROW,
        ProblemKind::NoCaption | ProblemKind::EmptyCaption => &rules::EMPTY_CAPTION,
        ProblemKind::Unlisted | ProblemKind::IgnoredPicture => &rules::IGNORED_PICTURE,
        ProblemKind::CaptionNotRead => &rules::CAPTION_NOT_READ,
        ProblemKind::IgnoredFolder => &rules::IGNORED_FOLDER,
        ProblemKind::Repeated => &rules::DUPLICATE,
        ProblemKind::NoTrigger => &rules::TRIGGER_COVERAGE,
    }
}

/// Whether a problem is of no matter where captions are not the point.
pub fn is_about_caption(problem: &Problem) -> bool {
    matches!(problem.kind, ProblemKind::NoCaption | ProblemKind::EmptyCaption)
}

/// The finding that a list is which cannot be read at all; other errors stay what they are.
pub fn of_list(error: DataError, fixes: &mut Fixes) -> Result<Finding, LintError> {
    let all = error.to_string();
    let (finding, path) = match &error {
        DataError::NotUtf8 { path, found } => {
            let message = format!("{}, expected UTF-8 text", printable(found));
            (Finding::error(&rules::ENCODING, Place::file(path), message), path)
        }
        DataError::Columns { path, line, found, expected, .. } => {
            let message = format!("found `{}`, expected {expected}", printable(found));
            (Finding::error(&rules::BAD_ROW, Place::line(path, *line), message), path)
        }
        DataError::Json { path, problem } => {
            let message = printable(problem).into_owned();
            (Finding::error(&rules::BAD_JSON, Place::file(path), message), path)
        }
        _ => return Err(error.into()),
    };
    let advice = all.split_once("\nhint: ").map_or("save the list again", |(_, hint)| hint);
    let fixable = finding.rule == rules::ENCODING.name && is_utf16(path, fixes);
    Ok(Finding { fixable, ..finding.advice(advice) })
}

/// Plans to save a file as UTF-8 if that loses nothing.
fn is_utf16(path: &Path, fixes: &mut Fixes) -> bool {
    let is = fs::read(path).is_ok_and(|bytes| matches!(decode(&bytes), Ok((_, Encoding::Utf16))));
    if is {
        fixes.encode(path);
    }
    is
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::item::tests::data;
    use super::*;
    use crate::data::image::scan;

    type Captions = BTreeMap<PathBuf, Vec<String>>;

    /// What a folder says, and whether some of it can be mended.
    fn read(folder: &Path, fixes: &mut Fixes) -> (Captions, bool) {
        let (set, problems) = scan(folder, &data(folder)).unwrap();
        let examples = set.examples.into_iter();
        let captions = examples.map(|example| (example.picture, example.captions)).collect();
        let mut lists = Lists::default();
        lists.note(&problems);
        let fixable = problems.iter().filter(|problem| lists.finding(problem, fixes).fixable);
        (captions, fixable.count() > 0)
    }

    proptest! {
        #[test]
        fn a_list_says_the_same_once_it_is_mended(
            start in prop::sample::select(vec!["", "\u{feff}", "image,caption\n", "text,path,x\n"]),
            rows in prop::collection::vec("[abc]\\.png,[xy ,\"]{0,6}\r?\n{1,2}", 1..5),
        ) {
            let home = tempfile::tempdir().unwrap();
            let folder = home.path().join("data");
            fs::create_dir(&folder).unwrap();
            for name in ["a.png", "b.png", "c.png"] {
                fs::write(folder.join(name), "").unwrap();
            }
            fs::write(folder.join("metadata.csv"), start.to_owned() + &rows.concat()).unwrap();
            let mut fixes = Fixes::new(vec![folder.clone()]);
            let (before, fixable) = read(&folder, &mut fixes);
            prop_assert_eq!(fixable, !fixes.is_empty());
            fixes.apply().unwrap();
            let (after, fixable) = read(&folder, &mut fixes);
            prop_assert_eq!(before, after);
            prop_assert!(!fixable);
        }
    }
}
