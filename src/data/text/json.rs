//! Files of rows as objects with their lines.

use serde_json::Value;

use super::error::Fault;
use super::row::Object;

/// Longest row in bytes.
pub(super) const LONGEST: usize = 16 << 20;

/// What kind of value it is.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "missing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn object(value: Value) -> Result<Object, Fault> {
    match value {
        Value::Object(object) => Ok(object),
        other => Err(Fault::Value {
            key: "row".to_owned(),
            found: kind(&other),
            expected: "an object with the texts by name",
        }),
    }
}

/// The bytes of a `line` or a `cell` as text.
pub(super) fn utf8<'a>(bytes: &'a [u8], of: &'static str) -> Result<&'a str, Fault> {
    std::str::from_utf8(bytes).map_err(|e| {
        let at = e.valid_up_to();
        Fault::NotUtf8 { of, byte: at + 1, value: bytes.get(at).copied().unwrap_or_default() }
    })
}

/// One object a line; empty lines are left out.
pub(super) fn lines(bytes: &[u8]) -> impl Iterator<Item = (usize, Result<Object, Fault>)> {
    let lines = bytes.split(|byte| *byte == b'\n').enumerate();
    lines.filter(|(_, line)| !line.trim_ascii().is_empty()).map(|(at, line)| (at + 1, one(line)))
}

fn one(line: &[u8]) -> Result<Object, Fault> {
    if line.len() > LONGEST {
        return Err(Fault::Long { bytes: line.len(), most: LONGEST });
    }
    object(serde_json::from_str(utf8(line, "line")?).map_err(|e| syntax(&e, 0))?)
}

/// The parser's words with the column only: it knows nothing of the file's lines. `before` are the
/// bytes that its first line has before what it was given.
fn syntax(error: &serde_json::Error, before: usize) -> Fault {
    let text = error.to_string();
    let words = text.rfind(" at line ").and_then(|at| text.get(..at)).unwrap_or(&text);
    let column = if error.line() == 1 { before + error.column() } else { error.column() };
    Fault::Json { problem: format!("{words} at column {column}") }
}

/// The objects of one list. What follows an object that cannot be read is not looked at.
pub(super) fn list(text: &str) -> List<'_> {
    List { text, rest: text, line: 1, state: State::Start }
}

/// Where the reading of a list is.
enum State {
    /// Before `[`.
    Start,
    /// After an object.
    Between,
    /// After `]` or an error.
    End,
}

/// Objects of a list, one by one.
pub(super) struct List<'a> {
    text: &'a str,
    /// What is not read yet.
    rest: &'a str,
    /// The line where `text` was last looked at.
    line: usize,
    state: State,
}

impl List<'_> {
    /// Goes on for `bytes`.
    fn advance(&mut self, bytes: usize) {
        let (read, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.line += read.bytes().filter(|byte| *byte == b'\n').count();
        self.rest = rest;
    }

    fn skip_spaces(&mut self) {
        let spaces = self.rest.len() - self.rest.trim_ascii_start().len();
        self.advance(spaces);
    }

    fn fail(&mut self, problem: &str) -> (usize, Result<Object, Fault>) {
        self.state = State::End;
        let column = self.column() + 1;
        (self.line, Err(Fault::Json { problem: format!("{problem} at column {column}") }))
    }

    /// Bytes of the line that are read.
    fn column(&self) -> usize {
        let read = self.text.len() - self.rest.len();
        self.text.get(..read).and_then(|read| read.rsplit('\n').next()).map_or(0, str::len)
    }

    /// What stands at the head of the list or between two objects; `false` at its end.
    fn punctuation(&mut self) -> Result<bool, &'static str> {
        self.skip_spaces();
        let (open, missing) = match self.state {
            State::Start => ('[', "expected `[`"),
            State::Between => (',', "expected `,` or `]`"),
            State::End => return Ok(false),
        };
        let first = matches!(self.state, State::Start);
        if !first && self.rest.starts_with(']') {
            self.advance(1);
            return self.end();
        }
        if !self.rest.starts_with(open) {
            return Err(missing);
        }
        self.advance(1);
        self.skip_spaces();
        if first && self.rest.starts_with(']') {
            self.advance(1);
            return self.end();
        }
        Ok(true)
    }

    fn end(&mut self) -> Result<bool, &'static str> {
        self.skip_spaces();
        self.state = State::End;
        if self.rest.is_empty() { Ok(false) } else { Err("text after the list's `]`") }
    }
}

impl Iterator for List<'_> {
    type Item = (usize, Result<Object, Fault>);

    fn next(&mut self) -> Option<Self::Item> {
        match self.punctuation() {
            Ok(true) => {}
            Ok(false) => return None,
            Err(problem) => return Some(self.fail(problem)),
        }
        let line = self.line;
        let mut values = serde_json::Deserializer::from_str(self.rest).into_iter::<Value>();
        let value = values.next();
        let length = values.byte_offset();
        match value {
            Some(Ok(_)) if length > LONGEST => {
                self.advance(length);
                self.state = State::Between;
                Some((line, Err(Fault::Long { bytes: length, most: LONGEST })))
            }
            Some(Ok(value)) => {
                self.advance(length);
                self.state = State::Between;
                Some((line, object(value)))
            }
            Some(Err(error)) => {
                self.state = State::End;
                Some((line + error.line().saturating_sub(1), Err(syntax(&error, self.column()))))
            }
            None => Some(self.fail("the list ends early")),
        }
    }
}
