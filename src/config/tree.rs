//! YAML and TOML as one tree: scalars in the letters that were written, each value with its place.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Place};
use crate::base::terminal::printable;
use crate::base::yaml::{self, Fault, FaultKind, Kind, MAX_BYTES};

/// A value and where it is.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) place: Place,
}

/// A value. What a scalar is – a number, a switch, text – its key decides.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// Nothing, `~`, `null` or an empty text.
    Empty,
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// An entry of a mapping.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    /// Where the key is.
    pub(super) place: Place,
    pub(super) node: Node,
}

impl Node {
    /// In words, for an error: `` `3` ``, `empty`, `a list`.
    pub(super) fn found(&self) -> Box<str> {
        match &self.value {
            Value::Empty => "empty".into(),
            Value::Scalar(text) => format!("`{}`", printable(text)).into(),
            Value::List(_) => "a list".into(),
            Value::Map(_) => "a mapping".into(),
        }
    }
}

fn scalar(text: &str) -> Value {
    if text.trim().is_empty() { Value::Empty } else { Value::Scalar(text.to_owned()) }
}

/// The text of a file, within limits.
pub(super) fn read(path: &Path) -> Result<String, ConfigError> {
    let fail = |source| ConfigError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(fail)?;
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() > MAX_BYTES {
        return Err(ConfigError::TooLarge { path: path.to_owned() });
    }
    String::from_utf8(bytes).map_err(|_| ConfigError::NotText { path: path.to_owned() })
}

/// Whether a file is TOML, by its ending.
pub(super) fn is_toml(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("toml"))
}

/// A file's tree.
pub(super) fn parse(path: &Path, text: &str) -> Result<Node, ConfigError> {
    if text.len() > MAX_BYTES {
        return Err(ConfigError::TooLarge { path: path.to_owned() });
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let path: Arc<Path> = Arc::from(path);
    if is_toml(&path) {
        Toml::new(path, text).root()
    } else {
        let at = |line, column| Place::File { path: Arc::clone(&path), line, column };
        yaml_tree(text, &at)
    }
}

/// The value of an override, a YAML scalar or list.
pub(super) fn parse_override(place: &Place, text: &str) -> Result<Node, ConfigError> {
    yaml_tree(text, &|_, _| place.clone())
}

fn yaml_tree(text: &str, at: &dyn Fn(u32, u32) -> Place) -> Result<Node, ConfigError> {
    let root = yaml::read(text).map_err(|fault| syntax(fault, at))?;
    Ok(from_yaml(text, &root, at))
}

fn syntax(fault: Fault, at: &dyn Fn(u32, u32) -> Place) -> ConfigError {
    let (problem, hint) = match fault.kind {
        FaultKind::SecondDocument => {
            ("a second document starts here".into(), "remove what follows `---`")
        }
        FaultKind::Limits => (
            "more values, aliases or nesting than a configuration may have".into(),
            "at most 100000 values, 32 levels deep",
        ),
        FaultKind::Syntax(problem) => (
            problem.into_boxed_str(),
            "check the indentation, and put text with special characters in quotes",
        ),
    };
    ConfigError::Syntax { place: at(fault.line, fault.column), language: "YAML", problem, hint }
}

fn from_yaml(text: &str, node: &yaml::Node, at: &dyn Fn(u32, u32) -> Place) -> Node {
    let (line, column) = yaml::place(node);
    let value = match &node.value {
        Kind::Empty => Value::Empty,
        Kind::Text(_) | Kind::Plain(_) | Kind::Odd => {
            scalar(yaml::letters(text, node).unwrap_or_default())
        }
        Kind::List(items) => {
            Value::List(items.iter().map(|item| from_yaml(text, item, at)).collect())
        }
        Kind::Map(entries) => Value::Map(
            entries
                .iter()
                .map(|(key, node)| {
                    let (line, column) = yaml::place(key);
                    let node = from_yaml(text, node, at);
                    Entry { key: key.value.clone(), place: at(line, column), node }
                })
                .collect(),
        ),
    };
    Node { value, place: at(line, column) }
}

/// A TOML text and where its lines start.
struct Toml<'a> {
    path: Arc<Path>,
    text: &'a str,
    lines: Vec<usize>,
}

impl<'a> Toml<'a> {
    fn new(path: Arc<Path>, text: &'a str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let lines = std::iter::once(0).chain(ends.map(|(end, _)| end + 1)).collect();
        Self { path, text, lines }
    }

    fn at(&self, offset: usize) -> Place {
        let line = self.lines.partition_point(|start| *start <= offset);
        let start = line.checked_sub(1).and_then(|i| self.lines.get(i)).copied().unwrap_or(0);
        let column = self.text.get(start..offset).map_or(0, |before| before.chars().count()) + 1;
        // A text of 4 MiB has fewer lines and columns than 2^32.
        let [line, column] = [line, column].map(|n| u32::try_from(n).unwrap_or(u32::MAX));
        Place::File { path: Arc::clone(&self.path), line, column }
    }

    fn root(&self) -> Result<Node, ConfigError> {
        let table = DeTable::parse(self.text).map_err(|e| {
            let start = e.span().map_or(0, |span| span.start);
            self.repeated(&e, start).unwrap_or_else(|| ConfigError::Syntax {
                place: self.at(start),
                language: "TOML",
                problem: printable(e.message()).into(),
                hint: "write `key = value`, text in quotes, each key once",
            })
        })?;
        Ok(Node { value: self.table(table.get_ref()), place: self.at(0) })
    }

    /// A key that its table has before, with the place of the first; the parser tells the second only.
    fn repeated(&self, error: &toml::de::Error, start: usize) -> Option<ConfigError> {
        let second = self.text.get(error.span()?).filter(|_| error.message() == "duplicate key")?;
        let (mut offset, mut first) = (0, None);
        for line in self.text.get(..start)?.split_inclusive('\n') {
            let indent = line.len() - line.trim_start().len();
            let line_start = line.trim_start();
            let key = line_start.split('=').next().unwrap_or_default().trim_end();
            if line_start.starts_with('[') {
                first = None;
            } else if key == second && line_start.contains('=') {
                first = Some(offset + indent);
            }
            offset += line.len();
        }
        let (place, first) = (self.at(start), self.at(first?));
        Some(ConfigError::RepeatedKey { place, key: second.into(), first })
    }

    fn table(&self, table: &DeTable<'_>) -> Value {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let entry = |(key, value): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| {
            let name: &std::borrow::Cow<'_, str> = key.get_ref();
            let place = self.at(key.span().start);
            Entry { key: name.clone().into_owned(), place, node: self.value(value) }
        };
        Value::Map(entries.into_iter().map(entry).collect())
    }

    fn value(&self, node: &toml::Spanned<DeValue<'_>>) -> Node {
        let value = match node.get_ref() {
            DeValue::String(text) => scalar(text),
            DeValue::Integer(number) => {
                let digits = number.as_str();
                match (number.radix(), i128::from_str_radix(digits, number.radix())) {
                    (2 | 8 | 16, Ok(number)) => Value::Scalar(number.to_string()),
                    _ => Value::Scalar(digits.to_owned()),
                }
            }
            DeValue::Float(number) => Value::Scalar(number.as_str().to_owned()),
            DeValue::Boolean(switch) => Value::Scalar(switch.to_string()),
            DeValue::Datetime(time) => Value::Scalar(time.to_string()),
            DeValue::Array(items) => Value::List(items.iter().map(|i| self.value(i)).collect()),
            DeValue::Table(table) => self.table(table),
        };
        Node { value, place: self.at(node.span().start) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(file: &str, text: &str) -> Vec<(String, String, String)> {
        let Value::Map(entries) = parse(Path::new(file), text).unwrap().value else { panic!() };
        let row = |e: Entry| (e.key, e.node.found().into(), e.node.place.to_string());
        entries.into_iter().map(row).collect()
    }

    #[test]
    fn yaml_and_toml_give_one_tree_with_places() {
        let yaml = entries("a.yaml", "rate: 2e-4\nflag: True\nnone: ~\n");
        let toml = entries("a.toml", "rate = 2e-4\nflag = true\nnone = \"\"\n");
        let rows = |file, column: [u32; 3], flag: &str| {
            let at = |line, column| format!("{file}:{line}:{column}");
            vec![
                ("rate".to_owned(), "`2e-4`".to_owned(), at(1, column[0])),
                ("flag".to_owned(), flag.to_owned(), at(2, column[1])),
                ("none".to_owned(), "empty".to_owned(), at(3, column[2])),
            ]
        };
        assert_eq!(yaml, rows("a.yaml", [7, 7, 7], "`True`"));
        assert_eq!(toml, rows("a.toml", [8, 8, 8], "`true`"));
    }

    #[test]
    fn toml_keys_keep_the_order_of_the_file() {
        let keys: Vec<_> =
            entries("a.toml", "b = 1\na = 0x10\n").into_iter().map(|e| e.0).collect();
        assert_eq!(keys, ["b", "a"]);
    }
}
