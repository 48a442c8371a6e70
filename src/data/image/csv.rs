//! Captions in CSV.

use std::path::Path;

use ::csv::{ReaderBuilder, StringRecord};

use super::files::is_picture;
use super::problem::{ProblemKind, Problems};
use super::rows::{CAPTIONS, FILES, Row};
use crate::base::terminal::printable;
use crate::data::DataError;

/// The rows of a CSV with a header that names its columns, or of one without: lines of a picture's
/// name, a comma and a caption, in which commas need no quotes.
pub(super) fn read(
    path: &Path,
    text: &str,
    problems: &mut Problems,
) -> Result<Vec<Row>, DataError> {
    let mut records = records(text);
    let Some(first) = records.next() else { return Ok(Vec::new()) };
    let header: Vec<String> =
        first.fields.iter().map(|field| field.trim().to_lowercase()).collect();
    let column = |names: &[&str]| names.iter().find_map(|n| header.iter().position(|h| h == n));
    if let Some(file) = column(&FILES) {
        let caption = column(&CAPTIONS)
            .or_else(|| (header.len() == 2).then_some(1 - file.min(1)))
            .ok_or_else(|| columns(path, &first, "a column `text`, `caption` or `prompt`"))?;
        let columns = Columns { file, caption, count: header.len() };
        return Ok(records.filter_map(|record| columns.row(path, &record, problems)).collect());
    }
    let is_row = |line: &str| line.split_once(',').is_some_and(|(name, _)| names_picture(name));
    if !first.raw.lines().any(is_row) {
        return Err(columns(path, &first, "a column `file_name`"));
    }
    let what = "no header, such as `file_name,text`";
    problems.add(ProblemKind::Headerless, path, Some(first.line), super::files::name(path), what);
    Ok(headerless(path, text, problems))
}

fn columns(path: &Path, header: &Record, expected: &'static str) -> DataError {
    let hint = if header.raw.contains([';', '\t']) && !header.raw.contains(',') {
        "separate columns by commas"
    } else {
        "write `file_name,text` in the first line"
    };
    let found = header.raw.trim().to_owned();
    DataError::Columns { path: path.to_owned(), line: header.line, found, expected, hint }
}

/// A record and where it is.
struct Record<'a> {
    line: usize,
    raw: &'a str,
    fields: StringRecord,
}

/// The records of a text. The parser takes whatever quotes there are; [`Columns::row`] looks at `raw`.
fn records(text: &str) -> impl Iterator<Item = Record<'_>> {
    let mut reader =
        ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_bytes());
    let offset =
        |position: &::csv::Position| usize::try_from(position.byte()).unwrap_or(usize::MAX);
    let mut line = 1;
    std::iter::from_fn(move || {
        let mut fields = StringRecord::new();
        let start = offset(reader.position());
        // text in memory that is UTF-8 cannot fail to be read
        if !reader.read_record(&mut fields).unwrap_or(false) {
            return None;
        }
        let all = text.get(start..offset(reader.position())).unwrap_or_default();
        let raw = all.trim_start_matches(['\r', '\n']);
        let blank = all.get(..all.len() - raw.len()).unwrap_or_default();
        let first = line + blank.matches('\n').count();
        line = first + raw.matches('\n').count();
        Some(Record { line: first, raw: raw.trim_end_matches(['\r', '\n']), fields })
    })
}

/// Which columns count, of how many.
struct Columns {
    file: usize,
    caption: usize,
    count: usize,
}

impl Columns {
    fn row(&self, path: &Path, record: &Record, problems: &mut Problems) -> Option<Row> {
        let Record { line, raw, fields } = record;
        let item = fields.get(self.file).unwrap_or_default().trim().to_owned();
        let shown = printable(raw.lines().next().unwrap_or_default()).into_owned();
        let mut quoting = |what: String| {
            problems.add(ProblemKind::Quoting, path, Some(*line), shown.clone(), what);
        };
        if is_unbalanced(raw) {
            quoting(format!("`{shown}` opens a quote that is not closed"));
            return None;
        }
        if fields.len() > self.count {
            if (self.file, self.caption, self.count) != (0, 1, 2) {
                let found = fields.len();
                quoting(format!("`{shown}` has {found} columns, expected {}", self.count));
                return None;
            }
            let what = format!("`{shown}` has commas outside quotes");
            problems.add(ProblemKind::UnquotedComma, path, Some(*line), item.clone(), what);
            let end = if raw.starts_with('"') { "\"," } else { "," };
            let caption = raw.split_once(end).map(|(_, rest)| unquoted(rest)).unwrap_or_default();
            return Some(Row { line: *line, name: item, captions: vec![caption] });
        }
        if item.is_empty() {
            let what = format!("`{shown}` names no file");
            problems.add(ProblemKind::Row, path, Some(*line), shown, what);
            return None;
        }
        let caption = fields.get(self.caption).unwrap_or_default().trim().to_owned();
        Some(Row { line: *line, name: item, captions: vec![caption] })
    }
}

/// Whether a quote stays open: to the end of the file, or over rows of other pictures.
fn is_unbalanced(raw: &str) -> bool {
    let opens = raw.starts_with('"') || raw.contains(",\"");
    let swallows = |line: &str| line.split_once(',').is_some_and(|(name, _)| names_picture(name));
    opens && (raw.matches('"').count() % 2 == 1 || raw.lines().skip(1).any(swallows))
}

fn names_picture(name: &str) -> bool {
    is_picture(Path::new(name.trim().trim_matches('"')))
}

fn headerless(path: &Path, text: &str, problems: &mut Problems) -> Vec<Row> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let row = |(at, line): (usize, &str)| {
        let shown = printable(line).into_owned();
        let mut problem = |kind, what: String| {
            problems.add(kind, path, Some(at + 1), shown.clone(), what);
            None
        };
        let (name, caption) = line.split_once(',').unwrap_or((line, ""));
        if !names_picture(name) {
            return problem(ProblemKind::Row, format!("`{shown}` does not begin with a picture"));
        }
        let caption = caption.trim();
        if caption.starts_with('"') && caption.matches('"').count() % 2 == 1 {
            let what = format!("`{shown}` opens a quote that is not closed in its line");
            return problem(ProblemKind::Quoting, what);
        }
        let name = unquoted(name);
        Some(Row { line: at + 1, name, captions: vec![unquoted(caption)] })
    };
    lines.filter_map(row).collect()
}

/// A field without the quotes around it.
fn unquoted(field: &str) -> String {
    let field = field.trim();
    match field.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inside) => inside.replace("\"\"", "\"").trim().to_owned(),
        None => field.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Line, name and captions.
    type Found = (usize, String, String);

    fn rows(text: &str) -> (Vec<Found>, Vec<(ProblemKind, Option<usize>)>) {
        let mut problems = Problems::default();
        let rows = read(Path::new("metadata.csv"), text, &mut problems).unwrap();
        let rows = rows.into_iter().map(|row| (row.line, row.name, row.captions.join("|")));
        (rows.collect(), problems.0.iter().map(|problem| (problem.kind, problem.line)).collect())
    }

    fn row(line: usize, name: &str, caption: &str) -> Found {
        (line, name.to_owned(), caption.to_owned())
    }

    #[test]
    fn columns_go_by_their_names() {
        for header in ["filename,prompt", "File_Name, text", "path,caption", "image,description"] {
            let (rows, problems) = rows(&format!("{header}\na.png,one\n"));
            assert_eq!(rows, [row(2, "a.png", "one")], "{header}");
            assert_eq!(problems, []);
        }
        let (swapped, _) = rows("id,text,artist,file_name\r\n7,one,me,a.png\r\n");
        assert_eq!(swapped, [row(2, "a.png", "one")]);
        let (two, _) = rows("description,file_name\none,a.png");
        assert_eq!(two, [row(2, "a.png", "one")]);
    }

    #[test]
    fn quotes_keep_commas_lines_and_quotes() {
        let (rows, problems) = rows(
            "file_name,text\n\n\"a.png\",\"one, \"\"two\"\"\nthree\"\n\nb.png,5\" tall\nc.png,last",
        );
        let a = row(3, "a.png", "one, \"two\"\nthree");
        assert_eq!(rows, [a, row(6, "b.png", "5\" tall"), row(7, "c.png", "last")]);
        assert_eq!(problems, []);
    }

    #[test]
    fn without_a_header_lines_are_split_at_the_first_comma() {
        let (rows, problems) =
            rows("img01.jpg,a star, red\n\nimg02.png, \"quoted, \"\"so\"\"\"\nnothing\n");
        let second = row(3, "img02.png", "quoted, \"so\"");
        assert_eq!(rows, [row(1, "img01.jpg", "a star, red"), second]);
        assert_eq!(problems, [(ProblemKind::Headerless, Some(1)), (ProblemKind::Row, Some(4))]);
    }

    #[test]
    fn commas_outside_quotes_are_kept_and_said() {
        let (found, problems) = rows("file_name,text\na.png,a star, red\nb.png,one\n");
        assert_eq!(found, [row(2, "a.png", "a star, red"), row(3, "b.png", "one")]);
        assert_eq!(problems, [(ProblemKind::UnquotedComma, Some(2))]);
        let (found, _) = rows("file_name,text\n\"a,b.png\",a star, red\n");
        assert_eq!(found, [row(2, "a,b.png", "a star, red")]);
        let (found, problems) = rows("file_name,text,x\na.png,a star, red,1\n");
        assert_eq!(found, []);
        assert_eq!(problems, [(ProblemKind::Quoting, Some(2))]);
    }

    #[test]
    fn a_quote_left_open_is_found_wherever_it_ends() {
        let open = "file_name,text\na.png,one\nb.png,\"a star\nc.png,three\n";
        let (found, problems) = rows(open);
        assert_eq!(found, [row(2, "a.png", "one")]);
        assert_eq!(problems, [(ProblemKind::Quoting, Some(3))]);
        let (found, problems) = rows("file_name,text\nb.png,\"a star\nc.png,\"three\"\n");
        assert_eq!(found, []);
        assert_eq!(problems, [(ProblemKind::Quoting, Some(2))]);
    }

    #[test]
    fn columns_without_names_that_are_known_are_an_error() {
        let error = |text| read(Path::new("m.csv"), text, &mut Problems::default()).unwrap_err();
        assert_eq!(
            error("a,b\nc,d").to_string(),
            "m.csv:1: found `a,b`, expected a column `file_name`\n\
             hint: write `file_name,text` in the first line"
        );
        assert!(error("file_name;text\na.png;x").to_string().ends_with("by commas"));
        assert!(error("file_name,a,b\na.png,x,y").to_string().contains("a column `text`"));
    }

    #[test]
    fn an_empty_list_has_no_rows() {
        assert_eq!(rows("").0, []);
        assert_eq!(rows("\n\n").0, []);
        assert_eq!(rows("file_name,text\n").0, []);
    }
}
