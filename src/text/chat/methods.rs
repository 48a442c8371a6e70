//! Methods of Python's text that templates call, where `minijinja-contrib` has none or another idea
//! of spaces.

use minijinja::value::{Kwargs, from_args};
use minijinja::{Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;

/// Calls `method` of `value`; everything else is left to `minijinja-contrib`.
pub(super) fn call(
    state: &mut State,
    value: &Value,
    method: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    let Some(text) = value.as_str() else {
        return pycompat::unknown_method_callback(state, value, method, arguments);
    };
    match method {
        "strip" | "lstrip" | "rstrip" => {
            let (chars,): (Option<&str>,) = from_args(arguments)?;
            let (left, right) = (method != "rstrip", method != "lstrip");
            Ok(strip(text, chars, left, right).into())
        }
        "split" | "rsplit" => {
            let (separator, most, kwargs): (Option<&str>, Option<i64>, Kwargs) =
                from_args(arguments)?;
            let separator = separator.or(kwargs.get("sep")?);
            let most = most.or(kwargs.get("maxsplit")?).unwrap_or(-1);
            kwargs.assert_all_used()?;
            // A negative number means no bound.
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            Ok(split(text, separator, most, method == "rsplit")?.into())
        }
        "splitlines" => {
            let (keep, kwargs): (Option<bool>, Kwargs) = from_args(arguments)?;
            let keep = keep.or(kwargs.get("keepends")?).unwrap_or(false);
            kwargs.assert_all_used()?;
            Ok(lines(text, keep).into_iter().map(Value::from).collect())
        }
        "title" => {
            let () = from_args(arguments)?;
            Ok(title(text, false).into())
        }
        "capitalize" => {
            let () = from_args(arguments)?;
            Ok(title(text, true).into())
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(arguments)?;
            Ok(text.strip_prefix(prefix).unwrap_or(text).into())
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(arguments)?;
            Ok(text.strip_suffix(suffix).unwrap_or(text).into())
        }
        "partition" | "rpartition" => {
            let (separator,): (&str,) = from_args(arguments)?;
            partition(text, separator, method == "rpartition")
        }
        _ => pycompat::unknown_method_callback(state, value, method, arguments),
    }
}

/// What `str.isspace` is true for.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// `str.strip` and its two halves.
pub(super) fn strip<'a>(text: &'a str, chars: Option<&str>, left: bool, right: bool) -> &'a str {
    let goes = |c: char| chars.map_or_else(|| is_space(c), |chars| chars.contains(c));
    let text = if left { text.trim_start_matches(goes) } else { text };
    if right { text.trim_end_matches(goes) } else { text }
}

/// `str.title`, or `str.capitalize`: a large letter after every character without case, or only
/// at the start.
fn title(text: &str, only_first: bool) -> String {
    let mut result = String::with_capacity(text.len());
    let mut small = false;
    for c in text.chars() {
        if small {
            result.extend(c.to_lowercase());
        } else {
            let mut large = c.to_uppercase();
            result.extend(large.next());
            result.extend(large.flat_map(char::to_lowercase));
        }
        small = only_first || c.is_lowercase() || c.is_uppercase();
    }
    result
}

fn no_separator() -> Error {
    Error::new(ErrorKind::InvalidOperation, "empty separator")
}

/// `str.split` and `str.rsplit` with at most `most` cuts.
fn split(
    text: &str,
    separator: Option<&str>,
    most: usize,
    from_right: bool,
) -> Result<Vec<Value>, Error> {
    let Some(separator) = separator else {
        return Ok(words(text, most, from_right));
    };
    if separator.is_empty() {
        return Err(no_separator());
    }
    let pieces = most.saturating_add(1);
    Ok(if from_right {
        let mut pieces: Vec<Value> = text.rsplitn(pieces, separator).map(Value::from).collect();
        pieces.reverse();
        pieces
    } else {
        text.splitn(pieces, separator).map(Value::from).collect()
    })
}

/// Words between runs of spaces; the last (first, from the right) keeps what is beyond `most` cuts.
fn words(text: &str, most: usize, from_right: bool) -> Vec<Value> {
    let mut words = Vec::new();
    let mut rest = strip(text, None, true, true);
    while !rest.is_empty() {
        let cut = if from_right {
            rest.char_indices().rfind(|(_, c)| is_space(*c)).map(|(at, c)| (at + c.len_utf8(), at))
        } else {
            rest.char_indices().find(|(_, c)| is_space(*c)).map(|(at, _)| (at, at))
        };
        let Some((at, _)) = cut.filter(|_| words.len() < most) else {
            words.push(rest.into());
            break;
        };
        let (before, after) = rest.split_at(at);
        let (word, more) = if from_right { (after, before) } else { (before, after) };
        words.push(word.into());
        rest = strip(more, None, true, true);
    }
    if from_right {
        words.reverse();
    }
    words
}

/// `str.splitlines`, with all of Python's line ends.
fn lines(text: &str, keep: bool) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text;
    let ends = |c: char| {
        matches!(
            c,
            '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}'
        )
    };
    while let Some(at) = rest.find(ends) {
        let pair = rest[at..].starts_with("\r\n");
        let width = if pair { 2 } else { rest[at..].chars().next().map_or(0, char::len_utf8) };
        lines.push(&rest[..if keep { at + width } else { at }]);
        rest = &rest[at + width..];
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    lines
}

fn partition(text: &str, separator: &str, from_right: bool) -> Result<Value, Error> {
    if separator.is_empty() {
        return Err(no_separator());
    }
    let cut = if from_right { text.rsplit_once(separator) } else { text.split_once(separator) };
    let parts = match cut {
        Some((before, after)) => [before, separator, after],
        None if from_right => ["", "", text],
        None => [text, "", ""],
    };
    Ok(parts.into_iter().map(Value::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(values: &[Value]) -> Vec<&str> {
        values.iter().map(|value| value.as_str().unwrap()).collect()
    }

    #[test]
    fn splits_are_those_of_python() {
        // Each line is what CPython 3.11 answers.
        let cut = |text, separator, most, right| split(text, separator, most, right).unwrap();
        assert_eq!(texts(&cut(" a  b c ", None, usize::MAX, false)), ["a", "b", "c"]);
        assert_eq!(texts(&cut(" a  b c ", None, 1, false)), ["a", "b c"]);
        assert_eq!(texts(&cut(" a  b c ", None, 1, true)), ["a  b", "c"]);
        assert_eq!(texts(&cut("a,b,,c", Some(","), usize::MAX, false)), ["a", "b", "", "c"]);
        assert_eq!(texts(&cut("a,b,,c", Some(","), 1, true)), ["a,b,", "c"]);
        assert_eq!(texts(&cut("", Some(","), usize::MAX, false)), [""]);
        assert!(cut("", None, usize::MAX, false).is_empty());
        assert!(split("a", Some(""), 1, false).is_err());
    }

    #[test]
    fn lines_and_spaces_are_those_of_python() {
        assert_eq!(lines("a\r\nb\rc\n\n", false), ["a", "b", "c", ""]);
        assert_eq!(lines("a\r\nb", true), ["a\r\n", "b"]);
        assert_eq!(strip("\x1c a\u{a0}", None, true, true), "a");
        assert_eq!(title("tHE a-b ß ﬁ1x", false), "The A-B Ss Fi1X");
        assert_eq!(title("tHE ONE", true), "The one");
        assert_eq!(strip("xxaxx", Some("x"), false, true), "xxa");
    }
}
