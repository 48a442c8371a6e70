//! Pictures that a list names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use super::files::{self, name};
use super::problem::ProblemKind;
use super::rows::{Row, json, json_lines};
use super::scan::Scan;
use super::{Layout, csv};
use crate::base::terminal::printable;
use crate::data::DataError;

impl Scan<'_> {
    /// Pictures that a list names.
    pub(super) fn list(&mut self, path: &Path) -> Result<Layout, DataError> {
        let ending = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        if ending == "parquet" {
            return Err(DataError::Parquet { path: path.to_owned() });
        }
        let files::Text { text, had_mark } = files::read_list(path)?;
        if had_mark {
            let what = "a byte order mark in front of the text";
            self.problems.add(ProblemKind::ByteOrderMark, path, Some(1), name(path), what);
        }
        let (layout, rows) = match ending.as_str() {
            "jsonl" => (Layout::JsonLines, json_lines(path, &text, &mut self.problems)),
            "json" => (Layout::Json, json(path, &text, &mut self.problems)?),
            _ => (Layout::Csv, csv::read(path, &text, &mut self.problems)?),
        };
        self.rows(path, rows)?;
        Ok(layout)
    }

    fn rows(&mut self, list: &Path, rows: Vec<Row>) -> Result<(), DataError> {
        let pictures = Pictures::of(self.folder)?;
        let mut named: BTreeMap<PathBuf, usize> = BTreeMap::new();
        // captions of pictures with several rows
        let mut said: BTreeMap<PathBuf, BTreeSet<String>> = BTreeMap::new();
        for Row { line, name, captions } in rows {
            let line = (line > 0).then_some(line);
            let shown = printable(&name).into_owned();
            let mut problem = |kind, what: String| {
                self.problems.add(kind, list, line, shown.clone(), what);
            };
            let Some(relative) = inside(self.folder, &name) else {
                problem(ProblemKind::Outside, format!("`{shown}` lies outside the folder"));
                continue;
            };
            let Some(found) = pictures.find(&relative) else {
                problem(ProblemKind::MissingPicture, format!("picture `{shown}` is not there"));
                continue;
            };
            if captions.iter().all(String::is_empty) {
                problem(ProblemKind::EmptyCaption, format!("`{shown}` has an empty caption"));
            }
            if let Some(example) = named.get(&found).and_then(|at| self.examples.get_mut(*at)) {
                let first = example.source.as_ref().map_or(0, |(_, line)| *line);
                problem(ProblemKind::Repeated, format!("`{shown}` has a row in line {first} too"));
                let known = said.entry(found).or_insert_with(|| {
                    example.captions.iter().cloned().collect::<BTreeSet<String>>()
                });
                let new = captions.into_iter().filter(|new| known.insert(new.clone()));
                example.captions.extend(new);
                continue;
            }
            named.insert(found.clone(), self.examples.len());
            let source = line.map(|line| (list.to_owned(), line));
            self.add(self.folder.join(found), captions, source);
        }
        for picture in pictures.below.iter().filter(|path| !named.contains_key(*path)) {
            let shown = printable(&picture.to_string_lossy()).into_owned();
            let what = format!("no row names picture `{shown}`");
            self.problems.add(ProblemKind::Unlisted, list, None, shown, what);
        }
        Ok(())
    }
}

/// The path, relative to the folder, that a list's name leads to; `None` if it leads outside. Links
/// are taken as they are.
fn inside(folder: &Path, name: &str) -> Option<PathBuf> {
    let name = name.replace('\\', "/");
    let path = Path::new(&name);
    let relative = if path.is_absolute() {
        let bases = [std::path::absolute(folder).ok(), folder.canonicalize().ok()];
        bases.into_iter().flatten().find_map(|base| path.strip_prefix(base).ok())?
    } else {
        // sd-scripts writes paths from the current folder on
        path.strip_prefix(folder).unwrap_or(path)
    };
    let mut parts = PathBuf::new();
    for part in relative.components() {
        match part {
            Component::Normal(part) => parts.push(part),
            Component::CurDir => {}
            _ => return None,
        }
    }
    (!parts.as_os_str().is_empty()).then_some(parts)
}

/// The pictures of a folder by their relative paths, with and without ending.
struct Pictures<'a> {
    folder: &'a Path,
    below: BTreeSet<PathBuf>,
    stems: BTreeMap<PathBuf, PathBuf>,
}

impl<'a> Pictures<'a> {
    fn of(folder: &'a Path) -> Result<Self, DataError> {
        let all = files::pictures_below(folder)?;
        let relative = |path: PathBuf| Some(path.strip_prefix(folder).ok()?.to_owned());
        let below: BTreeSet<PathBuf> = all.into_iter().filter_map(relative).collect();
        let stems = below.iter().map(|path| (path.with_extension(""), path.clone())).collect();
        Ok(Self { folder, below, stems })
    }

    /// A picture by its name; sd-scripts leaves endings out.
    fn find(&self, relative: &Path) -> Option<PathBuf> {
        if self.below.contains(relative) || self.folder.join(relative).is_file() {
            return Some(relative.to_owned());
        }
        self.stems.get(relative).cloned()
    }
}
