//! A row of a list, and lists in JSON.

use std::path::Path;

use serde_json::{Map, Value};

use super::problem::{ProblemKind, Problems};
use crate::base::terminal::printable;
use crate::data::DataError;

/// Columns that name a picture.
pub(super) const FILES: [&str; 5] = ["file_name", "filename", "image", "path", "image_path"];

/// Columns of captions.
pub(super) const CAPTIONS: [&str; 3] = ["text", "caption", "prompt"];

/// A picture's name and its captions.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// The line it begins in, from 1.
    pub line: usize,
    pub name: String,
    pub captions: Vec<String>,
}

/// The rows of JSON Lines: an object a line, as Hugging Face's `imagefolder` has them.
pub(super) fn json_lines(path: &Path, text: &str, problems: &mut Problems) -> Vec<Row> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let row = |(at, line): (usize, &str)| {
        let found = serde_json::from_str(line)
            .map_err(|error| {
                // the error ends with ` at line 1 column 5`; the line is known better here
                let text = error.to_string();
                let end = text.rfind(" at line ").unwrap_or(text.len());
                format!("not JSON: {} at column {}", &text[..end], error.column())
            })
            .and_then(|value| row(&value, at + 1));
        found.map_err(|what| bad(path, at + 1, line, &what, problems)).ok()
    };
    lines.filter_map(row).collect()
}

/// The rows of a JSON file: an object of pictures as sd-scripts writes it, or a list of objects.
pub(super) fn json(
    path: &Path,
    text: &str,
    problems: &mut Problems,
) -> Result<Vec<Row>, DataError> {
    let failed = |problem: String| DataError::Json { path: path.to_owned(), problem };
    match serde_json::from_str(text).map_err(|error| failed(error.to_string()))? {
        Value::Object(pictures) => Ok(by_name(path, text, &pictures, problems)),
        Value::Array(rows) => {
            let rows = rows.iter().enumerate().filter_map(|(at, value)| {
                let found = row(value, 0);
                let what = |what: String| format!("row {}: {what}", at + 1);
                let shown = value.to_string();
                found.map_err(|e| bad(path, 0, &shown, &what(e), problems)).ok()
            });
            Ok(rows.collect())
        }
        other => Err(failed(format!("found {}", kind(&other)))),
    }
}

fn by_name(
    path: &Path,
    text: &str,
    pictures: &Map<String, Value>,
    problems: &mut Problems,
) -> Vec<Row> {
    let (mut rest, mut line) = (Some(text), 1);
    let mut rows = Vec::with_capacity(pictures.len());
    for (name, about) in pictures {
        // keys are in the order of the file, so each lies behind the one before; from one on that is
        // written with other escapes lines are unknown
        let key = Value::from(name.as_str()).to_string();
        let found = rest.and_then(|rest| rest.split_once(&key));
        line = found.map_or(0, |(before, _)| line + before.matches('\n').count());
        rest = found.map(|(_, behind)| behind);
        let captions = match about {
            Value::Object(about) => sd_scripts(about),
            other => texts(other),
        };
        match captions {
            Ok(captions) => rows.push(Row { line, name: name.clone(), captions }),
            Err(what) => bad(path, line, name, &what, problems),
        }
    }
    rows
}

/// Caption and tags of sd-scripts' metadata: both with a comma between them, or the one there is.
fn sd_scripts(about: &Map<String, Value>) -> Result<Vec<String>, String> {
    let text = |key: &str| match about.get(key) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(value) => texts(value),
    };
    let tags = text("tags")?.join(", ");
    let mut captions = CAPTIONS
        .iter()
        .try_fold(Vec::new(), |found, key| if found.is_empty() { text(key) } else { Ok(found) })?;
    if captions.is_empty() {
        captions.push(String::new());
    }
    for caption in &mut captions {
        let between = if caption.is_empty() || tags.is_empty() { "" } else { ", " };
        *caption = format!("{caption}{between}{tags}");
    }
    Ok(captions)
}

fn row(value: &Value, line: usize) -> Result<Row, String> {
    let Value::Object(fields) = value else {
        return Err(format!("{} is no object", kind(value)));
    };
    let get = |names: &[&str]| names.iter().find_map(|name| fields.get(*name));
    let name = match get(&FILES) {
        Some(Value::String(name)) if !name.trim().is_empty() => name.trim().to_owned(),
        Some(other) => return Err(format!("`file_name` is {}", kind(other))),
        None => return Err("no `file_name`".to_owned()),
    };
    let captions = match get(&CAPTIONS) {
        None | Some(Value::Null) => vec![String::new()],
        Some(value) => texts(value)?,
    };
    Ok(Row { line, name, captions })
}

/// A text, or a list of texts that is not empty.
fn texts(value: &Value) -> Result<Vec<String>, String> {
    let text = |value: &Value| match value {
        Value::String(text) => Ok(text.trim().to_owned()),
        other => Err(format!("a caption is {}", kind(other))),
    };
    match value {
        Value::Array(texts) if texts.is_empty() => Ok(vec![String::new()]),
        Value::Array(texts) => texts.iter().map(text).collect(),
        one => Ok(vec![text(one)?]),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn bad(path: &Path, line: usize, row: &str, what: &str, problems: &mut Problems) {
    let line = (line > 0).then_some(line);
    let what = format!("`{}`: {}", printable(row), printable(what));
    problems.add(ProblemKind::Row, path, line, printable(row), what);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(rows: Vec<Row>) -> Vec<(usize, String, Vec<String>)> {
        rows.into_iter().map(|row| (row.line, row.name, row.captions)).collect()
    }

    fn row(line: usize, name: &str, captions: &[&str]) -> (usize, String, Vec<String>) {
        (line, name.to_owned(), captions.iter().map(|&caption| caption.to_owned()).collect())
    }

    #[test]
    fn a_line_is_a_picture_with_one_or_several_captions() {
        let mut problems = Problems::default();
        let text = "{\"file_name\": \"a.png\", \"text\": \" one \"}\n\n\
                    {\"image\": \"b.png\", \"caption\": [\"one\", \"two\"], \"objects\": {}}\n\
                    {\"file_name\": \"c.png\"}\n";
        let rows = json_lines(Path::new("m.jsonl"), text, &mut problems);
        let b = row(3, "b.png", &["one", "two"]);
        assert_eq!(list(rows), [row(1, "a.png", &["one"]), b, row(4, "c.png", &[""])]);
        assert_eq!(problems.0, []);
    }

    #[test]
    fn lines_that_are_no_rows_are_named() {
        let mut problems = Problems::default();
        let text = "{\"file_name\": \"a.png\"\n[1]\n{\"text\": \"x\"}\n{\"file_name\": 3}\n\
                    {\"file_name\": \"a.png\", \"text\": [1]}";
        assert_eq!(json_lines(Path::new("m.jsonl"), text, &mut problems), []);
        let said: Vec<String> = problems.0.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "m.jsonl:1: `{\"file_name\": \"a.png\"`: not JSON: EOF while parsing an object at column 21",
                "m.jsonl:2: `[1]`: a list is no object",
                "m.jsonl:3: `{\"text\": \"x\"}`: no `file_name`",
                "m.jsonl:4: `{\"file_name\": 3}`: `file_name` is a number",
                "m.jsonl:5: `{\"file_name\": \"a.png\", \"text\": [1]}`: a caption is a number",
            ]
        );
    }

    #[test]
    fn the_metadata_of_sd_scripts_is_caption_and_tags() {
        let mut problems = Problems::default();
        let text = "{\n \"x/a\": {\"caption\": \"a star\", \"tags\": \"red, big\"},\n \
                    \"b\": {\"tags\": \"blue\", \"train_resolution\": [512, 512]},\n\n \
                    \"c\": {\"caption\": null},\n \"d\": \"plain\", \"e\": 5\n}";
        let rows = json(Path::new("m.json"), text, &mut problems).unwrap();
        assert_eq!(
            list(rows),
            [
                row(2, "x/a", &["a star, red, big"]),
                row(3, "b", &["blue"]),
                row(5, "c", &[""]),
                row(6, "d", &["plain"]),
            ]
        );
        assert_eq!(problems.0[0].to_string(), "m.json:6: `e`: a caption is a number");
    }

    #[test]
    fn behind_a_name_with_other_escapes_lines_are_unknown() {
        let text = "{\"a\": \"x\",\n\"\\u0062\": \"y\",\n\"c\": \"z\"}";
        let rows = json(Path::new("m.json"), text, &mut Problems::default()).unwrap();
        assert_eq!(list(rows), [row(1, "a", &["x"]), row(0, "b", &["y"]), row(0, "c", &["z"])]);
    }

    #[test]
    fn a_list_of_rows_is_read_too_and_anything_else_is_an_error() {
        let mut problems = Problems::default();
        let rows =
            json(Path::new("m.json"), "[{\"path\": \"a.png\", \"text\": \"x\"}, 1]", &mut problems);
        assert_eq!(list(rows.unwrap()), [row(0, "a.png", &["x"])]);
        assert_eq!(problems.0[0].to_string(), "m.json: `1`: row 2: a number is no object");
        for text in ["3", "{", ""] {
            let error = json(Path::new("m.json"), text, &mut problems).unwrap_err();
            assert!(error.to_string().starts_with("m.json: "), "{error}");
        }
    }
}
