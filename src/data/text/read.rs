//! From a file or a folder to rows.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::error::{Fault, Problem, TextDataError};
use super::json;
use super::row::{Layout, Object, Row};
use crate::base::hint::nearest;
use crate::base::terminal::printable;

/// Largest file in bytes.
const LARGEST: u64 = 1 << 30;
/// After so many rows with problems no further ones are read.
const MOST_PROBLEMS: usize = 1000;

/// The rows of a file.
#[derive(Debug)]
pub struct RowSet {
    /// The file.
    pub path: PathBuf,
    /// The layout of all rows.
    pub layout: Layout,
    /// Rows in the order of the file.
    pub rows: Vec<Row>,
    /// Rows that cannot be used.
    pub problems: Vec<Problem>,
    /// What else is worth knowing.
    pub notes: Vec<String>,
}

/// The rows of a file, or of the file of a folder; an error if any of them cannot be used.
pub fn read_rows(path: &Path) -> Result<RowSet, TextDataError> {
    let mut set = scan(path)?;
    TextDataError::of(&set.path, std::mem::take(&mut set.problems))?;
    Ok(set)
}

/// [`read_rows`] that lists the rows that cannot be used rather than stop at them.
pub fn scan(path: &Path) -> Result<RowSet, TextDataError> {
    let path = &file(path)?;
    let format = Format::of(path)?;
    let bytes = read(path)?;
    let (bytes, marked) = match bytes.strip_prefix(b"\xef\xbb\xbf") {
        Some(rest) => (rest, true),
        None => (bytes.as_slice(), false),
    };
    if let [0xff, 0xfe, ..] | [0xfe, 0xff, ..] = bytes {
        let hint = "save it as UTF-8, as with `iconv -f UTF-16 -t UTF-8`";
        let found = "UTF-16 text".to_owned();
        return Err(TextDataError::Format { path: path.clone(), found, hint });
    }
    let mut reader = Reader { path, layout: None, rows: Vec::new(), problems: Vec::new() };
    let is_list = bytes.trim_ascii_start().starts_with(b"[");
    match format {
        Format::Csv => reader.csv(bytes)?,
        Format::Json if is_list => match json::utf8(bytes, "line") {
            Ok(text) => reader.all(json::list(text))?,
            Err(_) => reader.all(std::iter::once(not_utf8(bytes)))?,
        },
        Format::Json => reader.all(json::lines(bytes))?,
    }
    let mut notes = Vec::new();
    if marked {
        notes.push("the file begins with a byte order mark, which is left out".to_owned());
    }
    if reader.problems.len() >= MOST_PROBLEMS {
        notes.push(format!("after {MOST_PROBLEMS} rows with problems no further ones were read"));
    }
    reader.finish(notes)
}

/// What a file is by its name's ending.
#[derive(Clone, Copy)]
enum Format {
    /// One object a line, or a list of objects.
    Json,
    /// A header and a record a row.
    Csv,
}

impl Format {
    fn of(path: &Path) -> Result<Self, TextDataError> {
        let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        let (found, hint) = match ending.as_str() {
            "json" | "jsonl" | "ndjson" => return Ok(Self::Json),
            "csv" => return Ok(Self::Csv),
            "txt" | "md" => (
                "plain text",
                "plain text does not say where an example begins; write one JSON object a line: {\"text\": \"…\"}",
            ),
            "parquet" | "arrow" => (
                "a table in binary form",
                "convert it: python -c \"from datasets import load_dataset; load_dataset('parquet', data_files='FILE')['train'].to_json('train.jsonl')\"",
            ),
            "gz" | "zst" | "bz2" | "xz" | "zip" => ("a compressed file", "unpack it"),
            _ => ("a file of unknown kind", "end its name in `.jsonl`, `.json` or `.csv`"),
        };
        Err(TextDataError::Format { path: path.to_owned(), found: found.to_owned(), hint })
    }
}

/// The file that `path` means: itself, or the one of rows in a folder.
fn file(path: &Path) -> Result<PathBuf, TextDataError> {
    let fail = |source| TextDataError::Read { path: path.to_owned(), source };
    if !std::fs::metadata(path).map_err(fail)?.is_dir() {
        return Ok(path.to_owned());
    }
    let train = path.join("train.jsonl");
    if train.is_file() {
        return Ok(train);
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).map_err(fail)? {
        let entry = entry.map_err(fail)?.path();
        if entry.is_file() && Format::of(&entry).is_ok() {
            found.push(entry);
        }
    }
    if let [one] = found.as_slice() {
        return Ok(one.clone());
    }
    let name = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into());
    let mut found: Vec<String> = found.iter().filter_map(name).collect();
    found.sort();
    Err(TextDataError::Folder { path: path.to_owned(), found })
}

fn read(path: &Path) -> Result<Vec<u8>, TextDataError> {
    let fail = |source| TextDataError::Read { path: path.to_owned(), source };
    // to open a pipe would wait for its other end
    if !std::fs::metadata(path).map_err(fail)?.is_file() {
        return Err(fail(std::io::Error::other("not a file")));
    }
    let mut bytes = Vec::new();
    File::open(path).map_err(fail)?.take(LARGEST + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > LARGEST {
        return Err(TextDataError::TooLarge { path: path.to_owned(), most: LARGEST });
    }
    Ok(bytes)
}

/// The first line that is not UTF-8.
fn not_utf8(bytes: &[u8]) -> (usize, Result<Object, Fault>) {
    let mut lines = bytes.split(|byte| *byte == b'\n').enumerate();
    let found = lines.find_map(|(at, line)| Some((at + 1, Err(json::utf8(line, "line").err()?))));
    found.unwrap_or((1, Ok(Object::new())))
}

/// Rows as they are read.
struct Reader<'a> {
    path: &'a Path,
    layout: Option<Layout>,
    rows: Vec<Row>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn all(
        &mut self,
        objects: impl Iterator<Item = (usize, Result<Object, Fault>)>,
    ) -> Result<(), TextDataError> {
        for (line, object) in objects {
            if self.problems.len() >= MOST_PROBLEMS {
                break;
            }
            let content = match object {
                Ok(object) => self.layout(line, &object)?.read(&object),
                Err(fault) => Err(fault),
            };
            match content {
                Ok(content) => self.rows.push(Row { line, content }),
                Err(fault) => self.problems.push(Problem { line, fault }),
            }
        }
        Ok(())
    }

    /// The file's layout: that of its first row.
    fn layout(&mut self, line: usize, object: &Object) -> Result<Layout, TextDataError> {
        if let Some(layout) = self.layout.or_else(|| Layout::of(object)) {
            self.layout = Some(layout);
            return Ok(layout);
        }
        let known = || Layout::ALL.iter().flat_map(|layout| layout.keys()).copied();
        let near = object.keys().find_map(|key| {
            let near = nearest(key, known()).filter(|near| near != key)?;
            Some(format!("did you mean `{near}` for `{}`?", printable(key)))
        });
        Err(TextDataError::UnknownLayout {
            path: self.path.to_owned(),
            line,
            keys: object.keys().cloned().collect(),
            hint: near.unwrap_or_else(|| "rename the keys".to_owned()),
        })
    }

    fn csv(&mut self, bytes: &[u8]) -> Result<(), TextDataError> {
        let mut reader = csv::ReaderBuilder::new().from_reader(bytes);
        let names = match reader.byte_headers() {
            Ok(header) => strings(header).and_then(once_each),
            Err(error) => Err(Fault::Csv { problem: error.to_string() }),
        };
        let names = match names {
            Ok(names) => names,
            Err(fault) => return self.all(std::iter::once((1, Err(fault)))),
        };
        let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        let mut record = csv::ByteRecord::new();
        let records = std::iter::from_fn(move || {
            let start = number(reader.position().byte());
            let found = reader.read_byte_record(&mut record);
            let raw = bytes.get(start..number(reader.position().byte())).unwrap_or_default();
            let position = match &found {
                Ok(false) => return None,
                Ok(true) => record.position(),
                Err(error) => error.position(),
            };
            let line = number(position.map_or(0, csv::Position::line));
            Some((
                line,
                match found {
                    _ if leaves_a_quote_open(raw) => Err(Fault::Csv {
                        problem: "a cell opens a quote that is not closed".to_owned(),
                    }),
                    Ok(_) => fields(&names, &record),
                    Err(error) => Err(csv_fault(&error)),
                },
            ))
        });
        self.all(records)
    }

    fn finish(self, notes: Vec<String>) -> Result<RowSet, TextDataError> {
        let path = self.path.to_owned();
        let Some(layout) = self.layout else {
            TextDataError::of(&path, self.problems)?;
            return Err(TextDataError::NoRows { path });
        };
        Ok(RowSet { path, layout, rows: self.rows, problems: self.problems, notes })
    }
}

fn strings(record: &csv::ByteRecord) -> Result<Vec<String>, Fault> {
    record.iter().map(|cell| json::utf8(cell, "cell").map(|cell| cell.trim().to_owned())).collect()
}

/// The names of columns; rows could say only one of two that are called the same.
fn once_each(names: Vec<String>) -> Result<Vec<String>, Fault> {
    let mut known = BTreeSet::new();
    match names.iter().find(|name| !name.is_empty() && !known.insert(name.as_str())) {
        Some(name) => {
            Err(Fault::Csv { problem: format!("two columns are called `{}`", printable(name)) })
        }
        None => Ok(names),
    }
}

/// Whether a quoted cell goes on behind its second quote, or never has one. The parser takes both, and
/// with them the rows up to the next quote.
fn leaves_a_quote_open(record: &[u8]) -> bool {
    #[derive(PartialEq)]
    enum At {
        Start,
        Bare,
        Quoted,
        Closed,
    }
    let mut at = At::Start;
    for byte in record {
        at = match (at, byte) {
            (At::Quoted, b'"') | (At::Closed, b' ' | b'\t') => At::Closed,
            (At::Start | At::Closed, b'"') | (At::Quoted, _) => At::Quoted,
            (_, b',' | b'\r' | b'\n') => At::Start,
            (At::Closed, _) => return true,
            (At::Start | At::Bare, _) => At::Bare,
        };
    }
    at == At::Quoted
}

fn fields(names: &[String], record: &csv::ByteRecord) -> Result<Object, Fault> {
    let bytes = record.as_slice();
    if bytes.len() > json::LONGEST {
        return Err(Fault::Long { bytes: bytes.len(), most: json::LONGEST });
    }
    names
        .iter()
        .zip(record)
        .map(|(name, cell)| Ok((name.clone(), Value::from(json::utf8(cell, "cell")?))))
        .collect()
}

fn csv_fault(error: &csv::Error) -> Fault {
    let problem = match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} cells, the header has {expected_len}")
        }
        _ => error.to_string(),
    };
    Fault::Csv { problem }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;
    use crate::data::text::Content;

    /// What is read of a file called `name`, and the folder that it is in.
    fn scanned(name: &str, bytes: impl AsRef<[u8]>) -> Result<RowSet, TextDataError> {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        scan(&path)
    }

    fn rows(name: &str, bytes: impl AsRef<[u8]>) -> RowSet {
        let set = scanned(name, bytes).unwrap();
        assert!(set.problems.is_empty(), "{:?}", set.problems);
        set
    }

    /// The messages of the first row: role, text, whether it is learnt.
    fn turns(set: &RowSet) -> Vec<(&str, &str, bool)> {
        let Content::Chat(turns) = &set.rows[0].content else { unreachable!("{:?}", set.rows[0]) };
        let turn = turns.iter();
        turn.map(|t| (t.message.role.as_str(), t.message.content.as_str(), t.learnt)).collect()
    }

    fn problems(set: &RowSet) -> Vec<(usize, String)> {
        set.problems.iter().map(|problem| (problem.line, problem.fault.to_string())).collect()
    }

    #[test]
    fn every_layout_is_known_by_its_keys() {
        let question = [("user", "q", false), ("assistant", "a", true)];
        for (layout, row) in [
            (
                Layout::InstructionOutput,
                r#"{"instruction": "q", "input": "", "output": "a", "text": "qa"}"#,
            ),
            (
                Layout::InstructionResponse,
                r#"{"instruction": "q", "context": null, "response": "a"}"#,
            ),
            (Layout::QuestionAnswer, r#"{"id": 7, "question": "q", "answer": "a"}"#),
            (Layout::ArticleSummary, r#"{"article": "q", "summary": "a"}"#),
            (
                Layout::Messages,
                r#"{"prompt": "q", "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": [{"type": "text", "text": "a"}], "tool_calls": []}]}"#,
            ),
            (
                Layout::Conversations,
                r#"{"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}"#,
            ),
            (
                Layout::PromptCompletion,
                r#"{"prompt": [{"role": "user", "content": "q"}], "completion": [{"role": "assistant", "content": "a"}]}"#,
            ),
        ] {
            let set = rows("rows.jsonl", row);
            assert_eq!(set.layout, layout);
            assert_eq!(turns(&set), question, "{row}");
            assert_eq!(
                layout.is_question(),
                layout.keys().len() == 2 && layout != Layout::PromptCompletion
            );
        }
        let set = rows("rows.jsonl", r#"{"prompt": "", "completion": "a"}"#);
        let expected = Content::Completion { prompt: String::new(), completion: "a".to_owned() };
        assert_eq!((set.layout, &set.rows[0].content), (Layout::PromptCompletion, &expected));
        let set = rows("rows.jsonl", r#"{"text": "a"}"#);
        assert_eq!(
            (set.layout, &set.rows[0].content),
            (Layout::Text, &Content::Text("a".to_owned()))
        );
    }

    #[test]
    fn alpaca_rows_have_their_input_on_a_line_of_its_own_and_earlier_turns_before() {
        let row = r#"{"instruction": "q", "input": "i", "output": "a", "system": "s", "history": [["e", "f"]]}"#;
        let expected = [
            ("system", "s", false),
            ("user", "e", false),
            ("assistant", "f", true),
            ("user", "q\ni", false),
            ("assistant", "a", true),
        ];
        assert_eq!(turns(&rows("rows.json", row)), expected);
    }

    #[test]
    fn sharegpt_speakers_become_roles() {
        let row = r#"{"system": "s", "conversations": [{"from": "human", "value": "q"},
            {"from": "function_call", "value": "f"}, {"from": "observation", "value": "o"},
            {"from": "gpt", "value": "a"}]}"#
            .replace('\n', " ");
        let expected = [
            ("system", "s", false),
            ("user", "q", false),
            ("assistant", "f", true),
            ("tool", "o", false),
            ("assistant", "a", true),
        ];
        assert_eq!(turns(&rows("rows.jsonl", row)), expected);
    }

    #[test]
    fn one_object_a_line_and_a_list_of_objects_are_the_same_rows() {
        let lines = rows("rows.jsonl", "\u{feff}{\"text\": \"é\"}\r\n\n  {\"text\": \"b\"}");
        let list = rows("rows.json", "[\n {\"text\": \"é\"},\n\n {\n\"text\": \"b\"} ]\n");
        assert_eq!(lines.rows.iter().map(|row| row.line).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(list.rows.iter().map(|row| row.line).collect::<Vec<_>>(), [2, 4]);
        for (a, b) in lines.rows.iter().zip(&list.rows) {
            assert_eq!(a.content, b.content);
        }
        assert!(lines.notes[0].contains("byte order mark"));
    }

    #[test]
    fn cells_of_a_table_may_hold_commas_quotes_and_lines() {
        let table = "prompt, completion,extra\n\"a, \"\"b\"\"\",\"c\nd\",1\ne,f,\n";
        let set = rows("rows.csv", table);
        let texts: Vec<&Content> = set.rows.iter().map(|row| &row.content).collect();
        let row = |prompt: &str, completion: &str| Content::Completion {
            prompt: prompt.to_owned(),
            completion: completion.to_owned(),
        };
        assert_eq!(texts, [&row("a, \"b\"", "c\nd"), &row("e", "f")]);
        assert_eq!(set.rows.iter().map(|row| row.line).collect::<Vec<_>>(), [2, 4]);
        let set = scanned("rows.csv", "question,answer\nq,a\nq\nq,\nq,\u{e9}\n").unwrap();
        assert_eq!(
            problems(&set),
            [
                (3, "not valid CSV: 1 cells, the header has 2".to_owned()),
                (4, "`answer` is empty".to_owned()),
            ]
        );
        let set = scanned("rows.csv", b"text\nab\xffc\nd\n").unwrap();
        assert_eq!(problems(&set), [(2, "not UTF-8: byte 3 of the cell is `0xff`".to_owned())]);
        assert_eq!(set.rows.len(), 1);
    }

    #[test]
    fn a_quote_that_stays_open_is_found_and_inches_are_none() {
        let open = "not valid CSV: a cell opens a quote that is not closed";
        for (table, rows) in [
            ("question,answer\nq,a\nq,\"a\nq,a\nq,a\n", 1),
            ("question,answer\nq,a\nq,\"a\nq,\"a\"\nq,a\n", 2),
            ("question,answer\nq,a\nq,\"a\nq,a\n\"q\",a\n", 1),
        ] {
            let set = scanned("rows.csv", table).unwrap();
            assert_eq!(problems(&set), [(3, open.to_owned())], "{table}");
            assert_eq!(set.rows.len(), rows, "{table}");
        }
        rows(
            "rows.csv",
            "question,answer\n5\" wide,\"\"\"5\"\" tall\"\n\n\"q\" ,\"a\"\r\n\"q\",\"a\"",
        );
    }

    #[test]
    fn two_columns_of_one_name_are_an_error() {
        let error = scanned("rows.csv", "text,text\na,b\n").unwrap_err().to_string();
        assert!(error.contains("two columns are called `text`"), "{error}");
        rows("rows.csv", "text,,\na,,\n");
    }

    #[test]
    fn every_row_with_a_problem_is_listed_with_its_line() {
        let text = [
            r#"{"question": "q", "answer": "a"}"#,
            r#"{"question": "q", "answer": }"#,
            r#"["q", "a"]"#,
            r#"{"question": "q", "response": "a"}"#,
            r#"{"question": "q", "answer": 4}"#,
            r#"{"question": " \n", "answer": "a"}"#,
            r#"{"question": "q", "answer": "a", "history": [["x"]]}"#,
            r#"{"question": "q", "answer": "a"} {}"#,
        ]
        .join("\n");
        let set = scanned("rows.jsonl", &text).unwrap();
        assert_eq!(set.rows.len(), 1);
        let layout =
            "no `answer`: found `question`, `response`, the file's layout is `question`+`answer`";
        assert_eq!(
            problems(&set),
            [
                (2, "not valid JSON: expected value at column 29".to_owned()),
                (3, "`row` is a list: expected an object with the texts by name".to_owned()),
                (4, layout.to_owned()),
                (5, "`answer` is a number: expected text".to_owned()),
                (6, "`question` is empty".to_owned()),
                (7, "`history[0]` is a list: expected a list of pairs of texts".to_owned()),
                (8, "not valid JSON: trailing characters at column 34".to_owned()),
            ]
        );
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("rows.jsonl");
        std::fs::write(&path, text).unwrap();
        let error = read_rows(&path).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}:2: not valid JSON", path.display())), "{error}");
        assert!(error.contains("(and 6 more rows with problems)\nhint: "), "{error}");
    }

    #[test]
    fn messages_that_cannot_be_read_are_named() {
        for (row, expected) in [
            (r#"{"messages": "hi"}"#, "`messages` is text: expected a list of messages"),
            (r#"{"messages": []}"#, "`messages` is empty"),
            (
                r#"{"messages": ["hi"]}"#,
                "`messages[0]` is text: expected an object with `role` and `content`",
            ),
            (
                r#"{"messages": [{"content": "hi"}]}"#,
                "`messages[0].role` is missing: expected text",
            ),
            (
                r#"{"messages": [{"role": "user"}]}"#,
                "`messages[0].content` is missing: expected text",
            ),
            (
                r#"{"messages": [{"role": "assistant", "content": "x", "tool_calls": [{}]}]}"#,
                "`messages[0].tool_calls` is a list: expected none; spell calls out in `content`",
            ),
            (
                r#"{"messages": [{"role": "user", "content": [{"type": "image"}]}]}"#,
                "`messages[0].content[0]` is an object: expected a part with `text`; there are no pictures in texts",
            ),
            (
                r#"{"conversations": [{"from": "x\u001b", "value": "hi"}]}"#,
                "`conversations[0].from` is `x\u{fffd}`: expected `human`, `gpt`, `system`, `observation` or `function_call`",
            ),
        ] {
            let set = scanned("rows.jsonl", row).unwrap();
            assert_eq!(problems(&set), [(1, expected.to_owned())], "{row}");
        }
    }

    #[test]
    fn lists_end_with_the_first_thing_that_is_no_json() {
        for (text, line, expected) in [
            ("[{\"text\": \"a\"}\n {\"text\": \"b\"}]", 2, "expected `,` or `]` at column 2"),
            ("[{\"text\": \"a\"},\n\n {\"text\": \"b\" x}]", 3, "expected `,` or `}` at column 15"),
            ("[{\"text\": \"a\"},\n", 2, "the list ends early at column 1"),
            ("[{\"text\": \"a\"}]\nx", 2, "text after the list's `]` at column 1"),
            ("[{\"text\": \"a\"}", 1, "expected `,` or `]` at column 15"),
        ] {
            let set = scanned("rows.json", text).unwrap();
            assert_eq!(problems(&set), [(line, format!("not valid JSON: {expected}"))], "{text}");
            assert_eq!(set.rows.len(), 1);
        }
        assert!(matches!(scanned("rows.json", "[]"), Err(TextDataError::NoRows { .. })));
    }

    #[test]
    fn bytes_that_are_no_text_are_named_by_line_and_byte() {
        for (name, bytes) in [
            ("rows.jsonl", b"{\"text\": \"a\"}\n{\"text\": \"\xe9\"}\n".as_slice()),
            ("rows.json", b"[{\"text\": \"a\"},\n{\"text\": \"\xe9\"}]".as_slice()),
        ] {
            let found = match scanned(name, bytes) {
                Ok(set) => problems(&set),
                Err(TextDataError::Rows { first, .. }) => {
                    vec![(first.line, first.fault.to_string())]
                }
                Err(error) => unreachable!("{error}"),
            };
            assert_eq!(found, [(2, "not UTF-8: byte 11 of the line is `0xe9`".to_owned())]);
        }
        let error = scanned("rows.jsonl", b"\xff\xfe{\0").unwrap_err().to_string();
        assert!(error.contains("UTF-16 text") && error.contains("\nhint: "), "{error}");
    }

    #[test]
    fn long_rows_are_read_and_endless_ones_are_not() {
        let long = format!("{{\"text\": \"{}\"}}\n", "x".repeat(4 << 20));
        assert_eq!(rows("rows.jsonl", &long).rows.len(), 1);
        let endless =
            format!("{{\"text\": \"a\"}}\n{{\"text\": \"{}\"}}\n", "x".repeat(json::LONGEST));
        let set = scanned("rows.jsonl", &endless).unwrap();
        assert!(matches!(set.problems[0].fault, Fault::Long { .. }), "{:?}", set.problems[0].fault);
        let talk = format!(
            "{{\"messages\": [{}]}}",
            vec![r#"{"role": "user", "content": "x"}"#; 2001].join(",")
        );
        let set = scanned("rows.jsonl", talk).unwrap();
        assert!(
            matches!(set.problems[0].fault, Fault::Value { .. }),
            "{:?}",
            set.problems[0].fault
        );
        let deep = format!("{{\"text\": {}\"a\"{}}}", "[".repeat(5000), "]".repeat(5000));
        assert!(scanned("rows.jsonl", deep).is_err());
    }

    #[test]
    fn files_of_other_kinds_say_how_to_make_rows_of_them() {
        for (name, expected) in [
            ("rows.txt", "plain text: expected rows"),
            ("rows.parquet", "load_dataset"),
            ("rows.jsonl.gz", "unpack it"),
            ("rows", "end its name in `.jsonl`"),
        ] {
            let error = scanned(name, "x").unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("\nhint: "), "{error}");
        }
        let error = scanned("rows.jsonl", "{\"mesages\": []}").unwrap_err().to_string();
        assert!(error.contains("rows.jsonl:1: unknown layout: expected `messages`, "), "{error}");
        assert!(error.ends_with("hint: did you mean `messages` for `mesages`?"), "{error}");
        let error = scanned("rows.jsonl", "\n \n").unwrap_err().to_string();
        assert!(error.contains("no rows\nhint: "), "{error}");
        assert!(matches!(scan(Path::new("/nowhere/at/all")), Err(TextDataError::Read { .. })));
    }

    #[test]
    fn a_folder_means_its_file_of_rows() {
        let folder = TempDir::new().unwrap();
        let put =
            |name: &str| std::fs::write(folder.path().join(name), "{\"text\": \"a\"}").unwrap();
        put("notes.txt");
        let error = scan(folder.path()).unwrap_err().to_string();
        assert!(error.contains("found none\nhint: name the file itself"), "{error}");
        put("only.jsonl");
        assert!(scan(folder.path()).unwrap().path.ends_with("only.jsonl"));
        put("second.json");
        let error = scan(folder.path()).unwrap_err().to_string();
        assert!(error.contains("found `only.jsonl`, `second.json`"), "{error}");
        put("train.jsonl");
        assert!(scan(folder.path()).unwrap().path.ends_with("train.jsonl"));
    }

    #[test]
    fn a_file_of_nothing_but_problems_is_left_early() {
        let set =
            scanned("rows.jsonl", format!("{{\"text\": \"a\"}}\n{}", "x\n".repeat(5000))).unwrap();
        assert_eq!(set.problems.len(), MOST_PROBLEMS);
        assert!(set.notes[0].contains("no further ones"), "{:?}", set.notes);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for name in ["rows.jsonl", "rows.csv"] {
                let _ = scanned(name, &bytes);
            }
        }

        #[test]
        fn no_json_makes_it_panic(
            text in r#"\[?(\{"(text|prompt|completion|messages|conversations|from|value)": ?("[a-z]*"|[0-9]|null|\[(\{"(role|from)": "[a-z]*", "(content|value)": "[é😀a]*"\},?){0,3}\])\}?,?\n?){0,4}\]?"#
        ) {
            for name in ["rows.json", "rows.csv"] {
                if let Ok(set) = scanned(name, &text) {
                    let lines = text.split('\n').count();
                    prop_assert!(set.rows.iter().all(|row| row.line >= 1 && row.line <= lines));
                    prop_assert!(set.problems.iter().all(|problem| problem.line >= 1 && problem.line <= lines));
                }
            }
        }
    }
}
