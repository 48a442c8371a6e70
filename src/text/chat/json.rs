//! The filter `tojson`: Python's `json.dumps` with the defaults of `transformers`.

use std::fmt::Write as _;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

/// Deepest nesting; Python gives up at about 1000.
const DEPTH: usize = 100;

/// How to write.
struct Style {
    ascii: bool,
    indent: Option<String>,
    /// Between items, between key and value.
    separators: (String, String),
    sorted: bool,
}

/// `value|tojson(ensure_ascii=false, indent=none, separators=none, sort_keys=false)`.
#[expect(clippy::needless_pass_by_value, reason = "the engine passes it so")]
pub(super) fn filter(
    state: &State,
    value: &Value,
    ascii: Option<bool>,
    indent: Option<Value>,
    kwargs: Kwargs,
) -> Result<String, Error> {
    let ascii = ascii.or(kwargs.get("ensure_ascii")?).unwrap_or(false);
    let indent = indent_of(indent.or(kwargs.get("indent")?).as_ref())?;
    let separators: Option<Value> = kwargs.get("separators")?;
    let sorted = kwargs.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    kwargs.assert_all_used()?;
    let separators = match separators.filter(|value| !value.is_none()) {
        Some(pair) => {
            let part = |at: usize| {
                let item = pair.get_item(&Value::from(at))?;
                item.as_str()
                    .map(str::to_owned)
                    .ok_or_else(|| wrong("separators must be two texts"))
            };
            (part(0)?, part(1)?)
        }
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
    };
    let mut text = String::new();
    write(state, &mut text, value, &Style { ascii, indent, separators, sorted }, 0)?;
    Ok(text)
}

fn wrong(problem: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, problem)
}

fn indent_of(value: Option<&Value>) -> Result<Option<String>, Error> {
    let Some(value) = value.filter(|value| !value.is_none()) else { return Ok(None) };
    if let Some(text) = value.as_str() {
        return Ok(Some(text.to_owned()));
    }
    let width = value.as_i64().ok_or_else(|| wrong("indent must be a number or text"))?;
    let width = usize::try_from(width).unwrap_or(0);
    if width > 64 {
        return Err(wrong("indent must be at most 64"));
    }
    Ok(Some(" ".repeat(width)))
}

fn write(
    state: &State,
    text: &mut String,
    value: &Value,
    style: &Style,
    depth: usize,
) -> Result<(), Error> {
    if depth > DEPTH {
        return Err(wrong("tojson: nested too deeply"));
    }
    let before = text.len();
    match value.kind() {
        ValueKind::None => text.push_str("null"),
        ValueKind::Bool => text.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => number(text, value),
        ValueKind::String => quote(text, value.as_str().unwrap_or_default(), style.ascii),
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<Value> = value.try_iter()?.collect();
            block(state, text, ['[', ']'], &items, style, depth, |text, item| {
                write(state, text, item, style, depth + 1)
            })?;
        }
        ValueKind::Map => {
            let mut keys: Vec<(String, Value)> = value
                .try_iter()?
                .map(|key| Ok((key_text(&key)?, key)))
                .collect::<Result<_, Error>>()?;
            if style.sorted {
                keys.sort_by(|a, b| a.0.cmp(&b.0));
            }
            block(state, text, ['{', '}'], &keys, style, depth, |text, (name, key)| {
                quote(text, name, style.ascii);
                text.push_str(&style.separators.1);
                write(state, text, &value.get_item(key)?, style, depth + 1)
            })?;
        }
        kind => return Err(wrong(format!("tojson: a value of type {kind} cannot be written"))),
    }
    // Writing is dearer than copying; containers were paid for by their items.
    state.consume_fuel(1 + (text.len() - before) as u64 / 64)
}

fn block<T>(
    state: &State,
    text: &mut String,
    [open, close]: [char; 2],
    items: &[T],
    style: &Style,
    depth: usize,
    mut write_item: impl FnMut(&mut String, &T) -> Result<(), Error>,
) -> Result<(), Error> {
    let line = |text: &mut String, depth: usize| {
        if let Some(indent) = &style.indent {
            text.push('\n');
            (0..depth).for_each(|_| text.push_str(indent));
        }
    };
    text.push(open);
    for (place, item) in items.iter().enumerate() {
        if place > 0 {
            text.push_str(&style.separators.0);
        }
        let indent = style.indent.as_ref().map_or(0, String::len) + style.separators.0.len();
        state.consume_fuel((indent * (depth + 1)) as u64 / 64)?;
        line(text, depth + 1);
        write_item(text, item)?;
    }
    if !items.is_empty() {
        line(text, depth);
    }
    text.push(close);
    Ok(())
}

/// A key as text; Python writes numbers, truth values and none as keys too.
fn key_text(key: &Value) -> Result<String, Error> {
    match key.kind() {
        ValueKind::String => Ok(key.as_str().unwrap_or_default().to_owned()),
        ValueKind::Bool => Ok(if key.is_true() { "true" } else { "false" }.to_owned()),
        ValueKind::None => Ok("null".to_owned()),
        ValueKind::Number => {
            let mut text = String::new();
            number(&mut text, key);
            Ok(text)
        }
        kind => Err(wrong(format!("tojson: a key of type {kind} cannot be written"))),
    }
}

/// Integers as they are; floats as Python's `repr`.
fn number(text: &mut String, value: &Value) {
    let float = if value.is_integer() { None } else { f64::try_from(value.clone()).ok() };
    let Some(float) = float else {
        text.push_str(&value.to_string());
        return;
    };
    if float.is_nan() {
        text.push_str("NaN");
    } else if float.is_infinite() {
        text.push_str(if float > 0.0 { "Infinity" } else { "-Infinity" });
    } else {
        // Rust switches to exponents where Python does, but writes `1e16`, not `1e+16`.
        let plain = format!("{float:?}");
        match plain.split_once('e') {
            Some((digits, exponent)) => {
                let (sign, exponent) = match exponent.strip_prefix('-') {
                    Some(exponent) => ('-', exponent),
                    None => ('+', exponent),
                };
                let digits = digits.strip_suffix(".0").unwrap_or(digits);
                let _ = write!(text, "{digits}e{sign}{exponent:0>2}");
            }
            None => text.push_str(&plain),
        }
    }
}

fn quote(text: &mut String, content: &str, ascii: bool) {
    text.push('"');
    for c in content.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\x08' => text.push_str("\\b"),
            '\x0c' => text.push_str("\\f"),
            c if c < ' ' || (ascii && c > '~') => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(text, "\\u{unit:04x}");
                }
            }
            c => text.push(c),
        }
    }
    text.push('"');
}
