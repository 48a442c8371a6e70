//! Where something is in a prompt, and how to show it on a terminal.

use std::cell::Cell;
use std::fmt;
use std::ops::Range;

use serde::Serialize;

/// How many characters of the line are shown before and after the place that a caret points at.
const CONTEXT: usize = 40;
/// How many characters of an offending value are quoted.
const QUOTED: usize = 60;

/// A range of bytes of a text.
pub type Span = Range<usize>;

/// A range of bytes of a prompt and the column of its first character.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Offset of the first byte.
    pub start: usize,
    /// Offset after the last byte.
    pub end: usize,
    /// Column of the first character, counted in characters from 1.
    pub column: usize,
}

impl Place {
    /// The range of bytes.
    #[must_use]
    pub fn span(&self) -> Span {
        self.start..self.end
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {}", self.column)
    }
}

/// Turns spans of one text into places. A span near the one before costs little, wherever it is.
#[derive(Debug)]
pub(super) struct Locator<'s> {
    source: &'s str,
    /// An offset already seen and the number of characters before it.
    seen: Cell<(usize, usize)>,
}

impl<'s> Locator<'s> {
    pub(super) fn new(source: &'s str) -> Self {
        Self { source, seen: Cell::new((0, 0)) }
    }

    pub(super) fn place(&self, span: Span) -> Place {
        let (offset, before) = self.seen.get();
        let between = offset.min(span.start)..offset.max(span.start);
        let distance = self.source.get(between).unwrap_or_default().chars().count();
        let count =
            if offset <= span.start { before + distance } else { before.saturating_sub(distance) };
        self.seen.set((span.start, count));
        Place { start: span.start, end: span.end, column: count + 1 }
    }
}

/// The line of `source` that holds `place`, and under it carets that mark the place.
///
/// Control characters (an escape sequence, say) and characters that reorder or hide text are shown as
/// `�`; of a long line only the surroundings are shown.
#[must_use]
pub fn caret(source: &str, place: Place) -> String {
    let start = floor_boundary(source, place.start);
    let line_start = source[..start].rfind('\n').map_or(0, |at| at + 1);
    let line_end = source[start..].find('\n').map_or(source.len(), |at| start + at);
    let end = floor_boundary(source, place.end.clamp(start, line_end));

    let before: Vec<char> = source[line_start..start].chars().rev().take(CONTEXT + 1).collect();
    let cut_before = before.len() > CONTEXT;
    let mut shown = String::from(if cut_before { "…" } else { "" });
    shown.extend(before.iter().take(CONTEXT).rev().map(|c| visible(*c)));
    let indent = shown.chars().count();

    let marked = source[start..end].chars().count().clamp(1, CONTEXT);
    let mut rest = source[start..line_end].chars();
    shown.extend(rest.by_ref().take(marked + CONTEXT).map(visible));
    if rest.next().is_some() {
        shown.push('…');
    }
    format!("{shown}\n{}{}", " ".repeat(indent), "^".repeat(marked))
}

/// An untrusted value as it may be quoted in a message: printable, and not too long.
pub(super) fn quoted(value: &str) -> String {
    let mut shown = String::new();
    for (index, c) in value.chars().enumerate() {
        if index == QUOTED {
            shown.push('…');
            break;
        }
        if is_hidden(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

fn visible(c: char) -> char {
    if is_hidden(c) { char::REPLACEMENT_CHARACTER } else { c }
}

/// Control characters, and those that make a terminal show another text than is there.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn floor_boundary(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(source: &str, span: Span) -> String {
        caret(source, Locator::new(source).place(span))
    }

    #[test]
    fn columns_count_characters() {
        let locator = Locator::new("é日a");
        assert_eq!(locator.place(5..6).column, 3);
        assert_eq!(locator.place(2..5).column, 2);
        assert_eq!(locator.place(6..6).column, 4);
    }

    #[test]
    fn a_caret_stands_under_its_span() {
        assert_eq!(shown("a fox <lora:x:no>", 14..16), "a fox <lora:x:no>\n              ^^");
        assert_eq!(shown("ab", 2..2), "ab\n  ^");
    }

    #[test]
    fn only_the_line_of_the_place_is_shown() {
        assert_eq!(shown("one\ntwo bad\nthree", 8..11), "two bad\n    ^^^");
    }

    #[test]
    fn escape_sequences_do_not_reach_the_terminal() {
        assert_eq!(shown("\x1b[31mred", 5..8), "\u{fffd}[31mred\n     ^^^");
        assert_eq!(quoted("a\x1b\u{202e}b"), "a\\u{1b}\\u{202e}b");
    }

    #[test]
    fn long_lines_are_cut() {
        let source = format!("{}BAD{}", "x".repeat(500), "y".repeat(500));
        let shown = shown(&source, 500..503);
        assert_eq!(shown.lines().map(|line| line.chars().count()).max(), Some(1 + 40 + 3 + 40 + 1));
        assert_eq!(quoted(&source).chars().count(), 61);
    }

    #[test]
    fn places_of_another_text_do_no_harm() {
        assert_eq!(caret("é", Place { start: 1, end: 99, column: 7 }), "é\n^");
    }
}
